//! One target of an order, from the command that it is sent to its verdict (sections 5 and 8).

mod others;

use countersign_protocol::command::{Builtin, CommandId, CommandKind, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply, State};
use countersign_protocol::time::Millis;

use self::others::Refused;
use super::gather::Expected;
use super::issue::Errand;
use super::processes::Processes;
use super::questions::{Question, Questions, Told};
use super::remarks::{clock_notice, seconds, unknown};
use super::sent::{Resend, Sent};
use super::verdict::{Ignored, NOT_RUN, TargetReport, Verdict};
use super::wait::Wait;
use super::{
    ASK_EVERY, Effect, FIRST_RETRY, GRACE, Now, OrderError, Presence, RECOVERY, SILENCE, Update, micros, millis,
};

/// How often one target is sent an order anew, however often it answers with another epoch.
const MAX_ANEW: usize = 3;
/// How long a client that lives may tell nothing of what it accepted, in milliseconds: six questions, each with its time.
const UNTOLD: i64 = 7 * ASK_EVERY;
/// How soon after an outage a client that has not answered is asked again, in milliseconds: it may have to find the broker first.
const ASK_AGAIN: i64 = 2_500;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    client: Name,
    /// What was known when the order went out.
    known: Option<Presence>,
    /// The command that counts.
    latest: Sent,
    /// Those before it, each under another id.
    earlier: Vec<Sent>,
    questions: Questions,
    stage: Stage,
    /// When it last gave a sign of life since the order went out, monotonic.
    heard: Option<u64>,
    state: Option<State>,
    no_responders: bool,
    /// When its credential expires, by what it signed last.
    until: Option<Millis>,
    /// The processes that speak for it.
    processes: Processes,
    /// The process that accepted the command.
    accepted_by: Option<Uuid>,
    /// What a process refused that is not the one which the order was sent to; it stands if that one does not answer.
    refused: Option<Refused>,
    /// A later control command went to it.
    superseded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    /// No reply yet. It is asked for a result once there was an outage, in which a reply may have been lost.
    Waiting { wait: Wait, resend: Option<Resend>, ask_at: Option<u64> },
    /// Accepted; the end is awaited, as long as the client says within the wait that it runs.
    Running { wait: Wait, ask_at: u64 },
    /// It has a verdict. Until the report is made, one that is not settled gives way to a reply that is for good.
    Ended { verdict: Verdict, latency: Option<u64>, settled: bool },
}

impl Line {
    /// Signs a command to one client alone.
    pub(super) fn alone(errand: &mut Errand, to: Expected, id: MessageId, now: Now) -> Result<Self, OrderError> {
        // A query does nothing that an earlier epoch could have done before: it needs none, and no epoch refuses it.
        let epoch = to.known.as_ref().map(Presence::epoch).filter(|_| !is_query(errand));
        let sent = Sent::new(errand, Target::Client(to.client.clone()), epoch, id, now)?;
        Ok(Self::new(to, sent, Stage::waiting(errand, now), false, now))
    }

    /// One of those that a command to many went to, which is sent again for all of them at once.
    pub(super) fn among(errand: &Errand, one: Expected, sent: Sent, now: Now) -> Self {
        let stage = Stage::Waiting { wait: Wait::new(errand.patience(), now), resend: None, ask_at: None };
        Self::new(one, sent, stage, errand.superseded, now)
    }

    fn new(to: Expected, latest: Sent, stage: Stage, superseded: bool, now: Now) -> Self {
        let Expected { client, known, until } = to;
        Self {
            until,
            processes: Processes::new(known.as_ref(), now.wall),
            accepted_by: None,
            refused: None,
            client,
            known,
            latest,
            earlier: Vec::new(),
            questions: Questions::default(),
            stage,
            heard: None,
            state: None,
            no_responders: false,
            superseded,
        }
    }

    /// The latest command, to be sent or to be sent again.
    pub(super) fn publish(&self, errand: &Errand) -> Effect {
        self.latest.publish(errand)
    }

    /// The digest of what was sent to this client under an id.
    pub(super) fn digest(&self, id: &MessageId) -> Option<Digest> {
        let sent = self.sent().find(|sent| sent.id == *id).map(|sent| sent.digest);
        sent.or_else(|| self.questions.digest(id))
    }

    /// Takes a reply of this client to something that [`digest`](Self::digest) knows. Tells how many interim replies are
    /// missing before it.
    pub(super) fn take(
        &mut self,
        errand: &mut Errand,
        reply: &Authentic<Reply>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<u64, Ignored> {
        let message = reply.message();
        let outcome = message.outcome().map_err(|_| Ignored::Unfit)?;
        if let Some(question) = self.questions.find(&message.command_id) {
            self.spoke(reply);
            if matches!(outcome, Outcome::Failed(_) | Outcome::Refused(_)) && self.knows_nothing(message.boot) {
                return Ok(0);
            }
            let told = question.answer(outcome, errand)?;
            self.answered(errand, question, told, message, now);
            return Ok(0);
        }
        if !errand.order.fits(&outcome) {
            return Err(Ignored::Unfit);
        }
        self.spoke(reply);
        match &outcome {
            _ if errand.done => {}
            Outcome::Refused(error) if self.is_of_another(message, error, now) => return Ok(0),
            Outcome::Refused(_) => {}
            _ => self.overrule(message.boot),
        }
        let settled = matches!(self.stage, Stage::Ended { settled: true, .. });
        let Some(sent) = self.sent_mut(&message.command_id) else { return Err(Ignored::NotPending) };
        let latency = now.micros.saturating_sub(sent.at);
        let gap = message.seq.saturating_sub(sent.next_seq);
        let update = errand.update(Update::Reply {
            client: message.from.clone(),
            command_id: message.command_id,
            outcome: outcome.clone(),
            state: message.state,
            latency_ms: millis(latency),
            late: errand.done,
        });

        let Some(verdict) = Verdict::of(outcome) else {
            if message.seq < sent.next_seq || settled || errand.done {
                return Ok(0);
            }
            sent.next_seq = message.seq.saturating_add(1);
            sent.accepted = Some(message.epoch);
            self.accepted_by.get_or_insert(message.boot);
            self.heard(message.state, now);
            self.runs(errand, latency, now);
            effects.push(update);
            return Ok(gap);
        };

        let clock = verdict.error().and_then(|error| clock_notice(&message.from, error, now));
        let clock = clock.map(|text| errand.notice(&message.from, text));
        if let Verdict::Refused { error } = &verdict
            && !error.code.is_recorded()
        {
            // It speaks of one delivery only: not of an earlier command, nor of one that was accepted or has ended.
            let idle = self.latest.id == message.command_id && self.latest.accepted.is_none() && self.is_open();
            if idle {
                self.heard(message.state, now);
                if !self.send_anew(errand, error, now, effects) {
                    self.end(verdict, latency, false, errand);
                    effects.extend(clock.into_iter().chain([update]));
                }
            }
            return Ok(0);
        }

        // It may stand in for another reply, which the client's broker does not take (section 5).
        let stands_in = matches!(&verdict, Verdict::Failed { error } if error.code == ErrorCode::ResultTooLarge);
        match sent.last {
            Some((first, _)) if first == reply.digest() || stands_in || is_query(errand) => return Ok(0),
            Some((_, by)) if by == message.boot => return Err(Ignored::Conflict),
            // Two processes, each with an answer of its own: the first stands, and the report says that there are two.
            Some(_) => return Ok(0),
            None if stands_in => {}
            None => sent.last = Some((reply.digest(), message.boot)),
        }
        if !settled {
            self.heard(message.state, now);
            self.end(verdict, latency, true, errand);
            effects.extend(clock.into_iter().chain([update]));
        }
        Ok(gap)
    }

    /// A later control command went to this client.
    pub(super) fn supersede(&mut self) {
        self.superseded = true;
    }

    /// Nobody listens on a subject, says the broker.
    pub(super) fn no_responders(&mut self, errand: &Errand, subject: &str, now: Now) {
        if self.latest.message.subject != subject {
            return;
        }
        self.no_responders = true;
        let offline = self.offline(errand, now);
        if let (Stage::Waiting { .. }, false, Some(verdict)) = (&self.stage, errand.options.retry, offline) {
            self.stage = Stage::unsettled(verdict);
        }
    }

    /// The connection is back after so many microseconds. A reply may have been lost with the one before, the first one too.
    pub(super) fn reconnected(&mut self, errand: &mut Errand, outage: u64, now: Now) -> Option<Effect> {
        match &mut self.stage {
            Stage::Waiting { wait, resend, ask_at } => {
                wait.resume(outage, now);
                if let Some(resend) = resend {
                    resend.at = resend.at.max(now.micros);
                }
                *ask_at = Some(now.micros);
            }
            Stage::Running { wait, .. } => {
                wait.resume(outage, now);
                self.heard = Some(now.micros);
            }
            Stage::Ended { .. } => return None,
        }
        self.ask(errand, now)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        let is_cut_off = errand.is_cut_off();
        let is_over = |wait: Wait| wait.over_at(is_cut_off) <= now.micros;
        match self.stage {
            Stage::Waiting { wait, .. } if is_over(wait) => {
                self.stage = match self.refused.take() {
                    Some(Refused { error, latency, .. }) => Stage::refused(error, latency),
                    None => {
                        let silence = format!("no reply within {}{}", seconds(errand.patience()), errand.cut_off());
                        let text = silence + &self.lapse(errand, now);
                        Stage::unsettled(self.offline(errand, now).unwrap_or_else(|| unknown(&text)))
                    }
                };
                None
            }
            // Nothing can be asked any more; the end is told unasked, for as long as the client is heard.
            Stage::Running { wait, .. }
                if is_over(wait) && !is_cut_off && errand.identity.credential().expires_at() <= now.wall =>
            {
                self.stage = Stage::Running { wait: Wait::new(UNTOLD, now), ask_at: now.after(ASK_EVERY) };
                None
            }
            Stage::Running { wait, .. } if is_over(wait) => {
                let text = format!("accepted, but it does not tell what came of it{}", errand.cut_off());
                self.stage = Stage::unsettled(unknown(&(text + &self.lapse(errand, now))));
                None
            }
            _ if is_cut_off => None,
            Stage::Waiting { wait, resend: Some(resend), ask_at } if resend.at <= now.micros => {
                let next = Resend::after(resend.pause * 2, errand, now);
                self.stage = Stage::Waiting { wait, resend: next, ask_at };
                (now.micros < errand.expires).then(|| self.publish(errand))
            }
            Stage::Running { .. } if self.silent_at() <= now.micros => {
                let text = format!("accepted, then silent for {}", seconds(SILENCE));
                self.stage = Stage::unsettled(unknown(&(text + &self.lapse(errand, now))));
                None
            }
            Stage::Waiting { ask_at: Some(ask_at), .. } | Stage::Running { ask_at, .. } if ask_at <= now.micros => {
                self.ask(errand, now)
            }
            Stage::Waiting { .. } | Stage::Running { .. } | Stage::Ended { .. } => None,
        }
    }

    /// This process was held for longer than a wait: what came meanwhile lies unread, and gets the time to be read.
    pub(super) fn held(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        let grace = if errand.is_cut_off() { RECOVERY } else { GRACE };
        match &mut self.stage {
            Stage::Waiting { wait, .. } => {
                wait.extend(grace, now);
                None
            }
            Stage::Running { wait, .. } => {
                *wait = Wait::new(UNTOLD, now);
                self.heard = Some(now.micros);
                self.ask(errand, now)
            }
            Stage::Ended { .. } => None,
        }
    }

    /// A message was not published. If it is the one whose answer is awaited, there will be none.
    pub(super) fn unsent(&mut self, digest: Digest, why: &str) {
        if self.is_waiting() && self.latest.digest == digest {
            self.stage = Stage::unsettled(unknown(why));
        }
    }

    /// The person does not want to wait any longer.
    pub(super) fn interrupt(&mut self) {
        match self.stage {
            Stage::Waiting { .. } => {
                self.stage = match self.refused.take() {
                    Some(Refused { error, latency, .. }) => Stage::refused(error, latency),
                    None => Stage::unsettled(unknown("interrupted before a reply")),
                }
            }
            Stage::Running { .. } => self.stage = Stage::unsettled(Verdict::Accepted),
            Stage::Ended { .. } => {}
        }
    }

    /// When [`tick`](Self::tick) has something to do; `None` once there is a verdict.
    pub(super) fn wake_at(&self, is_cut_off: bool) -> Option<u64> {
        let (over_at, other) = match self.stage {
            Stage::Waiting { wait, resend, ask_at } => {
                (wait.over_at(is_cut_off), resend.map(|resend| resend.at).into_iter().chain(ask_at).min())
            }
            Stage::Running { wait, ask_at } => (wait.over_at(is_cut_off), Some(ask_at.min(self.silent_at()))),
            Stage::Ended { .. } => return None,
        };
        Some(other.filter(|_| !is_cut_off).map_or(over_at, |at| at.min(over_at)))
    }

    /// Whether it has no verdict.
    pub(super) fn is_pending(&self) -> bool {
        !matches!(self.stage, Stage::Ended { .. })
    }

    /// Whether it has no verdict, and no reply.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// Whether a first reply to the command of this id is awaited.
    pub(super) fn waits_for(&self, id: &MessageId) -> bool {
        self.is_waiting() && self.latest.id == *id
    }

    /// What the client has accepted and not ended.
    pub(super) fn running(&self) -> Option<CommandId> {
        let runs = matches!(self.stage, Stage::Running { .. });
        self.sent().find(|sent| runs && sent.accepted.is_some()).map(Sent::named)
    }

    /// The verdict for the one report, if there is one. What the client said goes with it; that there is a verdict stays.
    pub(super) fn report(&mut self) -> Option<TargetReport> {
        match &mut self.stage {
            Stage::Waiting { .. } | Stage::Running { .. } => None,
            Stage::Ended { verdict, latency, settled } => Some(TargetReport {
                client: self.client.clone(),
                command_id: self.latest.id,
                verdict: std::mem::replace(verdict, verdict.without_content()),
                is_final: *settled,
                state: self.state,
                latency_ms: latency.map(millis),
                processes: self.processes.count(),
            }),
        }
    }

    fn sent(&self) -> impl Iterator<Item = &Sent> {
        std::iter::once(&self.latest).chain(self.earlier.iter().rev())
    }

    fn sent_mut(&mut self, id: &MessageId) -> Option<&mut Sent> {
        std::iter::once(&mut self.latest).chain(&mut self.earlier).find(|sent| sent.id == *id)
    }

    /// It has a verdict. Once the report is made, nobody asks what a late one says.
    fn end(&mut self, verdict: Verdict, latency: u64, settled: bool, errand: &Errand) {
        let verdict = if errand.done { verdict.without_content() } else { verdict };
        self.stage = Stage::Ended { verdict, latency: Some(latency), settled };
    }

    fn heard(&mut self, state: State, now: Now) {
        self.state = Some(state);
        self.heard = Some(now.micros);
    }

    fn silent_at(&self) -> u64 {
        self.heard.unwrap_or(self.latest.at).saturating_add(micros(SILENCE))
    }

    /// Whether nothing that the client signed has decided yet.
    fn is_open(&self) -> bool {
        match &self.stage {
            Stage::Waiting { .. } => true,
            Stage::Ended { verdict, .. } => matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. }),
            Stage::Running { .. } => false,
        }
    }

    /// The client says that it runs: that is the verdict if its end is not awaited.
    fn runs(&mut self, errand: &Errand, latency: u64, now: Now) {
        let wait = Wait::new(UNTOLD, now);
        match &mut self.stage {
            Stage::Running { wait: running, .. } => *running = wait,
            Stage::Ended { settled: true, .. } | Stage::Ended { verdict: Verdict::Accepted, .. } => {}
            Stage::Waiting { .. } | Stage::Ended { .. } if errand.options.detach => {
                self.stage = Stage::Ended { verdict: Verdict::Accepted, latency: Some(latency), settled: false };
            }
            Stage::Waiting { .. } | Stage::Ended { .. } => {
                self.stage = Stage::Running { wait, ask_at: now.after(ASK_EVERY) };
            }
        }
    }

    /// Section 8: after `starting` or `wrong_epoch`, the order under a new id with the epoch from the refusal, to this
    /// client alone. Tells whether it was sent.
    fn send_anew(&mut self, errand: &mut Errand, error: &ErrorBody, now: Now, effects: &mut Vec<Effect>) -> bool {
        if errand.done || !matches!(error.code, ErrorCode::Starting | ErrorCode::WrongEpoch) {
            return false;
        }
        let not_run = format!("{} was {NOT_RUN}: {} has begun a new epoch", errand.order.command.name, self.client);
        if self.superseded {
            let text = format!("{not_run}, and a later command went to it; it is not sent anew");
            effects.push(errand.notice(&self.client, text));
            return false;
        }
        let epoch = error.details.as_ref().and_then(|details| details.get("epoch")?.as_str()?.parse::<Uuid>().ok());
        // The client was in that very epoch before the order was given: it cannot have run the order in an earlier one.
        let is_young = epoch.is_some() && epoch == self.known.as_ref().map(Presence::epoch);
        let (may_run_twice, remark) = match errand.order.builtin() {
            // By it the process may have ended that was meant; the one that answers was started since.
            Some(Builtin::Terminate) => (false, "it may have ended before that, and is not told to end once more"),
            // Every epoch begins unready: the state that they lead to is the same.
            Some(Builtin::Start | Builtin::Stop | Builtin::Ping) => (true, ""),
            _ => (errand.options.retry, "only a retry sends it anew"),
        };
        if !is_young && !may_run_twice {
            effects.push(errand.notice(&self.client, format!("{not_run}; {remark}")));
            return false;
        }
        if epoch.is_none()
            || epoch == self.latest.epoch
            || now.wall >= errand.expires_at
            || self.earlier.len() >= MAX_ANEW
        {
            return false;
        }
        let id = errand.id(now);
        let Ok(anew) = Sent::new(errand, Target::Client(self.client.clone()), epoch, id, now) else { return false };
        self.earlier.push(std::mem::replace(&mut self.latest, anew));
        self.refused = None;
        self.stage = Stage::waiting(errand, now);
        // A command to many names no epoch, and to a client that is young it has to be said again.
        if !is_young {
            effects.push(errand.notice(&self.client, format!("{} has begun a new epoch: sent anew", self.client)));
        }
        effects.push(self.publish(errand));
        true
    }

    /// Asks for the result of what was accepted, or may have been.
    fn ask(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        match &mut self.stage {
            Stage::Running { ask_at, .. } => *ask_at = now.after(ASK_EVERY),
            Stage::Waiting { ask_at, .. } => *ask_at = Some(now.after(ASK_AGAIN)),
            Stage::Ended { .. } => {}
        }
        let accepted = self.sent().find(|sent| sent.accepted.is_some());
        let sent = accepted.unwrap_or(&self.latest).clone();
        self.questions.ask(&self.client, &sent, errand, now)
    }

    /// The client has answered a question for the result.
    fn answered(&mut self, errand: &Errand, question: Question, told: Told, reply: &Reply, now: Now) {
        self.heard(reply.state, now);
        let Some(sent) =
            std::iter::once(&mut self.latest).chain(&mut self.earlier).find(|it| it.digest == question.about)
        else {
            return;
        };
        let latency = now.micros.saturating_sub(sent.at);
        match (&self.stage, told) {
            (Stage::Waiting { .. } | Stage::Running { .. }, Told::Ended(verdict)) => {
                self.stage = Stage::Ended { verdict, latency: Some(latency), settled: true };
            }
            (Stage::Waiting { .. } | Stage::Running { .. }, Told::Runs) => {
                sent.accepted = Some(reply.epoch);
                if matches!(self.stage, Stage::Waiting { .. }) {
                    self.accepted_by = Some(reply.boot);
                }
                self.runs(errand, latency, now);
            }
            (Stage::Running { .. }, Told::Nothing(verdict)) => self.stage = Stage::unsettled(verdict),
            // Not on record is no news of what was never answered: it may be on its way.
            (Stage::Waiting { .. }, Told::Nothing(_)) | (_, Told::Alive) | (Stage::Ended { .. }, _) => {}
        }
    }
}

impl Stage {
    fn waiting(errand: &mut Errand, now: Now) -> Self {
        let resend = errand.options.retry.then(|| Resend::after(FIRST_RETRY, errand, now)).flatten();
        Self::Waiting { wait: Wait::new(errand.patience(), now), resend, ask_at: None }
    }

    fn unsettled(verdict: Verdict) -> Self {
        Self::Ended { verdict, latency: None, settled: false }
    }
}

fn is_query(errand: &Errand) -> bool {
    errand.order.builtin().is_some_and(|builtin| builtin.kind() == CommandKind::Query)
}

//! One target of an order, from the command that it is sent to its verdict (sections 5 and 8).

mod others;

use std::collections::VecDeque;

use countersign_protocol::command::{Builtin, Call, CommandId, CommandKind, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply, State};
use countersign_protocol::schema;
use countersign_protocol::time::Millis;
use serde_json::Value;

use self::others::Refused;
use super::gather::Expected;
use super::issue::{Draft, Errand};
use super::processes::Processes;
use super::remarks::{clock_notice, recorded, seconds, unknown};
use super::sent::{Resend, Sent};
use super::verdict::{Ignored, TargetReport, Verdict};
use super::{ASK_EVERY, Effect, FIRST_RETRY, GRACE, Now, OrderError, Presence, SILENCE, Update, micros, millis};

/// How often one target is sent an order anew, however often it answers with another epoch.
const MAX_ANEW: usize = 3;
/// To how many of the latest questions for a result an answer is still taken.
const MAX_QUESTIONS: usize = 4;
/// How many questions in a row may tell nothing of what was accepted, though the client lives.
const MAX_IN_VAIN: u8 = 6;

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
    questions: VecDeque<(MessageId, Digest)>,
    /// How many questions were asked since the client said last that it runs.
    in_vain: u8,
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
    /// No reply yet.
    Waiting { deadline: u64, resend: Option<Resend> },
    /// Accepted; the end is awaited.
    Running { ask_at: u64 },
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
        let stage = Stage::Waiting { deadline: now.after(errand.patience()), resend: None };
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
            questions: VecDeque::new(),
            in_vain: 0,
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
        sent.or_else(|| self.questions.iter().find(|(asked, _)| asked == id).map(|(_, digest)| *digest))
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
        if self.questions.iter().any(|(asked, _)| *asked == message.command_id) {
            self.spoke(reply);
            return match &outcome {
                Outcome::Failed(_) | Outcome::Refused(_) if self.knows_nothing(message.boot) => Ok(0),
                _ => self.answer(errand, message, outcome, now).map(|()| 0),
            };
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
                    self.stage = Stage::Ended { verdict, latency: Some(latency), settled: false };
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
            self.stage = Stage::Ended { verdict, latency: Some(latency), settled: true };
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
        if let (Stage::Waiting { .. }, false, Some(verdict)) =
            (&self.stage, errand.options.retry, self.offline(errand, now))
        {
            self.stage = Stage::unsettled(verdict);
        }
    }

    /// The connection is back. A reply may have been lost with the one before, the first one too.
    pub(super) fn reconnected(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        match self.stage {
            Stage::Waiting { .. } | Stage::Running { .. } => self.ask(errand, now),
            Stage::Ended { .. } => None,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        match self.stage {
            Stage::Waiting { deadline, .. } if deadline <= now.micros => {
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
            Stage::Waiting { deadline, resend: Some(resend) } if resend.at <= now.micros => {
                self.stage = Stage::Waiting { deadline, resend: Resend::after(resend.pause * 2, errand, now) };
                Some(self.publish(errand))
            }
            Stage::Running { .. } if self.silent_at() <= now.micros => {
                let text = format!("accepted, then silent for {}{}", seconds(SILENCE), errand.cut_off());
                self.stage = Stage::unsettled(unknown(&(text + &self.lapse(errand, now))));
                None
            }
            Stage::Running { ask_at } if ask_at <= now.micros && self.in_vain >= MAX_IN_VAIN => {
                self.stage = Stage::unsettled(unknown("accepted, and it lives, but it does not tell what came of it"));
                None
            }
            Stage::Running { ask_at } if ask_at <= now.micros => {
                let question = self.ask(errand, now);
                // Without a credential nothing can be asked; the end is told unasked.
                self.in_vain += u8::from(question.is_some());
                question
            }
            Stage::Waiting { .. } | Stage::Running { .. } | Stage::Ended { .. } => None,
        }
    }

    /// This process was held for longer than a wait: what came meanwhile lies unread, and gets the time to be read.
    pub(super) fn held(&mut self, errand: &mut Errand, now: Now) -> Option<Effect> {
        match &mut self.stage {
            Stage::Waiting { deadline, .. } => {
                *deadline = (*deadline).max(now.after(GRACE));
                None
            }
            Stage::Running { .. } => {
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
    pub(super) fn wake_at(&self) -> Option<u64> {
        match self.stage {
            Stage::Waiting { deadline, resend } => Some(resend.map_or(deadline, |resend| resend.at.min(deadline))),
            Stage::Running { ask_at } => Some(ask_at.min(self.silent_at())),
            Stage::Ended { .. } => None,
        }
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

    /// The id of what the client has accepted and not ended.
    pub(super) fn running(&self) -> Option<MessageId> {
        let runs = matches!(self.stage, Stage::Running { .. });
        self.sent().find(|sent| runs && sent.accepted.is_some()).map(|sent| sent.id)
    }

    /// The verdict, if there is one.
    pub(super) fn report(&self) -> Option<TargetReport> {
        match &self.stage {
            Stage::Waiting { .. } | Stage::Running { .. } => None,
            Stage::Ended { verdict, latency, .. } => Some(TargetReport {
                client: self.client.clone(),
                command_id: self.latest.id,
                verdict: verdict.clone(),
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
        self.in_vain = 0;
        match &self.stage {
            Stage::Running { .. }
            | Stage::Ended { settled: true, .. }
            | Stage::Ended { verdict: Verdict::Accepted, .. } => {}
            Stage::Waiting { .. } | Stage::Ended { .. } if errand.options.detach => {
                self.stage = Stage::Ended { verdict: Verdict::Accepted, latency: Some(latency), settled: false };
            }
            Stage::Waiting { .. } | Stage::Ended { .. } => self.stage = Stage::Running { ask_at: now.after(ASK_EVERY) },
        }
    }

    /// Section 8: after `starting` or `wrong_epoch`, the order under a new id with the epoch from the refusal, to this
    /// client alone. Tells whether it was sent.
    fn send_anew(&mut self, errand: &mut Errand, error: &ErrorBody, now: Now, effects: &mut Vec<Effect>) -> bool {
        if errand.done || !matches!(error.code, ErrorCode::Starting | ErrorCode::WrongEpoch) {
            return false;
        }
        if self.superseded {
            let text = format!(
                "{} was not run: {} has begun a new epoch, and a later command went to it; it is not sent anew",
                errand.order.command.name, self.client
            );
            effects.push(errand.notice(&self.client, text));
            return false;
        }
        let epoch = error.details.as_ref().and_then(|details| details.get("epoch")?.as_str()?.parse::<Uuid>().ok());
        let by_itself = [Builtin::Start, Builtin::Stop, Builtin::Terminate, Builtin::Ping];
        let harmless = errand.order.builtin().is_some_and(|builtin| by_itself.contains(&builtin));
        // The client was in that very epoch before the order was given: it cannot have run the order in an earlier one.
        let is_young = epoch.is_some() && epoch == self.known.as_ref().map(Presence::epoch);
        if !errand.options.retry && !harmless && !is_young {
            let text = format!(
                "{} was not run: {} has begun a new epoch; only a retry sends it anew",
                errand.order.command.name, self.client
            );
            effects.push(errand.notice(&self.client, text));
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
        if let Stage::Running { ask_at } = &mut self.stage {
            *ask_at = now.after(ASK_EVERY);
        }
        let accepted = self.sent().find(|sent| sent.accepted.is_some());
        let command_id = accepted.unwrap_or(&self.latest).id;
        let Ok(Value::Object(args)) = serde_json::to_value(CommandId { command_id }) else { return None };
        let id = errand.id(now);
        let draft = Draft {
            id,
            to: Target::Client(self.client.clone()),
            // The client may have begun another since, and still has the record.
            epoch: None,
            issued_at: now.wall,
            expires_at: now.wall.plus(errand.options.ttl.min(ASK_EVERY)),
            dry_run: false,
            call: &Call { name: Builtin::Result.name().parse().ok()?, args },
        };
        let question = errand.sign(draft).ok()?;
        if self.questions.len() == MAX_QUESTIONS
            && let Some((oldest, _)) = self.questions.pop_front()
        {
            errand.issued.remove(&oldest);
        }
        self.questions.push_back((id, Digest::of(&question.body)));
        Some(errand.publish(&id, question))
    }

    /// The client's answer to a question for the result.
    fn answer(&mut self, errand: &Errand, reply: &Reply, outcome: Outcome, now: Now) -> Result<(), Ignored> {
        let mut runs = false;
        let verdict = match outcome {
            Outcome::Succeeded(result) if schema::result(Builtin::Result).accepts(&result) => {
                let verdict = recorded(json::read(&result).map_err(|_| Ignored::Unfit)?);
                runs = verdict.is_none();
                verdict
            }
            Outcome::Succeeded(_) => return Err(Ignored::Unfit),
            Outcome::Failed(error) | Outcome::Refused(error)
                if matches!(error.code, ErrorCode::NotFound | ErrorCode::WrongEpoch) =>
            {
                Some(unknown("accepted, but the client has lost its record of it"))
            }
            // It cannot tell; that it lives is all that was learnt.
            _ => None,
        };
        if let Some(Verdict::Succeeded { result: Some(result) }) = &verdict
            && !errand.order.fits(&Outcome::Succeeded(result.clone()))
        {
            return Err(Ignored::Unfit);
        }
        self.heard(reply.state, now);
        let at = self.sent().find(|sent| sent.accepted.is_some()).map_or(self.latest.at, |sent| sent.at);
        let latency = now.micros.saturating_sub(at);
        match (&self.stage, verdict) {
            (Stage::Running { .. }, Some(verdict @ Verdict::NoReply { .. })) => self.stage = Stage::unsettled(verdict),
            // Not on record is no news of what was never answered: it may be on its way.
            (Stage::Waiting { .. }, Some(Verdict::NoReply { .. })) => {}
            (Stage::Waiting { .. } | Stage::Running { .. }, Some(verdict)) => {
                self.stage = Stage::Ended { verdict, latency: Some(latency), settled: true };
            }
            (Stage::Waiting { .. }, None) if runs => {
                self.latest.accepted = Some(reply.epoch);
                self.accepted_by = Some(reply.boot);
                self.runs(errand, latency, now);
            }
            (Stage::Running { .. }, None) if runs => self.in_vain = 0,
            _ => {}
        }
        Ok(())
    }
}

impl Stage {
    fn waiting(errand: &mut Errand, now: Now) -> Self {
        let resend = errand.options.retry.then(|| Resend::after(FIRST_RETRY, errand, now)).flatten();
        Self::Waiting { deadline: now.after(errand.patience()), resend }
    }

    fn unsettled(verdict: Verdict) -> Self {
        Self::Ended { verdict, latency: None, settled: false }
    }
}

fn is_query(errand: &Errand) -> bool {
    errand.order.builtin().is_some_and(|builtin| builtin.kind() == CommandKind::Query)
}

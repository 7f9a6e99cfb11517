//! One target of a request, from the command that it is sent to its verdict (sections 5 and 8).

mod awaited;
mod others;
mod reissue;

use countersign_protocol::command::{Builtin, CommandId, CommandKind};
use countersign_protocol::digest::Digest;
use countersign_protocol::ending::Term;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorCode, Outcome, Reply, State};
use countersign_protocol::time::{Millis, span};

use self::others::Refused;
use super::expected::Expected;
use super::notices::{clock_notice, unknown};
use super::processes::Processes;
use super::request::RequestContext;
use super::result_queries::{ResultAnswer, ResultQueries, ResultQuery};
use super::sent_command::{Resend, SentCommand};
use super::verdict::{Ignored, TargetReport, Verdict};
use super::wait::Wait;
use super::{Effect, GRACE, Now, POLL_EVERY, Presence, RECOVERY, SILENCE, Update, micros, millis};

/// How long a live client may go without reporting on what it accepted, in milliseconds: six queries, each with its time.
const UNREPORTED_TIMEOUT: i64 = 7 * POLL_EVERY;
/// How soon after an outage a client that has not answered is queried again, in milliseconds: it may have to find the
/// broker first.
const NEXT_POLL: i64 = 2_500;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PendingTarget {
    client: Name,
    /// What was known when the request went out.
    known: Option<Presence>,
    /// The command that counts.
    latest: SentCommand,
    /// Those before it, each under another id.
    earlier: Vec<SentCommand>,
    result_queries: ResultQueries,
    stage: Stage,
    /// When it was last seen since the request went out, monotonic.
    last_seen: Option<u64>,
    state: Option<State>,
    no_responders: bool,
    /// When its credential expires, by what it signed last.
    until: Option<Millis>,
    /// The term of that credential, where something that it signed was taken since.
    term: Option<Term>,
    /// The processes that speak for it.
    processes: Processes,
    /// The process that accepted the command.
    accepted_by: Option<Uuid>,
    /// What a process refused that is not the one which the request was sent to; it stands if that one does not answer.
    refused: Option<Refused>,
    /// A later control command went to it.
    superseded: bool,
    /// The digest of the command whose end is awaited, once the client has named it.
    awaited: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    /// No reply yet. It is queried for a result once there was an outage, in which a reply may have been lost.
    Waiting { wait: Wait, resend: Option<Resend>, poll_at: Option<u64> },
    /// Accepted; the end is awaited, as long as the client confirms within the wait that it runs.
    Running { wait: Wait, poll_at: u64 },
    /// It has a verdict. Until the report is made, one that is not settled gives way to a reply that is for good.
    Ended { verdict: Verdict, latency: Option<u64>, settled: bool },
}

impl PendingTarget {
    /// A client that was sent a command, and when it alone is sent the same again.
    pub(super) fn new(
        context: &RequestContext,
        to: Expected,
        latest: SentCommand,
        resend: Option<Resend>,
        now: Now,
    ) -> Self {
        let Expected { client, known, until } = to;
        Self {
            until,
            term: None,
            processes: Processes::new(known.as_ref(), now.wall),
            accepted_by: None,
            refused: None,
            client,
            known,
            latest,
            earlier: Vec::new(),
            result_queries: ResultQueries::default(),
            stage: Stage::Waiting { wait: Wait::new(context.first_reply_timeout(), now), resend, poll_at: None },
            last_seen: None,
            state: None,
            no_responders: false,
            superseded: context.superseded,
            awaited: None,
        }
    }

    /// The digest of what was sent to this client under an id.
    pub(super) fn digest(&self, id: &MessageId) -> Option<Digest> {
        let sent = self.sent().find(|sent| sent.id == *id).map(|sent| sent.digest);
        sent.or_else(|| self.result_queries.digest(id))
    }

    /// Takes a reply of this client to something that [`digest`](Self::digest) knows. Returns how many interim replies are
    /// missing before it.
    pub(super) fn take(
        &mut self,
        context: &mut RequestContext,
        reply: &Authentic<Reply>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<u64, Ignored> {
        let message = reply.message();
        let outcome = message.outcome().map_err(|_| Ignored::Unfit)?;
        if let Some(mut query) = self.result_queries.find(&message.command_id) {
            self.note_process(reply);
            if matches!(outcome, Outcome::Failed(_) | Outcome::Refused(_)) && self.knows_nothing(message.boot) {
                return Ok(0);
            }
            let answer = query.answer(outcome, context)?;
            self.on_result(context, query, answer, message, now, effects);
            return Ok(0);
        }
        if !context.request.fits(&outcome) {
            return Err(Ignored::Unfit);
        }
        self.note_process(reply);
        if let (Some(_), Outcome::Succeeded(_)) = (context.request.awaited, &outcome) {
            return self.on_first_result(context, outcome, message, now, effects);
        }
        match &outcome {
            _ if context.done => {}
            Outcome::Refused(error) if self.is_of_another(message, error, now) => return Ok(0),
            Outcome::Refused(_) => {}
            _ => self.overrule(message.boot),
        }
        let settled = matches!(self.stage, Stage::Ended { settled: true, .. });
        let Some(sent) = self.sent_mut(&message.command_id) else { return Err(Ignored::NotPending) };
        let latency = now.micros.saturating_sub(sent.at);
        let gap = message.seq.saturating_sub(sent.next_seq);
        let update = context.update(Update::Reply {
            client: message.from.clone(),
            command_id: message.command_id,
            outcome: outcome.clone(),
            state: message.state,
            latency_ms: millis(latency),
            late: context.done,
        });

        let Some(verdict) = Verdict::of(outcome) else {
            if message.seq < sent.next_seq || settled || context.done {
                return Ok(0);
            }
            sent.next_seq = message.seq.saturating_add(1);
            sent.accepted = Some(message.epoch);
            self.accepted_by.get_or_insert(message.boot);
            self.note_seen(message.state, now);
            self.runs(context, latency, now);
            effects.push(update);
            return Ok(gap);
        };

        let clock = verdict.error().and_then(|error| clock_notice(&message.from, error, now));
        let clock = clock.map(|text| context.notice(&message.from, text));
        if let Verdict::Refused { error } = &verdict
            && !error.code.is_recorded()
        {
            // It speaks of one delivery only: not of an earlier command, nor of one that was accepted or has ended.
            let idle = self.latest.id == message.command_id && self.latest.accepted.is_none() && self.is_open();
            if idle {
                self.note_seen(message.state, now);
                if !self.reissue(context, error, now, effects) {
                    self.end(verdict, latency, false, context);
                    effects.extend(clock.into_iter().chain([update]));
                }
            }
            return Ok(0);
        }

        // It may stand in for another reply, which the client's broker does not take (section 5).
        let is_query = context.request.builtin.map(Builtin::kind) == Some(CommandKind::Query);
        let stands_in = matches!(&verdict, Verdict::Failed { error } if error.code == ErrorCode::ResultTooLarge);
        match sent.last {
            Some((first, _)) if first == reply.digest() || stands_in || is_query => return Ok(0),
            Some((_, by)) if by == message.boot => return Err(Ignored::Conflict),
            // Two processes, each with an answer of its own: the first stands, and the report says that there are two.
            Some(_) => return Ok(0),
            None if stands_in => {}
            None => sent.last = Some((reply.digest(), message.boot)),
        }
        if !settled {
            self.note_seen(message.state, now);
            self.end(verdict, latency, true, context);
            effects.extend(clock.into_iter().chain([update]));
        }
        Ok(gap)
    }

    /// A later control command went to this client.
    pub(super) fn supersede(&mut self) {
        self.superseded = true;
    }

    /// The broker reports that nobody listens on a subject.
    pub(super) fn no_responders(&mut self, context: &RequestContext, subject: &str, now: Now) {
        if self.latest.message.subject != subject {
            return;
        }
        self.no_responders = true;
        let offline = self.offline(context, now);
        if let (Stage::Waiting { .. }, false, Some(verdict)) = (&self.stage, context.options.retry, offline) {
            self.stage = Stage::unsettled(verdict);
        }
    }

    /// The connection is back after so many microseconds. A reply may have been lost with the one before, the first one too.
    pub(super) fn reconnected(&mut self, context: &mut RequestContext, outage: u64, now: Now) -> Option<Effect> {
        match &mut self.stage {
            Stage::Waiting { wait, resend, poll_at } => {
                wait.resume(outage, now);
                if let Some(resend) = resend {
                    resend.at = resend.at.max(now.micros);
                }
                *poll_at = Some(now.micros);
            }
            Stage::Running { wait, .. } => {
                wait.resume(outage, now);
                self.last_seen = Some(now.micros);
            }
            Stage::Ended { .. } => return None,
        }
        self.poll_result(context, now)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, context: &mut RequestContext, now: Now) -> Option<Effect> {
        let is_cut_off = context.is_cut_off();
        let is_over = |wait: Wait| wait.over_at(is_cut_off) <= now.micros;
        match self.stage {
            Stage::Waiting { wait, .. } if is_over(wait) => {
                self.stage = match self.refused.take() {
                    Some(Refused { error, latency, .. }) => Stage::refused(error, latency),
                    None => {
                        let silence =
                            format!("no reply within {}{}", span(context.first_reply_timeout()), context.cut_off());
                        let text = silence + &self.lapse(context, now);
                        Stage::unsettled(self.offline(context, now).unwrap_or_else(|| unknown(&text)))
                    }
                };
                None
            }
            // No query can be signed any more; the final reply comes without one, for as long as the client is seen.
            Stage::Running { wait, .. }
                if is_over(wait) && !is_cut_off && context.identity.credential().expires_at() <= now.wall =>
            {
                self.stage =
                    Stage::Running { wait: Wait::new(UNREPORTED_TIMEOUT, now), poll_at: now.after(POLL_EVERY) };
                None
            }
            Stage::Running { wait, .. } if is_over(wait) => {
                let text = format!("accepted, but it reports no outcome{}", context.cut_off());
                self.stage = Stage::unsettled(unknown(&(text + &self.lapse(context, now))));
                None
            }
            _ if is_cut_off => None,
            Stage::Waiting { wait, resend: Some(resend), poll_at } if resend.at <= now.micros => {
                let next = Resend::after(resend.pause * 2, context, now);
                self.stage = Stage::Waiting { wait, resend: next, poll_at };
                (now.micros < context.expires).then(|| self.latest.publish(context))
            }
            Stage::Running { .. } if self.silent_at() <= now.micros => {
                let text = format!("accepted, then silent for {}", span(SILENCE));
                self.stage = Stage::unsettled(unknown(&(text + &self.lapse(context, now))));
                None
            }
            Stage::Waiting { poll_at: Some(poll_at), .. } | Stage::Running { poll_at, .. } if poll_at <= now.micros => {
                self.poll_result(context, now)
            }
            Stage::Waiting { .. } | Stage::Running { .. } | Stage::Ended { .. } => None,
        }
    }

    /// This process was suspended for longer than a wait: what came meanwhile lies unread, and gets the time to be read.
    pub(super) fn suspended(&mut self, context: &mut RequestContext, now: Now) -> Option<Effect> {
        let grace = if context.is_cut_off() { RECOVERY } else { GRACE };
        match &mut self.stage {
            Stage::Waiting { wait, .. } => {
                wait.extend(grace, now);
                None
            }
            Stage::Running { wait, .. } => {
                *wait = Wait::new(UNREPORTED_TIMEOUT, now);
                self.last_seen = Some(now.micros);
                self.poll_result(context, now)
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
    pub(super) fn interrupt(&mut self, why: &str) {
        match self.stage {
            Stage::Waiting { .. } => {
                self.stage = match self.refused.take() {
                    Some(Refused { error, latency, .. }) => Stage::refused(error, latency),
                    None => Stage::unsettled(unknown(why)),
                }
            }
            Stage::Running { .. } => self.stage = Stage::unsettled(Verdict::Accepted),
            Stage::Ended { .. } => {}
        }
    }

    /// When [`tick`](Self::tick) has something to do; `None` once there is a verdict.
    pub(super) fn wake_at(&self, is_cut_off: bool) -> Option<u64> {
        let (over_at, other) = match self.stage {
            Stage::Waiting { wait, resend, poll_at } => {
                (wait.over_at(is_cut_off), resend.map(|resend| resend.at).into_iter().chain(poll_at).min())
            }
            Stage::Running { wait, poll_at } => (wait.over_at(is_cut_off), Some(poll_at.min(self.silent_at()))),
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
    pub(super) fn running(&self, context: &RequestContext) -> Option<CommandId> {
        let runs = matches!(self.stage, Stage::Running { .. });
        if let Some(command_id) = context.request.awaited {
            return runs.then_some(CommandId { command_id, command_digest: None });
        }
        self.sent().find(|sent| runs && sent.accepted.is_some()).map(SentCommand::named)
    }

    /// The verdict for the one report, if there is one. The client's content goes with it; that there is a verdict stays.
    pub(super) fn report(&mut self, context: &RequestContext) -> Option<TargetReport> {
        match &mut self.stage {
            Stage::Waiting { .. } | Stage::Running { .. } => None,
            Stage::Ended { verdict, latency, settled } => Some(TargetReport {
                client: self.client.clone(),
                command_id: context.request.awaited.unwrap_or(self.latest.id),
                verdict: std::mem::replace(verdict, verdict.without_content()),
                is_final: *settled,
                state: self.state,
                latency_ms: latency.map(millis),
                credential: self.term,
                processes: self.processes.count(),
            }),
        }
    }

    fn sent(&self) -> impl Iterator<Item = &SentCommand> {
        std::iter::once(&self.latest).chain(self.earlier.iter().rev())
    }

    fn sent_mut(&mut self, id: &MessageId) -> Option<&mut SentCommand> {
        std::iter::once(&mut self.latest).chain(&mut self.earlier).find(|sent| sent.id == *id)
    }

    /// It has a verdict. Once the report is made, nobody needs the content of a late one.
    fn end(&mut self, verdict: Verdict, latency: u64, settled: bool, context: &RequestContext) {
        let verdict = if context.done { verdict.without_content() } else { verdict };
        self.stage = Stage::Ended { verdict, latency: Some(latency), settled };
    }

    fn note_seen(&mut self, state: State, now: Now) {
        self.state = Some(state);
        self.last_seen = Some(now.micros);
    }

    fn silent_at(&self) -> u64 {
        self.last_seen.unwrap_or(self.latest.at).saturating_add(micros(SILENCE))
    }

    /// Whether nothing that the client signed has decided yet.
    fn is_open(&self) -> bool {
        match &self.stage {
            Stage::Waiting { .. } => true,
            Stage::Ended { verdict, .. } => matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. }),
            Stage::Running { .. } => false,
        }
    }

    /// The client reports that it runs: that is the verdict if its end is not awaited.
    fn runs(&mut self, context: &RequestContext, latency: u64, now: Now) {
        let poll_at = now.after(self.poll_after(context, now));
        let wait = Wait::new(UNREPORTED_TIMEOUT, now);
        match &mut self.stage {
            Stage::Running { wait: running, .. } => *running = wait,
            Stage::Ended { settled: true, .. } | Stage::Ended { verdict: Verdict::Accepted, .. } => {}
            Stage::Waiting { .. } | Stage::Ended { .. } if context.options.detach => {
                self.stage = Stage::Ended { verdict: Verdict::Accepted, latency: Some(latency), settled: false };
            }
            Stage::Waiting { .. } | Stage::Ended { .. } => {
                self.stage = Stage::Running { wait, poll_at };
            }
        }
    }

    /// Queries the result of what was accepted, or may have been.
    fn poll_result(&mut self, context: &mut RequestContext, now: Now) -> Option<Effect> {
        let poll_after = self.poll_after(context, now);
        match &mut self.stage {
            Stage::Running { poll_at, .. } => *poll_at = now.after(poll_after),
            Stage::Waiting { poll_at, .. } => *poll_at = Some(now.after(NEXT_POLL)),
            Stage::Ended { .. } => {}
        }
        let accepted = self.sent().find(|sent| sent.accepted.is_some());
        let sent = accepted.unwrap_or(&self.latest);
        let (named, about) = match context.request.awaited {
            Some(command_id) => (CommandId { command_id, command_digest: None }, self.awaited),
            None => (sent.named(), Some(sent.digest)),
        };
        self.result_queries.poll_result(&self.client, named, about, context, now)
    }

    /// The client has answered a query for the result.
    fn on_result(
        &mut self,
        context: &RequestContext,
        query: ResultQuery,
        answer: ResultAnswer,
        reply: &Reply,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.note_seen(reply.state, now);
        if context.request.awaited.is_some() {
            return self.on_awaited(context, query.about, answer, reply, now, effects);
        }
        let Some(sent) =
            std::iter::once(&mut self.latest).chain(&mut self.earlier).find(|it| Some(it.digest) == query.about)
        else {
            return;
        };
        let latency = now.micros.saturating_sub(sent.at);
        match (&self.stage, answer) {
            (Stage::Waiting { .. } | Stage::Running { .. }, ResultAnswer::Ended(verdict)) => {
                self.stage = Stage::Ended { verdict, latency: Some(latency), settled: true };
            }
            (Stage::Waiting { .. } | Stage::Running { .. }, ResultAnswer::Runs(_)) => {
                sent.accepted = Some(reply.epoch);
                if matches!(self.stage, Stage::Waiting { .. }) {
                    self.accepted_by = Some(reply.boot);
                }
                self.runs(context, latency, now);
            }
            (Stage::Running { .. }, ResultAnswer::Nothing(verdict)) => self.stage = Stage::unsettled(verdict),
            // Not on record tells nothing of what was never answered: it may be on its way.
            (Stage::Waiting { .. }, ResultAnswer::Nothing(_)) | (_, ResultAnswer::Alive) | (Stage::Ended { .. }, _) => {
            }
        }
    }
}

impl Stage {
    fn unsettled(verdict: Verdict) -> Self {
        Self::Ended { verdict, latency: None, settled: false }
    }
}

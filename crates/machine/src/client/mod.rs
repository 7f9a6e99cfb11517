//! The worker's side. [`Client::receive`] is the place to start: how an authentic command becomes an effect, or does not.

mod apply;
mod catalogue;
mod clock;
mod command_log;
mod credential;
mod effect;
mod epoch;
mod journal;
mod message;
mod output;
mod pipeline;
mod query;
mod rate;
mod refusal;
mod reject;
mod renewal;
mod start;
mod state;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_protocol::command::Command;
use countersign_protocol::envelope::{Authentic, Reason, Rejected};
use countersign_protocol::event::{EventKind, SecurityReason};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;

pub use self::catalogue::{Catalogue, DataCommand, RegistrationError};
pub use self::clock::Now;
pub use self::effect::{Effect, ExecutionResult, JobKey, Level, Note, Step};
pub use self::epoch::Mark;
pub use self::journal::{Entry, EpochStart, Finished, Part, Restored, Started};
pub use self::output::OutputRead;
pub use self::pipeline::Execution;
pub use self::refusal::ReplyContext;
pub use self::start::{Limits, StartError, StartUp};
pub use self::state::State;

use self::clock::Clock;
use self::credential::Standing;
use self::effect::RolledBack;
use self::journal::{Phase, Records};
use self::message::Outbox;
use self::rate::ReplyBudget;
use self::refusal::Refusal;
use self::reject::Alarm;
use crate::renewal::Renewer;
use crate::trust::Follower;

/// How soon a record that could not be written is tried again, in milliseconds.
const RETRY: i64 = 1_000;
/// How often one job's progress is published, in milliseconds.
const PROGRESS: i64 = 100;

/// A client: everything that it knows, and everything that it decides by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    limits: Limits,
    version: String,
    catalogue: Arc<Catalogue>,
    /// How much longer than other jobs a program may take to end, in milliseconds.
    grace: i64,
    follower: Follower,
    renewer: Renewer,
    /// Why the last attempt to renew its credential was in vain, as it was reported.
    not_renewed: Option<String>,
    epoch_start: EpochStart,
    started_at: Millis,
    clock: Clock,
    /// The mark of this epoch that is safely on the disk.
    synced: Millis,
    /// When the next mark is due, in milliseconds since boot.
    mark_at: i64,
    trust_expired: bool,
    /// Whether the end of the bundle in force was reported as near.
    trust_warned: bool,
    standing: Standing,
    /// When the standing changes next, in milliseconds since boot.
    standing_until: i64,
    state: State,
    outbox: Outbox,
    records: Records,
    queries: Records,
    dropped: BTreeMap<Reason, u64>,
    reply_budget: ReplyBudget,
    alarms: BTreeMap<Option<Name>, Alarm>,
    heartbeat_at: i64,
    presence_fits: bool,
    termination: Option<Termination>,
    parked: Vec<Step>,
    retry_at: i64,
}

/// A client that is terminating.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Termination {
    command: Option<JobKey>,
    cancelled: usize,
    deadline: i64,
}

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: Millis,
    since_boot: i64,
}

impl Client {
    /// Takes an authentic command from bytes to effect, or to the refusal or silence that section 9 demands.
    pub fn receive(&mut self, command: Authentic<Command>, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        if let Err(rejection) = self.run_pipeline(command, moment, &mut step) {
            self.reject(rejection, moment, &mut step);
        }
        step
    }

    /// Counts a message that was not authentic, and reports one whose signature held although its envelope did not.
    pub fn rejected(&mut self, rejected: &Rejected, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        self.drop(rejected, moment, &mut step);
        step
    }

    /// Counts messages that were shed unverified, because they came faster than they could be verified.
    pub fn shed(&mut self, count: u64, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        *self.dropped.entry(Reason::Overload).or_default() += count;
        self.alarm(SecurityReason::Overload, count, None, moment, &mut step);
        // There may have been a trust bundle among them.
        self.follower.missed(moment.since_boot);
        step
    }

    /// Takes the end of an execution, and answers the command with its final reply.
    pub fn finished(&mut self, key: JobKey, result: ExecutionResult, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let outcome = match result {
            ExecutionResult::Done(result) => Outcome::Succeeded(result),
            ExecutionResult::Failed { message, details } => {
                let message = message::shorten(&message);
                Outcome::Failed(ErrorBody { code: ErrorCode::Failed, message, details })
            }
            ExecutionResult::Cancelled { message, details } => {
                let message = message::shorten(&message);
                Outcome::Cancelled(ErrorBody { code: ErrorCode::Cancelled, message, details })
            }
            ExecutionResult::Broken(text) => {
                Outcome::Failed(ErrorBody::new(ErrorCode::Internal, message::shorten(&text)))
            }
        };
        self.finish_recorded(key, outcome, moment, &mut step);
        self.exit_if_idle(moment, &mut step);
        step
    }

    /// Takes a running job's progress, and publishes it if the last one is long enough ago.
    pub fn progressed(&mut self, key: JobKey, progress: Progress, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let Some(record) = self.records.find_mut(key) else { return step };
        let Phase::Running(running) = &mut record.phase else { return step };
        if moment.since_boot.saturating_sub(running.progressed) >= PROGRESS {
            running.progressed = moment.since_boot;
            self.interim(key, Outcome::Progress(progress), moment, &mut step);
        }
        step
    }

    /// Knows other commands from now on, and says so in a presence. Jobs that run go on.
    pub fn replace_catalogue(&mut self, catalogue: Catalogue, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        // Jobs of the commands until now may still run.
        self.grace = self.grace.max(catalogue.grace());
        self.catalogue = Arc::new(catalogue);
        self.presence(moment, &mut step);
        step
    }

    /// Does what is due: presence, the end of `terminate`, what could not be written before.
    pub fn tick(&mut self, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        if moment.since_boot >= self.retry_at {
            self.retry(&mut step);
            return step;
        }
        if self.termination.as_ref().is_some_and(|termination| moment.since_boot >= termination.deadline) {
            let running: Vec<JobKey> = self.running_but_terminate().collect();
            for key in running {
                let error = ErrorBody::new(ErrorCode::Cancelled, "the client terminated before the job had ended");
                self.finish_recorded(key, Outcome::Cancelled(error), moment, &mut step);
            }
        }
        self.exit_if_idle(moment, &mut step);
        self.mark_if_due(moment, &mut step);
        self.fetch_trust(moment, &mut step);
        self.ask_renewal(moment, &mut step);
        if moment.since_boot >= self.heartbeat_at {
            self.release_alarms(moment, &mut step);
            self.presence(moment, &mut step);
        }
        step
    }

    /// When [`Self::tick`] is due, in milliseconds since boot.
    pub fn wake_at(&self) -> i64 {
        if self.records.is_due() || self.queries.is_due() {
            return i64::MIN;
        }
        let deadline = self.termination.as_ref().map_or(i64::MAX, |termination| termination.deadline);
        self.heartbeat_at
            .min(self.mark_at)
            .min(deadline)
            .min(self.retry_at)
            .min(self.standing_until)
            .min(self.follower.wake_at())
            .min(self.renewer.wake_at())
    }

    /// Ends the client as the command `terminate` does, without an answer to anybody: for SIGTERM and SIGINT.
    pub fn terminate(&mut self, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        if self.termination.is_none() {
            self.begin_termination(None, moment, &mut step);
        }
        step
    }

    /// Takes back a step whose entries could not be written. A command that it began has not happened and is answered with
    /// `not_recorded`. What had ended comes back without the reply, in a short entry that there may be room for; where there is
    /// none either, it is written, and only then answered, as soon as writing succeeds.
    pub fn roll_back(&mut self, mut step: Step, now: Now) -> Step {
        let mut back = Step::default();
        let moment = self.observe(now, &mut back);
        back.entries.clear();
        self.leave_out_presence(&mut back);
        self.leave_out_presence(&mut step);
        if let Some(started) = step.started.take() {
            self.records.withdraw(started.reply_context.key);
            self.state = started.state;
            if self
                .termination
                .as_ref()
                .is_some_and(|termination| termination.command == Some(started.reply_context.key))
            {
                self.termination = None;
            }
            let RolledBack { reply_context, command, .. } = started;
            self.answer_unrecorded(&reply_context, &command, &Refusal::NotRecorded, moment, &mut back);
        } else if step.entries.iter().all(Entry::is_of_clock) {
            back.effects.extend(step.effects);
        } else if leave_out_replies(&mut step.entries) {
            (back.entries, back.effects) = (step.entries, step.effects);
        } else if step.effects.contains(&Effect::Exit) {
            back.effects.push(Effect::Exit);
        } else {
            self.park(step, moment);
        }
        back
    }

    /// Whether a command is on record.
    pub fn remembers(&self, key: JobKey) -> bool {
        self.records.find(key).is_some()
    }

    /// How many commands have started whose end is not on disk: for each of them there must be room for a short entry.
    pub fn unfinished(&self) -> usize {
        self.records.running().count() + self.parked.len()
    }

    /// Leaves unsaid what a step without entries publishes after one that is taken back, since it may speak of that: it looks
    /// like a lost message. A query that it answered is forgotten, so that the answer is not given when it comes again.
    pub fn retract(&mut self, mut step: Step) -> Step {
        if let Some(query) = step.query.take() {
            self.queries.withdraw(query);
        }
        self.leave_out_presence(&mut step);
        let speaks_of_a_command = |effect: &Effect| match effect {
            Effect::Publish(_) | Effect::ReadOutput(_) => true,
            Effect::Log(note) => matches!(note.level, Level::Command | Level::Query),
            Effect::Execute(_) | Effect::Cancel(_) | Effect::Exit => false,
            Effect::KeepTrust(_) | Effect::FetchTrust(_) | Effect::Renew(_) | Effect::KeepRenewal(_) => false,
        };
        step.effects.retain(|effect| !speaks_of_a_command(effect));
        step
    }

    /// The moment that messages are to be verified at: the wall clock's, but never before the high-water mark of its epoch.
    pub fn time(&self, now: Now) -> Millis {
        self.clock.at(now)
    }

    /// How much longer than other jobs some may take to end once they are cancelled, in milliseconds.
    pub fn grace(&self) -> i64 {
        self.grace
    }

    /// Where the client stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its epoch.
    pub fn epoch(&self) -> Uuid {
        self.epoch_start.epoch
    }

    /// How many messages were dropped, by reason.
    pub fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    fn running_jobs(&self) -> usize {
        self.records.running().filter(|record| record.long_running).count()
    }

    fn running_but_terminate(&self) -> impl Iterator<Item = JobKey> {
        let terminate = self.termination.as_ref().and_then(|termination| termination.command);
        self.records.running().map(|record| record.key()).filter(move |key| Some(*key) != terminate)
    }

    /// Retains what could not be written for later. Progress is given up instead: there will be more of it.
    fn park(&mut self, mut step: Step, moment: Moment) {
        // Written later they would show time running backwards.
        step.entries.retain(|entry| !entry.is_of_clock());
        let mut finished = false;
        for entry in &step.entries {
            match entry {
                Entry::Finished(of) => {
                    self.records.set_unsynced(of.key, true);
                    finished = true;
                }
                Entry::Interim { key, .. } => self.records.withdraw_interim(*key),
                Entry::EpochStarted(_) | Entry::Started(_) | Entry::Mark { .. } => {}
            }
        }
        if finished {
            self.parked.push(step);
            self.retry_at = moment.since_boot.saturating_add(RETRY);
        }
    }

    /// Tries to write again what was retained for later, and nothing else in the same step.
    fn retry(&mut self, step: &mut Step) {
        self.retry_at = i64::MAX;
        for parked in std::mem::take(&mut self.parked) {
            for entry in &parked.entries {
                if let Entry::Finished(of) = entry {
                    self.records.set_unsynced(of.key, false);
                }
            }
            step.entries.extend(parked.entries);
            step.effects.extend(parked.effects);
        }
    }

    /// Leaves a presence out of a step that is not written as it was meant, and has another one published at once: it may
    /// report a state that is taken back. Only the last word stays.
    fn leave_out_presence(&mut self, step: &mut Step) {
        if step.effects.contains(&Effect::Exit) {
            return;
        }
        let own = subject::event(self.trust().realm(), self.outbox.identity().name(), EventKind::Presence);
        let before = step.effects.len();
        step.effects.retain(|effect| !matches!(effect, Effect::Publish(message) if message.subject == own));
        if step.effects.len() < before {
            self.heartbeat_at = i64::MIN;
        }
    }

    fn observe(&mut self, now: Now, step: &mut Step) -> Moment {
        let set = self.clock.observe(now);
        let moment = Moment { now: self.clock.mark(), since_boot: now.since_boot };
        if let Some(set) = set {
            self.begin_epoch(set, moment, step);
        }
        self.records.purge(moment.now);
        self.queries.purge(moment.now);
        self.observe_trust(moment, step);
        self.observe_credential(moment, step);
        self.renewer.observe(moment.now, moment.since_boot);
        moment
    }
}

/// Leaves the replies out of entries that record how something ended, and everything else that can be done without; whether
/// that makes them shorter.
fn leave_out_replies(entries: &mut Vec<Entry>) -> bool {
    let mut shorter = false;
    for entry in entries.iter_mut() {
        if let Entry::Finished(finished) = entry {
            shorter |= finished.reply.take().is_some();
        }
    }
    if shorter {
        entries.retain(|entry| matches!(entry, Entry::Finished(_)));
    }
    shorter
}

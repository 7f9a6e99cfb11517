//! What is applied for a recorded command: its effects and its replies.

use countersign_protocol::command::{CommandKind, DryRun};
use countersign_protocol::envelope::Reason;
use countersign_protocol::event::EventData;
use countersign_protocol::reply::Outcome;
use serde_json::json;

use super::effect::{self, Effect, JobKey, Level, Note, Step};
use super::journal::{self, Entry, Phase, Started};
use super::pipeline::{Action, Execution, OwnCommand, Recorded};
use super::refusal::ReplyContext;
use super::state::{self, State};
use super::{Client, Moment, Termination, message};

/// How long `terminate` waits for cancelled jobs to end, in milliseconds, beyond the grace of programs.
const TERMINATION_TIMEOUT: i64 = 2_000;

impl Client {
    /// Remembers what was decided: queries in memory, as far as they fit, and everything else on disk too.
    pub(super) fn remember(&mut self, started: Started, kind: CommandKind, step: &mut Step) {
        if kind == CommandKind::Query {
            // What `output` and `describe` answer is large, and is read again as well as remembered.
            let is_large = ["output", "describe"].contains(&started.command.as_str());
            if !is_large && self.queries.make_room(started.reply_context.key.operator, false) {
                step.query = Some(started.reply_context.key);
                self.queries.begin(started);
            }
        } else {
            let (reply_context, command) = (started.reply_context.clone(), started.command.clone());
            step.started = Some(effect::RolledBack { reply_context, command, state: self.state });
            step.entries.push(Entry::Started(started.clone()));
            self.records.begin(started);
        }
    }

    /// Applies a recorded command: to its final reply, or to the start of an execution.
    pub(super) fn apply(&mut self, recorded: Recorded, moment: Moment, step: &mut Step) {
        let (reply_context, action) = recorded.into_parts();
        let key = reply_context.key;
        let command = match action {
            Action::Own(command) => command,
            Action::Execute(execution) => return self.execute(execution, moment, step),
        };
        let outcome = match command {
            OwnCommand::DryRun => Outcome::Succeeded(json!(DryRun::default())),
            OwnCommand::Start => {
                let (state, changed) = state::start(self.state);
                self.change(state, moment, step);
                Outcome::Succeeded(json!({ "changed": changed }))
            }
            OwnCommand::Stop => {
                let (state, changed) = state::stop(self.state);
                self.change(state, moment, step);
                Outcome::Succeeded(json!({ "changed": changed, "running": self.running_jobs() }))
            }
            OwnCommand::Terminate => return self.begin_termination(Some(key), moment, step),
            OwnCommand::Cancel(named) => match self.find(named, key.operator) {
                Some(record) => {
                    let running = record.long_running && record.is_running();
                    step.effects.extend(running.then_some(Effect::Cancel(record.key())));
                    Outcome::Succeeded(json!({ "cancelled": running }))
                }
                None => Outcome::Failed(message::not_found()),
            },
            OwnCommand::Status => {
                let info = self.info(self.outbox.next());
                Outcome::Succeeded(json!(info))
            }
            OwnCommand::Jobs => Outcome::Succeeded(json!(self.job_list())),
            OwnCommand::Result(named) => self.result(named, &reply_context, moment),
            OwnCommand::Output(wanted) => return self.read_output(wanted, reply_context, moment, step),
            OwnCommand::Describe(name) => match self.catalogue.describe(&name) {
                Some(description) => Outcome::Succeeded(json!(description)),
                None => Outcome::Failed(message::no_command(&name)),
            },
        };
        self.finish(&reply_context, outcome, moment, step);
    }

    fn execute(&mut self, execution: Execution, moment: Moment, step: &mut Step) {
        if execution.is_long_running() {
            self.interim(execution.key(), Outcome::Accepted, moment, step);
            self.job_event(execution.key(), moment, step);
            if let Some(record) = self.records.find(execution.key()) {
                self.log_start(record, step);
            }
        }
        step.effects.push(Effect::Execute(execution));
    }

    pub(super) fn change(&mut self, state: State, moment: Moment, step: &mut Step) {
        if self.state != state {
            self.state = state;
            self.presence(moment, step);
        }
    }

    pub(super) fn begin_termination(&mut self, command: Option<JobKey>, moment: Moment, step: &mut Step) {
        self.state = State::Terminated;
        let deadline = moment.since_boot.saturating_add(TERMINATION_TIMEOUT).saturating_add(self.grace);
        let jobs = self.records.running().filter(|record| record.long_running).map(|record| record.key());
        let jobs: Vec<Effect> = jobs.map(Effect::Cancel).collect();
        self.termination = Some(Termination { command, cancelled: jobs.len(), deadline });
        step.effects.extend(jobs);
        self.exit_if_idle(moment, step);
    }

    /// Answers `terminate` and ends, once every job has its final reply.
    pub(super) fn exit_if_idle(&mut self, moment: Moment, step: &mut Step) {
        if self.termination.is_none() || self.running_but_terminate().next().is_some() {
            return;
        }
        let Some(Termination { command, cancelled, .. }) = self.termination.take() else { return };
        self.presence(moment, step);
        if let Some(key) = command {
            self.finish_recorded(key, Outcome::Succeeded(json!({ "cancelled": cancelled })), moment, step);
        }
        step.effects.push(Effect::Exit);
    }

    /// Ends a command with its final reply, recorded if its beginning was.
    pub(super) fn finish(&mut self, reply_context: &ReplyContext, outcome: Outcome, moment: Moment, step: &mut Step) {
        if self.records.find(reply_context.key).is_some() {
            return self.finish_recorded(reply_context.key, outcome, moment, step);
        }
        if self.queries.find(reply_context.key).is_none()
            && !self.reply_budget.admit(moment.since_boot, &reply_context.digest)
        {
            *self.dropped.entry(Reason::Repeat).or_default() += 1;
            return;
        }
        if let Some(query) = self.queries.find(reply_context.key) {
            self.log_end(query, &outcome, step);
        }
        let (reply, status) = self.outbox.fitting(reply_context, 0, outcome, self.state, moment.now);
        step.effects.push(Effect::Publish(reply.clone()));
        self.queries.end(journal::Finished { key: reply_context.key, at: moment.now, status, reply: Some(reply) });
    }

    /// Ends a recorded command with its final reply.
    pub(super) fn finish_recorded(&mut self, key: JobKey, outcome: Outcome, moment: Moment, step: &mut Step) {
        let Some(record) = self.records.find(key).filter(|record| record.is_running()) else { return };
        let (reply_context, long_running) = (record.reply_context(), record.long_running);
        self.log_end(record, &outcome, step);
        let (reply, status) = self.outbox.fitting(&reply_context, record.next_seq, outcome, self.state, moment.now);
        let finished = journal::Finished { key, at: moment.now, status, reply: Some(reply.clone()) };
        step.entries.push(Entry::Finished(finished.clone()));
        step.effects.push(Effect::Publish(reply));
        self.records.end(finished);
        if long_running {
            self.job_event(key, moment, step);
        }
    }

    /// Answers a running command with an interim reply.
    pub(super) fn interim(&mut self, key: JobKey, outcome: Outcome, moment: Moment, step: &mut Step) {
        let Some(record) = self.records.find_mut(key) else { return };
        let (reply_context, seq) = (record.reply_context(), record.next_seq);
        let Phase::Running(running) = &mut record.phase else { return };
        if let Outcome::Progress(latest) = &outcome {
            running.progress = Some(latest.clone());
        }
        let reply = self.outbox.reply(&reply_context, seq, outcome, self.state, moment.now);
        running.interim = Some(reply.clone());
        record.next_seq += 1;
        step.entries.push(Entry::Interim { key, seq });
        step.effects.push(Effect::Publish(reply));
    }

    pub(super) fn presence(&mut self, moment: Moment, step: &mut Step) {
        self.heartbeat_at = moment.since_boot.saturating_add(self.limits.heartbeat);
        let info = self.info(self.outbox.next());
        let event = self.outbox.event(EventData::Presence(Box::new(info)), self.state, moment.now);
        let fits = self.outbox.fits(&event);
        if fits {
            step.effects.push(Effect::Publish(event));
        } else if self.presence_fits {
            step.effects.push(Effect::Log(Note { level: Level::Warn, text: no_presence(event.size()) }));
        }
        self.presence_fits = fits;
    }
}

/// The notice where the presence is larger than the broker takes.
pub(super) fn no_presence(size: usize) -> String {
    format!(
        "the presence takes {size} bytes, and the broker does not take as much (max_payload): no operator sees this client"
    )
}

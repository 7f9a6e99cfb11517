//! The answers to `status`, `jobs` and `result` (section 4).

use countersign_protocol::command::{ClientInfo, CommandId, Job as JobInfo, JobList, JobsInfo, Recorded, TrustInfo};
use countersign_protocol::event::EventData;
use countersign_protocol::json;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::MAX_JOBS_LISTED;
use countersign_protocol::reply::{Outcome, Reply, Status};
use serde_json::json;

use super::effect::{JobKey, Step};
use super::journal::{Phase, Record};
use super::refusal::ReplyContext;
use super::{Client, Effect, Moment, message};

impl Client {
    /// The client info that goes out in message number `n`.
    pub(super) fn info(&self, n: u64) -> ClientInfo {
        ClientInfo {
            state: self.state,
            epoch: self.epoch_start.epoch,
            boot: self.outbox.boot(),
            n,
            version: self.version.clone(),
            started_at: self.started_at,
            heartbeat_ms: self.limits.heartbeat.unsigned_abs(),
            groups: self.outbox.identity().credential().groups().to_vec(),
            jobs: JobsInfo { running: self.running_jobs() as u64, limit: self.limits.jobs as u64 },
            dropped: self.dropped.clone(),
            commands: self.catalogue.listed().to_vec(),
            trust: TrustInfo { version: self.trust().version(), expires_at: self.trust().expires_at() },
        }
    }

    pub(super) fn job_list(&self) -> JobList {
        let running = self.records.running().rev().filter(|record| record.long_running);
        let since = self.clock.mark().plus(-self.limits.retain);
        let finished = self
            .records
            .finished_jobs()
            .rev()
            .take_while(|record| matches!(&record.phase, Phase::Finished { at, .. } if *at > since));
        let mut jobs = running.chain(finished).map(job_info);
        let listed = jobs.by_ref().take(MAX_JOBS_LISTED).collect();
        JobList { jobs: listed, more: jobs.next().is_some() }
    }

    pub(super) fn result(&self, wanted: CommandId, reply_context: &ReplyContext, moment: Moment) -> Outcome {
        let Some(record) = self.find(wanted, reply_context.key.operator) else {
            return Outcome::Failed(message::not_found());
        };
        let recorded_result = recorded(record);
        let bare = Recorded { result: None, error: None, ..recorded_result.clone() };
        let whole = Outcome::Succeeded(json!(recorded_result));
        // The status is worth more than an error about the rest, which does not fit.
        if self.outbox.would_fit(reply_context, whole.clone(), self.state, moment.now) {
            whole
        } else {
            Outcome::Succeeded(json!(bare))
        }
    }

    /// The record that `result` or `cancel` means: the operator's own; another key's only where no digest decides which, and
    /// where exactly one has that id (section 4).
    pub(super) fn find(&self, wanted: CommandId, operator: Thumbprint) -> Option<&Record> {
        let key = JobKey { id: wanted.command_id, operator };
        let own = self.records.find(key).or_else(|| self.queries.find(key));
        if let Some(digest) = wanted.command_digest {
            return own.filter(|record| record.digest() == digest);
        }
        own.or_else(|| {
            let mut others = self.records.of_id(key.id).chain(self.queries.of_id(key.id));
            let only = others.next()?;
            others.next().is_none().then_some(only)
        })
    }

    pub(super) fn job_event(&mut self, key: JobKey, moment: Moment, step: &mut Step) {
        let Some(record) = self.records.find(key) else { return };
        let data = EventData::Job(job_info(record));
        step.effects.push(Effect::Publish(self.outbox.event(data, self.state, moment.now)));
    }
}

fn job_info(record: &Record) -> JobInfo {
    let (ended_at, progress) = match &record.phase {
        Phase::Running(running) => (None, running.progress.clone()),
        Phase::Finished { .. } if record.unsynced => (None, None),
        Phase::Finished { at, .. } => (Some(*at), None),
    };
    JobInfo {
        command_id: record.key().id,
        command: record.command().clone(),
        operator: record.operator().clone(),
        status: status(record),
        started_at: record.at(),
        ended_at,
        progress,
    }
}

fn status(record: &Record) -> Status {
    match &record.phase {
        Phase::Running(running) if running.progress.is_some() => Status::Progress,
        Phase::Running(_) => Status::Accepted,
        Phase::Finished { .. } if record.unsynced => Status::Accepted,
        Phase::Finished { status, .. } => *status,
    }
}

/// What is on record of a command; the result or error as long as its reply is retained.
fn recorded(record: &Record) -> Recorded {
    let reply = match &record.phase {
        Phase::Running(_) => None,
        Phase::Finished { .. } => record.answer().and_then(|reply| json::parse_as::<Reply>(&reply.body).ok()),
    };
    let (result, error) = reply.map_or((None, None), |reply| (reply.result, reply.error));
    let progress = match &record.phase {
        Phase::Running(running) => running.progress.clone(),
        Phase::Finished { .. } => None,
    };
    Recorded {
        command_digest: record.digest(),
        operator: record.operator().clone(),
        status: status(record),
        progress,
        result,
        error,
    }
}

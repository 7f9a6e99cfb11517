//! The wait for the end of a command that was sent before, perhaps by another process: `result` queries, until it has ended.

use countersign_protocol::command::Recorded;
use countersign_protocol::digest::Digest;
use countersign_protocol::json;
use countersign_protocol::reply::{Outcome, Progress, Reply};

use super::{PendingTarget, Stage};
use crate::server::notices::{recorded, unknown};
use crate::server::request::RequestContext;
use crate::server::result_queries::ResultAnswer;
use crate::server::verdict::Ignored;
use crate::server::{Effect, Now, POLL_EVERY, Update, millis};

/// How soon after an answer the next query follows at least, in milliseconds.
const MIN_POLL: i64 = 1_000;

impl PendingTarget {
    /// After how many milliseconds the next query follows: of a command that is awaited, soon at first, for it may be a short
    /// one, and its client sends its end to whoever has sent it.
    pub(super) fn poll_after(&self, context: &RequestContext, now: Now) -> i64 {
        if context.request.awaited.is_none() {
            return POLL_EVERY;
        }
        let waited = now.micros.saturating_sub(self.latest.at) / 1_000;
        i64::try_from(waited / 4).unwrap_or(POLL_EVERY).clamp(MIN_POLL, POLL_EVERY)
    }

    /// The answer to the query that was submitted: which command has the id there, and whether it runs.
    pub(super) fn on_first_result(
        &mut self,
        context: &RequestContext,
        outcome: Outcome,
        reply: &Reply,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<u64, Ignored> {
        let Outcome::Succeeded(result) = outcome else { return Err(Ignored::Unfit) };
        let found: Recorded = json::read(&result).map_err(|_| Ignored::Unfit)?;
        self.note_seen(reply.state, now);
        if context.request.is_own && found.operator != *context.identity.name() {
            let text = format!("it has a command of {} under this id, and none of this operator", found.operator);
            self.stage = Stage::unsettled(unknown(&text));
            return Ok(0);
        }
        if found.operator != *context.identity.name() && self.awaited.is_none() && !context.done {
            let text = format!("the command was requested by {}", found.operator);
            effects.push(context.notice(&self.client, format!("{}: {text}", self.client)));
        }
        let (about, progress) = (found.command_digest, found.progress.clone());
        let answer = recorded(found).map_or(ResultAnswer::Runs(progress), ResultAnswer::Ended);
        self.on_awaited(context, Some(about), answer, reply, now, effects);
        Ok(0)
    }

    /// What a client says of the awaited command.
    pub(super) fn on_awaited(
        &mut self,
        context: &RequestContext,
        about: Option<Digest>,
        answer: ResultAnswer,
        reply: &Reply,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_over = context.done || matches!(self.stage, Stage::Ended { settled: true, .. });
        if is_over || (self.awaited.is_some() && about.is_some() && self.awaited != about) {
            return;
        }
        let latency = now.micros.saturating_sub(self.latest.at);
        match answer {
            ResultAnswer::Ended(verdict) => self.end(verdict, latency, true, context),
            ResultAnswer::Runs(progress) => {
                let is_new = self.awaited.is_none() || progress.is_some();
                self.awaited = self.awaited.or(about);
                self.accepted_by = Some(reply.boot);
                self.runs(context, latency, now);
                if is_new {
                    effects.push(context.update(update(context, reply, progress, latency)));
                }
            }
            ResultAnswer::Nothing(verdict) if matches!(self.stage, Stage::Running { .. }) => {
                self.stage = Stage::unsettled(verdict);
            }
            ResultAnswer::Nothing(_) | ResultAnswer::Alive => {}
        }
    }
}

/// That it runs, as its client would say it to whoever has sent it.
fn update(context: &RequestContext, reply: &Reply, progress: Option<Progress>, latency: u64) -> Update {
    Update::Reply {
        client: reply.from.clone(),
        command_id: context.request.awaited.unwrap_or(reply.command_id),
        outcome: progress.map_or(Outcome::Accepted, Outcome::Progress),
        state: reply.state,
        latency_ms: millis(latency),
        late: false,
    }
}

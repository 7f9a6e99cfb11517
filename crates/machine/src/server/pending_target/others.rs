//! A target whose client runs as several processes, or cannot prove what it signs any more (sections 5 and 6).

use countersign_protocol::command::CommandKind;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::id::Uuid;
use countersign_protocol::reply::{ErrorBody, Reply, State};
use countersign_protocol::time::{Millis, span};

use super::{PendingTarget, Stage};
use crate::server::notices::unknown;
use crate::server::request::RequestContext;
use crate::server::verdict::Verdict;
use crate::server::{Effect, Now, Presence, SILENCE, Update};

/// A refusal that waits for the answer of another process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    by: Uuid,
    pub(super) error: ErrorBody,
    pub(super) latency: u64,
}

impl PendingTarget {
    /// A presence of the client has just arrived. If the process that the request was sent to is over, what another one refused
    /// stands. What was sent before this process was there has to be sent again.
    pub(in super::super) fn present(
        &mut self,
        context: &mut RequestContext,
        presence: &Presence,
        is_one_of_many: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let boot = presence.boot();
        let is_new = !self.processes.knows(boot) && self.known.as_ref().map(Presence::boot) != Some(boot);
        self.last_seen = Some(now.micros);
        self.until = Some(presence.expires_at());
        self.term = Some(presence.term());
        self.processes.present(presence);
        let is_waiting = self.is_waiting();
        if is_new && is_waiting && self.refused.is_none() && presence.state() != State::Terminated {
            self.reissue_to_newcomer(context, presence, is_one_of_many, now, effects);
        }
        if let Some(Refused { by, error, latency }) = self.refused.take_if(|_| is_waiting)
            && !context.done
        {
            if self.processes.awaits_other_than(by) {
                self.refused = Some(Refused { by, error, latency });
            } else if !self.reissue(context, &error, now, effects) {
                self.stage = Stage::refused(error, latency);
            }
        }
    }

    /// The notice, once, where several processes sign for it.
    pub(in super::super) fn doubt(&mut self, now: Now) -> Option<Update> {
        self.processes.doubt(&self.client, now.wall)
    }

    /// A process of the client signed a reply.
    pub(super) fn note_process(&mut self, reply: &Authentic<Reply>) {
        self.processes.replied(reply.message());
        self.until = Some(reply.credential().expires_at());
        self.term = Some(reply.credential().term());
    }

    /// What one process refused is not what another does: the refusal is the verdict no longer.
    pub(super) fn overrule(&mut self, boot: Uuid) {
        if let Stage::Ended { verdict: Verdict::Refused { .. }, settled, .. } = &mut self.stage
            && let Some(sent) = std::iter::once(&mut self.latest)
                .chain(&mut self.earlier)
                .find(|sent| sent.last.is_some_and(|(_, by)| by != boot))
        {
            (sent.last, *settled) = (None, false);
        }
    }

    /// How expired credentials explain the silence, as far as is known.
    pub(super) fn lapse(&self, context: &RequestContext, now: Now) -> String {
        let own = context.identity.credential();
        let ended = |whose: &str, until: Millis| {
            (until <= now.wall).then(|| format!(", and {whose} credential expired on {}", until.utc()))
        };
        let its = self.until.and_then(|until| ended("its", until)).unwrap_or_default();
        its + &ended("the operator's own", own.expires_at()).unwrap_or_default()
    }

    /// Whether a refusal is another process's than the one whose answer counts: what one has accepted is not refused by
    /// another, and where the request is for one that may still answer, the refusal of another waits for it.
    pub(super) fn is_of_another(&mut self, reply: &Reply, error: &ErrorBody, now: Now) -> bool {
        let is_accepted = self.accepted_by.is_some_and(|by| by != reply.boot);
        let awaits_other = self.waits_for(&reply.command_id) && self.processes.awaits_other_than(reply.boot);
        if awaits_other && !is_accepted {
            self.note_seen(reply.state, now);
            let latency = now.micros.saturating_sub(self.latest.at);
            self.refused = Some(Refused { by: reply.boot, error: error.clone(), latency });
        }
        awaits_other || is_accepted
    }

    /// Whether a process is another than the one that accepted the command and has not followed it: that it has no record
    /// of the command proves nothing.
    pub(super) fn knows_nothing(&self, boot: Uuid) -> bool {
        self.accepted_by.is_some_and(|by| by != boot && !self.processes.is_over(by))
    }

    /// What silence means, by the verified roster: gone before the request went out, and not seen since. Time without a
    /// connection does not count as silence.
    pub(super) fn offline(&self, context: &RequestContext, now: Now) -> Option<Verdict> {
        let known = self.known.as_ref().filter(|_| self.last_seen.is_none())?;
        let age = now.wall.since(known.last_seen_at());
        let silence = age.saturating_sub(context.time_cut_off(now));
        let nothing_listens = if self.no_responders { "nothing listens, and " } else { "" };
        let why = if known.state() == State::Terminated {
            "it has ended, by its last presence".to_owned()
        } else if silence > SILENCE {
            format!("{nothing_listens}its last presence is {} old", span(age))
        } else {
            return None;
        };
        let why = why + &self.lapse(context, now);
        if context.request.awaited.is_some() {
            // Only the query was not answered.
            return Some(unknown(&why));
        }
        if context.request.builtin.is_some_and(|builtin| builtin.kind() == CommandKind::Query) {
            return Some(Verdict::Offline { text: format!("{why}: probably not there, but that is a guess") });
        }
        Some(Verdict::Offline { text: format!("{why}: probably not run, but that is a guess") })
    }
}

impl Stage {
    /// A refusal after a wait in which no other process answered. A later answer of that process still replaces it.
    pub(super) fn refused(error: ErrorBody, latency: u64) -> Self {
        Self::Ended { verdict: Verdict::Refused { error }, latency: Some(latency), settled: false }
    }
}

//! What is sent to a client once more, because it has started a new epoch or was not there yet (section 8).

use countersign_protocol::command::{Builtin, CommandKind, Reissue, Target};
use countersign_protocol::id::Uuid;
use countersign_protocol::reply::{ErrorBody, ErrorCode};

use super::{PendingTarget, Stage};
use crate::server::request::RequestContext;
use crate::server::sent_command::{Resend, SentCommand};
use crate::server::verdict::NOT_RUN;
use crate::server::wait::Wait;
use crate::server::{Effect, FIRST_RETRY, Now, Presence};

/// How often one target is sent a request again, however often it answers with another epoch.
const MAX_REISSUES: usize = 3;

impl PendingTarget {
    /// Section 8: after `starting` or `wrong_epoch`, the request under a new id with the epoch from the refusal, to this
    /// client alone. Returns whether it was sent.
    pub(super) fn reissue(
        &mut self,
        context: &mut RequestContext,
        error: &ErrorBody,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if context.done || !matches!(error.code, ErrorCode::Starting | ErrorCode::WrongEpoch) {
            return false;
        }
        let not_run = format!("{} was {NOT_RUN}: {} has begun a new epoch", context.request.command.name, self.client);
        if self.superseded {
            let text = format!("{not_run}, and a later command went to it; it is not sent again");
            effects.push(context.notice(&self.client, text));
            return false;
        }
        let epoch = error.details.as_ref().and_then(|details| details.get("epoch")?.as_str()?.parse::<Uuid>().ok());
        // The client was in that very epoch before the request was submitted: it cannot have run the request in an earlier one.
        let is_young = epoch.is_some() && epoch == self.known.as_ref().map(Presence::epoch);
        if !is_young && !may_reissue(context) {
            let remark = match reissue(context) {
                Reissue::Never => "it may have ended before that, and is not terminated again",
                Reissue::Always | Reissue::OnRetry => "only a retry sends it again",
            };
            effects.push(context.notice(&self.client, format!("{not_run}; {remark}")));
            return false;
        }
        self.reissue_in(context, epoch, now, effects)
    }

    /// Sends it under a new id, with this epoch. Returns whether it was sent.
    fn reissue_in(
        &mut self,
        context: &mut RequestContext,
        epoch: Option<Uuid>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if epoch.is_none()
            || epoch == self.latest.epoch
            || now.wall >= context.expires_at
            || self.earlier.len() >= MAX_REISSUES
        {
            return false;
        }
        let id = context.id(now);
        let Ok(reissued) = SentCommand::new(context, Target::Client(self.client.clone()), epoch, id, now) else {
            return false;
        };
        self.earlier.push(std::mem::replace(&mut self.latest, reissued));
        self.refused = None;
        let resend = Resend::after(FIRST_RETRY, context, now);
        self.stage = Stage::Waiting { wait: Wait::new(context.first_reply_timeout(), now), resend, poll_at: None };
        // A command to many names no epoch, and to a client that has just started it has to be sent again.
        if epoch != self.known.as_ref().map(Presence::epoch) {
            effects.push(context.notice(&self.client, format!("{} has begun a new epoch: sent again", self.client)));
        }
        effects.push(self.latest.publish(context));
        true
    }

    /// Section 8: nothing has answered, and a process is there that had not been seen when the command was sent. It may have
    /// been published before anybody subscribed.
    pub(super) fn reissue_to_newcomer(
        &mut self,
        context: &mut RequestContext,
        presence: &Presence,
        is_one_of_many: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_over = context.done || context.is_cut_off() || context.expires <= now.micros;
        if is_over || self.superseded || self.processes.awaits_other_than(presence.boot()) {
            return;
        }
        let is_query = context.request.builtin.map(Builtin::kind) == Some(CommandKind::Query);
        if !is_query && may_reissue(context) {
            self.reissue_in(context, Some(presence.epoch()), now, effects);
        } else if !is_one_of_many {
            // The same bytes never run twice, whatever has become of them. Sent to all again, they could run where they were
            // refused for the moment.
            effects.push(self.latest.publish(context));
        }
    }
}

/// Whether it may be sent where it may have been executed in an earlier epoch.
fn may_reissue(context: &RequestContext) -> bool {
    match reissue(context) {
        Reissue::Always => true,
        Reissue::OnRetry => context.options.retry,
        Reissue::Never => false,
    }
}

fn reissue(context: &RequestContext) -> Reissue {
    context.request.builtin.map_or(Reissue::OnRetry, Builtin::reissue)
}

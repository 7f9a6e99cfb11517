//! A command as it was sent, and when the same bytes are sent again (section 8).

use std::sync::Arc;

use countersign_protocol::command::{CommandId, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::{MessageId, Uuid};

use super::request::{RequestContext, UnsignedCommand};
use super::{Effect, Now, RequestError};

/// A command as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SentCommand {
    pub(super) id: MessageId,
    pub(super) message: Arc<Signed>,
    pub(super) digest: Digest,
    pub(super) epoch: Option<Uuid>,
    pub(super) at: u64,
    pub(super) next_seq: u64,
    /// The epoch under which it was accepted.
    pub(super) accepted: Option<Uuid>,
    /// The first final reply that is for good: its digest, and the process that signed it.
    pub(super) last: Option<(Digest, Uuid)>,
}

/// When the same bytes are sent again, and how long after the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Resend {
    pub(super) at: u64,
    pub(super) pause: i64,
}

impl SentCommand {
    pub(super) fn new(
        context: &RequestContext,
        to: Target,
        epoch: Option<Uuid>,
        id: MessageId,
        now: Now,
    ) -> Result<Self, RequestError> {
        let message = context.sign(UnsignedCommand {
            id,
            to,
            epoch,
            issued_at: now.wall,
            expires_at: context.expires_at,
            dry_run: context.request.dry_run,
            call: &context.request.command,
        })?;
        let digest = Digest::of(&message.body);
        let message = Arc::new(message);
        Ok(Self { id, message, digest, epoch, at: now.micros, next_seq: 0, accepted: None, last: None })
    }

    /// What distinguishes it from every other, whoever has signed under the same id.
    pub(super) fn named(&self) -> CommandId {
        CommandId { command_id: self.id, command_digest: Some(self.digest) }
    }

    pub(super) fn publish(&self, context: &RequestContext) -> Effect {
        Effect::Publish { message: Signed::clone(&self.message), reply: context.reply_to(&self.id) }
    }
}

impl Resend {
    /// After a pause in milliseconds, ±20 %; only of a request that is retried, and never once that has expired.
    pub(super) fn after(pause: i64, context: &mut RequestContext, now: Now) -> Option<Self> {
        if !context.options.retry {
            return None;
        }
        let at = context.about(pause, now);
        (at < context.expires).then_some(Self { at, pause })
    }
}

//! A command as it was sent, and when the same bytes are sent again (section 8).

use std::sync::Arc;

use countersign_protocol::command::{CommandId, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::{MessageId, Uuid};

use super::issue::{Draft, Errand};
use super::{Effect, Now, OrderError};

/// A command as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sent {
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

impl Sent {
    pub(super) fn new(
        errand: &Errand,
        to: Target,
        epoch: Option<Uuid>,
        id: MessageId,
        now: Now,
    ) -> Result<Self, OrderError> {
        let message = errand.sign(Draft {
            id,
            to,
            epoch,
            issued_at: now.wall,
            expires_at: errand.expires_at,
            dry_run: errand.order.dry_run,
            call: &errand.order.command,
        })?;
        let digest = Digest::of(&message.body);
        let message = Arc::new(message);
        Ok(Self { id, message, digest, epoch, at: now.micros, next_seq: 0, accepted: None, last: None })
    }

    /// What tells it from every other, whoever has signed under the same id.
    pub(super) fn named(&self) -> CommandId {
        CommandId { command_id: self.id, command_digest: Some(self.digest) }
    }

    pub(super) fn publish(&self, errand: &Errand) -> Effect {
        errand.publish(&self.id, Signed::clone(&self.message))
    }
}

impl Resend {
    /// After a pause in milliseconds, ±20 %; never once the order has expired.
    pub(super) fn after(pause: i64, errand: &mut Errand, now: Now) -> Option<Self> {
        let at = errand.about(pause, now);
        (at < errand.expires).then_some(Self { at, pause })
    }
}

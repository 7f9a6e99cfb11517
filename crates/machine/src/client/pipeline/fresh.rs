//! Is it neither too old, nor too new, nor possibly a replay from an earlier epoch? (Section 9, row 10; section 8.)

use countersign_protocol::command::{Builtin, CommandKind};
use countersign_protocol::envelope::Reason;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::MAX_AHEAD;
use countersign_protocol::time::{Millis, span};

use super::address::Addressed;
use super::authorise::Authorised;
use crate::client::refusal::{Refusal, Rejection};

/// What freshness is measured by.
pub(super) struct Freshness {
    pub(super) now: Millis,
    pub(super) skew: i64,
    pub(super) max_ttl: i64,
    pub(super) epoch: Uuid,
    pub(super) since: Millis,
    /// Whether the next start is sure to know that it was this late, whatever the disk may lose until then.
    pub(super) is_assured: bool,
}

/// An authorised command that cannot be a replay.
pub(super) struct Fresh(Addressed);

pub(super) fn fresh(authorised: Authorised, at: &Freshness) -> Result<Fresh, Rejection> {
    let addressed = authorised.addressed();
    let message = addressed.message();
    let now = at.now;
    let life = message.expires_at.since(message.issued_at);
    let granted = addressed.credential().grant().map_or(0, |grant| grant.max_ttl_ms);
    let max = at.max_ttl.min(granted);
    let query =
        Builtin::from_name(message.command.name.as_str()).is_some_and(|builtin| builtin.kind() == CommandKind::Query);
    let is_of_this_epoch = at.is_assured && message.issued_at > at.since.plus(at.skew);
    let refusal = if message.issued_at > now.plus(MAX_AHEAD) {
        return Err(Rejection::drop(Reason::Ahead, &message.from, "issued more than an hour ahead"));
    } else if life <= 0 || life > max {
        Refusal::Lifetime { life, max }
    } else if now >= addressed.started().until {
        let ago = span(now.since(message.expires_at));
        let detail = format!("expired {ago} ago by this machine's clock");
        return Err(Rejection::drop(Reason::Late, &message.from, detail));
    } else if message.epoch.is_some_and(|epoch| epoch != at.epoch) {
        Refusal::WrongEpoch(at.epoch)
    } else if message.epoch.is_none() && !query && !is_of_this_epoch {
        Refusal::Starting(at.epoch)
    } else if now >= message.expires_at.plus(at.skew) {
        Refusal::Expired { now }
    } else if message.issued_at > now.plus(at.skew) {
        Refusal::NotYetValid { now }
    } else {
        return Ok(Fresh(authorised.into_addressed()));
    };
    Err(authorised.into_addressed().refuse(refusal))
}

impl Fresh {
    pub(super) fn into_addressed(self) -> Addressed {
        self.0
    }
}

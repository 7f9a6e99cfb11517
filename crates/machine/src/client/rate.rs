//! Rates, measured by the clock that counts since boot: it goes on when the wall clock is set back.

use countersign_protocol::digest::Digest;
use countersign_protocol::repeats::Repeats;

/// How often each command was answered in the running second, by the digest of its body. There is no bound for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct ReplyBudget(Repeats);

impl ReplyBudget {
    /// Counts one more answer to a command, unless it had its share of this second.
    pub(super) fn admit(&mut self, now: i64, command: &Digest) -> bool {
        let [high, low, ..] = *command.as_bytes();
        self.0.admit(u16::from_be_bytes([high, low]), now)
    }
}

/// How many things of one kind have happened in the running second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Window {
    start: i64,
    count: u32,
}

impl Window {
    /// Counts one more at a moment in milliseconds since boot, unless `limit` have happened in this second.
    pub(super) fn admit(&mut self, now: i64, limit: u32) -> bool {
        if self.is_over(now) {
            *self = Self { start: now, count: 0 };
        }
        let admitted = self.count < limit;
        self.count += u32::from(admitted);
        admitted
    }

    /// Whether its second has passed.
    pub(super) fn is_over(&self, now: i64) -> bool {
        now.saturating_sub(self.start) >= 1_000
    }
}

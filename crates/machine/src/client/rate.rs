//! Rates, measured by the clock that counts since boot: it goes on when the wall clock is set back.

use countersign_protocol::digest::Digest;
use countersign_protocol::limits::REPEATS_PER_SECOND;

/// How many counters there are for the answers of a second. A command has the one that its digest chooses, so that two share
/// one now and then: with 10,000 commands in a second, none of which is repeated, a counter comes to its limit once in 10^14
/// seconds.
const COUNTERS: usize = 65_536;

/// How often each command was answered in the running second, by the digest of its body.
///
/// A broker can repeat what it has seen as fast as it likes; but each other command costs its operator a signature. So the
/// bound is one for each command, and there is none for an operator. It takes the same memory whatever arrives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct ReplyBudget {
    start: i64,
    counts: Vec<u8>,
}

impl ReplyBudget {
    /// Counts one more answer to a command, unless it had its share of this second.
    pub(super) fn admit(&mut self, now: i64, command: &Digest) -> bool {
        if now.saturating_sub(self.start) >= 1_000 || self.counts.is_empty() {
            self.start = now;
            self.counts.resize(COUNTERS, 0);
            self.counts.fill(0);
        }
        let [high, low, ..] = *command.as_bytes();
        let count = self.counts.get_mut(usize::from(u16::from_be_bytes([high, low])));
        count.is_some_and(|count| {
            let admitted = u32::from(*count) < REPEATS_PER_SECOND;
            *count += u8::from(admitted);
            admitted
        })
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

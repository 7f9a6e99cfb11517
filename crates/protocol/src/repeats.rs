//! How often the same is taken in a second (section 8): what a broker can repeat as fast as it likes is bounded for each
//! message, while each other message costs its signer a signature.

use crate::limits::REPEATS_PER_SECOND;

/// How many counters there are. What is counted chooses one by its key, so that two share one now and then: with 10,000 in a
/// second, none of which is repeated, a counter comes to its limit once in 10^14 seconds.
const COUNTERS: usize = 1 << u16::BITS;

/// The counters of the running second. They take the same memory whatever arrives, and none before the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Repeats {
    start: i64,
    counts: Vec<u8>,
}

impl Repeats {
    /// Counts one more under a key at a moment in milliseconds, unless it had its 10 of this second. A clock that was set
    /// begins another second.
    pub fn admit(&mut self, key: u16, now: i64) -> bool {
        if now.saturating_sub(self.start).unsigned_abs() >= 1_000 || self.counts.is_empty() {
            self.start = now;
            self.counts.resize(COUNTERS, 0);
            self.counts.fill(0);
        }
        self.counts.get_mut(usize::from(key)).is_some_and(|count| {
            let admitted = u32::from(*count) < REPEATS_PER_SECOND;
            *count += u8::from(admitted);
            admitted
        })
    }
}

//! Copies of what was opened already, found before they are parsed (section 8).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::digest::Digest;
use crate::limits::REPEATS_PER_SECOND;
use crate::time::Millis;

/// How many counters there are. A message has the one that its body and its subject choose, so that two share one now and
/// then: with 10,000 messages in a second, none of which is repeated, a counter comes to its limit once in 10^14 seconds.
const COUNTERS: usize = 65_536;

/// How often each message was parsed in the running second, by its body and the subject on which it arrived: a copy on another
/// subject, which is dropped for that, takes nothing from the one that may be answered.
///
/// It takes the same memory whatever arrives, and none before the first message.
#[derive(Debug, Default)]
pub(super) struct Copies {
    start: Millis,
    counts: Vec<u8>,
}

impl Copies {
    /// Counts one more delivery of a message whose signature holds, unless it had its share of this second.
    pub(super) fn admit(&mut self, digest: &Digest, subject: &str, now: Millis) -> bool {
        // A clock that was set begins another second.
        if now.since(self.start).unsigned_abs() >= 1_000 || self.counts.is_empty() {
            self.start = now;
            self.counts.resize(COUNTERS, 0);
            self.counts.fill(0);
        }
        let mut hasher = DefaultHasher::new();
        (digest, subject).hash(&mut hasher);
        let [high, low, ..] = hasher.finish().to_be_bytes();
        let count = self.counts.get_mut(usize::from(u16::from_be_bytes([high, low])));
        count.is_some_and(|count| {
            let admitted = u32::from(*count) < REPEATS_PER_SECOND;
            *count += u8::from(admitted);
            admitted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(copies: &mut Copies, body: &[u8], subject: &str, now: i64) -> usize {
        (0..100).filter(|_| copies.admit(&Digest::of(body), subject, Millis::new(now))).count()
    }

    #[test]
    fn each_message_has_ten_deliveries_in_a_second_on_each_subject() {
        let mut copies = Copies::default();
        for (body, subject) in [("a", "one"), ("b", "one"), ("a", "two")] {
            assert_eq!(admitted(&mut copies, body.as_bytes(), subject, 5_000), 10, "{body} on {subject}");
            assert_eq!(
                admitted(&mut copies, body.as_bytes(), subject, 5_999),
                0,
                "{body} on {subject}, in that second"
            );
        }
        assert_eq!(admitted(&mut copies, b"a", "one", 6_000), 10);
    }

    #[test]
    fn a_clock_that_was_set_back_shuts_nobody_out() {
        let mut copies = Copies::default();
        assert_eq!(admitted(&mut copies, b"a", "one", 1_000_000), 10);
        assert_eq!(admitted(&mut copies, b"a", "one", 5_000), 10);
        assert_eq!(admitted(&mut copies, b"a", "one", i64::MIN), 10);
        assert_eq!(admitted(&mut copies, b"a", "one", i64::MAX), 10);
    }
}

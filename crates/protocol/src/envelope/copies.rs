//! Copies of what was opened already, found before they are parsed (section 8).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::digest::Digest;
use crate::repeats::Repeats;
use crate::time::Millis;

/// How often each message was parsed in the running second, by its body and the subject on which it arrived: a copy on another
/// subject, which is dropped for that, takes nothing from the one that may be answered.
#[derive(Debug, Default)]
pub(super) struct Copies(Repeats);

impl Copies {
    /// Counts one more delivery of a message whose signature holds, unless it had its share of this second.
    pub(super) fn admit(&mut self, digest: &Digest, subject: &str, now: Millis) -> bool {
        let mut hasher = DefaultHasher::new();
        (digest, subject).hash(&mut hasher);
        let [high, low, ..] = hasher.finish().to_be_bytes();
        self.0.admit(u16::from_be_bytes([high, low]), now.get())
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

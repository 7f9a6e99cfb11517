//! One limit for every line that somebody else can cause: 5 a second of each kind. What is left out is counted, and the
//! count is printed.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use countersign_host::clock;
use tracing::Level;

use crate::text::{counted, cut};

/// How many lines of one kind may come at once.
const BURST: i64 = 20;
/// After how many milliseconds there may be one more.
const REFILL: i64 = 200;
/// How long a count of repeated or left-out lines waits for the next line of its kind before it is printed alone, in
/// milliseconds.
pub(crate) const COUNT_DELAY: i64 = 10_000;
/// The longest line, in characters.
const MAX_LINE: usize = 2_048;

/// The one limit of this process.
static LIMITER: LazyLock<Mutex<Limiter>> = LazyLock::new(Mutex::default);

/// The lines to print for something that somebody else can cause at any rate.
pub(crate) fn limit(kind: &'static str, level: Level, text: &str) -> Vec<Line> {
    LIMITER.lock().unwrap_or_else(PoisonError::into_inner).take(kind, level, text, clock::since_boot())
}

/// The counts of lines that were left out or repeated, where they are due by then.
pub(crate) fn due(now: i64) -> Vec<Line> {
    LIMITER.lock().unwrap_or_else(PoisonError::into_inner).due(now)
}

/// What was printed of each kind of line. There are as many kinds as places in the program that log.
#[derive(Debug, Default)]
struct Limiter(BTreeMap<&'static str, Kind>);

/// A line, and how much it matters.
pub(crate) type Line = (Level, String);

#[derive(Debug)]
struct Kind {
    tokens: i64,
    /// Up to when tokens were given, in milliseconds since boot.
    filled: i64,
    last: Line,
    printed_at: i64,
    same: u64,
    left_out: u64,
}

impl Limiter {
    /// Takes a line. Returns the lines to print for it, which may be none.
    fn take(&mut self, kind: &'static str, level: Level, text: &str, now: i64) -> Vec<Line> {
        let line = (level, cut(text, MAX_LINE).into_owned());
        let Some(kind) = self.0.get_mut(kind) else {
            let first =
                Kind { tokens: BURST - 1, filled: now, last: line.clone(), printed_at: now, same: 0, left_out: 0 };
            self.0.insert(kind, first);
            return vec![line];
        };
        if kind.last == line && now.saturating_sub(kind.printed_at) < COUNT_DELAY {
            kind.same += 1;
            return Vec::new();
        }
        if !kind.admit(now) {
            kind.left_out += 1;
            return Vec::new();
        }
        let mut lines = kind.counts();
        kind.printed_at = now;
        kind.last = line.clone();
        lines.push(line);
        lines
    }

    /// The counts that have waited for long enough; all of them at the end, when `now` is later than everything.
    fn due(&mut self, now: i64) -> Vec<Line> {
        let due = self.0.values_mut().filter(|kind| now.saturating_sub(kind.printed_at) >= COUNT_DELAY);
        due.flat_map(|kind| {
            let counts = kind.counts();
            if !counts.is_empty() {
                kind.printed_at = now;
            }
            counts
        })
        .collect()
    }
}

impl Kind {
    fn admit(&mut self, now: i64) -> bool {
        let more = now.saturating_sub(self.filled).max(0) / REFILL;
        self.filled = self.filled.saturating_add(more * REFILL);
        self.tokens = self.tokens.saturating_add(more).min(BURST);
        let admitted = self.tokens > 0;
        self.tokens -= i64::from(admitted);
        admitted
    }

    /// What was not printed since the last line.
    fn counts(&mut self) -> Vec<Line> {
        let (level, last) = &self.last;
        let (same, left_out) = (std::mem::take(&mut self.same), std::mem::take(&mut self.left_out));
        let same = (same > 0).then(|| (*level, format!("{}: {last}", counted(same, "more time"))));
        let left_out = (left_out > 0).then(|| (*level, format!("{left_out} more lines left out, like: {last}")));
        same.into_iter().chain(left_out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(limiter: &mut Limiter, kind: &'static str, text: &str, now: i64) -> Vec<String> {
        limiter.take(kind, Level::WARN, text, now).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn of_one_kind_a_burst_is_told_and_then_five_lines_a_second_and_the_rest_is_counted() {
        let mut limiter = Limiter::default();
        let printed = (0..1_000).filter(|number| !take(&mut limiter, "a", &number.to_string(), 0).is_empty()).count();
        assert_eq!(printed, 20);
        assert_eq!(take(&mut limiter, "a", "x", 199), [""; 0]);
        assert_eq!(take(&mut limiter, "a", "y", 200), ["981 more lines left out, like: 19", "y"]);
        let printed =
            (0..10_000).filter(|now| !take(&mut limiter, "a", &now.to_string(), 200 + now).is_empty()).count();
        assert_eq!(printed, 49);
    }

    #[test]
    fn a_flood_of_one_kind_leaves_out_no_line_of_another() {
        let mut limiter = Limiter::default();
        (0..1_000).for_each(|number| drop(take(&mut limiter, "a", &number.to_string(), 0)));
        assert_eq!(take(&mut limiter, "b", "not connected", 0), ["not connected"]);
    }

    #[test]
    fn the_same_line_again_is_told_once_with_a_count_and_at_the_latest_after_ten_seconds() {
        let mut limiter = Limiter::default();
        assert_eq!(take(&mut limiter, "a", "x", 0), ["x"]);
        (1..=500).for_each(|now| assert_eq!(take(&mut limiter, "a", "x", now), [""; 0]));
        assert_eq!(take(&mut limiter, "a", "y", 501), ["500 more times: x", "y"]);
        take(&mut limiter, "a", "y", 600);
        assert_eq!(limiter.due(10_500), []);
        assert_eq!(limiter.due(10_501), [(Level::WARN, "1 more time: y".to_owned())]);
        assert_eq!(limiter.due(i64::MAX), [], "once");
    }

    #[test]
    fn a_long_line_is_cut() {
        let lines = take(&mut Limiter::default(), "a", &"ü".repeat(100_000), 0);
        assert!(lines.iter().all(|line| line.chars().count() == MAX_LINE + 1));
    }
}

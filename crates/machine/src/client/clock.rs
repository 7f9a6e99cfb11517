//! Time never runs backwards (section 8).

use countersign_protocol::limits::MAX_AHEAD;
use countersign_protocol::time::Millis;

/// What the machine's clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// The wall clock.
    pub wall: Millis,
    /// The clock that counts since boot, suspension included, in milliseconds.
    pub since_boot: i64,
}

/// The high-water mark of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Clock {
    mark: Millis,
    marked: i64,
    distrusted: bool,
}

impl Clock {
    /// A clock at the start of the process, when a jump ahead is kept.
    pub(super) fn new(mark: Millis, now: Now) -> Self {
        Self { mark: mark.max(now.wall), marked: now.since_boot, distrusted: false }
    }

    /// The moment, and whether the wall clock has just made a jump that cannot be kept.
    pub(super) fn observe(&mut self, now: Now) -> (Millis, bool) {
        let ahead = now.wall.since(self.mark);
        let elapsed = now.since_boot.saturating_sub(self.marked).max(0);
        let jumped = ahead.saturating_sub(elapsed) > MAX_AHEAD;
        let report = jumped && !self.distrusted;
        self.distrusted = jumped;
        if !jumped && ahead >= 0 {
            self.mark = now.wall;
            self.marked = now.since_boot;
        }
        (self.mark.max(now.wall), report)
    }

    /// The latest moment that was believed; records are purged by it only.
    pub(super) fn mark(&self) -> Millis {
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(wall: i64, since_boot: i64) -> Now {
        Now { wall: Millis::new(wall), since_boot }
    }

    #[test]
    fn now_never_runs_backwards() {
        let mut clock = Clock::new(Millis::new(0), at(1_000_000, 0));
        assert_eq!(clock.observe(at(1_000_500, 500)), (Millis::new(1_000_500), false));
        assert_eq!(clock.observe(at(10, 600)), (Millis::new(1_000_500), false));
        assert_eq!(clock.mark(), Millis::new(1_000_500));
    }

    #[test]
    fn a_mark_from_before_a_restart_is_kept() {
        let clock = Clock::new(Millis::new(5_000), at(1_000, 0));
        assert_eq!(clock.mark(), Millis::new(5_000));
    }

    #[test]
    fn a_jump_ahead_that_the_boot_clock_does_not_share_is_reported_once_and_not_kept() {
        let mut clock = Clock::new(Millis::new(0), at(1_000, 0));
        let jump = 1_000 + HOUR + 20;
        assert_eq!(clock.observe(at(jump, 10)), (Millis::new(jump), true));
        assert_eq!(clock.observe(at(jump, 10)), (Millis::new(jump), false));
        assert_eq!(clock.mark(), Millis::new(1_000));
        assert_eq!(clock.observe(at(1_020, 20)), (Millis::new(1_020), false));
        assert!(clock.observe(at(jump + HOUR, 30)).1, "the next jump is reported again");
    }

    #[test]
    fn a_suspension_is_kept() {
        let mut clock = Clock::new(Millis::new(0), at(1_000, 0));
        let after = at(1_000 + 9 * HOUR, 9 * HOUR);
        assert_eq!(clock.observe(after), (after.wall, false));
        assert_eq!(clock.mark(), after.wall);
    }

    #[test]
    fn a_jump_of_up_to_an_hour_is_kept() {
        let mut clock = Clock::new(Millis::new(0), at(1_000, 0));
        assert_eq!(clock.observe(at(1_000 + HOUR, 0)), (Millis::new(1_000 + HOUR), false));
        assert_eq!(clock.mark(), Millis::new(1_000 + HOUR));
    }
}

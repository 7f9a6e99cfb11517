//! The client's clock: it follows the wall clock, and never runs backwards within an epoch (section 8).

use countersign_protocol::limits::SKEW;
use countersign_protocol::time::Millis;

/// How soon after a new epoch the clock may begin the next one, in milliseconds: what a clock that moves back and forth costs
/// is bounded by it.
const EPOCH_EVERY: i64 = 10_000;

/// The times of the machine's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// The wall clock.
    pub wall: Millis,
    /// The clock that counts since boot, suspension included, in milliseconds.
    pub since_boot: i64,
}

/// The high-water mark of the wall clock since the epoch began, which is the client's time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Clock {
    mark: Millis,
    began: Now,
    /// When the wall clock may begin the next epoch, in milliseconds since boot.
    next_at: i64,
    /// How far the wall clock may differ from what is expected of it, in milliseconds.
    tolerance: i64,
}

/// The wall clock was set: a new epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    /// By how many milliseconds, negative where it was set back.
    pub(super) by: i64,
    /// The high-water mark of the epoch that ends.
    pub(super) mark: Millis,
}

impl Clock {
    /// The clock of an epoch that begins now. Clocks that differ by no more than the skew count as the same.
    pub(super) fn new(now: Now, skew: i64) -> Self {
        // Below the usual skew, what the system does to keep its clock right would begin one epoch after the other.
        Self { mark: now.wall, began: now, next_at: now.since_boot, tolerance: skew.max(SKEW) }
    }

    /// Lets time pass. Where the wall clock was set, a new epoch begins, and with it a new mark.
    pub(super) fn observe(&mut self, now: Now) -> Option<Set> {
        let set = self.set(now);
        if set.is_some() {
            (self.mark, self.began, self.next_at) = (now.wall, now, now.since_boot.saturating_add(EPOCH_EVERY));
        } else {
            self.mark = self.mark.max(now.wall);
        }
        set
    }

    /// What the time will be once this moment is observed.
    pub(super) fn at(&self, now: Now) -> Millis {
        if self.set(now).is_some() { now.wall } else { self.mark.max(now.wall) }
    }

    /// The client's time: the latest moment that the wall clock has shown in this epoch.
    pub(super) fn mark(&self) -> Millis {
        self.mark
    }

    /// Whether an earlier run had seen so late a moment that the clock was set back since.
    pub(super) fn is_set_back(&self, earlier: Millis) -> bool {
        self.mark.since(earlier) < -self.tolerance
    }

    /// A clock that is behind the mark was set back. One that has gained on the clock since boot was set ahead: to follow it
    /// without a new epoch would do, but a machine whose memory was restored looks like that, too.
    fn set(&self, now: Now) -> Option<Set> {
        let elapsed = now.since_boot.saturating_sub(self.began.since_boot).max(0);
        let by = now.wall.since(self.began.wall).saturating_sub(elapsed);
        let is_set =
            (now.wall.since(self.mark) < -self.tolerance || by > self.tolerance) && now.since_boot >= self.next_at;
        is_set.then_some(Set { by, mark: self.mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(wall: i64, since_boot: i64) -> Now {
        Now { wall: Millis::new(wall), since_boot }
    }

    fn clock() -> Clock {
        Clock::new(at(1_000_000, 50), 0)
    }

    #[test]
    fn a_clock_that_is_set_back_by_the_tolerance_stands_still_and_by_more_begins_an_epoch() {
        let mut clock = clock();
        assert_eq!(clock.observe(at(1_000_500, 550)), None);
        assert_eq!((clock.observe(at(1_000_500 - SKEW, 550)), clock.mark()), (None, Millis::new(1_000_500)));
        let back = at(1_000_500 - SKEW - 1, 550);
        assert_eq!(clock.at(back), back.wall);
        assert_eq!(clock.observe(back), Some(Set { by: -SKEW - 1, mark: Millis::new(1_000_500) }));
        assert_eq!(clock.mark(), back.wall);
    }

    #[test]
    fn a_clock_that_gains_more_than_the_tolerance_on_the_one_since_boot_begins_an_epoch_however_slowly() {
        let mut at_once = clock();
        assert_eq!(at_once.observe(at(1_000_000 + SKEW, 50)), None);
        assert_eq!(
            at_once.observe(at(1_000_001 + SKEW, 50)),
            Some(Set { by: SKEW + 1, mark: Millis::new(1_000_000 + SKEW) })
        );
        let mut slowly = clock();
        let epochs = (1..=60).filter(|n| slowly.observe(at(1_000_000 + n * 11_000, 50 + n * 10_000)).is_some()).count();
        assert_eq!(epochs, 10);
    }

    #[test]
    fn a_suspension_that_both_clocks_count_begins_no_epoch() {
        let mut clock = clock();
        let after = at(1_000_000 + 9 * HOUR, 50 + 9 * HOUR);
        assert_eq!((clock.observe(after), clock.mark()), (None, after.wall));
    }

    #[test]
    fn a_clock_that_moves_back_and_forth_begins_an_epoch_in_ten_seconds_at_most() {
        let mut clock = clock();
        let moves = (0..1_000).map(|n| at(1_000_000 + n * 100 + (n % 2) * HOUR, 50 + n * 100));
        assert_eq!(moves.filter(|now| clock.observe(*now).is_some()).count(), 10);
    }

    #[test]
    fn the_wider_skew_is_tolerated() {
        let mut clock = Clock::new(at(1_000_000, 50), 60_000);
        assert_eq!(clock.observe(at(1_000_000 - 60_000, 50)), None);
        assert_eq!(clock.observe(at(1_000_000 + 60_000, 50)), None);
    }
}

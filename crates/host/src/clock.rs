//! The clocks and randomness: everything that the pure crates are given from outside.

use countersign_protocol::time::Millis;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The wall clock, whatever it shows: a clock before 1970 or beyond the range of the wire is no reason to stop.
pub fn wall() -> Millis {
    Millis::new(millis(clock_gettime(ClockId::Realtime)))
}

/// Milliseconds since the machine's boot, suspension included; it never runs backwards. Section 8 sets the wall clock
/// against it.
pub fn since_boot() -> i64 {
    millis(clock_gettime(ClockId::Boottime))
}

/// Microseconds on a clock that never runs backwards, for latencies and timeouts.
pub fn micros() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    u64::try_from(tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1_000)).unwrap_or(0)
}

/// Random bytes from the operating system, fit for keys.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| RandomError(error.to_string()))?;
    Ok(bytes)
}

/// The operating system gave no randomness: nothing that needs an id or a key can go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct RandomError(String);

fn millis(Timespec { tv_sec, tv_nsec }: Timespec) -> i64 {
    tv_sec.saturating_mul(1_000).saturating_add(tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_clocks_saturate() {
        assert_eq!(millis(Timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 }), i64::MAX);
        assert_eq!(millis(Timespec { tv_sec: i64::MIN, tv_nsec: 0 }), i64::MIN);
        assert_eq!(millis(Timespec { tv_sec: -1, tv_nsec: 500_000_000 }), -500);
        assert_eq!(millis(Timespec { tv_sec: 2, tv_nsec: 345_678_901 }), 2_345);
    }

    #[test]
    fn the_boot_clock_and_the_monotonic_one_do_not_run_backwards() {
        let (boot, micros_before) = (since_boot(), micros());
        assert!(since_boot() >= boot && boot > 0);
        assert!(micros() >= micros_before && micros_before > 0);
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<16>(), random::<16>());
    }
}

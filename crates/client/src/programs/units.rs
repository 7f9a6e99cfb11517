//! Durations and sizes as people write them in definitions.

use std::time::Duration;

/// Reads a duration: `500ms`, `5s`, `1m30s`, `2h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    pieces(text, &units).map(Duration::from_millis)
}

/// Reads a size in bytes: `4096B`, `64KiB`, `512MiB`, `2GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    pieces(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

/// The sum of one or more whole numbers, each with its unit.
fn pieces(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?);
        let (unit, next) = after.split_at(after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len()));
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = next;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_or_size_needs_its_unit() {
        let durations = [("500ms", 500), ("5s", 5_000), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)];
        for (text, millis) in durations {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        let sizes = [("1B", 1), ("64KiB", 65_536), ("512MiB", 512 << 20), ("2GiB", 2 << 30)];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "5", "s", "-5s", "5 s", "1.5s", "5d", "99999999999999999999s", "9999999999999999h", "5sx"] {
            assert_eq!((duration(text), size(text)), (None, None), "{text}");
        }
    }
}

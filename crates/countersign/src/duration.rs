//! Durations as people type them: `500ms`, `5s`, `2m`, `1h`, `7d`.

use std::fmt;

/// The longest duration that is taken: ten years.
const MAX_MILLIS: i64 = 3_650 * 86_400_000;

/// The units and their milliseconds, the smallest first.
const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const EXPECTED: &str = "a whole number and one of ms, s, m, h, d was expected, such as 500ms, 5s or 2m";

/// A span of time from the command line, in whole milliseconds; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(i64);

impl Span {
    /// So many milliseconds.
    pub(crate) const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The milliseconds.
    pub(crate) const fn millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Span {
    /// As [`span`] reads it, in the largest unit that is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, scale): &&(&str, i64)| self.0 % scale == 0;
        let (unit, scale) = UNITS.iter().rev().find(exact).unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

/// Reads a duration, zero included.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(digits.len());
    if unit.is_empty() && !number.is_empty() {
        return Err(format!("the unit is missing: `{number}s` is {number} seconds"));
    }
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EXPECTED.to_owned());
    }
    number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(*scale))
        .filter(|millis| *millis <= MAX_MILLIS)
        .map(Span)
        .ok_or_else(|| "more than ten years".to_owned())
}

/// Reads a duration that is longer than nothing.
pub(crate) fn positive_span(text: &str) -> Result<Span, String> {
    span(text).and_then(|span| if span.0 > 0 { Ok(span) } else { Err("it must be longer than nothing".to_owned()) })
}

/// A duration for people, in the largest unit that loses little: `0.4 ms`, `2.5 s`, `3 min`, `2 h`, `29 days`.
pub(crate) fn humanize(millis: f64) -> String {
    let seconds = millis / 1_000.0;
    match seconds {
        _ if millis < 1_000.0 => format!("{millis:.1} ms"),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ if seconds < 3_600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        _ if seconds < 172_800.0 => format!("{:.0} h", (seconds / 3_600.0).floor()),
        _ => format!("{:.0} days", (seconds / 86_400.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            assert_eq!(span(text), Ok(Span(millis)), "{text}");
        }
        assert_eq!(span("0s"), Ok(Span(0)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "s", "-5s", "+5s", "5 s", "5.5s", "1e3s", "5S", "5min", "５s", "5s5s", "s5"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_unit_is_named() {
        assert_eq!(span("5"), Err("the unit is missing: `5s` is 5 seconds".to_owned()));
    }

    #[test]
    fn an_enormous_duration_is_refused_and_does_not_overflow() {
        for text in ["9223372036854775807d", "99999999999999999999s", "3651d"] {
            assert_eq!(span(text), Err("more than ten years".to_owned()), "{text}");
        }
    }

    #[test]
    fn nothing_is_not_longer_than_nothing() {
        assert!(positive_span("0ms").is_err());
        assert_eq!(positive_span("1ms"), Ok(Span(1)));
    }

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for (text, shown) in [("500ms", "500ms"), ("90s", "90s"), ("120s", "2m"), ("24h", "1d")] {
            assert_eq!(span(text).map(|span| span.to_string()), Ok(shown.to_owned()));
            assert_eq!(span(shown), span(text));
        }
    }

    #[test]
    fn people_get_the_largest_unit_that_loses_little() {
        let minute = 60_000.0;
        for (millis, text) in [
            (0.41, "0.4 ms"),
            (2_500.0, "2.5 s"),
            (3.0 * minute, "3 min"),
            (119.9 * minute, "1 h"),
            (30.0 * 1_440.0 * minute - 1.0, "29 days"),
        ] {
            assert_eq!(humanize(millis), text);
        }
    }
}

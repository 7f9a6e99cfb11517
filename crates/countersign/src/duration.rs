//! Durations as people type them: `500ms`, `5s`, `1m30s`, `7d`.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::fmt::friendly::{Spacing, SpanParser, SpanPrinter};
use jiff::{SignedDuration, SpanRelativeTo};

/// The longest duration that is taken: ten years.
const MAX: SignedDuration = SignedDuration::from_hours(3_650 * 24);

const EXPECTED: &str = "a number and a unit was expected, such as 500ms, 5s, 1m30s, 2h or 7d";

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
    /// In one word that [`span`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().spacing(Spacing::None);
        f.write_str(&printer.duration_to_string(&SignedDuration::from_millis(self.0)))
    }
}

/// Reads a duration, zero included. A day has 24 hours.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = if text == "1" { "second" } else { "seconds" };
        return Err(format!("the unit is missing: `{text}s` is {text} {seconds}"));
    }
    let span = SpanParser::new().parse_span(text).map_err(|_| EXPECTED)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| EXPECTED)?;
    match duration {
        _ if duration.is_negative() => Err("it must not be negative".to_owned()),
        _ if duration > MAX => Err("more than ten years".to_owned()),
        _ if duration.subsec_nanos() % 1_000_000 != 0 => Err("less than a whole millisecond".to_owned()),
        _ => i64::try_from(duration.as_millis()).map(Span).map_err(|_| EXPECTED.to_owned()),
    }
}

/// Reads a duration that is longer than nothing.
pub(crate) fn positive_span(text: &str) -> Result<Span, String> {
    span(text).and_then(|span| if span.0 > 0 { Ok(span) } else { Err("it must be longer than nothing".to_owned()) })
}

/// Reads a duration of so many milliseconds, both ends included.
pub(crate) fn span_within(text: &str, bounds: RangeInclusive<i64>) -> Result<Span, String> {
    let span = span(text)?;
    if bounds.contains(&span.0) {
        return Ok(span);
    }
    let [least, most] = [*bounds.start(), *bounds.end()].map(Span);
    Err(format!("it must be from {least} to {most}"))
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
    fn every_unit_is_read_and_several_together() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(span(text), Ok(Span(millis)), "{text}");
        }
        assert_eq!(span("0s"), Ok(Span(0)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "s", "-5s", "-1ms", "1e3s", "５s", "s5", "5 apples", "1y", "1mo", "0.5ms", "1us", "\u{1b}[2Js"]
        {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_unit_is_named() {
        assert_eq!(span("1"), Err("the unit is missing: `1s` is 1 second".to_owned()));
        assert_eq!(span("5"), Err("the unit is missing: `5s` is 5 seconds".to_owned()));
    }

    #[test]
    fn an_enormous_duration_is_refused_and_does_not_overflow() {
        assert_eq!(span("3651d"), Err("more than ten years".to_owned()));
        for text in [
            "9223372036854775807d",
            "99999999999999999999s",
            &"9".repeat(100_000),
            &format!("{}s", "9".repeat(100_000)),
        ] {
            assert!(span(text).is_err());
        }
    }

    #[test]
    fn nothing_is_not_longer_than_nothing() {
        assert!(positive_span("0ms").is_err());
        assert_eq!(positive_span("1ms"), Ok(Span(1)));
    }

    #[test]
    fn a_bounded_duration_is_read_up_to_both_bounds_and_not_beyond() {
        for (text, millis) in [("1ms", 1), ("60s", 60_000)] {
            assert_eq!(span_within(text, 1..=60_000), Ok(Span(millis)));
        }
        for text in ["0ms", "60001ms"] {
            assert_eq!(span_within(text, 1..=60_000), Err("it must be from 1ms to 1m".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for (text, shown) in [("500ms", "500ms"), ("90s", "1m30s"), ("120s", "2m"), ("1d", "24h")] {
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

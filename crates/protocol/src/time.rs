//! Time on the wire (section 3): integer milliseconds since the Unix epoch, in UTC.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::MAX_INTEGER;

/// A moment in milliseconds since the Unix epoch, or a span in milliseconds; within ±(2^53 − 1). Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Millis(i64);

impl Millis {
    /// The moment, cut to the range of the wire.
    pub const fn new(millis: i64) -> Self {
        if millis > MAX_INTEGER {
            Self(MAX_INTEGER)
        } else if millis < -MAX_INTEGER {
            Self(-MAX_INTEGER)
        } else {
            Self(millis)
        }
    }

    /// A moment that a JWT states in seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::new(seconds.saturating_mul(1_000))
    }

    /// The milliseconds.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This moment and a number of milliseconds, which may be negative.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self::new(self.0.saturating_add(millis))
    }

    /// The moment for people, to the second: `2026-11-25 14:00:00 UTC`.
    pub fn utc(self) -> String {
        let (days, second) = (self.seconds().div_euclid(86_400), self.seconds().rem_euclid(86_400));
        // Days since 1 March of the year 0, in eras of 400 years, so that the leap day is the last of its year.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (year + era * 400 + month / 10, (month + 2) % 12 + 1);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }

    /// How many milliseconds lie between an earlier moment and this one; negative if that one is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A span of milliseconds for people, in its two largest units: `500 ms`, `2.5 s`, `1 min 30 s`, `2 h`, `3 days 4 h`. A negative
/// one counts as none.
pub fn span(millis: i64) -> String {
    let millis = millis.max(0);
    let (seconds, tenth) = (millis / 1_000, millis % 1_000 / 100);
    let two = |large: i64, unit: &str, small: i64, smaller: &str| {
        let unit = if large == 1 { unit.trim_end_matches('s') } else { unit };
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
    };
    match seconds {
        0 if millis > 0 => format!("{millis} ms"),
        0..60 if tenth == 0 => format!("{seconds} s"),
        0..60 => format!("{seconds}.{tenth} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "days", seconds % 86_400 / 3_600, "h"),
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = i64::deserialize(deserializer)?;
        if (-MAX_INTEGER..=MAX_INTEGER).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(serde::de::Error::custom("an integer outside ±(2^53 − 1)"))
        }
    }
}

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Millis".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stays_within_what_the_wire_can_say() {
        for (millis, expected) in [(i64::MAX, MAX_INTEGER), (i64::MIN, -MAX_INTEGER), (7, 7)] {
            assert_eq!(Millis::new(millis).get(), expected);
        }
        assert_eq!(Millis::new(MAX_INTEGER).plus(i64::MAX), Millis::new(MAX_INTEGER));
        assert_eq!(Millis::new(-MAX_INTEGER).plus(i64::MIN), Millis::new(-MAX_INTEGER));
        assert_eq!(Millis::from_seconds(i64::MAX), Millis::new(MAX_INTEGER));
        assert_eq!(Millis::new(-MAX_INTEGER).since(Millis::new(MAX_INTEGER)), -2 * MAX_INTEGER);
    }

    #[test]
    fn a_moment_for_people_is_the_date_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (1_795_485_600, "2026-11-24 02:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (i64::MAX, "287396-10-12 08:59:00 UTC"),
            (i64::MIN, "-283457-03-21 15:00:59 UTC"),
        ] {
            assert_eq!(Millis::from_seconds(seconds).utc(), expected, "{seconds}");
        }
    }

    #[test]
    fn a_span_is_shown_in_its_two_largest_units() {
        for (millis, text) in [
            (-1, "0 s"),
            (0, "0 s"),
            (500, "500 ms"),
            (2_500, "2.5 s"),
            (5_000, "5 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min"),
            (90_000, "1 min 30 s"),
            (7_200_000, "2 h"),
            (7_380_000, "2 h 3 min"),
            (86_400_000, "1 day"),
            (273_600_000, "3 days 4 h"),
        ] {
            assert_eq!(span(millis), text);
        }
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        assert_eq!(
            [-1_001, -1_000, -1, 0, 999, 1_000].map(|millis| Millis::new(millis).seconds()),
            [-2, -1, -1, 0, 0, 1]
        );
    }
}

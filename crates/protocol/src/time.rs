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

    /// How many milliseconds lie between an earlier moment and this one; negative if that one is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
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
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        assert_eq!(
            [-1_001, -1_000, -1, 0, 999, 1_000].map(|millis| Millis::new(millis).seconds()),
            [-2, -1, -1, 0, 0, 1]
        );
    }
}

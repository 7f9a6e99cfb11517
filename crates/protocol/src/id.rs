//! Identifiers (section 3): UUIDs, lower case with hyphens; those of messages are of version 7.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Millis;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not {expected}")]
pub struct InvalidId {
    got: String,
    expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(uuid::Uuid);

        impl FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&uuid::Uuid) -> bool = $valid;
                uuid::Uuid::try_parse(text)
                    .ok()
                    .filter(|id| valid(id) && id.hyphenated().encode_lower(&mut [0; 36]) == text)
                    .map(Self)
                    .ok_or_else(|| InvalidId { got: crate::text::echo(text), expected: $expected })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0.hyphenated().encode_lower(&mut [0; 36]))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.hyphenated().encode_lower(&mut [0; 36]))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

id! {
    /// The id of a command, a reply or an event: a UUID of version 7.
    MessageId, "a UUID of version 7 in lower case with hyphens",
    "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    |id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122
}

id! {
    /// The id of a credential (`jti`), an epoch or a boot: a UUID of any version.
    Uuid, "a UUID in lower case with hyphens",
    "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    |_| true
}

impl MessageId {
    /// The id for a moment and ten bytes that make it unique; the caller brings both.
    pub fn new(at: Millis, unique: [u8; 10]) -> Self {
        let millis = u64::try_from(at.get()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &unique).into_uuid())
    }

    /// The moment that it names: when it was made, by the clock of whoever made it.
    pub fn time(&self) -> Millis {
        let [a, b, c, d, e, f, ..] = *self.0.as_bytes();
        Millis::new(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl Uuid {
    /// A UUID of version 4 from 16 random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_new_message_id_is_of_version_7_and_carries_its_time() {
        let id = |millis| MessageId::new(Millis::new(millis), [0xff; 10]);
        let text = id(0x019a_b2d4_7c1e).to_string();
        assert_eq!(text, "019ab2d4-7c1e-7fff-bfff-ffffffffffff");
        assert_eq!(text.parse(), Ok(id(0x019a_b2d4_7c1e)));
        assert!(id(1) < id(2));
        assert_eq!(id(0x019a_b2d4_7c1e).time(), Millis::new(0x019a_b2d4_7c1e));
        assert_eq!(id(-1), id(0));
    }

    #[test]
    fn a_random_uuid_is_of_version_4() {
        let uuid = Uuid::from_random([0xff; 16]);
        assert_eq!(uuid.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
    }

    #[test]
    fn a_uuid_of_another_version_is_no_message_id() {
        let error = "b2f0c1de-0f1a-4b6c-8d2e-5a7b9c3d1e0f".parse::<MessageId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`b2f0c1de-0f1a-4b6c-8d2e-5a7b9c3d1e0f` is not a UUID of version 7 in lower case with hyphens"
        );
    }
}

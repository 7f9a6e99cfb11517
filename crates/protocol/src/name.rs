//! Names and sessions (section 1).

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// What all clients are called after an @: no group has this name (section 1).
pub const EVERYONE: &str = "all";

/// Why a text is not a [`Name`] or a [`Session`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a valid {what}: {expected}")]
pub struct InvalidName {
    what: &'static str,
    got: String,
    expected: &'static str,
}

macro_rules! text {
    ($(#[$doc:meta])* $type:ident, $what:literal, $expected:literal, $pattern:literal, $valid:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// The regular expression that the JSON Schemas carry.
            pub const PATTERN: &'static str = $pattern;

            /// The text, always valid.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $valid(text.as_bytes()) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { what: $what, got: crate::text::echo(text), expected: $expected })
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
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

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text! {
    /// The name of a realm, an operator, a client, a group, a command or an issuer: one NATS token (section 1).
    Name, "name",
    "1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends",
    "^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$", is_name
}

text! {
    /// What tells one operator's process from another, random and made at its start (section 1).
    Session, "session",
    "16 to 32 of a-z and 0-9",
    "^[a-z0-9]{16,32}$", is_session
}

text! {
    /// What tells one enrolment token from another, random; also the name of its user of the broker (section 14).
    TokenId, "token's id",
    "16 to 32 of a-z and 0-9",
    "^[a-z0-9]{16,32}$", is_session
}

text! {
    /// The public part of a connection key: a user's nkey. Its check at the end is not looked at here (section 10).
    ConnectionKey, "connection key",
    "U and 55 of A-Z and 2-7",
    "^U[A-Z2-7]{55}$", is_connection_key
}

fn is_name(text: &[u8]) -> bool {
    let alphanumeric = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    (1..=64).contains(&text.len())
        && text.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'_' | b'-'))
        && text.first().is_some_and(alphanumeric)
        && text.last().is_some_and(alphanumeric)
}

fn is_session(text: &[u8]) -> bool {
    (16..=32).contains(&text.len()) && text.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
}

fn is_connection_key(text: &[u8]) -> bool {
    text.len() == 56 && text.first() == Some(&b'U') && text.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

impl Session {
    /// A session from 16 random bytes, 80 bits of which it keeps.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(token(random))
    }
}

impl TokenId {
    /// An id from 16 random bytes, 80 bits of which it keeps.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(token(random))
    }
}

/// 16 characters that are a single NATS token.
fn token(random: [u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

impl From<&TokenId> for Name {
    fn from(id: &TokenId) -> Self {
        Self(id.0.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_name_is_one_token_of_the_allowed_characters() {
        for text in ["a", "0", "worker-1", "a_b", "a--_b", &"a".repeat(64)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "a-", "_a", "a_", "A", "a.b", "a*", ">", "a b", "a\n", "\0", "é", &"a".repeat(65)] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_named_escaped() {
        let error = "\u{1b}[2J".parse::<Name>().unwrap_err().to_string();
        assert_eq!(
            error,
            r"`\u{1b}[2J` is not a valid name: 1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends"
        );
    }

    #[test]
    fn a_random_session_is_valid_whatever_the_bytes() {
        for byte in 0..=u8::MAX {
            let session = Session::from_random([byte; 16]);
            assert_eq!(session.as_str().parse(), Ok(session));
        }
    }
}

//! Commands (section 4).

mod builtin;

pub use builtin::{
    Builtin, Calculate, Cancelled, Changed, ClientInfo, CommandId, CommandInfo, CommandName, Description, DryRun, Job,
    JobList, JobsInfo, NoArgs, PingResult, Recorded, Reissue, Stopped, Terminated, TrustInfo,
};

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::id::{MessageId, Uuid};
use crate::json;
use crate::name::Name;
use crate::text::words;
use crate::time::Millis;

/// A command, as an operator signs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The version of the protocol.
    pub v: Version,
    /// What tells this command from every other.
    pub id: MessageId,
    /// The realm that it belongs to.
    pub realm: Name,
    /// The operator who gives it.
    pub from: Name,
    /// The `jti` of the operator's credential.
    pub credential: Uuid,
    /// Whom it is for.
    pub to: Target,
    /// The subject that belongs to `to`.
    pub subject: String,
    /// What the subjects of the replies begin with.
    pub reply_to: String,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at: Millis,
    /// From when on it must not run any more, in milliseconds since the Unix epoch.
    pub expires_at: Millis,
    /// The client's epoch as the operator knows it, only in a command to one client (section 8). Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Uuid")]
    pub epoch: Option<Uuid>,
    /// Every check and no effect; what would run succeeds with `{"dry_run": true}`. Absent: it runs.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "True")]
    pub dry_run: Option<True>,
    /// What is to be done.
    pub command: Call,
}

/// Whom a command is for: exactly one of the three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One client.
    Client(Name),
    /// The clients whose credentials name the group.
    Group(Name),
    /// Every client of the realm.
    All(True),
}

/// The name of a command and its arguments, which the command's own schema checks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The command's name.
    pub name: Name,
    /// The arguments, `{}` where there are none.
    pub args: Map<String, Value>,
}

words! {
    /// What kind of command it is: when it is answered, and by whom.
    pub enum CommandKind {
        /// Drives the state machine or the jobs; the protocol's own.
        Control = "control",
        /// Does the client's work, in `ready` only; registered by the program.
        Data = "data",
        /// Asks, and changes nothing; the protocol's own.
        Query = "query",
    }
}

/// The version of the protocol, the integer 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Version;

/// A member that is `true` where it is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct True;

/// Writes and reads a type of a single value.
macro_rules! constant {
    ($type:ident, $primitive:ty, $value:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $value.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if <$primitive>::deserialize(deserializer)? == $value {
                    Ok(Self)
                } else {
                    Err(serde::de::Error::custom(concat!("only ", stringify!($value), " is allowed")))
                }
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
                json_schema!({ "const": $value })
            }
        }
    };
}

constant!(Version, u64, 1);
constant!(True, bool, true);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_exactly_one_of_the_three() {
        assert_eq!(json::read(&json!({ "group": "web" })), Ok(Target::Group("web".parse().unwrap())));
        assert_eq!(json::read(&json!({ "all": true })), Ok(Target::All(True)));
        for (other, reason) in [
            (json!({ "all": false }), "only true is allowed"),
            (json!({ "client": null }), "map where enum Target was expected"),
            (json!({ "client": "a", "group": "b" }), "map where enum Target was expected"),
            (json!({}), "map where enum Target was expected"),
            (json!("all"), "unit variant where newtype variant was expected"),
            (json!({ "everyone": true }), "the unknown word `everyone`"),
        ] {
            assert_eq!(json::read::<Target>(&other).unwrap_err().to_string(), reason, "{other}");
        }
    }

    #[test]
    fn the_version_is_the_integer_1() {
        assert_eq!(json::read(&json!(1)), Ok(Version));
        for other in [json!(0), json!(2), json!(1.0), json!("1"), json!(true)] {
            assert!(json::read::<Version>(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_dry_run_is_never_false() {
        assert_eq!(json::read(&json!({ "dry_run": true })), Ok(DryRun { dry_run: True }));
        assert!(json::read::<DryRun>(&json!({ "dry_run": false })).is_err());
    }
}

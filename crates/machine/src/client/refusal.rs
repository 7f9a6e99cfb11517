//! Why a command is turned away, and the one mapping from that to what is answered, counted and recorded.

use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Reason, Rejected};
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::MAX_REFUSAL;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode};
use countersign_protocol::text;
use countersign_protocol::time::Millis;
use serde_json::{Map, Value, json};

use super::effect::JobKey;
use super::journal::Started;

/// Who sent a command, and where the reply goes: what a reply takes from its command (section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplyContext {
    /// The command's id and the key that signed it.
    pub key: JobKey,
    /// The operator.
    pub operator: Name,
    /// The signed `reply_to`.
    pub reply_to: String,
    /// The digest of the command's body.
    pub digest: Digest,
}

/// Why the straight line ended early.
#[derive(Debug)]
pub(super) enum Rejection {
    /// Silence, but for a counter.
    Drop(Rejected),
    /// A signed answer.
    Refuse(Box<Started>, Refusal),
}

/// Why an authentic command that is addressed to this client is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    OutOfReach,
    NotGranted(Name),
    Lifetime { life: i64, max: i64 },
    WrongEpoch(Uuid),
    Starting(Uuid),
    Expired { now: Millis },
    NotYetValid { now: Millis },
    TrustExpired,
    UnknownCommand(Name),
    InvalidArgs(Vec<(String, String)>),
    NotReady,
    Terminating,
    JobsBusy(usize),
    CommandBusy(Name, usize),
    RecordFull,
    IdConflict,
    NotRecorded,
}

impl Refusal {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfReach | Self::NotGranted(_) => ErrorCode::Forbidden,
            Self::Lifetime { .. } => ErrorCode::Lifetime,
            Self::WrongEpoch(_) => ErrorCode::WrongEpoch,
            Self::Starting(_) => ErrorCode::Starting,
            Self::Expired { .. } => ErrorCode::Expired,
            Self::NotYetValid { .. } => ErrorCode::NotYetValid,
            Self::TrustExpired => ErrorCode::TrustExpired,
            Self::UnknownCommand(_) => ErrorCode::UnknownCommand,
            Self::InvalidArgs(_) => ErrorCode::InvalidArgs,
            Self::NotReady => ErrorCode::NotReady,
            Self::Terminating => ErrorCode::Terminating,
            Self::JobsBusy(_) | Self::CommandBusy(..) | Self::RecordFull => ErrorCode::Busy,
            Self::IdConflict => ErrorCode::IdConflict,
            Self::NotRecorded => ErrorCode::NotRecorded,
        }
    }

    /// Whether later time or state could turn it into an execution (section 8); the others speak of one delivery only.
    pub(super) fn is_recorded(&self) -> bool {
        self.code().is_recorded()
    }

    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code(), message: self.message(), details: self.details() }
    }

    fn message(&self) -> String {
        match self {
            Self::OutOfReach => "this client is out of the reach of the operator's grant".into(),
            Self::NotGranted(name) => format!("the operator's grant does not permit `{}`", text::echo(name.as_str())),
            Self::Lifetime { life, max } => {
                format!("a life of {life} ms; more than 0 and at most {max} ms was expected")
            }
            Self::WrongEpoch(_) => "the command names another epoch of this client's journal".into(),
            Self::Starting(_) => {
                "the command names no epoch and might be a replay from an earlier one; name the epoch and send it again"
                    .into()
            }
            Self::Expired { .. } => "the command had expired when it arrived".into(),
            Self::NotYetValid { .. } => "the command was issued ahead of this client's clock".into(),
            Self::TrustExpired => {
                "the client's trust bundle has expired; only queries and `terminate` are obeyed".into()
            }
            Self::UnknownCommand(name) => format!("no command `{}` is registered here", text::echo(name.as_str())),
            Self::InvalidArgs(_) => "the arguments do not satisfy the command's schema".into(),
            Self::NotReady => "the client is not ready; `start` it first".into(),
            Self::Terminating => "the client is terminating".into(),
            Self::JobsBusy(limit) => format!("all {limit} job slots are taken"),
            Self::CommandBusy(name, limit) => {
                format!("`{}` runs {limit} times already, which is its limit", text::echo(name.as_str()))
            }
            Self::RecordFull => "the journal of recent commands is full".into(),
            Self::IdConflict => "another command with this id was received before".into(),
            Self::NotRecorded => "the command could not be recorded, and was not run by this delivery".into(),
        }
    }

    fn details(&self) -> Option<Map<String, Value>> {
        let details = match self {
            Self::WrongEpoch(epoch) | Self::Starting(epoch) => json!({ "epoch": epoch }),
            Self::Expired { now } | Self::NotYetValid { now } => json!({ "now": now }),
            Self::InvalidArgs(errors) => json!({ "errors": listed(errors) }),
            _ => return None,
        };
        match details {
            Value::Object(details) => Some(details),
            _ => None,
        }
    }
}

/// As many of the errors as a refusal may hold; the rest of the reply takes less than half of its bound.
fn listed(errors: &[(String, String)]) -> Vec<Value> {
    let mut left = MAX_REFUSAL / 2;
    errors
        .iter()
        .map(|(path, message)| json!({ "path": cut(path), "message": text::echo(message) }))
        .take_while(|error| {
            let size = error.to_string().len() + 1;
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect()
}

/// A JSON pointer, cut to 64 characters.
fn cut(path: &str) -> String {
    path.chars().take(countersign_protocol::limits::MAX_ECHO).collect()
}

impl Rejection {
    pub(super) fn drop(reason: Reason, signer: &Name, detail: impl Into<String>) -> Self {
        Self::Drop(Rejected::new(reason, Some(signer.clone()), detail.into()))
    }
}

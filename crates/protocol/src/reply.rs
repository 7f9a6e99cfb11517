//! Replies (section 5).

use std::hash::{Hash, Hasher};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::command::Version;
use crate::digest::Digest;
use crate::id::{MessageId, Uuid};
use crate::json;
use crate::name::Name;
use crate::text::words;
use crate::time::Millis;

/// A reply, as a client signs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = reply_members)]
pub struct Reply {
    /// The version of the protocol.
    pub v: Version,
    /// What tells this reply from every other.
    pub id: MessageId,
    /// The realm that it belongs to.
    pub realm: Name,
    /// The client that answers.
    pub from: Name,
    /// The `jti` of the client's credential.
    pub credential: Uuid,
    /// The operator who is answered.
    pub to: Name,
    /// The command's `reply_to` and the client's name.
    pub subject: String,
    /// The command that is answered.
    pub command_id: MessageId,
    /// The digest of that command's body.
    pub command_digest: Digest,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at: Millis,
    /// The epoch of the client's journal (section 8).
    pub epoch: Uuid,
    /// The start of the client's process.
    pub boot: Uuid,
    /// How many messages the process had signed before this one.
    pub n: u64,
    /// The client's state.
    pub state: State,
    /// How many replies to the command came before this one.
    pub seq: u64,
    /// What became of the command.
    pub status: Status,
    /// How far it is, only with `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Progress")]
    pub progress: Option<Progress>,
    /// The result, only with `succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Value")]
    pub result: Option<Value>,
    /// Why not, only with `failed`, `refused`, `cancelled` and `interrupted`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "ErrorBody")]
    pub error: Option<ErrorBody>,
}

words! {
    /// What became of a command.
    pub enum Status {
        /// A long-running command was taken on.
        Accepted = "accepted",
        /// A long-running command says how far it is.
        Progress = "progress",
        /// It ran and has a result.
        Succeeded = "succeeded",
        /// It ran and failed.
        Failed = "failed",
        /// It does not run.
        Refused = "refused",
        /// It was cancelled while it ran.
        Cancelled = "cancelled",
        /// It was running when the client went down, and is not run again.
        Interrupted = "interrupted",
    }
}

words! {
    /// The state of a client (section 4).
    pub enum State {
        /// Takes no data commands; the state at start.
        Unready = "unready",
        /// Takes data commands.
        Ready = "ready",
        /// Has ended or is about to.
        Terminated = "terminated",
    }
}

words! {
    /// Why a command has no result: a closed set.
    pub enum ErrorCode {
        /// A data command while the client is not ready.
        NotReady = "not_ready",
        /// Outside the operator's grant.
        Forbidden = "forbidden",
        /// The client's trust bundle has expired.
        TrustExpired = "trust_expired",
        /// The client knows no such command.
        UnknownCommand = "unknown_command",
        /// The arguments do not fit the command's schema.
        InvalidArgs = "invalid_args",
        /// A life of zero, below it, or over the maximum.
        Lifetime = "lifetime",
        /// It came too late.
        Expired = "expired",
        /// It came too early.
        NotYetValid = "not_yet_valid",
        /// It might be a replay from before the client's epoch.
        Starting = "starting",
        /// It names another epoch than the client's.
        WrongEpoch = "wrong_epoch",
        /// Its id is that of another command.
        IdConflict = "id_conflict",
        /// The client is at a bound.
        Busy = "busy",
        /// The client is about to end.
        Terminating = "terminating",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// The client went down while it ran.
        Interrupted = "interrupted",
        /// The command's own failure.
        Failed = "failed",
        /// No such job or record.
        NotFound = "not_found",
        /// The result does not fit a message.
        ResultTooLarge = "result_too_large",
        /// The client could not record it, and did not run it by this delivery.
        NotRecorded = "not_recorded",
        /// A defect of the client or of the command.
        Internal = "internal",
    }
}

impl Status {
    /// Whether nothing comes after it.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::Progress)
    }
}

impl ErrorCode {
    /// Whether a refusal with this code is for good. The others speak of one delivery only, conflict with nothing, and
    /// give way to a recorded reply of the same command.
    pub const fn is_recorded(self) -> bool {
        !matches!(
            self,
            Self::Expired
                | Self::Starting
                | Self::WrongEpoch
                | Self::Busy
                | Self::Forbidden
                | Self::Lifetime
                | Self::IdConflict
                | Self::NotRecorded
        )
    }
}

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people, and short.
    pub message: String,
    /// What the code has to add. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Map<String, Value>")]
    pub details: Option<Map<String, Value>>,
}

/// How far a long-running command is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The part that is done, from 0 to 1.
    #[serde(deserialize_with = "fraction")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fraction: f64,
    /// What it is doing, for people. Absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "String")]
    pub message: Option<String>,
}

/// A status with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A long-running command was taken on.
    Accepted,
    /// A long-running command says how far it is.
    Progress(Progress),
    /// It ran and has a result.
    Succeeded(Value),
    /// It ran and failed.
    Failed(ErrorBody),
    /// It does not run.
    Refused(ErrorBody),
    /// It was cancelled while it ran.
    Cancelled(ErrorBody),
    /// It was running when the client went down.
    Interrupted(ErrorBody),
}

impl Reply {
    /// The status with what belongs to it.
    ///
    /// # Errors
    /// A sentence, where the members are not those of the status. The schema of replies lets no such reply pass.
    pub fn outcome(&self) -> Result<Outcome, String> {
        let members = (self.status, self.progress.clone(), self.result.clone(), self.error.clone());
        Ok(match members {
            (Status::Accepted, None, None, None) => Outcome::Accepted,
            (Status::Progress, Some(progress), None, None) => Outcome::Progress(progress),
            (Status::Succeeded, None, Some(result), None) => Outcome::Succeeded(result),
            (Status::Failed, None, None, Some(error)) => Outcome::Failed(error),
            (Status::Refused, None, None, Some(error)) => Outcome::Refused(error),
            (Status::Cancelled, None, None, Some(error)) => Outcome::Cancelled(error),
            (Status::Interrupted, None, None, Some(error)) => Outcome::Interrupted(error),
            (status, ..) => return Err(format!("a reply `{status}` with other members than its own")),
        })
    }
}

impl Outcome {
    /// The status.
    pub const fn status(&self) -> Status {
        match self {
            Self::Accepted => Status::Accepted,
            Self::Progress(_) => Status::Progress,
            Self::Succeeded(_) => Status::Succeeded,
            Self::Failed(_) => Status::Failed,
            Self::Refused(_) => Status::Refused,
            Self::Cancelled(_) => Status::Cancelled,
            Self::Interrupted(_) => Status::Interrupted,
        }
    }

    /// Whether nothing comes after it.
    pub const fn is_final(&self) -> bool {
        self.status().is_final()
    }

    /// The members of a [`Reply`] that say it: `status`, `progress`, `result`, `error`.
    pub fn into_members(self) -> (Status, Option<Progress>, Option<Value>, Option<ErrorBody>) {
        let status = self.status();
        match self {
            Self::Accepted => (status, None, None, None),
            Self::Progress(progress) => (status, Some(progress), None, None),
            Self::Succeeded(result) => (status, None, Some(result), None),
            Self::Failed(error) | Self::Refused(error) | Self::Cancelled(error) | Self::Interrupted(error) => {
                (status, None, None, Some(error))
            }
        }
    }
}

impl ErrorBody {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }
}

// Fractions are compared by their bits, so that what holds one can be compared and hashed as the machine's state is.
impl PartialEq for Progress {
    fn eq(&self, other: &Self) -> bool {
        self.fraction.to_bits() == other.fraction.to_bits() && self.message == other.message
    }
}

impl Eq for Progress {}

impl Hash for Progress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fraction.to_bits().hash(state);
        self.message.hash(state);
    }
}

fn fraction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    json::within(deserializer, |fraction| (0.0..=1.0).contains(fraction), "a fraction from 0 to 1")
}

const WITH_PROGRESS: &[Status] = &[Status::Progress];
const WITH_RESULT: &[Status] = &[Status::Succeeded];
const WITH_ERROR: &[Status] = &[Status::Failed, Status::Refused, Status::Cancelled, Status::Interrupted];

fn reply_members(schema: &mut schemars::Schema) {
    let members = [("progress", WITH_PROGRESS), ("result", WITH_RESULT), ("error", WITH_ERROR)];
    let conditions = members.map(|(member, statuses)| {
        let mut condition = only_with(member, statuses);
        condition["then"] = json!({ "required": [member] });
        condition
    });
    schema.insert("allOf".to_owned(), json!(conditions));
}

/// The conditions of a recorded outcome, whose members may be gone.
pub(crate) fn recorded_members(schema: &mut schemars::Schema) {
    let conditions = [("progress", &[Status::Progress][..]), ("result", WITH_RESULT), ("error", WITH_ERROR)];
    schema.insert("allOf".to_owned(), json!(conditions.map(|(member, statuses)| only_with(member, statuses))));
}

fn only_with(member: &str, statuses: &[Status]) -> Value {
    json!({
        "if": { "properties": { "status": { "enum": statuses } }, "required": ["status"] },
        "else": { "properties": { member: false } },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn outcomes() -> [Outcome; 7] {
        let error = || ErrorBody::new(ErrorCode::Failed, "no");
        [
            Outcome::Accepted,
            Outcome::Progress(Progress { fraction: 0.5, message: None }),
            Outcome::Succeeded(Value::Null),
            Outcome::Failed(error()),
            Outcome::Refused(error()),
            Outcome::Cancelled(error()),
            Outcome::Interrupted(error()),
        ]
    }

    fn reply(outcome: Outcome) -> Reply {
        let id: MessageId = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90".parse().unwrap();
        let uuid = Uuid::from_random([1; 16]);
        let (status, progress, result, error) = outcome.into_members();
        Reply {
            v: Version,
            id,
            realm: "demo".parse().unwrap(),
            from: "worker-1".parse().unwrap(),
            credential: uuid,
            to: "alice".parse().unwrap(),
            subject: String::new(),
            command_id: id,
            command_digest: Digest::of(b""),
            issued_at: Millis::new(0),
            epoch: uuid,
            boot: uuid,
            n: 0,
            state: State::Ready,
            seq: 0,
            status,
            progress,
            result,
            error,
        }
    }

    #[test]
    fn an_outcome_survives_the_members_that_say_it() {
        for (outcome, status) in outcomes().into_iter().zip(Status::ALL) {
            assert_eq!((outcome.status(), outcome.is_final()), (*status, status.is_final()));
            let written = serde_json::to_vec(&reply(outcome.clone())).unwrap();
            assert_eq!(json::parse_as::<Reply>(&written).unwrap().outcome(), Ok(outcome));
        }
    }

    #[test]
    fn only_accepted_and_progress_are_interim() {
        let interim: Vec<_> = Status::ALL.iter().filter(|status| !status.is_final()).collect();
        assert_eq!(interim, [&Status::Accepted, &Status::Progress]);
    }

    #[test]
    fn members_of_another_status_are_no_outcome() {
        for (outcome, own) in outcomes().into_iter().zip(Status::ALL) {
            for status in Status::ALL.iter().filter(|status| *status != own) {
                let crossed = Reply { status: *status, ..reply(outcome.clone()) };
                let both_with_error = WITH_ERROR.contains(own) && WITH_ERROR.contains(status);
                assert_eq!(crossed.outcome().is_ok(), both_with_error, "{own} as {status}");
            }
        }
    }

    #[test]
    fn refusals_of_one_delivery_are_not_recorded() {
        let unrecorded: Vec<_> =
            ErrorCode::ALL.iter().filter(|code| !code.is_recorded()).map(|code| code.as_str()).collect();
        assert_eq!(
            unrecorded,
            ["forbidden", "lifetime", "expired", "starting", "wrong_epoch", "id_conflict", "busy", "not_recorded"]
        );
    }
}

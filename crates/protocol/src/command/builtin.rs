//! The protocol's own commands, their arguments and their results (section 4).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{CommandKind, True};
use crate::digest::Digest;
use crate::envelope::Reason;
use crate::id::{MessageId, Uuid};
use crate::json;
use crate::limits::{MAX_DESCRIPTION, MAX_JOBS_LISTED, MAX_MESSAGE, MAX_SECONDS};
use crate::name::Name;
use crate::output::{OutputPiece, OutputQuery};
use crate::reply::{self, ErrorBody, Progress, State, Status};
use crate::schema::Schema;
use crate::text::words;
use crate::time::Millis;

words! {
    /// A command that every client knows.
    pub enum Builtin {
        /// Unready to ready.
        Start = "start",
        /// Ready to unready; jobs that run go on.
        Stop = "stop",
        /// Cancels the jobs, answers and ends the process.
        Terminate = "terminate",
        /// Cancels one job.
        Cancel = "cancel",
        /// The client's Unix timestamp.
        Ping = "ping",
        /// A long computation that prints a message at its end.
        Calculate = "calculate",
        /// The client info.
        Status = "status",
        /// The jobs that run, and those that ended and are remembered.
        Jobs = "jobs",
        /// What was recorded for one command.
        Result = "result",
        /// A piece of what a job wrote.
        Output = "output",
        /// What a command does and takes.
        Describe = "describe",
    }
}

impl Builtin {
    /// The command's name.
    pub const fn name(self) -> &'static str {
        self.as_str()
    }

    /// The command of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|builtin| builtin.name() == name)
    }

    /// The command's kind.
    pub const fn kind(self) -> CommandKind {
        self.properties().kind
    }

    /// Whether it is answered `accepted` at once and ends later.
    pub const fn is_long_running(self) -> bool {
        self.properties().is_long_running
    }

    /// Whether it is sent again to a client that may have executed it in an earlier epoch (section 8).
    pub const fn reissue(self) -> Reissue {
        self.properties().reissue
    }

    /// All that section 4 fixes for a command.
    pub(crate) const fn properties(self) -> Properties {
        use CommandKind::{Control, Data, Query};
        match self {
            // The state that they lead to is the same, whatever it was before.
            Self::Start => Properties::new::<NoArgs, Changed>(Control, Reissue::Always),
            Self::Stop => Properties::new::<NoArgs, Stopped>(Control, Reissue::Always),
            // It may have ended the process that was meant; the one that answers has started since.
            Self::Terminate => Properties::new::<NoArgs, Terminated>(Control, Reissue::Never),
            Self::Cancel => Properties::new::<CommandId, Cancelled>(Control, Reissue::OnRetry),
            Self::Ping => Properties::new::<NoArgs, PingResult>(Data, Reissue::Always),
            Self::Calculate => {
                let properties = Properties::new::<Calculate, Calculate>(Data, Reissue::OnRetry);
                Properties { is_long_running: true, ..properties }
            }
            Self::Status => Properties::new::<NoArgs, ClientInfo>(Query, Reissue::OnRetry),
            Self::Jobs => Properties::new::<NoArgs, JobList>(Query, Reissue::OnRetry),
            Self::Result => Properties::new::<CommandId, Recorded>(Query, Reissue::OnRetry),
            Self::Output => Properties::new::<OutputQuery, OutputPiece>(Query, Reissue::OnRetry),
            Self::Describe => Properties::new::<CommandName, Description>(Query, Reissue::OnRetry),
        }
    }
}

impl From<Builtin> for Name {
    #[expect(clippy::expect_used, reason = "a test shows that each of them is a name")]
    fn from(builtin: Builtin) -> Self {
        builtin.name().parse().expect("a name")
    }
}

/// Whether a command is sent again, under a new id, to a client that may have executed it in an earlier epoch (section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reissue {
    /// Executing it twice does no harm.
    Always,
    /// Only if the operator asked for it.
    OnRetry,
    /// Not even then.
    Never,
}

/// What is fixed for a command.
#[derive(Clone, Copy)]
pub(crate) struct Properties {
    kind: CommandKind,
    is_long_running: bool,
    reissue: Reissue,
    /// Makes the schema of its arguments, under a name.
    pub(crate) args: fn(&str) -> Schema,
    /// Makes the schema of its result, under a name.
    pub(crate) result: fn(&str) -> Schema,
}

impl Properties {
    const fn new<A, R>(kind: CommandKind, reissue: Reissue) -> Self
    where
        A: JsonSchema + DeserializeOwned,
        R: JsonSchema + DeserializeOwned,
    {
        Self { kind, is_long_running: false, reissue, args: Schema::typed::<A>, result: Schema::typed::<R> }
    }
}

/// No arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArgs {}

/// The result of a command that changes the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// Whether the state changed; `false` when it was so already.
    pub changed: bool,
}

/// The result of `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Whether the state changed; `false` when it was unready already.
    pub changed: bool,
    /// How many jobs go on.
    pub running: u64,
}

/// The result of `terminate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terminated {
    /// How many jobs were cancelled.
    pub cancelled: u64,
}

/// The arguments of `cancel` and `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandId {
    /// The command that is meant.
    pub command_id: MessageId,
    /// The digest of its body: only the operator's own command of that id and body is meant, and no other's of the same id.
    /// Absent: the operator's own of that id, else another's where there is exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Digest")]
    pub command_digest: Option<Digest>,
}

/// The result of `cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancelled {
    /// Whether the job was running and is cancelled now.
    pub cancelled: bool,
}

/// The result of `ping`: the client's Unix timestamp in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PingResult(pub i64);

/// The arguments of `calculate`, and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calculate {
    /// How long it computes, in seconds, from 0 to 86,400.
    #[serde(deserialize_with = "seconds")]
    #[schemars(range(min = 0.0, max = MAX_SECONDS))]
    pub x: f64,
    /// What is printed at the end, in 0 to 4,096 characters.
    #[serde(deserialize_with = "message")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub msg: String,
}

/// The result of a dry run that would have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// Says that nothing was done.
    pub dry_run: True,
}

/// What a client says of itself: the result of `status` and the data of a presence event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientInfo {
    /// The state.
    pub state: State,
    /// The epoch of the client's journal (section 8).
    pub epoch: Uuid,
    /// The start of the process.
    pub boot: Uuid,
    /// The number of the message that carries this, counted from the start of the process.
    pub n: u64,
    /// The version of the program.
    pub version: String,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started_at: Millis,
    /// How often the client publishes its presence, in milliseconds.
    pub heartbeat_ms: u64,
    /// The groups that its credential names.
    pub groups: Vec<Name>,
    /// Its jobs.
    pub jobs: JobsInfo,
    /// How many messages it passed over in silence, by reason; a reason that is absent never occurred.
    pub dropped: BTreeMap<Reason, u64>,
    /// The commands that it knows.
    pub commands: Vec<CommandInfo>,
    /// The trust bundle that it holds.
    pub trust: TrustInfo,
}

/// How many jobs a client runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobsInfo {
    /// How many run.
    pub running: u64,
    /// How many may run at once.
    pub limit: u64,
}

/// A command that a client knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandInfo {
    /// Its name.
    pub name: Name,
    /// Its kind.
    pub kind: CommandKind,
    /// The digest of the schema of its arguments.
    pub args: Digest,
    /// The digest of the schema of its result.
    pub result: Digest,
    /// The digest of its definition, where it is a program (section 13): clients may have the same schemas and run another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Digest>,
}

/// The trust bundle that a client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustInfo {
    /// Its version.
    pub version: u64,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_at: Millis,
}

/// The result of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobList {
    /// Those that run, then those that ended and are remembered, newest first, 256 at most.
    #[serde(deserialize_with = "jobs")]
    #[schemars(length(max = MAX_JOBS_LISTED))]
    pub jobs: Vec<Job>,
    /// Whether there are more.
    pub more: bool,
}

/// A long-running command that a client runs or ran; also the data of a job event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The command's id.
    pub command_id: MessageId,
    /// The command's name.
    pub command: Name,
    /// The operator who gave it.
    pub operator: Name,
    /// `accepted` or `progress` while it runs, then how it ended.
    pub status: Status,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at: Millis,
    /// When it ended, in milliseconds since the Unix epoch. Absent: it runs.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Millis")]
    pub ended_at: Option<Millis>,
    /// How far it is or was. Absent: it never said.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Progress")]
    pub progress: Option<Progress>,
}

/// The result of `result`: what is recorded for a command. The status outlives the result and the error (section 8).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = reply::recorded_members)]
pub struct Recorded {
    /// The digest of the command's body: an id alone does not tell whose command it is.
    pub command_digest: Digest,
    /// The operator who gave it.
    pub operator: Name,
    /// The latest status.
    pub status: Status,
    /// How far it is, only with `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Progress")]
    pub progress: Option<Progress>,
    /// The result, only of a command that succeeded. Absent: not kept.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Value")]
    pub result: Option<Value>,
    /// The error, only of a command that ended without success. Absent: not kept.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "ErrorBody")]
    pub error: Option<ErrorBody>,
}

/// The arguments of `describe`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandName {
    /// The command that is meant.
    pub command: Name,
}

/// The result of `describe`: what a client knows of a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its name.
    pub command: Name,
    /// Its kind.
    pub kind: CommandKind,
    /// Whether it runs as a job.
    pub long_running: bool,
    /// What it does, for people, in 1,024 characters at most. Absent: nobody has said it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "description")]
    #[schemars(with = "String", length(max = MAX_DESCRIPTION))]
    pub description: Option<String>,
    /// The schema of its arguments: the very text of which the client info states the digest.
    pub args: String,
    /// The schema of its result, in the same way.
    pub result: String,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    json::within(deserializer, |x| (0.0..=MAX_SECONDS).contains(x), "a number of seconds from 0 to 86,400")
}

fn message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    json::within(deserializer, |msg: &String| msg.chars().count() <= MAX_MESSAGE, "at most 4,096 characters")
}

fn description<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let fits = |text: &String| text.chars().count() <= MAX_DESCRIPTION;
    json::within(deserializer, fits, "at most 1,024 characters").map(Some)
}

fn jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Job>, D::Error> {
    json::within(deserializer, |jobs: &Vec<Job>| jobs.len() <= MAX_JOBS_LISTED, "at most 256 jobs")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_commands_and_their_kinds_are_those_of_section_4() {
        let kinds = Builtin::ALL.iter().map(|builtin| (builtin.name(), builtin.kind(), builtin.is_long_running()));
        let expected = [
            ("start", CommandKind::Control, false),
            ("stop", CommandKind::Control, false),
            ("terminate", CommandKind::Control, false),
            ("cancel", CommandKind::Control, false),
            ("ping", CommandKind::Data, false),
            ("calculate", CommandKind::Data, true),
            ("status", CommandKind::Query, false),
            ("jobs", CommandKind::Query, false),
            ("result", CommandKind::Query, false),
            ("output", CommandKind::Query, false),
            ("describe", CommandKind::Query, false),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
        assert!(Builtin::ALL.iter().all(|builtin| Builtin::from_name(builtin.name()) == Some(*builtin)));
        assert_eq!(Builtin::from_name("Ping"), None);
        assert!(Builtin::ALL.iter().all(|builtin| Name::from(*builtin).as_str() == builtin.name()));
    }

    #[test]
    fn calculate_is_bounded_by_its_type_too() {
        let reads = |x: Value, msg: String| json::read::<Calculate>(&json!({ "x": x, "msg": msg })).is_ok();
        assert!(reads(json!(0), String::new()) && reads(json!(86_400.0), "😀".repeat(4_096)));
        assert!(!reads(json!(-0.1), String::new()) && !reads(json!(86_400.1), String::new()));
        assert!(!reads(json!(0), "a".repeat(4_097)));
    }
}

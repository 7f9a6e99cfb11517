//! What the shell has to do for the machine.

use std::fmt;
use std::sync::Arc;

use countersign_protocol::envelope::Signed;
use countersign_protocol::id::MessageId;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::Name;
use countersign_protocol::renewal::Renewal;
use countersign_protocol::trust::Trust;
use serde_json::{Map, Value};

use super::journal::Entry;
use super::output::OutputRead;
use super::pipeline::Execution;
use super::refusal::ReplyContext;
use super::state::State;

/// One turn of the machine: what must be on disk, and what may happen once it is.
///
/// **Every entry is written before any effect is applied.** Where the write fails, [`super::Client::roll_back`] takes
/// the step back; several steps that shared one failed write go back in reverse order, and of those without entries the ones
/// after the first with some go through [`super::Client::retract`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[must_use]
pub struct Step {
    /// What to append to the journal, in this order.
    pub entries: Vec<Entry>,
    /// What to do then, in this order.
    pub effects: Vec<Effect>,
    pub(super) started: Option<RolledBack>,
    /// The query that this step remembered.
    pub(super) query: Option<JobKey>,
}

/// What a failed write takes back: the command that this step began, and the state before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RolledBack {
    pub(super) reply_context: ReplyContext,
    pub(super) command: Name,
    pub(super) state: State,
}

/// Something that the shell does for the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Publish a signed message on its subject.
    Publish(Signed),
    /// Run a data command, and call [`super::Client::finished`] when it has finished.
    Execute(Execution),
    /// Cancel a running job; its end is reported by [`super::Client::finished`] like any other.
    Cancel(JobKey),
    /// Read a piece of a job's output, and call [`super::Client::output_read`] with it.
    ReadOutput(OutputRead),
    /// Write a line to the log; the text is escaped.
    Log(Note),
    /// Write a trust bundle where the next start finds it, then call [`super::Client::trust_kept`], or
    /// [`super::Client::trust_not_kept`].
    KeepTrust(Arc<Trust>),
    /// Ask the broker for a version of the trust bundle, and call [`super::Client::trust_answered`].
    FetchTrust(u64),
    /// Look on the disk for a newer credential of this client, which somebody has put there, and call [`super::Client::renewed`] with
    /// it; where there is none, publish this request for one.
    Renew(Signed),
    /// Write a credential and what comes with it where the next start and the next connection find them, then call
    /// [`super::Client::renewed`], or [`super::Client::not_renewed`].
    KeepRenewal(Box<Renewal>),
    /// Flush everything that was published, and end the process with status 0.
    Exit,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExecutionResult {
    /// With this result, which satisfies the command's result schema.
    Done(Value),
    /// By its own failure (`failed`): a message for people, and details if it has some.
    Failed {
        /// What went wrong, for people.
        message: String,
        /// What went wrong, for programs.
        details: Option<Map<String, Value>>,
    },
    /// By [`Effect::Cancel`], before it was done: a message for people, and details if it has some.
    Cancelled {
        /// What became of it, for people.
        message: String,
        /// What became of it, for programs.
        details: Option<Map<String, Value>>,
    },
    /// By a defect (`internal`): it panicked, or its result does not satisfy its own schema.
    Broken(String),
}

/// What one command is recorded under: the operator's key and the command's id (section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The command's id.
    pub id: MessageId,
    /// The thumbprint of the key that signed it.
    pub operator: Thumbprint,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The text, escaped.
    pub text: String,
}

/// How much a [`Note`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// What a person wants to see of an ordinary day.
    Info,
    /// A query that was answered: operators that wait send them all the time.
    Query,
    /// A command that started or ended. Whoever may give commands causes it, as often as they like: whoever writes it limits
    /// it, apart from every other line.
    Command,
    /// What a person should look at.
    Warn,
    /// A message that was dropped. It is a warning that anybody who can publish causes, as often as they like: whoever writes
    /// it limits it, apart from every other line.
    Dropped,
}

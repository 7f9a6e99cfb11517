//! What a data command is (section 4): a name, typed arguments, a typed result, and what it does.

use std::future::Future;
use std::io;

use countersign_machine::client::JobKey;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::output::Stream;
use countersign_protocol::reply::Progress;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::console::Console;
use crate::output::JobOutput;

/// The longest message of a progress report, in characters.
const MAX_PROGRESS_MESSAGE: usize = 256;

/// A data command. It also is either [`Immediate`] or [`LongRunning`].
pub trait DataCommand: Send + Sync + 'static {
    /// Its name, of the form of section 1, and none of the protocol's control and query commands.
    const NAME: &'static str;
    /// What it does, for people who ask by `describe`, in 1,024 characters at most. By default nothing is said.
    const DESCRIPTION: &'static str = "";
    /// Its arguments: a struct, whose members are those of the JSON object. Give it `#[serde(deny_unknown_fields)]`, so
    /// that the schema is closed as section 3 asks. They are validated before the command is run.
    type Args: DeserializeOwned + JsonSchema + Send + 'static;
    /// Its result. One that does not satisfy its own schema, or section 3, is answered with `internal`.
    type Output: Serialize + JsonSchema + Send;
}

/// A command that is answered in the same breath. Nothing else happens in the client meanwhile: what may take longer than
/// a millisecond, or waits for anything, is [`LongRunning`].
pub trait Immediate: DataCommand {
    /// Runs it. A panic is answered with `internal`, and the client goes on.
    fn run(&self, args: Self::Args, context: &Context) -> Result<Self::Output, Failure>;
}

/// A command that runs as a job, beside everything else: answered with `accepted` at once, and with its result in the end.
pub trait LongRunning: DataCommand {
    /// Runs it, as a task of its own. To cancel it, its future is dropped where it waits: what must be undone belongs into
    /// a destructor, and what blocks a thread into `spawn_blocking`. A panic is answered with `internal`.
    fn run(&self, args: Self::Args, context: JobContext) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// A command's own failure: it is answered with the code `failed` (section 5). Every error converts into one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) message: String,
    pub(crate) details: Option<Map<String, Value>>,
}

impl Failure {
    /// A failure with a message for people, which the operator sees: short, and without secrets.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), details: None }
    }

    /// Adds details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Map<String, Value>) -> Self {
        self.details = Some(details);
        self
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// What a command may know of how it was given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The command's id.
    pub command_id: MessageId,
    /// The operator who gave it.
    pub operator: Name,
    /// The wall clock when it began.
    pub now: Millis,
}

/// What a long-running command may know and do.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub(crate) context: Context,
    pub(crate) key: JobKey,
    pub(crate) progress: mpsc::Sender<(JobKey, Progress)>,
    pub(crate) console: Console,
    pub(crate) output: JobOutput,
    /// What stands before each line that it prints.
    pub(crate) prefix: String,
}

impl JobContext {
    /// Which command it is, and who gave it.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Reports how far the job is: a fraction from 0 to 1, and perhaps what it is doing, in at most 256 characters. At most
    /// ten reports a second are published; what comes faster than they can be taken is passed over.
    pub fn progress(&self, fraction: f64, message: Option<&str>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = message.map(|message| message.chars().take(MAX_PROGRESS_MESSAGE).collect());
        // Full, or the client is ending: in both cases nobody misses it.
        let _ = self.progress.try_send((self.key, Progress { fraction, message }));
    }

    /// Where the job writes what operators can read (section 13), while it runs and afterwards.
    pub fn output(&self) -> &JobOutput {
        &self.output
    }

    /// Writes a line to the job's standard output, and prints it, control characters escaped, where the client prints: on
    /// standard output unless it is configured otherwise. Where it is configured so, the client, the command and its
    /// id stand before it. Returns when the line is printed, or after a second: then it waits
    /// until somebody reads. An error says that it is not printed: it cannot be, or too much waits already.
    pub async fn print(&self, line: &str) -> io::Result<()> {
        self.output.write(Stream::Stdout, format!("{line}\n").as_bytes());
        self.console.print(format!("{}{}\n", self.prefix, escape(line))).await
    }
}

//! What the long-running processes take: `server`, `client`, `issuer` and `watch`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{FalseyValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use countersign_machine::observer::Kind;
use countersign_protocol::limits::{MAX_JOB_RETENTION, MIN_JOB_RETENTION, SKEW};
use countersign_protocol::name::Name;

use super::credential::life;
use super::options::{OutputArgs, SendArgs};
use super::settings::{OperatorArgs, RealmArgs};
use crate::duration::{Span, span, span_within};

/// What `server` takes.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) sender: OperatorArgs,
    #[command(flatten)]
    pub(crate) send: SendArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `client` takes.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Which client this is; its key and credential are in the folder of keys
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>, group = "who")]
    pub(crate) name: Option<Name>,
    /// Be the first client, by name, whose key is in the folder and that no other process is
    ///
    /// The one that this machine was last comes first. A client that runs keeps others out by a lock on its folder below
    /// --state, which must be the same for all.
    #[arg(long, group = "who")]
    pub(crate) claim: bool,
    /// Where its journal is, one folder a client; by default $XDG_STATE_HOME/countersign
    #[arg(long, env = "COUNTERSIGN_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// A file that the client writes every 10 s while it is healthy, for `countersign health`
    #[arg(long, env = "COUNTERSIGN_HEALTH", value_name = "FILE")]
    pub(crate) health: Option<PathBuf>,
    /// Be `ready` at once, without a `start`, after every start of the process: a `stop` from before it no longer holds
    #[arg(long, env = "COUNTERSIGN_START_READY", value_parser = FalseyValueParser::new())]
    pub(crate) start_ready: bool,
    /// How long a job is remembered after its end, for `jobs` and `result`: from 1m to 720h
    #[arg(long, env = "COUNTERSIGN_RETAIN", value_name = "DURATION", default_value = "24h", value_parser = retention)]
    pub(crate) retain: Span,
    /// Put the client, the command and its id before each line that a job prints: CLIENT/COMMAND/COMMAND-ID
    #[arg(long)]
    pub(crate) prefix_output: bool,
    /// A folder of programs that are commands, NAME.toml each; read again on SIGHUP
    #[arg(long, env = "COUNTERSIGN_COMMANDS", value_name = "DIR")]
    pub(crate) commands: Option<PathBuf>,
    /// How many jobs may run at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) jobs: u16,
    /// How much the operators' clocks and this one may differ
    #[arg(long, value_name = "DURATION", default_value_t = Span::from_millis(SKEW), value_parser = span)]
    pub(crate) skew: Span,
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
}

/// What `issuer` takes.
#[derive(Debug, Args)]
pub(crate) struct IssuerArgs {
    /// How long the credentials hold that it signs, from 1m to 3650d; by default as long as the one before
    #[arg(long, value_name = "DURATION", value_parser = life)]
    pub(crate) valid: Option<Span>,
    /// A file that the issuer writes every 10 s while it is connected, for `countersign health`
    #[arg(long, env = "COUNTERSIGN_HEALTH", value_name = "FILE")]
    pub(crate) health: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
}

/// What `watch` takes.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Show only what comes from this client, goes to it, or is on a subject of it; may be repeated
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) client: Vec<Name>,
    /// Show only what comes from this operator, goes to them, or is about them; may be repeated
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) operator: Vec<Name>,
    /// Show only this kind; may be repeated
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub(crate) kind: Vec<Kind>,
    /// Show only what does not verify, what comes again or late, and gaps
    #[arg(long)]
    pub(crate) bad: bool,
    /// End after this many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `client --retain` takes.
fn retention(text: &str) -> Result<Span, String> {
    span_within(text, MIN_JOB_RETENTION..=MAX_JOB_RETENTION)
}

/// The words that `watch --kind` takes.
fn kinds() -> impl TypedValueParser<Value = Kind> {
    let about = |kind| match kind {
        Kind::Command => "A command of an operator",
        Kind::Reply => "A reply of a client",
        Kind::Event => "An event of a client, whichever",
        Kind::Presence => "A client's presence",
        Kind::Job => "The start or end of a job",
        Kind::Security => "A security event of a client",
        Kind::Trust => "A trust bundle",
        Kind::Renewal => "A request for a new credential, or the answer",
        Kind::Gap => "Messages that are missing",
        Kind::Other => "What belongs to no subject of the protocol",
    };
    let words = Kind::ALL.map(|kind| PossibleValue::new(kind.as_str()).help(about(kind)));
    PossibleValuesParser::new(words).try_map(|word| {
        let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or_else(|| format!("there is no kind {word}"))
    })
}

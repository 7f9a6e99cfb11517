//! The groups of options. A subcommand has those that mean something to it, and no others.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, ValueEnum};
use countersign_protocol::name::Name;

use crate::duration::{Span, positive_span};

/// Which broker.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 100)]
pub(crate) struct BrokerArgs {
    /// The broker
    #[arg(long, env = "NATS_URL", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) nats_url: String,
}

/// Which realm.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 110)]
pub(crate) struct KeysArgs {
    /// The folder that `countersign init` makes
    #[arg(long, env = "COUNTERSIGN_KEYS", value_name = "DIR", default_value = "keys")]
    pub(crate) keys: PathBuf,

    /// The realm; by default that of trust.json
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) realm: Option<Name>,
}

/// A broker and a realm.
#[derive(Debug, Clone, Args)]
pub(crate) struct RealmArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
}

/// An operator of a realm, and where to connect.
#[derive(Debug, Clone, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) realm: RealmArgs,

    /// Whose key signs; by default the only operator in the folder of keys
    #[arg(long = "as", id = "operator_name", env = "COUNTERSIGN_OPERATOR", value_name = "OPERATOR")]
    #[arg(value_parser = str::parse::<Name>, display_order = 120)]
    pub(crate) operator: Option<Name>,
}

/// How a command is sent, and how long its replies are awaited.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 130)]
pub(crate) struct SendArgs {
    /// How long to wait for the first reply of each target after it was sent the command, by default 5s; connecting
    /// and reading the roster have time limits of their own, and time without a connection does not count, up to
    /// 2 minutes
    #[arg(long, value_name = "DURATION", value_parser = positive_span)]
    pub(crate) timeout: Option<Span>,

    /// How long the command stays valid, by default 30s, or less where the operator's grant allows less: a client that
    /// gets it later does not run it, give or take the 5 s that clocks may differ
    #[arg(long, value_name = "DURATION", value_parser = positive_span)]
    pub(crate) ttl: Option<Span>,

    /// Do not wait for the end of a long-running command
    #[arg(long)]
    pub(crate) detach: bool,

    /// Send the same bytes again until an answer comes; they run at most once. To a client that has begun a new epoch,
    /// send every command but `terminate` again under a new id: it may then do again what it did before the epoch began
    #[arg(long)]
    pub(crate) retry: bool,

    /// Have the clients check everything and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl SendArgs {
    /// These, and where they are silent, those of the session.
    pub(crate) fn or(&self, session: &Self) -> Self {
        Self {
            timeout: self.timeout.or(session.timeout),
            ttl: self.ttl.or(session.ttl),
            detach: self.detach || session.detach,
            retry: self.retry || session.retry,
            dry_run: self.dry_run || session.dry_run,
        }
    }
}

/// How the outcome is printed.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_display_order = 140)]
pub(crate) struct OutputArgs {
    /// How the outcome is printed, by default as a table
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    pub(crate) output: Option<Format>,
}

impl OutputArgs {
    /// The chosen format, or the default.
    pub(crate) fn format(self) -> Format {
        self.output.unwrap_or(Format::Table)
    }

    /// These, and where they are silent, those of the session.
    pub(crate) fn or(self, session: Self) -> Self {
        Self { output: self.output.or(session.output) }
    }
}

/// How the outcome is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document when all is known.
    Json,
    /// One line for each item; of a command, each reply as it arrives, and a summary.
    Ndjson,
}

/// What every subcommand takes, before its name or after it.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 150)]
pub(crate) struct VerbosityArgs {
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,

    /// Print only the outcome, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

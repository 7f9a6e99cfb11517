//! The groups of options. A subcommand has those that mean something to it, and no others.

use clap::{ArgAction, Args, ValueEnum};

use crate::duration::{Span, positive_span};

/// How a command is sent, and how long its replies are awaited.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 130)]
pub(crate) struct SendArgs {
    /// How long to wait for the first reply of each target after it was sent the command, by default 5s; connecting
    /// and reading the roster have time limits of their own, and time without a connection does not count, up to
    /// 2 minutes
    #[arg(long, value_name = "DURATION", value_parser = positive_span)]
    pub(crate) timeout: Option<Span>,

    /// How long to wait in all, once the command is sent; by default until every target has answered. What still runs then
    /// goes on, and is not cancelled
    #[arg(long, value_name = "DURATION", value_parser = positive_span)]
    pub(crate) deadline: Option<Span>,

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
            deadline: self.deadline.or(session.deadline),
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

    /// Print only what was asked for and what went wrong: no notes, and of control commands, ping and calculate only
    /// verdicts other than success
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

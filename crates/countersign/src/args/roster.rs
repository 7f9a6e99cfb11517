//! What `clients`, `commands` and `history` take: what was seen of the fleet, and what was sent to it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_protocol::name::Name;

use super::examples;
use super::options::OutputArgs;
use super::request::Sender;
use super::settings::OperatorArgs;
use crate::duration::{Span, positive_span};

/// Show who is there: the roster
///
/// One line for each client that commands can name: its state, its groups, its version, when it was last seen and how
/// many jobs it ran then, all from the last presence that it signed and the broker keeps. `silent` marks a client that
/// was not seen for 30 s and has not reported its end.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct ClientsArgs<S: Sender> {
    #[command(subcommand)]
    pub(crate) action: Option<ClientsAction<S>>,
    #[command(flatten)]
    pub(crate) sender: S,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// List the commands of the clients that are there, or check a folder of programs
///
/// One line for each command: its kind, how many clients have it, and where its definition is another one, by the digests of
/// its schemas in the presences that the clients sign. `describe` shows what one takes.
///
/// `commands check` looks at a folder of this machine. Such a folder holds a definition of ten lines for each program, NAME.toml;
/// `countersign client --commands DIR` makes them commands.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct CommandsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<CommandsAction>,
    #[command(flatten)]
    pub(crate) list: ListArgs<OperatorArgs>,
}

/// List the commands of the clients that are there
///
/// One line for each command: its kind, how many clients have it, and where its definition is another one, by the digests of
/// its schemas in the presences that the clients sign. `describe` shows what one takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs<S: Sender> {
    /// Clients, or one @group, or @all; by default all
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) sender: S,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What can be done with a folder of commands.
#[derive(Debug, Subcommand)]
pub(crate) enum CommandsAction {
    /// Name what is wrong with the definitions of a folder, and what in it is ignored
    ///
    /// Reads every definition as `countersign client --commands DIR` does, and starts nothing. Exits with 0 if a client would
    /// start with this set and the system would start each of its programs now, else with 1.
    #[command(after_long_help = "Example:
  countersign commands check commands.d")]
    Check {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What can be done to the roster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientsAction<S: Sender> {
    /// Remove retired clients from the roster
    ///
    /// For clients that have ended or are silent, and will not come back: from now on nobody waits for them in a command to
    /// a group or to all. It uses the setup key. One that does come back is in the roster again with its first heartbeat.
    #[command(after_long_help = examples(S::PLACE, &["clients forget worker-7"]))]
    Forget {
        /// The clients
        #[arg(required = true, value_name = "NAME", value_parser = str::parse::<Name>)]
        names: Vec<Name>,
        #[command(flatten)]
        sender: S,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Show the commands that were sent from here, and their verdicts
///
/// What this operator sent from this machine, to whom, and the latest verdict of each target that was reported here, also
/// long after the clients have forgotten it. Queries are left out; of arguments and answers, the first 512 characters are
/// kept. It proves nothing: it is a file of yours.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs<S: Sender> {
    #[command(flatten)]
    pub(crate) filter: HistoryFilter,
    #[command(flatten)]
    pub(crate) sender: S,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which commands of a history.
#[derive(Debug, Args)]
pub(crate) struct HistoryFilter {
    /// Only this command, with the verdict of each target; its last digits are enough
    #[arg(value_name = "COMMAND-ID")]
    pub(crate) command_id: Option<String>,
    /// How far back, by default 24h
    #[arg(long, value_name = "DURATION", value_parser = positive_span, conflicts_with = "command_id")]
    pub(crate) since: Option<Span>,
}

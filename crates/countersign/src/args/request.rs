//! The commands for clients, and what they take.

use std::path::PathBuf;

use clap::Subcommand;

/// A command for clients, in a shell or at the prompt.
#[derive(Debug, Subcommand)]
pub(crate) enum CommandArgs {
    /// Let clients take data commands: unready → ready
    #[command(after_long_help = "A client that is ready already succeeds and says so.

Examples:
  countersign start worker-1
  countersign start worker-1 worker-2 -o json")]
    Start(Targets),

    /// Let clients take no more data commands: ready → unready
    #[command(after_long_help = "Jobs that run go on; `countersign cancel` ends one.

Example:
  countersign stop worker-1")]
    Stop(Targets),

    /// End clients: jobs are cancelled, replies sent, the process exits with 0
    #[command(after_long_help = "Example:
  countersign terminate worker-1")]
    Terminate(Targets),

    /// Ask for the current time, to see that it responds; only when ready
    #[command(after_long_help = "Examples:
  countersign ping worker-1
  countersign ping worker-1 worker-2 --timeout 500ms -o ndjson")]
    Ping(Targets),

    /// Compute for X seconds, then print MSG; only when ready
    #[command(override_usage = "countersign calculate [OPTIONS] <TARGET>... <X> <MSG>")]
    #[command(after_long_help = "Arguments:
  <TARGET>...  clients, or one @group, or @all
  <X>          seconds, a number from 0 to 86400
  <MSG>        what the client then prints on its standard output: a text of up
               to 4096 characters

Examples:
  countersign calculate worker-1 2.5 \"all done\"
  countersign calculate worker-1 worker-2 600 done --detach
  countersign calculate worker-1 1 -- -starts-with-a-dash")]
    Calculate {
        #[arg(hide = true, allow_negative_numbers = true)]
        words: Vec<String>,
    },

    /// Cancel a job
    #[command(override_usage = "countersign cancel [OPTIONS] <TARGET>... <COMMAND-ID>")]
    #[command(after_long_help = "Arguments:
  <TARGET>...   clients that may have it, or one @group, or @all
  <COMMAND-ID>  as `countersign jobs` lists it; a job that has ended is left as
                it is

Example:
  countersign cancel worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90")]
    Cancel {
        #[arg(hide = true)]
        words: Vec<String>,
    },

    /// Show a client's state, jobs, version, commands and trust
    #[command(after_long_help = "Answered in every state, however many jobs run.

Examples:
  countersign status worker-1
  countersign status worker-1 worker-2 -o json")]
    Status(Targets),

    /// List the jobs that run and those of the last hour
    #[command(after_long_help = "Example:
  countersign jobs worker-1")]
    Jobs(Targets),

    /// Show the recorded outcome of a command
    #[command(override_usage = "countersign result [OPTIONS] <TARGET>... <COMMAND-ID>")]
    #[command(after_long_help = "Arguments:
  <TARGET>...   clients that may have it, or one @group, or @all
  <COMMAND-ID>  as `countersign jobs` lists it; a job is remembered for an hour
                after its end

Example:
  countersign result worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90")]
    Result {
        #[arg(hide = true)]
        words: Vec<String>,
    },

    /// Give any registered command, with arguments as JSON
    #[command(override_usage = "countersign call [OPTIONS] <TARGET>... <NAME> [-]")]
    #[command(after_long_help = "Arguments:
  <TARGET>...  clients, or one @group, or @all
  <NAME>       one of the commands that `countersign status` lists
  -            read the command's arguments from standard input

Examples:
  countersign call worker-1 ping
  countersign call worker-1 calculate --args '{\"x\": 2.5, \"msg\": \"done\"}'
  echo '{\"x\": 2.5, \"msg\": \"done\"}' | countersign call worker-1 calculate -")]
    Call {
        #[arg(hide = true)]
        words: Vec<String>,
        /// The arguments, one JSON object
        #[arg(long, value_name = "JSON", conflicts_with = "args_file")]
        args: Option<String>,
        /// A file with the arguments
        #[arg(long, value_name = "FILE")]
        args_file: Option<PathBuf>,
    },
}

/// The same subcommand as it is typed at the prompt, where targets may be left out and standard input is the prompt's own.
pub(super) fn at_the_prompt(command: clap::Command) -> clap::Command {
    match command.get_name() {
        "call" => command.override_usage("call [OPTIONS] [TARGET]... <NAME>").after_long_help(
            "Arguments:
  <TARGET>...  clients, or one @group, or @all
  <NAME>       one of the commands that `countersign status` lists

Examples:
  countersign call worker-1 ping
  countersign call worker-1 calculate --args '{\"x\": 2.5, \"msg\": \"done\"}'",
        ),
        _ if command.get_arguments().any(|arg| arg.get_id() == "targets") => {
            command.mut_arg("targets", |arg| arg.required(false))
        }
        "calculate" => command.override_usage("calculate [OPTIONS] [TARGET]... <X> <MSG>"),
        name @ ("cancel" | "result") => {
            let usage = format!("{name} [OPTIONS] [TARGET]... <COMMAND-ID>");
            command.override_usage(usage)
        }
        _ => command,
    }
}

/// The targets of a command without arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// Clients, or one @group, or @all
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
}

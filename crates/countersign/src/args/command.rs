//! The subcommands and what they take.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Subcommand;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::{InvalidName, Name};

use crate::duration::{Span, span};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys, credentials, trust and the broker's user list
    ///
    /// Makes below --keys what is missing there: the root and issuer keys, a signing key, a connection key and a
    /// credential for every operator and client, trust.json with its pin, and nats/users.conf for the broker.
    ///
    /// A key is never overwritten. Run it again to add an operator or a client, or to renew credentials and trust past
    /// half their life; it says what it made and what it left. To start afresh, remove the folder.
    #[command(after_long_help = "Examples:
  countersign init
  countersign init --realm plant --operator alice --client press:web,db
  countersign init --client worker-2          add one to what is there

Files made are private to you (0600 in 0700). Then move root.pem off this
machine: it is needed again only to renew or change trust.json.
The broker reads a changed nats/users.conf when it gets SIGHUP.")]
    Init {
        /// An operator to make; alice if there is none yet
        #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
        operator: Vec<Name>,
        /// A client to make, with its groups; worker-1 if there is none yet
        #[arg(long, value_name = "NAME[:GROUP,…]", value_parser = str::parse::<NewClient>)]
        client: Vec<NewClient>,
    },

    /// Make the broker's streams
    ///
    /// Makes, or brings up to date, the stream cs-<realm>-presence: the last presence of every client, from which an
    /// operator learns who is there. It uses the setup key, which may do nothing else.
    #[command(after_long_help = "Example:
  countersign setup --nats-url nats://broker.example:4222")]
    Setup,

    /// Run a client: verify commands, execute them, sign replies
    ///
    /// Runs until it is told to terminate, by a signed command, SIGTERM or SIGINT: then jobs are cancelled, replies
    /// flushed, and it exits with 0. A second signal, or five seconds, ends it at once.
    ///
    /// Logs go to standard error; the messages of `calculate` to standard output.
    #[command(after_long_help = "Examples:
  countersign client --name worker-1
  countersign client --name worker-1 --state /var/lib/countersign --jobs 8")]
    Client(ClientArgs),

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

    /// Ask for the current time, as a sign of life; only when ready
    #[command(after_long_help = "Examples:
  countersign ping worker-1
  countersign ping worker-1 worker-2 --timeout 500ms -o ndjson")]
    Ping(Targets),

    /// Compute for X seconds, then print MSG; only when ready
    #[command(override_usage = "countersign calculate [OPTIONS] <TARGET>... <X> <MSG>")]
    #[command(after_long_help = "Arguments:
  <TARGET>...  the clients that it is for
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
  <TARGET>...   the clients that may have it
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
  <TARGET>...   the clients that may have it
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
  <TARGET>...  the clients that it is for
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

    /// Print a JSON Schema, or the names of all
    #[command(after_long_help = "Examples:
  countersign schema
  countersign schema calculate.args")]
    Schema {
        /// Which one; without it, the names of all
        name: Option<String>,
    },

    /// Write or check the committed JSON Schemas
    #[command(after_long_help = "Examples:
  countersign schemas --write schemas
  countersign schemas --check schemas")]
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Schemas {
        /// Write every schema to DIR/<name>.json
        #[arg(long, value_name = "DIR", group = "what")]
        write: Option<PathBuf>,
        /// Name the files of DIR that are missing, differ or do not belong; write nothing
        #[arg(long, value_name = "DIR", group = "what")]
        check: Option<PathBuf>,
    },
}

/// The targets of a command without arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// The clients that it is for
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
}

/// What `client` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// Which client this is; its key and credential are in the folder of keys
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) name: Name,
    /// Where what it must remember lies, one folder a client; by default $XDG_STATE_HOME/countersign
    #[arg(long, env = "COUNTERSIGN_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// How many jobs may run at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) jobs: u16,
    /// How far the operators' clocks and this one may differ
    #[arg(long, value_name = "DURATION", default_value_t = Span::from_millis(SKEW), value_parser = span)]
    pub(crate) skew: Span,
    /// Forget how late it has ever been, after the clock was wrongly far ahead; begins a new epoch
    #[arg(long)]
    pub(crate) reset_clock: bool,
}

/// A client that `init` is asked for: `worker-1`, or `worker-1:web,db` with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewClient {
    /// Its name.
    pub(crate) name: Name,
    /// Its groups, each once and in order; `None` leaves those that it has.
    pub(crate) groups: Option<Vec<Name>>,
}

impl FromStr for NewClient {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (name, groups) = match text.split_once(':') {
            None => (text, None),
            Some((name, "")) => (name, Some(Vec::new())),
            Some((name, groups)) => {
                let mut groups = groups.split(',').map(str::parse).collect::<Result<Vec<Name>, _>>()?;
                groups.sort();
                groups.dedup();
                (name, Some(groups))
            }
        };
        Ok(Self { name: name.parse()?, groups })
    }
}

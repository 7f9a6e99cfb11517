//! The subcommands, in a shell and at the prompt, and what they take.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_protocol::name::Name;
use countersign_provisioning::NewClient;

use super::context::ContextAction;
use super::credential::CredentialAction;
use super::doctor::DoctorArgs;
use super::enroll::EnrollArgs;
use super::options::OutputArgs;
use super::process::{ClientArgs, IssuerArgs, ServerArgs, WatchArgs};
use super::request::CommandArgs;
use super::roster::{ClientsArgs, CommandsArgs, HistoryArgs, ListArgs};
use super::settings::{KeysArgs, OperatorArgs, RealmArgs};
use super::trust::{RevokeArgs, TrustAction};
use super::{NoOptions, examples};
use crate::completions::Shell;
use crate::text::Place;

const CLIENTS: [&str; 3] = ["clients", "clients -o json", "clients forget worker-7"];
const HISTORY: [&str; 3] = ["history", "history --since 7d", "history 8a2b90"];
const COMMANDS: [&str; 3] = ["commands", "commands @web", "commands check commands.d"];
const SCHEMA: [&str; 2] = ["schema", "schema calculate.args"];

/// The subcommands in a shell.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys, credentials, trust and the broker's accounts
    ///
    /// Makes below --keys what is missing there: the root and issuer keys, trust.json with its pin, the keys of the broker's
    /// accounts and nats/accounts.conf for the broker; and for every operator and client a signing key, a credential, and
    /// what it logs in to the broker with.
    ///
    /// A key is never overwritten. Run it again to add an operator or a client, or to renew credentials and trust past
    /// half their life; it lists what it made and what it left. To start over, remove what it made: every client then needs the new
    /// pin and files.
    #[command(after_long_help = "Examples:
  countersign init
  countersign init --realm plant --operator alice --client press:web,db
  countersign init --client worker-2          add one to what is there

Private keys have mode 0600, and all folders 0700. Then move root.pem off this
machine: it is needed again only to renew or change trust.json.
A new operator or client needs nothing new at the broker.")]
    Init(InitArgs),

    /// Issue, renew, show and list credentials
    ///
    /// A credential says who holds a key: a client and its groups, or an operator and its grant (which commands, to which
    /// clients). The issuer signs it; clients check it with each command.
    #[command(after_long_help = "Examples:
  countersign credential issue client worker-7 --group web
  countersign credential issue operator bob --command ping --target @web
  countersign credential renew operator bob --command ping --command status
  countersign credential list")]
    #[command(subcommand, disable_help_subcommand = true)]
    Credential(CredentialAction),

    #[command(mut_arg("nats_url", |arg| arg.help("The broker; by default that of the token")),
        mut_arg("keys", |arg| arg.help("The folder of keys that is made; by default keys")),
        mut_arg("realm", |arg| arg.help("The realm that the token must be of")))]
    Enroll(Box<EnrollArgs>),

    /// Name settings, so that commands work from any folder
    ///
    /// A context names a folder of keys, its realm and operator, and a broker. An option comes before the environment, that
    /// before a context, and that before the default. A realm and an operator of a context hold for its own keys only.
    ///
    /// Contexts are in ~/.config/countersign (XDG_CONFIG_HOME is respected), one file of JSON each.
    #[command(after_long_help = "Examples:
  countersign context set plant --keys keys --nats-url nats://broker:4222
  countersign context use plant
  countersign --context plant clients")]
    #[command(subcommand, disable_help_subcommand = true)]
    Context(ContextAction),

    /// Revoke the keys of clients or operators, everywhere and at once
    ///
    /// Makes the next version of the trust bundle, signed by the root, publishes it, and reports it once the broker stores it.
    /// Every running client, operator and `watch` applies it as it arrives, and remembers it across restarts; who is away
    /// fetches it when it is back. What a revoked key signs is dropped from then on, whatever credential comes with it. The
    /// broker then closes the connections of those members, and refuses what they log in with.
    ///
    /// It needs root.pem, and for the broker authority.nk and nats/accounts.creds. Without a broker the new version is in the
    /// folder of keys only, which is said, and `trust publish` does the rest.
    #[command(after_long_help = "Examples:
  countersign revoke worker-7
  countersign revoke bob --role operator
  countersign revoke --jti 5b1c7c9e-0d1f-4a53-8a4e-2f6a1f0b7c11
  countersign trust show")]
    Revoke(RevokeArgs),

    /// Show, publish and renew the keys that everything rests on
    ///
    /// The trust bundle (trust.json) lists the roots, the issuers and what is revoked. Each version is signed by the roots of
    /// the one before it and by its own.
    #[command(after_long_help = "Examples:
  countersign trust show
  countersign trust publish
  countersign trust rotate issuer")]
    #[command(subcommand, disable_help_subcommand = true)]
    Trust(TrustAction),

    /// Make the broker's streams of presences and of trust bundles
    ///
    /// Makes, or brings up to date, the streams cs-<realm>-presence, the last presence of every client, from which an
    /// operator learns who is there; and cs-<realm>-trust, the versions of the trust bundle, from which everybody fetches
    /// what they missed. It uses the setup key, which may do this and remove clients from the first (`clients forget`), and
    /// nothing else.
    #[command(after_long_help = "Example:
  countersign setup --nats-url nats://broker.example:4222")]
    Setup(SetupArgs),

    /// Run the issuer: renew members and enrol workers that ask over the bus
    ///
    /// Clients and prompts ask for their next credential past half of its life, signed with their own key. The issuer checks each
    /// request, signs a credential with the same groups or grant, keeps a copy in the folder of keys, and answers: 10 members a
    /// second at most. Whoever is revoked gets none. A credential that `credential renew` has made here is given to its member in the
    /// same way.
    ///
    /// Workers with a token of `enroll token` are enrolled as they ask, and those that a person has approved.
    ///
    /// It needs issuer.pem, authority.nk and nats/issuer.creds, and runs once for a folder of keys. It waits for a broker that is
    /// not there, and ends by SIGTERM or SIGINT with 0. Where root.pem is here too, it renews the trust bundle past half of its
    /// life and publishes it. Logs go to standard error.
    #[command(after_long_help = "Examples:
  countersign issuer
  countersign issuer --valid 7d --health /run/countersign/issuer")]
    Issuer(IssuerArgs),

    /// Say what is wrong with keys, broker and clients, and what to do
    ///
    /// Looks at the files of the folder of keys (modes, owners, paths, pairs that fit, what lies together), at what they state
    /// (credentials, the trust bundle and the versions before it, logins), at the broker (TLS, account, streams, clock, and what
    /// each login of the folder may do there, tried for real), at the clients (each asked, its clock, its trust), and on a
    /// worker at the folder of its state and of its programs. It works with the folder of an issuer, of an operator, and of a
    /// worker, and leaves out what that has no keys for.
    ///
    /// Nothing is changed. Rights are tried by empty messages that nobody takes for anything; `watch` shows them.
    #[command(after_long_help = "Examples:
  countersign doctor
  countersign doctor --state /var/lib/countersign -o json

Exit status:
  0    everything is fine
  1    warnings: it works, and somebody should see to it
  2    something is broken")]
    Doctor(DoctorArgs),

    /// Run a client: verify commands, execute them, sign replies
    ///
    /// Runs until it gets a signed `terminate`, SIGTERM or SIGINT: then it cancels its jobs, sends the replies and exits
    /// with 0. A second signal, or five seconds, ends it at once.
    ///
    /// Logs go to standard error: each command as it starts and ends, by whom, its id and verdict, but not its arguments.
    /// What jobs print goes to standard output.
    #[command(after_long_help = "Examples:
  countersign client --name worker-1
  countersign client --name worker-1 --state /var/lib/countersign --jobs 8
  countersign client --claim --health /run/countersign/health")]
    #[command(group = clap::ArgGroup::new("who").required(true))]
    Client(ClientArgs),

    #[command(after_long_help = examples(Place::Shell, &COMMANDS))]
    Commands(CommandsArgs),

    /// Report whether a client of this machine runs and is connected
    ///
    /// Reads the file that `countersign client --health FILE`, or `issuer`, writes: at every heartbeat (10 s) while it is healthy, that
    /// is, connected, with all subscriptions active, its presence publishable and its credential in force. Exits with 0 if the file is younger than 30 s, else with 1; meant for the health check of a container.
    #[command(after_long_help = "Example:
  countersign health --health /run/countersign/health")]
    Health {
        /// The file that the client was given
        #[arg(long = "health", env = "COUNTERSIGN_HEALTH", value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// A command for clients.
    #[command(flatten)]
    Request(CommandArgs<OperatorArgs>),

    #[command(after_long_help = examples(Place::Shell, &CLIENTS))]
    Clients(Box<ClientsArgs<OperatorArgs>>),

    // It is read without a broker.
    #[command(after_long_help = examples(Place::Shell, &HISTORY), mut_arg("nats_url", |arg| arg.hide(true)),
        mut_arg("tls-ca", |arg| arg.hide(true)), mut_arg("tls-cert", |arg| arg.hide(true)),
        mut_arg("tls-key", |arg| arg.hide(true)))]
    History(HistoryArgs<OperatorArgs>),

    /// Send commands from a prompt, or from a script on standard input
    ///
    /// Each line is a command as after `countersign`: `start worker-1`, `calculate @all 2.5 "done"`. `use worker-1` makes
    /// the target optional; where there is exactly one client, it is the target. `help` shows the rest.
    ///
    /// Replies and the clients' events appear above what is being typed. What takes long goes on in the background, and
    /// Ctrl-C offers to cancel it.
    ///
    /// If standard input or output is not a terminal, standard input is read as a script: line by line, each to its
    /// verdicts. A line that fails is reported by its number, the other lines still run, and the script ends with the
    /// worst exit status.
    #[command(after_long_help = "Examples:
  countersign server
  countersign server --as alice --timeout 10s
  printf 'start @all\\nping @all\\n' | countersign server -o ndjson

In a script, `#` begins a comment. From best to worst, exit statuses are
0, 6 (still runs), 3 (no reply), 1 (failed), 2 (wrong usage), 4 (broker), 5 (keys), 130, 143.")]
    Server(ServerArgs),

    /// Show live traffic, each message with the result of its verification
    ///
    /// Connects with the observer's key, which may subscribe and do nothing else, and verifies every message of the realm
    /// as its receivers do: signature, credential, envelope, subject. `again` marks what was seen before: a command sent
    /// twice, or the recorded reply to it. A gap shows how many messages of a client are missing:
    /// clients number what they sign, so that a removal shows with the next message. A missing one that comes after all is
    /// marked `late`. Counting begins with the first event that is seen of a client's process.
    ///
    /// Ctrl-C ends it with 130, SIGTERM with 143; --count, or a reader of its output that has gone, with 0.
    #[command(after_long_help = "Examples:
  countersign watch
  countersign watch --client worker-1 --kind command --kind reply
  countersign watch --bad -o ndjson
  countersign watch --kind presence --count 1

Filters of one kind are alternatives; filters of several kinds must all fit.
With -o ndjson each line is one object; its member `verdict` is `ok`, the
reason why a message is rejected, or `gap`; `-o json` would never end and is refused.")]
    Watch(WatchArgs),

    #[command(after_long_help = examples(Place::Shell, &SCHEMA))]
    Schema(SchemaArgs),

    /// Print a script that completes commands, names and files in a shell
    ///
    /// Names of clients, groups, commands and arguments are those that this user's operator saw last, in `clients`, `commands`,
    /// `describe`, at the prompt, or by a command to a group or to all; they are kept in a file below $XDG_STATE_HOME/countersign.
    /// Nothing is sent at a Tab.
    #[command(after_long_help = "Examples:
  echo 'source <(countersign completions bash)' >> ~/.bashrc
  echo 'source <(countersign completions zsh)' >> ~/.zshrc
  echo 'countersign completions fish | source' >> ~/.config/fish/config.fish

The script has `countersign` started at each Tab, the one on PATH; each
version needs its own script, so that a line as above is better than a file.")]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },

    /// Write manual pages, one for each subcommand
    #[command(after_long_help = "Examples:
  countersign man ~/.local/share/man/man1
  man countersign-call")]
    Man {
        /// The folder, which is made if it is missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
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

/// All that can be typed at the prompt.
#[derive(Debug, Subcommand)]
pub(crate) enum PromptCommand {
    /// A command for clients.
    #[command(flatten)]
    Request(CommandArgs<NoOptions>),

    #[command(after_long_help = examples(Place::Prompt, &CLIENTS))]
    Clients(ClientsArgs<NoOptions>),

    #[command(after_long_help = examples(Place::Prompt, &HISTORY))]
    History(HistoryArgs<NoOptions>),

    #[command(after_long_help = examples(Place::Prompt, &COMMANDS[..2]))]
    Commands(ListArgs<NoOptions>),

    #[command(after_long_help = examples(Place::Prompt, &SCHEMA))]
    Schema(SchemaArgs),

    /// Set the target of commands that name none; without TARGET, set none
    Use {
        /// Clients, or one @group, or @all
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },

    /// Show what can be typed here, or more on one command and its options
    #[command(visible_alias = "?")]
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },

    /// Leave the prompt; commands that run go on
    #[command(visible_alias = "exit")]
    Quit,
}

/// What `init` takes.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// An operator to make; alice if there is none yet
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) operator: Vec<Name>,
    /// A client to make, with its groups; worker-1 if there is none yet
    #[arg(long, value_name = "NAME[:GROUP,…]", value_parser = str::parse::<NewClient>)]
    pub(crate) client: Vec<NewClient>,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Print a JSON Schema, or the names of all
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Which one; without it, the names of all
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `setup` takes.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

//! What `enroll` takes.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::Name;
use countersign_provisioning::{LIVES, group};

use super::options::OutputArgs;
use super::settings::{BrokerArgs, KeysArgs, RealmArgs};
use crate::duration::{Span, positive_span, span_within};

/// Enrol a worker that makes its own keys
///
/// On the issuer's machine `enroll token NAME` prints one line. On the worker that line makes both keys, asks the issuer over
/// the bus, verifies the answer from the root that the token names, and writes the folder of keys with which
/// `countersign client` runs. The private keys never leave the worker. Run again after an interruption, it completes what was
/// begun.
///
/// The token is a secret. It is read from standard input or a file; as an argument, every user of the machine can see it.
///
/// Where the issuer is not on the bus: `enroll request` on the worker, `enroll sign` where issuer.pem is, and `enroll accept` on
/// the worker.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_long_help = "Examples:
  countersign enroll token worker-7 --group web    on the issuer's machine; it
                                                   prints a line for the worker
  countersign enroll --file token                  on the worker
  countersign enroll list                          who waits for a decision")]
pub(crate) struct EnrollArgs {
    #[command(subcommand)]
    pub(crate) action: Option<EnrollAction>,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
}

/// What a worker takes that enrols itself.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) source: TokenSource,
    /// The name of the client; by default that of the token
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) name: Option<Name>,
    /// A group that it is to be in; by default those of the token, and another one is refused; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Vec<Name>,
    /// How long to wait for the issuer, by default 30s
    #[arg(long, value_name = "DURATION", value_parser = positive_span)]
    pub(crate) timeout: Option<Span>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where the token is.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct TokenSource {
    /// The token, which every user of this machine can see then; by default, and for -, it is read from standard input
    #[arg(value_name = "TOKEN", allow_hyphen_values = false)]
    pub(crate) token: Option<String>,
    /// A file with the token, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What else can be done about enrolments.
#[derive(Debug, Subcommand)]
pub(crate) enum EnrollAction {
    /// Make a token for a worker, and print the line that enrols it
    ///
    /// The token names the realm, its root, the broker and its authority, and binds name and groups. It can be used once, until
    /// it expires, and a later one for the same name takes its place. It needs issuer.pem and authority.nk, and changes nothing
    /// at the broker. `countersign issuer` answers who uses it.
    ///
    /// A name that has a living credential is refused. With --replace its keys are revoked first, as by `countersign revoke`,
    /// at once and everywhere: that needs root.pem.
    ///
    /// With --ask it is for nobody in particular: whoever has it may ask, any number of times, and `enroll approve` decides.
    #[command(after_long_help = "Examples:
  countersign enroll token worker-7 --group web --valid 1h
  countersign enroll token worker-7 --replace
  countersign enroll token --ask --valid 7d")]
    Token(Box<NewTokenArgs>),

    /// Make the keys of a worker, and print the request for its credential
    ///
    /// For an issuer that is not on the bus. The keys stay here. Carry the request to where issuer.pem is, and compare the
    /// thumbprint there.
    #[command(after_long_help = "Example:
  countersign enroll request worker-7 --group web > request.json")]
    Request {
        /// The name of the client
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        /// A group that it is to be in, by default none; may be repeated
        #[arg(long, value_name = "GROUP", value_parser = group)]
        group: Vec<Name>,
        #[command(flatten)]
        keys: KeysArgs,
    },

    /// Sign the credential that a request asks for, and print the answer
    ///
    /// It enrols whoever made the request, under the name and in the groups that it names. Whoever carries it could have put
    /// another in its place: give the thumbprint that the worker printed by --kid.
    #[command(after_long_help = "Example:
  countersign enroll sign request.json --kid THUMBPRINT > answer.json")]
    Sign {
        /// The file with the request, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The key that must have signed it, by its thumbprint
        #[arg(long, value_name = "THUMBPRINT", value_parser = str::parse::<Thumbprint>, allow_hyphen_values = true)]
        kid: Option<Thumbprint>,
        /// How long the credential holds, from 1m to 3650d; by default 90d
        #[arg(long, value_name = "DURATION", value_parser = life)]
        life: Option<Span>,
        #[command(flatten)]
        keys: KeysArgs,
    },

    /// Verify the answer to a request, and write the folder of keys
    #[command(after_long_help = "Example:
  countersign enroll accept answer.json --pin THUMBPRINT")]
    Accept {
        /// The file with the answer, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The thumbprint of the root (root.thumbprint on the issuer's machine), carried by another way than the answer; by
        /// default that of this folder
        #[arg(long, value_name = "THUMBPRINT", value_parser = str::parse::<Thumbprint>, allow_hyphen_values = true)]
        pin: Option<Thumbprint>,
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// List the requests that came by a token for anybody
    #[command(after_long_help = "Examples:
  countersign enroll list
  countersign enroll list -o json")]
    List {
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Let a worker in that asks, by its name and the thumbprint of its key
    ///
    /// The worker prints the thumbprint too: compare the two. It is enrolled when it asks next, by `countersign issuer`.
    #[command(after_long_help = "Example:
  countersign enroll approve worker-7 THUMBPRINT")]
    Approve {
        /// The name that it asks for
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        /// The thumbprint of its key
        #[arg(value_name = "THUMBPRINT", value_parser = str::parse::<Thumbprint>, allow_hyphen_values = true)]
        kid: Thumbprint,
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Deny the requests for a name that wait
    #[command(after_long_help = "Example:
  countersign enroll deny worker-7")]
    Deny {
        /// The name that they ask for
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What a new token takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub(crate) struct NewTokenArgs {
    /// The name of the client
    #[arg(value_name = "NAME", value_parser = str::parse::<Name>, group = "whose")]
    pub(crate) name: Option<Name>,
    /// For whoever has it, to ask; `enroll approve` decides
    #[arg(long, group = "whose", conflicts_with_all = ["group", "replace", "life"])]
    pub(crate) ask: bool,
    /// A group that it will be in, by default none; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Vec<Name>,
    /// How long the token can be used, from 1m to 365d; by default 1h
    #[arg(long, value_name = "DURATION", value_parser = validity)]
    pub(crate) valid: Option<Span>,
    /// How long the credential will hold, from 1m to 3650d; by default 90d
    #[arg(long, value_name = "DURATION", value_parser = life)]
    pub(crate) life: Option<Span>,
    /// Revoke the keys that the client of this name has
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn life(text: &str) -> Result<Span, String> {
    span_within(text, LIVES)
}

fn validity(text: &str) -> Result<Span, String> {
    span_within(text, 60_000..=365 * 86_400_000)
}

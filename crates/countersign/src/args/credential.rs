//! What `credential` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_protocol::command::{Target, True};
use countersign_protocol::limits::MAX_TTL;
use countersign_protocol::name::{EVERYONE, InvalidName, Name};
use countersign_provisioning::{LIVES, group};

use super::options::OutputArgs;
use super::settings::KeysArgs;
use crate::duration::{Span, span_within};

/// What can be done with credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialAction {
    /// Make a client or an operator: keys, credential, user of the broker
    ///
    /// Makes in the folder of keys what `countersign init` makes for a member, and changes no other member. It needs
    /// issuer.pem. A member that is there already is refused; `credential renew` gives it a new credential.
    #[command(subcommand, disable_help_subcommand = true)]
    Issue(IssueMember),

    /// Give members new credentials, also with other groups or another grant
    ///
    /// What no option names stays as it is: groups, grant, and for how long it holds. It needs issuer.pem. The keys stay,
    /// and may be elsewhere. A running process takes the new credential past half of the life of its own, or after a restart; the one before holds until
    /// it ends.
    #[command(subcommand, disable_help_subcommand = true)]
    Renew(RenewMember),

    /// Verify a credential file and show what it says
    ///
    /// Verifies it against the trust bundle of the folder of keys. Exits with 5 if it does not hold now: it has expired,
    /// does not hold yet, is revoked, is of another realm, or does not verify.
    #[command(after_long_help = "Example:
  countersign credential show keys/operators/alice.jwt")]
    Show {
        /// The file, which ends in .jwt
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// List the members of the folder, with groups or grant, and until when
    #[command(after_long_help = "Examples:
  countersign credential list
  countersign credential list -o json

In the last column, `ends soon` marks the last third of a credential's life, and
`key elsewhere` a member whose keys were moved to another machine.")]
    List {
        #[command(flatten)]
        keys: KeysArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Who is made.
#[derive(Debug, Subcommand)]
pub(crate) enum IssueMember {
    /// Make a client
    #[command(after_long_help = "Example:
  countersign credential issue client worker-7 --group web --group db")]
    Client {
        /// Its name
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        /// A group that it is in, by default none; may be repeated
        #[arg(long, value_name = "GROUP", value_parser = group)]
        group: Vec<Name>,
        #[command(flatten)]
        issuing: IssuingArgs,
    },

    /// Make an operator
    ///
    /// What no option names is not limited: any command, to @all, valid for at most 60s. Grant what the operator needs.
    #[command(after_long_help = "Examples:
  countersign credential issue operator bob
  countersign credential issue operator carol --command ping --command status \\
      --target @web --ttl 10s --valid 7d")]
    Operator {
        /// Their name
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        issuing: IssuingArgs,
    },
}

/// Whose credentials are renewed.
#[derive(Debug, Subcommand)]
pub(crate) enum RenewMember {
    /// Give clients new credentials
    #[command(after_long_help = "Examples:
  countersign credential renew client worker-7
  countersign credential renew client worker-7 --group db
  countersign credential renew client --all")]
    Client {
        #[command(flatten)]
        who: WhoArgs,
        /// A group that they are in from now on, in place of all that they were in; may be repeated
        #[arg(long, value_name = "GROUP", value_parser = group)]
        group: Vec<Name>,
        /// Take them out of all groups
        #[arg(long, conflicts_with = "group")]
        no_groups: bool,
        #[command(flatten)]
        issuing: IssuingArgs,
    },

    /// Give operators new credentials
    ///
    /// What no option names stays as it is. A narrower grant binds at once only who uses the new credential: whoever has
    /// the one before and its key can use it until it ends.
    #[command(after_long_help = "Examples:
  countersign credential renew operator alice
  countersign credential renew operator carol --target @web --target worker-1
  countersign credential renew operator alice --command '*' --target @all")]
    Operator {
        #[command(flatten)]
        who: WhoArgs,
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        issuing: IssuingArgs,
    },
}

/// Members of one role.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhoArgs {
    /// Their names
    #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) names: Vec<Name>,
    /// All of them in the folder; those that are revoked are left as they are
    #[arg(long)]
    pub(crate) all: bool,
}

/// What an operator may do.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// A command that they may send, or * for any; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = allowed_command)]
    pub(crate) command: Vec<AllowedCommand>,
    /// Whom they may send it to: a client, @group, or @all; may be repeated
    #[arg(long, value_name = "TARGET", value_parser = allowed_target)]
    pub(crate) target: Vec<Target>,
    /// The longest that a command of theirs may stay valid, at most 60s
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    pub(crate) ttl: Option<Span>,
}

/// For how long, from which folder, and how that is printed.
#[derive(Debug, Args)]
pub(crate) struct IssuingArgs {
    /// How long the credential holds, from 1m to 3650d; by default 30d for an operator and 90d for a client, or when
    /// renewed, as long as the one before
    #[arg(long, value_name = "DURATION", value_parser = life)]
    pub(crate) valid: Option<Span>,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A word after `--command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllowedCommand {
    /// `*`.
    Any,
    /// One command.
    One(Name),
}

fn allowed_command(text: &str) -> Result<AllowedCommand, String> {
    if text == "*" {
        return Ok(AllowedCommand::Any);
    }
    name(text).map(AllowedCommand::One)
}

fn allowed_target(text: &str) -> Result<Target, String> {
    match text.strip_prefix('@') {
        Some(EVERYONE) => Ok(Target::All(True)),
        Some(name) => group(name).map(Target::Group),
        None => name(text).map(Target::Client),
    }
}

fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}

fn ttl(text: &str) -> Result<Span, String> {
    span_within(text, 1..=MAX_TTL)
}

pub(super) fn life(text: &str) -> Result<Span, String> {
    span_within(text, LIVES)
}

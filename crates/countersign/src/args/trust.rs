//! What `revoke` and `trust` take.

use clap::{Args, Subcommand};
use countersign_protocol::credential::Role;
use countersign_protocol::id::Uuid;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::Name;

use super::options::OutputArgs;
use super::settings::{OperatorArgs, RealmArgs};

/// What `revoke` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("revoked").required(true).multiple(true))]
pub(crate) struct RevokeArgs {
    /// The clients or operators whose keys are revoked
    #[arg(value_name = "NAME", value_parser = str::parse::<Name>, group = "revoked")]
    pub(crate) names: Vec<Name>,
    /// Which of the two, where the folder of keys has a client and an operator of that name
    #[arg(long, value_name = "ROLE", value_parser = role, requires = "names")]
    pub(crate) role: Option<Role>,
    /// A key by its thumbprint, also an issuer's: every credential of that key ends
    #[arg(long, value_name = "THUMBPRINT", value_parser = str::parse::<Thumbprint>, group = "revoked", allow_hyphen_values = true)]
    pub(crate) kid: Vec<Thumbprint>,
    /// One credential by its id; another credential of the same key stays as it is
    #[arg(long, value_name = "UUID", value_parser = str::parse::<Uuid>, group = "revoked")]
    pub(crate) jti: Vec<Uuid>,
    #[command(flatten)]
    pub(crate) realm: RealmArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What can be done with the trust bundle.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustAction {
    /// Show the trust bundle in force, and which clients hold which version
    ///
    /// Version, end, roots, issuers and what is revoked, from the folder of keys. Where a broker answers and the folder has
    /// an operator, also the version that each client reports by its presence.
    #[command(after_long_help = "Examples:
  countersign trust show
  countersign trust show -o json")]
    Show {
        #[command(flatten)]
        sender: OperatorArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Publish the versions of the trust bundle that the broker does not have
    ///
    /// Uses the key that publishes trust bundles, which may do nothing else, and reports a version only once the broker stores
    /// it. Running clients, operators and `watch` apply a version as it is published; who is away fetches it later. A
    /// version that was published from another folder is taken into this one first. Has the broker refuse the logins of
    /// revoked members where it does not yet.
    #[command(after_long_help = "Example:
  countersign trust publish")]
    Publish {
        #[command(flatten)]
        realm: RealmArgs,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Replace the issuer's or the root's key by a new one
    #[command(subcommand, disable_help_subcommand = true)]
    Rotate(Rotation),
}

/// Which key is replaced.
#[derive(Debug, Subcommand)]
pub(crate) enum Rotation {
    /// Replace the issuer's key, and issue every credential of the folder again
    ///
    /// The next version of the trust bundle lists the new key beside the old one, so that what the old one has issued holds
    /// until its end. It needs root.pem. Carry the new credentials to their members, who use them after a restart; or have `countersign issuer` run, and they ask for them past half of their credentials' lives.
    #[command(after_long_help = "Examples:
  countersign trust rotate issuer
  countersign trust rotate issuer --revoke-old     the old key was stolen")]
    Issuer {
        /// Revoke every issuer's key but the new one, by a second version: no credential that they issued holds any more
        #[arg(long)]
        revoke_old: bool,
        #[command(flatten)]
        realm: RealmArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Replace the root's key
    ///
    /// The next version of the trust bundle is signed by the old root and the new one, so that members follow without a new
    /// pin. It needs the old root.pem, which the new one replaces.
    #[command(after_long_help = "Examples:
  countersign trust rotate root
  countersign trust rotate root --lost             the old key is gone")]
    Root {
        /// The old key is gone: every member needs the new pin and trust.json from a person
        #[arg(long)]
        lost: bool,
        #[command(flatten)]
        realm: RealmArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

fn role(word: &str) -> Result<Role, String> {
    match word {
        "client" => Ok(Role::Client),
        "operator" => Ok(Role::Operator),
        _ => Err("`client` or `operator` was expected".to_owned()),
    }
}

//! What `context` takes.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use countersign_protocol::name::Name;

use super::options::OutputArgs;

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextAction {
    /// List the contexts; the one in use is marked
    List {
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Show what a context says, by default the one in use
    Show {
        /// The context
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Option<Name>,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Make a context, or change what options name in one
    ///
    /// The folder of keys must be usable, and the operator must be in it. What was set before and no option names stays; a NATS
    /// context takes the place of the URL and the files of TLS.
    #[command(after_long_help = "Examples:
  countersign context set plant --keys keys --nats-url nats://broker:4222
  countersign context set plant --tls-ca ca.pem
  countersign context set plant --as alice")]
    Set(ContextSetArgs),

    /// Choose the context that holds where none is named; without NAME, none
    Use {
        /// The context
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Option<Name>,
        #[command(flatten)]
        output: OutputArgs,
    },

    /// Remove a context; the keys that it names stay
    Remove {
        /// The context
        #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
        name: Name,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What `context set` takes. The environment says nothing here: what is written is what is typed.
#[derive(Debug, Args)]
pub(crate) struct ContextSetArgs {
    /// The context
    #[arg(value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) name: Name,
    /// The folder of keys
    #[arg(long, id = "set_keys", value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The realm that the folder must be of
    #[arg(long, id = "set_realm", value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) realm: Option<Name>,
    /// The operator whose key signs
    #[arg(long = "as", id = "set_operator", value_name = "OPERATOR", value_parser = str::parse::<Name>)]
    pub(crate) operator: Option<Name>,
    /// The broker
    #[arg(long, id = "set_nats_url", value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) nats_url: Option<String>,
    /// The certificates of the authorities that the broker's must be from, in PEM; requires TLS
    #[arg(long, id = "set_tls_ca", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// A certificate of your own, in PEM, for a broker that asks for one
    #[arg(long, id = "set_tls_cert", value_name = "FILE", requires = "set_tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, in PEM
    #[arg(long, id = "set_tls_key", value_name = "FILE", requires = "set_tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The context of the `nats` tool whose URL and files of TLS are the broker's
    #[arg(long, value_name = "NAME", conflicts_with = "set_nats_url", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) nats_context: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

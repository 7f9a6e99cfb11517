//! The settings that an option, the environment or a context gives: which keys, which realm, which broker, which operator.
//! Each knows where its value comes from, so that errors can say it.

use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, ValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Error, FromArgMatches};
use countersign_link::{BrokerAddress, TlsFiles};
use countersign_protocol::name::Name;
use countersign_protocol::text::escape;

use crate::context::{Context, Settings};

/// The broker where nothing names another.
pub(crate) const DEFAULT_URL: &str = "nats://127.0.0.1:4222";
/// The folder of keys where nothing names another.
pub(crate) const DEFAULT_KEYS: &str = "keys";

/// The ids of the options whose values a context may give.
const URL: &str = "nats_url";
const TLS_CA: &str = "tls-ca";
const TLS_CERT: &str = "tls-cert";
const TLS_KEY: &str = "tls-key";
const CA_HELP: &str = "Require TLS, with a certificate of the broker from one of these authorities, in PEM; by default those \
                       that the system trusts, where the URL or the broker requires TLS";
const CERT_HELP: &str = "A certificate of your own, in PEM, for a broker that asks for one";
const KEYS: &str = "keys";
const REALM: &str = "realm";
const OPERATOR: &str = "operator_name";
/// The id of the option that names a context.
const CONTEXT: &str = "context";

/// A value, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Setting<T> {
    value: T,
    source: Source,
}

/// Where a value comes from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// An option of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
    /// A context.
    Context(Name),
    /// Nothing names a value.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "the context {name}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

impl<T> Setting<T> {
    /// Where the value comes from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The context that the value comes from.
    fn context(&self) -> Option<&Name> {
        match &self.source {
            Source::Context(name) => Some(name),
            _ => None,
        }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Which broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerArgs {
    /// One URL, or several with commas between.
    pub(crate) nats_url: Setting<String>,
    /// The certificates of its authorities.
    ca: Option<Setting<PathBuf>>,
    /// The user's own certificate, and its key.
    own: Option<(Setting<PathBuf>, Setting<PathBuf>)>,
}

impl BrokerArgs {
    /// Where it is, and what proves that it is it.
    pub(crate) fn address(&self) -> BrokerAddress {
        let own = self.own.as_ref().map(|(certificate, key)| (certificate.value.clone(), key.value.clone()));
        let tls = TlsFiles { ca: self.ca.as_ref().map(|ca| ca.value.clone()), own };
        BrokerAddress { url: self.nats_url.to_string(), tls }
    }

    /// Where a file of TLS is named; `file` is its path, escaped.
    pub(crate) fn source_of(&self, file: &str) -> Option<&Source> {
        let own = self.own.iter().flat_map(|(certificate, key)| [certificate, key]);
        let named = self.ca.iter().chain(own).find(|setting| escape(&setting.to_string_lossy()) == file);
        named.map(Setting::source)
    }
}

/// Which realm.
#[derive(Debug, Clone)]
pub(crate) struct KeysArgs {
    /// The folder.
    pub(crate) keys: Setting<PathBuf>,
    /// The realm; `None` for that of the folder.
    pub(crate) realm: Option<Setting<Name>>,
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
#[derive(Debug, Clone)]
pub(crate) struct OperatorArgs {
    pub(crate) realm: RealmArgs,
    /// Whose key signs; `None` for the only operator in the folder of keys.
    pub(crate) operator: Option<Setting<Name>>,
}

impl OperatorArgs {
    /// The context that any of the values comes from.
    pub(crate) fn context(&self) -> Option<&Name> {
        let RealmArgs { broker, keys } = &self.realm;
        let operator = self.operator.as_ref().and_then(Setting::context);
        keys.keys.context().or(broker.nats_url.context()).or(operator)
    }
}

/// The words that clap reads a value from, and what it is called in errors.
struct Names {
    id: &'static str,
    flag: &'static str,
    variable: &'static str,
}

const URL_NAMES: Names = Names { id: URL, flag: "--nats-url", variable: "NATS_URL" };
const CA_NAMES: Names = Names { id: TLS_CA, flag: "--tls-ca", variable: "COUNTERSIGN_TLS_CA" };
const CERT_NAMES: Names = Names { id: TLS_CERT, flag: "--tls-cert", variable: "COUNTERSIGN_TLS_CERT" };
const TLS_KEY_NAMES: Names = Names { id: TLS_KEY, flag: "--tls-key", variable: "COUNTERSIGN_TLS_KEY" };
const KEYS_NAMES: Names = Names { id: KEYS, flag: "--keys", variable: "COUNTERSIGN_KEYS" };
const REALM_NAMES: Names = Names { id: REALM, flag: "--realm", variable: "" };
const OPERATOR_NAMES: Names = Names { id: OPERATOR, flag: "--as", variable: "COUNTERSIGN_OPERATOR" };

impl Names {
    /// The value that was given, if any. What is neither typed nor in the environment was put there by [`with_context`].
    fn read<T: Clone + Send + Sync + 'static>(&self, matches: &ArgMatches) -> Option<Setting<T>> {
        let value = matches.try_get_one::<T>(self.id).ok().flatten()?.clone();
        let source = match matches.value_source(self.id) {
            Some(ValueSource::CommandLine) => Source::Flag(self.flag),
            Some(ValueSource::EnvVariable) => Source::Variable(self.variable),
            _ => Source::Context(matches.try_get_one::<Name>(CONTEXT).ok().flatten()?.clone()),
        };
        Some(Setting { value, source })
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.id).long(self.flag.trim_start_matches('-')).hide_default_value(true);
        if self.variable.is_empty() { arg } else { arg.env(self.variable) }
    }
}

fn named() -> ValueParser {
    ValueParser::new(str::parse::<Name>)
}

impl FromArgMatches for BrokerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let default = || Setting { value: DEFAULT_URL.to_owned(), source: Source::Default };
        let own = CERT_NAMES.read(matches).zip(TLS_KEY_NAMES.read(matches));
        Ok(Self { nats_url: URL_NAMES.read(matches).unwrap_or_else(default), ca: CA_NAMES.read(matches), own })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BrokerArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let help = format!("The broker; by default {DEFAULT_URL}");
        let url = URL_NAMES.arg().value_name("URL").help(help).display_order(100);
        let file = |names: Names, order, help: &'static str| {
            let arg = names.arg().value_name("FILE").display_order(order).help(help);
            arg.value_parser(ValueParser::path_buf())
        };
        command
            .arg(url.value_parser(NonEmptyStringValueParser::new()))
            .arg(file(CA_NAMES, 101, CA_HELP))
            .arg(file(CERT_NAMES, 102, CERT_HELP).requires(TLS_KEY))
            .arg(file(TLS_KEY_NAMES, 103, "The key of --tls-cert, in PEM").requires(TLS_CERT))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeysArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let default = || Setting { value: DEFAULT_KEYS.into(), source: Source::Default };
        Ok(Self { keys: KEYS_NAMES.read(matches).unwrap_or_else(default), realm: REALM_NAMES.read(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for KeysArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let keys = KEYS_NAMES.arg().value_name("DIR").display_order(110);
        let keys = keys.help(format!("The folder that `countersign init` makes; by default {DEFAULT_KEYS}"));
        let realm =
            REALM_NAMES.arg().value_name("NAME").display_order(111).help("The realm; by default that of trust.json");
        let context = Arg::new(CONTEXT).long(CONTEXT).env("COUNTERSIGN_CONTEXT").value_name("NAME").display_order(121);
        let context = context.hide_default_value(true).value_parser(named());
        command
            .arg(keys.value_parser(ValueParser::path_buf()))
            .arg(realm.value_parser(named()))
            .arg(context.help("The context whose settings hold where neither an option nor the environment names one"))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OperatorArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self { realm: RealmArgs::from_arg_matches(matches)?, operator: OPERATOR_NAMES.read(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OperatorArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let operator = OPERATOR_NAMES.arg().value_name("OPERATOR").value_parser(named()).display_order(120);
        let help = "Whose key signs; by default the only operator in the folder of keys";
        RealmArgs::augment_args(command).arg(operator.help(help))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// What a command line leaves to a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The folder of keys, and with it the realm and the operator.
    keys: bool,
    /// The URL, and with it the files of TLS.
    url: bool,
}

/// What the subcommand that was typed leaves to a context, and the name of the one that an option or the environment names.
/// `None` where no context matters.
pub(super) fn wanted(matches: &ArgMatches) -> Option<(Wanted, Option<Name>)> {
    let leaf = leaf(matches);
    let name = leaf.try_get_one::<Name>(CONTEXT).ok()?.cloned();
    let is_left = |id: &str| leaf.try_contains_id(id).is_ok() && leaf.value_source(id).is_none();
    let wanted = Wanted { keys: is_left(KEYS), url: is_left(URL) };
    let is_typed = leaf.value_source(CONTEXT) == Some(ValueSource::CommandLine);
    (wanted.keys || wanted.url || is_typed).then_some((wanted, name))
}

/// What was typed for the innermost subcommand.
pub(super) fn leaf(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, below)| leaf(below))
}

/// The command, with what a context says as the defaults of every subcommand. A realm and an operator are those of a folder of
/// keys, and hold for no other; files of TLS are those of a URL.
pub(super) fn with_context(command: clap::Command, context: &Context, wanted: Wanted) -> clap::Command {
    let of_keys = |value: Option<OsString>| value.filter(|_| wanted.keys);
    let name = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().into());
    let Settings { keys, realm, operator, .. } = &context.settings;
    let broker = context.broker.as_ref().filter(|_| wanted.url);
    let TlsFiles { ca, own } = broker.map(|broker| broker.tls.clone()).unwrap_or_default();
    let (certificate, key) = own.unzip();
    let path = |path: Option<PathBuf>| path.map(PathBuf::into_os_string);
    let values = [
        (CONTEXT, Some(context.name.as_str().into())),
        (URL, broker.map(|broker| broker.url.clone().into())),
        (TLS_CA, path(ca)),
        (TLS_CERT, path(certificate)),
        (TLS_KEY, path(key)),
        (KEYS, of_keys(path(keys.clone()))),
        (REALM, of_keys(name(realm))),
        (OPERATOR, of_keys(name(operator))),
    ];
    defaults(command, &values)
}

fn defaults(command: clap::Command, values: &[(&str, Option<OsString>)]) -> clap::Command {
    let set = |arg: Arg| match values.iter().find(|(id, _)| arg.get_id() == *id) {
        Some((_, Some(value))) => arg.default_value(value.clone()),
        _ => arg,
    };
    command.mut_args(set).mut_subcommands(|command| defaults(command, values))
}

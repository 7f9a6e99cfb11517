//! Contexts: named settings of this user, so that the commands work from any folder.
//!
//! Each is a file, `contexts/NAME.json` below the configuration folder; the file `context` there names the one in use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use countersign_keys::{Fault, KeyFileError, read_own, read_public, replace_public, shell_word};
use countersign_link::{BrokerAddress, TlsFiles};
use countersign_protocol::name::Name;
use serde::{Deserialize, Serialize};

use crate::cli_error::{CliError, CliResult, Exit};
use crate::realm::one_of;
use crate::suggest::suggest;

/// The longest file of a context, in bytes.
const MAX_FILE: usize = 64 * 1024;

/// A context.
#[derive(Debug)]
pub(crate) struct Context {
    /// Its name.
    pub(crate) name: Name,
    /// What it says.
    pub(crate) settings: Settings,
    /// The broker: its own, or that of the NATS context that it names.
    pub(crate) broker: Option<BrokerAddress>,
}

/// What a context may say. What it leaves out has the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The folder of keys, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<PathBuf>,
    /// The realm of that folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) realm: Option<Name>,
    /// The operator who signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<Name>,
    /// The broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats_url: Option<String>,
    /// The authorities of the broker that `nats_url` names, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The user's certificate for that broker, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key, an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A context of the `nats` tool, whose URL and files of TLS are the broker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats_context: Option<String>,
}

impl Settings {
    /// Where the broker is, and what proves that it is it; `None` where no broker is named.
    pub(crate) fn broker(&self) -> CliResult<Option<BrokerAddress>> {
        Ok(match (&self.nats_url, &self.nats_context) {
            (Some(url), _) => Some(BrokerAddress { url: url.clone(), tls: self.tls() }),
            (None, Some(context)) => Some(nats_broker(context)?),
            (None, None) => None,
        })
    }

    /// The files of TLS.
    pub(crate) fn tls(&self) -> TlsFiles {
        TlsFiles { ca: self.tls_ca.clone(), own: self.tls_cert.clone().zip(self.tls_key.clone()) }
    }

    /// Whether files of TLS are named, and no URL that they are for.
    pub(crate) fn has_tls_without_url(&self) -> bool {
        self.nats_url.is_none() && [&self.tls_ca, &self.tls_cert, &self.tls_key].into_iter().any(Option::is_some)
    }
}

/// What is read of a context of the `nats` tool, which has many more members.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NatsContext {
    url: String,
    ca: String,
    cert: String,
    key: String,
}

/// The context that holds: the one that is named, else the one in use.
pub(crate) fn chosen(name: Option<Name>) -> CliResult<Option<Context>> {
    let name = match name {
        Some(name) => name,
        None => match current()? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    let settings = read(&name)?;
    let broker = settings.broker()?;
    Ok(Some(Context { name, settings, broker }))
}

/// The context in use; none where the user has no configuration folder, or chose none.
pub(crate) fn current() -> CliResult<Option<Name>> {
    let Some(path) = folder().map(|folder| folder.join("context")) else { return Ok(None) };
    let text = match read_public(&path, MAX_FILE) {
        Ok(text) => text,
        Err(KeyFileError { fault: Fault::Missing, .. }) => return Ok(None),
        Err(error) => return Err(unusable(&error)),
    };
    let name = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    name.map(Some).ok_or_else(|| {
        CliError::usage(format!("{} names no context", path.display()))
            .expected("the name of one, and nothing else")
            .hint("countersign context use NAME")
    })
}

/// Makes a context the one in use; `None` for none.
pub(crate) fn select(name: Option<&Name>) -> CliResult<()> {
    let path = configuration()?.join("context");
    match name {
        Some(name) => {
            read(name)?;
            Ok(replace_public(&path, format!("{name}\n").as_bytes())?)
        }
        None => remove_file(&path),
    }
}

/// The names of all contexts.
pub(crate) fn names() -> Vec<Name> {
    let entries = folder().and_then(|folder| fs::read_dir(folder.join("contexts")).ok());
    let mut names: Vec<Name> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    names.sort();
    names
}

/// What a context says.
pub(crate) fn read(name: &Name) -> CliResult<Settings> {
    let path = configuration()?.join(file(name));
    let bytes = match read_public(&path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(KeyFileError { fault: Fault::Missing, .. }) => return Err(unknown(name)),
        Err(error) => return Err(unusable(&error)),
    };
    let members = "an object with keys, realm, operator, nats_url, tls_ca, tls_cert, tls_key or nats_context";
    let settings: Settings = parse(&path, &bytes, members)?;
    let wrong = |what: String, expected: &str| {
        Err(CliError::usage(format!("{}: {what}", path.display()))
            .expected(expected)
            .hint(format!("correct it, or `countersign context set {name}`")))
    };
    let Settings { keys, tls_ca, tls_cert, tls_key, .. } = &settings;
    for (member, path) in [("keys", keys), ("tls_ca", tls_ca), ("tls_cert", tls_cert), ("tls_key", tls_key)] {
        if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
            let what = format!("`{member}` is {}", path.display());
            return wrong(what, "an absolute path: a context holds in every folder");
        }
    }
    if tls_cert.is_some() != tls_key.is_some() {
        return wrong("one of `tls_cert` and `tls_key` is there without the other".to_owned(), "both of them, or none");
    }
    if settings.has_tls_without_url() {
        return wrong("it names files of TLS, and no URL".to_owned(), "`nats_url`, the broker that they are for");
    }
    if settings.nats_url.is_some() && settings.nats_context.is_some() {
        return wrong("both `nats_url` and `nats_context` name the broker".to_owned(), "one of them");
    }
    Ok(settings)
}

/// Writes a context, whole and at once.
pub(crate) fn write(name: &Name, settings: &Settings) -> CliResult<()> {
    let text = serde_json::to_string_pretty(settings)
        .map_err(|error| CliError::new(Exit::Failed, format!("the context cannot be written as JSON: {error}")))?;
    Ok(replace_public(&configuration()?.join(file(name)), format!("{text}\n").as_bytes())?)
}

/// Removes a context; it is no longer in use.
pub(crate) fn remove(name: &Name) -> CliResult<()> {
    let folder = configuration()?;
    if !folder.join(file(name)).exists() {
        return Err(unknown(name));
    }
    if current()?.as_ref() == Some(name) {
        select(None)?;
    }
    remove_file(&folder.join(file(name)))
}

/// The broker of a context of the `nats` tool, with its files of TLS.
fn nats_broker(name: &str) -> CliResult<BrokerAddress> {
    let wrong = |what: String| {
        CliError::usage(what)
            .expected("a context of the `nats` tool with a URL (`nats context ls` lists them)")
            .hint("countersign context set NAME --nats-url URL")
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(wrong(format!("`{name}` is no name of a NATS context")));
    }
    let folder = base().ok_or_else(no_folder)?.join("nats/context");
    let path = folder.join(format!("{name}.json"));
    let bytes = match read_own(&path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(KeyFileError { fault: Fault::Missing, .. }) => {
            return Err(wrong(format!("there is no NATS context {name}: {} does not exist", path.display())));
        }
        Err(error) => return Err(unusable(&error)),
    };
    let NatsContext { url, ca, cert, key } = parse(&path, &bytes, "a context of the `nats` tool")?;
    if url.is_empty() {
        return Err(wrong(format!("{} has no URL", path.display())));
    }
    if cert.is_empty() != key.is_empty() {
        return Err(CliError::usage(format!("{}: one of `cert` and `key` is there without the other", path.display()))
            .expected("both of them, or none")
            .hint(format!("correct {}", shell_word(&path))));
    }
    let file = |member, value| nats_file(&path, member, value);
    let own = file("cert", &cert)?.zip(file("key", &key)?);
    Ok(BrokerAddress { url, tls: TlsFiles { ca: file("ca", &ca)?, own } })
}

/// A file that a context of the `nats` tool names; none where that is empty. The tool would also put the values of variables
/// in, and look in the current folder.
fn nats_file(context: &Path, member: &str, value: &str) -> CliResult<Option<PathBuf>> {
    if value.is_empty() {
        return Ok(None);
    }
    let path = match value.strip_prefix("~/") {
        Some(below) => absolute("HOME").map(|home| home.join(below)),
        None => Some(PathBuf::from(value)),
    };
    match path.filter(|path| path.is_absolute() && !value.contains('$')) {
        Some(path) => Ok(Some(path)),
        None => Err(CliError::usage(format!("{}: `{member}` is {value}", context.display()))
            .expected("an absolute path, or one that begins with ~/, without variables")
            .hint(format!("correct {}", shell_word(context)))),
    }
}

/// Where contexts are, for people.
pub(crate) fn shown_file(name: &Name) -> CliResult<String> {
    Ok(configuration()?.join(file(name)).display().to_string())
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8], expected: &str) -> CliResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        let place = format!("{}, line {}, column {}", path.display(), error.line(), error.column());
        CliError::usage(format!("{place}: {what}")).expected(expected).hint(format!("correct {}", shell_word(path)))
    })
}

fn unknown(name: &Name) -> CliError {
    let known = names();
    let near = suggest(name.as_str(), known.iter().map(Name::as_str));
    let error = CliError::usage(format!("there is no context {name}")).expected(one_of("one of these", &known));
    match near {
        Some(near) => error.hint(format!("name {near} instead")).meant(name, near),
        None => error.hint(format!("`countersign context set {name} --keys DIR --nats-url URL` makes it")),
    }
}

/// A file that cannot be read, or that somebody else can write: it decides which keys and which broker are used.
fn unusable(error: &KeyFileError) -> CliError {
    CliError::keys(error.what()).expected(error.expected()).hint(match &error.fault {
        Fault::Missing | Fault::NotRegular => "countersign context list".to_owned(),
        _ => error.hint(),
    })
}

fn remove_file(path: &Path) -> CliResult<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::new(Exit::Failed, format!("{}: {error}", path.display()))
                .expected("a file that this process can remove")
                .hint("check the permissions of its folder"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn file(name: &Name) -> String {
    format!("contexts/{name}.json")
}

/// The user's configuration: `$XDG_CONFIG_HOME`, else `~/.config`.
fn base() -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

/// A folder that the environment names by an absolute path.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn folder() -> Option<PathBuf> {
    base().map(|base| base.join("countersign"))
}

fn configuration() -> CliResult<PathBuf> {
    folder().ok_or_else(no_folder)
}

fn no_folder() -> CliError {
    CliError::usage("there is no folder for contexts")
        .expected("an absolute XDG_CONFIG_HOME or HOME")
        .hint("name the values by options: --keys, --nats-url, --as")
}

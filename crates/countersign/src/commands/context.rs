//! `countersign context`: named settings.

use std::path::{Path, PathBuf, absolute};

use countersign_link::without_secrets;
use countersign_protocol::name::Name;
use serde::Serialize;
use serde_json::json;

use crate::args::{ContextAction, ContextSetArgs, DEFAULT_URL, Format};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::context::{self, Settings};
use crate::output::{Output, table};
use crate::realm::Realm;

/// Does what is asked for with contexts.
pub(crate) fn run(action: &ContextAction, output: Output) -> CliResult<Exit> {
    match action {
        ContextAction::List { output: format } => list(format.format(), output)?,
        ContextAction::Show { name, output: format } => show(name.as_ref(), format.format(), output)?,
        ContextAction::Set(args) => set(args, output)?,
        ContextAction::Use { name, output: format } => {
            context::select(name.as_ref())?;
            let note = match name {
                Some(name) => format!("the context {name} is in use; options and the environment still come before it"),
                None => "no context is in use".to_owned(),
            };
            done(&json!({ "in_use": name }), &note, format.format(), output)?;
        }
        ContextAction::Remove { name, output: format } => {
            context::remove(name)?;
            let note = format!("the context {name} is removed; its keys are where they were");
            done(&json!({ "removed": name }), &note, format.format(), output)?;
        }
    }
    Ok(Exit::Succeeded)
}

/// Says what was done.
fn done(document: &impl Serialize, note: &str, format: Format, output: Output) -> CliResult<()> {
    match format {
        Format::Table => output.note(note),
        Format::Json | Format::Ndjson => output.json(document)?,
    }
    Ok(())
}

/// What is printed of a context.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a Name,
    in_use: bool,
    #[serde(flatten)]
    settings: Settings,
}

fn entry<'a>(name: &'a Name, current: Option<&Name>) -> CliResult<Entry<'a>> {
    let mut settings = context::read(name)?;
    settings.nats_url = settings.nats_url.map(|url| without_secrets(&url));
    Ok(Entry { name, in_use: current == Some(name), settings })
}

fn list(format: Format, output: Output) -> CliResult<()> {
    let (names, current) = (context::names(), context::current()?);
    let entries = names.iter().map(|name| entry(name, current.as_ref())).collect::<CliResult<Vec<_>>>()?;
    match format {
        Format::Json => output.json(&entries),
        Format::Ndjson => entries.iter().try_for_each(|entry| output.json(entry)),
        Format::Table if entries.is_empty() => {
            output.text("there is no context; `countersign context set NAME` makes one")
        }
        Format::Table => {
            let rows = entries.iter().map(|Entry { name, in_use, settings }| {
                let [keys, operator, broker] = columns(settings);
                let tls = match (&settings.tls_ca, &settings.tls_cert) {
                    (Some(_), Some(_)) => "ca, cert",
                    (Some(_), None) => "ca",
                    (None, Some(_)) => "cert",
                    (None, None) => "-",
                };
                let mark = if *in_use { "*" } else { "" };
                vec![mark.to_owned(), name.to_string(), operator, broker, tls.to_owned(), keys]
            });
            output.text(&table(&["", "NAME", "OPERATOR", "BROKER", "TLS", "KEYS"], rows.collect()))
        }
    }
}

/// The folder of keys, the operator and the broker, for people.
fn columns(settings: &Settings) -> [String; 3] {
    let broker = settings.nats_url.clone();
    let broker = broker.or_else(|| settings.nats_context.as_ref().map(|name| format!("NATS context {name}")));
    [shown(settings.keys.as_deref()), or_dash(settings.operator.as_ref().map(Name::to_string)), or_dash(broker)]
}

fn shown(path: Option<&Path>) -> String {
    or_dash(path.map(|path| path.display().to_string()))
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

fn show(name: Option<&Name>, format: Format, output: Output) -> CliResult<()> {
    let current = context::current()?;
    let Some(name) = name.or(current.as_ref()) else {
        return Err(CliError::usage("no context is in use")
            .expected("the name of one, or one in use")
            .hint("`countersign context list`, then `countersign context use NAME`"));
    };
    let entry = entry(name, current.as_ref())?;
    if format != Format::Table {
        return output.json(&entry);
    }
    let [keys, operator, broker] = columns(&entry.settings);
    let Settings { realm, tls_ca, tls_cert, tls_key, .. } = &entry.settings;
    let rows = [
        ("in use", if entry.in_use { "yes" } else { "no" }.to_owned()),
        ("keys", keys),
        ("realm", or_dash(realm.as_ref().map(Name::to_string))),
        ("operator", operator),
        ("broker", broker),
        ("TLS ca", shown(tls_ca.as_deref())),
        ("TLS cert", shown(tls_cert.as_deref())),
        ("TLS key", shown(tls_key.as_deref())),
        ("file", context::shown_file(name)?),
    ];
    let rows = rows.map(|(label, value)| format!("\n  {label:<8}  {value}"));
    output.text(&format!("{name}{}", rows.concat()))
}

fn set(args: &ContextSetArgs, output: Output) -> CliResult<()> {
    let is_new = !context::names().contains(&args.name);
    let mut settings = if is_new { Settings::default() } else { context::read(&args.name)? };
    settings.keys = in_every_folder(args.keys.as_deref())?.or(settings.keys);
    settings.realm = args.realm.clone().or(settings.realm);
    settings.operator = args.operator.clone().or(settings.operator);
    if args.nats_url.is_some() || args.nats_context.is_some() {
        (settings.nats_url, settings.nats_context) = (args.nats_url.clone(), args.nats_context.clone());
    }
    if args.nats_context.is_some() {
        // That gives its own.
        (settings.tls_ca, settings.tls_cert, settings.tls_key) = (None, None, None);
    }
    settings.tls_ca = in_every_folder(args.tls_ca.as_deref())?.or(settings.tls_ca);
    settings.tls_cert = in_every_folder(args.tls_cert.as_deref())?.or(settings.tls_cert);
    settings.tls_key = in_every_folder(args.tls_key.as_deref())?.or(settings.tls_key);
    if settings == Settings::default() {
        return Err(CliError::usage(format!("the context {} would say nothing", args.name))
            .expected("--keys, --realm, --as, --nats-url or --nats-context")
            .hint(format!("countersign context set {} --keys DIR --nats-url URL", args.name)));
    }
    check(&args.name, &settings)?;
    context::write(&args.name, &settings)?;
    if settings.nats_url.is_none() && settings.nats_context.is_none() {
        output.note(format!("it names no broker: that is NATS_URL, else {DEFAULT_URL}; --nats-url names one"));
    }
    let (name, did) = (&args.name, if is_new { "made" } else { "changed" });
    let current = context::current()?;
    let note = match &current {
        Some(current) if current == name => format!("the context {name} is {did}, and in use"),
        _ => format!("the context {name} is {did}; `countersign context use {name}` makes it the default"),
    };
    done(&entry(name, current.as_ref())?, &note, args.output.format(), output)
}

/// The path that means the same in every folder.
fn in_every_folder(path: Option<&Path>) -> CliResult<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    absolute(path).map(Some).map_err(|error| {
        CliError::usage(format!("{}: {error}", path.display()))
            .expected("a path of this file system")
            .hint("name it by an absolute path")
    })
}

/// Refuses what could not be used: nobody would know where it came from later.
fn check(name: &Name, settings: &Settings) -> CliResult<()> {
    if let Some(keys) = &settings.keys {
        Realm::of_context(name, keys, settings)?;
    } else if settings.realm.is_some() || settings.operator.is_some() {
        return Err(CliError::usage("a realm and an operator are those of a folder of keys")
            .expected("--keys beside them")
            .hint(format!("countersign context set {name} --keys DIR")));
    }
    if settings.has_tls_without_url() {
        return Err(CliError::usage("files of TLS are for the broker that a URL names")
            .expected("--nats-url beside them; a NATS context gives its own")
            .hint(format!("countersign context set {name} --nats-url URL")));
    }
    if let Some(broker) = settings.broker()? {
        countersign_link::check_url(&broker.url)?;
        broker.tls.check().map_err(|error| match &settings.nats_context {
            Some(nats) => CliError::from(error)
                .at(&format!("the NATS context {nats}"))
                .hint("correct the files that it names, or their permissions"),
            None => error.into(),
        })?;
    }
    Ok(())
}

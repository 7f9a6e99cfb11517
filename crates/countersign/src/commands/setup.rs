//! `countersign setup`: the broker's streams.

use countersign_keys::Login;
use countersign_server::{MadeStream, SetupError, setup};
use serde::Serialize;

use crate::args::{Format, SetupArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;
use crate::realm::Realm;

/// Makes the streams, or brings them up to date.
pub(crate) async fn run(SetupArgs { realm: args, output: format }: &SetupArgs, output: Output) -> CliResult<Exit> {
    let realm = Realm::open(&args.keys)?;
    let login = Login::read(&realm.folder.setup_creds())?;
    let made = setup(args.broker.address(), realm.trust.realm(), login).await.map_err(|error| match error {
        SetupError::Link(error) => CliError::no_broker(error, &args.broker, &realm.folder),
        error => error.into(),
    })?;
    let documents: Vec<Document<'_>> = made.iter().map(Document::from).collect();
    match format.format() {
        Format::Json => output.json(&documents)?,
        Format::Ndjson => documents.iter().try_for_each(|document| output.json(document))?,
        Format::Table => report(&made, output),
    }
    Ok(Exit::Succeeded)
}

/// What `-o json` prints of each stream.
#[derive(Serialize)]
struct Document<'a> {
    stream: &'a str,
    replicas: usize,
    /// Why a cluster keeps it on fewer servers than three.
    has_fewer: Option<&'a str>,
}

impl<'a> From<&'a MadeStream> for Document<'a> {
    fn from(MadeStream { name, replicas, has_fewer }: &'a MadeStream) -> Self {
        Self { stream: name, replicas: *replicas, has_fewer: has_fewer.as_deref() }
    }
}

fn report(made: &[MadeStream], output: Output) {
    for made in made {
        let servers = if made.replicas == 1 { "1 server".to_owned() } else { format!("{} servers", made.replicas) };
        output.note(format!("the stream {} is as it should be, kept on {servers}", made.name));
        if let Some(why) = &made.has_fewer {
            output.note(format!(
                "the cluster does not keep it on 3 servers: {why}; run `countersign setup` when it has them"
            ));
        }
    }
}

impl From<SetupError> for CliError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Link(error) => error.into(),
            SetupError::Stream { ref why, .. } => {
                let (expected, hint) = advice(why);
                Self::new(Exit::Broker, error).expected(expected).hint(hint)
            }
        }
    }
}

/// What was expected and what to do, by the broker's error.
fn advice(why: &str) -> (&'static str, &'static str) {
    let why = why.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    if has(&["not enabled for account", "10039"]) {
        (
            "JetStream in the broker's account of the presences, as `countersign init` writes it (nats/accounts.conf)",
            "where authority.nk is, run `countersign init`; then restart the broker with nats/accounts.conf",
        )
    } else if has(&["unavailable", "not enabled", "no responders", "10076"]) {
        (
            "a NATS server with JetStream",
            "add `jetstream {}` to the server's configuration, as in nats.conf, and restart it",
        )
    } else if has(&["insufficient", "maximum", "resource", "storage"]) {
        (
            "room for one more stream in the broker's JetStream",
            "raise its limits (max_file_store, max_streams), or free some",
        )
    } else if has(&["timed out", "timeout", "permission"]) {
        (
            "that the broker lets the setup key make the stream (nats/accounts.conf); of a cluster, that most servers run",
            "where authority.nk is, run `countersign init`; then restart the broker with nats/accounts.conf; else see its log",
        )
    } else {
        ("a NATS server with JetStream, whose accounts are those of this folder of keys", "see the broker's log")
    }
}

//! `countersign enroll` where the issuer's keys are: tokens, requests in files, and decisions.

use std::path::Path;

use countersign_host::clock;
use countersign_keys::{FolderKind, load_pin, read_own};
use countersign_protocol::credential::Role;
use countersign_protocol::enrolment::{OpenedRequest, Token};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::{MAX_CA, MAX_ENROLMENT_REQUEST};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_provisioning::Standing;
use countersign_provisioning::enrolment::{
    Broker, EnrolmentFault, TokenTerms, Waiting, approve, deny, make_token, sign_request, waiting,
};
use serde::Serialize;

use crate::args::{EnrollAction, Format, KeysArgs, NewTokenArgs, OutputArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::enroll::{accept, read_document, refused, request};
use crate::commands::trust::revoke_client;
use crate::duration::Span;
use crate::output::{Output, table};
use crate::realm::Realm;

/// How long a token can be used by default, in milliseconds.
const VALID: i64 = 3_600_000;

/// Does what is asked for.
pub(crate) async fn run(action: &EnrollAction, output: Output) -> CliResult<Exit> {
    match action {
        EnrollAction::Token(args) => token(args, output).await,
        EnrollAction::Request { name, group, keys } => request(name, group, keys, output),
        EnrollAction::Sign { file, kid, life, keys } => sign(file, kid.as_ref(), *life, keys, output),
        EnrollAction::Accept { file, pin, keys, output: format } => accept(file, *pin, keys, format.format(), output),
        EnrollAction::List { keys, output: format } => {
            let realm = issuer_realm(Realm::open(keys)?)?;
            print_waiting(&waiting(&realm.folder), format.format(), output)
        }
        EnrollAction::Approve { name, kid, keys, output: format } => {
            let realm = issuer_realm(Realm::open_to_change(keys)?)?;
            decide(&[approve(&realm.folder, name, kid)?], format, output)
        }
        EnrollAction::Deny { name, keys, output: format } => {
            let realm = issuer_realm(Realm::open_to_change(keys)?)?;
            decide(&deny(&realm.folder, name)?, format, output)
        }
    }
}

async fn token(args: &NewTokenArgs, output: Output) -> CliResult<Exit> {
    if args.replace
        && let Some(name) = &args.name
    {
        let realm = Realm::open(&args.realm.keys)?;
        let members = countersign_provisioning::list(&realm.folder, &realm.trust)?;
        // Also one that is revoked already: an earlier run may not have reached the broker.
        let has_key = |standing: &Standing| !matches!(standing, Standing::Unusable(_));
        if members.iter().any(|it| it.role == Role::Client && it.name == *name && has_key(&it.standing)) {
            revoke_client(&args.realm, name).await?;
            output.note(format!("the keys of the client {name} are revoked, everywhere"));
        }
    }
    let realm = Realm::open_to_change(&args.realm.keys)?;
    let address = args.realm.broker.address();
    let ca = address.tls.ca.as_deref().map(|file| read_own(file, 8 * MAX_CA)).transpose()?;
    let broker = Broker { url: address.url, ca: ca.map(|ca| String::from_utf8_lossy(&ca).into_owned()) };
    let terms = TokenTerms {
        client: args.name.clone().map(|name| (name, args.group.clone())),
        valid_ms: args.valid.map_or(VALID, Span::millis),
        life_ms: args.life.map(Span::millis),
    };
    let made = make_token(&realm.folder, &realm.trust, &terms, &broker, clock::wall())?;
    print_token(&made, args.output.format(), output)?;
    if countersign_link::is_loopback(&made.broker) {
        output.note(format!(
            "the token names the broker {}, which is on this machine only; --nats-url names it for another",
            countersign_link::without_secrets(&made.broker)
        ));
    }
    Ok(Exit::Succeeded)
}

#[derive(Serialize)]
struct TokenDocument<'a> {
    realm: &'a Name,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a Name>,
    groups: &'a [Name],
    expires_at: Millis,
    token: &'a str,
}

fn print_token(token: &Token, format: Format, output: Output) -> CliResult<()> {
    let text = token.to_text();
    let client = token.client.as_ref();
    match format {
        Format::Json | Format::Ndjson => output.json(&TokenDocument {
            realm: &token.realm,
            id: token.id.as_str(),
            name: client.map(|client| &client.name),
            groups: client.map(|client| client.groups.as_slice()).unwrap_or_default(),
            expires_at: token.expires_at,
            token: &text,
        }),
        Format::Table => {
            let name = if client.is_none() { " --name NAME" } else { "" };
            // `echo` is a command of the shell itself: its arguments are in no list of processes.
            output.text(&format!("echo {} | countersign enroll{name}", *text))?;
            let end = token.expires_at.utc();
            output.note(match client {
                Some(client) => format!(
                    "paste that line into a shell on the worker by {end}: whoever uses it first is {}",
                    client.name
                ),
                None => format!("whoever has that line may ask until {end}; `countersign enroll list` shows who did"),
            });
            Ok(())
        }
    }
}

fn sign(file: &Path, kid: Option<&Thumbprint>, life: Option<Span>, keys: &KeysArgs, output: Output) -> CliResult<Exit> {
    let realm = Realm::open_to_change(keys)?;
    let raw = read_document(file, MAX_ENROLMENT_REQUEST)?;
    let request = OpenedRequest::open(&raw).map_err(|error| not_a_request(file, &error))?;
    let thumbprint = request.key().thumbprint();
    if kid.is_some_and(|kid| *kid != thumbprint) {
        return Err(CliError::keys(format!("{} was signed by the key {thumbprint}", file.display()))
            .expected("the key whose thumbprint the worker printed, and --kid names")
            .hint("fetch the request again from the worker; this one may be somebody else's"));
    }
    let done = sign_request(&realm.folder, &realm.trust, request, life.map(Span::millis), clock::wall());
    let done = done.map_err(|error| match error {
        EnrolmentFault::Folder(error) => error.into(),
        EnrolmentFault::Request(error) => not_a_request(file, &error),
    })?;
    let asked = done.request.request();
    if let Some(error) = &done.refused {
        return Err(refused(error, &asked.name, None));
    }
    output.text(&String::from_utf8_lossy(&done.answer))?;
    let groups: Vec<&str> = asked.groups.iter().map(Name::as_str).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(", in {}", groups.join(", ")) };
    output.note(format!("enrolled {}{groups}, with the key {thumbprint}", asked.name));
    output.note(format!(
        "on the worker: `countersign enroll accept FILE --pin {}`, the pin carried by another way than FILE",
        load_pin(&realm.folder)?
    ));
    Ok(Exit::Succeeded)
}

fn not_a_request(file: &Path, error: &countersign_protocol::enrolment::RequestError) -> CliError {
    CliError::keys(format!("{} is no request for enrolment: {error}", file.display()))
        .expected("what `countersign enroll request` printed on the worker, unchanged")
        .hint("fetch it again from the worker")
}

/// The realm, if its folder is an issuer's: decisions elsewhere are nobody's.
fn issuer_realm(realm: Realm) -> CliResult<Realm> {
    if realm.folder.kind() != FolderKind::Issuer {
        let path = realm.folder.issuer_key();
        return Err(CliError::keys(format!("{} does not exist", path.display()))
            .expected("the folder of keys in which `countersign issuer` runs")
            .hint("run it on the issuer's machine, or name its folder by --keys"));
    }
    Ok(realm)
}

fn decide(decided: &[Waiting], format: &OutputArgs, output: Output) -> CliResult<Exit> {
    print_waiting(decided, format.format(), output)
}

fn print_waiting(found: &[Waiting], format: Format, output: Output) -> CliResult<Exit> {
    match format {
        Format::Json => output.json(&serde_json::json!({ "requests": found.iter().map(entry).collect::<Vec<_>>() }))?,
        Format::Ndjson => found.iter().map(entry).try_for_each(|entry| output.json(&entry))?,
        Format::Table if found.is_empty() => output.text("nobody has asked")?,
        Format::Table => {
            let rows = found.iter().map(|it| {
                let groups: Vec<&str> = it.groups.iter().map(Name::as_str).collect();
                let groups = if groups.is_empty() { "-".to_owned() } else { groups.join(", ") };
                vec![it.name.to_string(), it.key.to_string(), groups, it.asked_at.utc(), it.decision.word().to_owned()]
            });
            output.text(&table(&["NAME", "THUMBPRINT", "GROUPS", "ASKED", "DECISION"], rows.collect()))?;
        }
    }
    Ok(Exit::Succeeded)
}

fn entry(it: &Waiting) -> serde_json::Value {
    serde_json::json!({
        "name": it.name, "thumbprint": it.key, "groups": it.groups, "asked_at": it.asked_at, "decision": it.decision,
    })
}

//! Credentials, for people and for programs.

use std::path::Path;

use countersign_protocol::credential::{Commands, Examined, Grant, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::{EVERYONE, Name};
use countersign_protocol::time::Millis;
use countersign_provisioning::{FileChange, Listed, Standing};
use serde::Serialize;

use super::{Output, table};
use crate::args::Format;
use crate::cli_error::CliResult;
use crate::duration::Span;

/// Prints the files that were written, and the members whose credentials they are.
pub(crate) fn print_changes(
    realm: &Name,
    files: &[FileChange],
    members: &[Listed],
    format: Format,
    output: Output,
) -> CliResult<()> {
    match format {
        Format::Json => output.json(&Changes { realm, files, members: members.iter().map(Entry::of).collect() }),
        Format::Ndjson => files.iter().try_for_each(|change| output.json(change)),
        Format::Table => output.text(&changes_table(files)),
    }
}

/// What was done to files, for people.
pub(crate) fn changes_table(files: &[FileChange]) -> String {
    let rows = files.iter().map(|change| vec![change.did.word().to_owned(), change.file.clone(), change.note.clone()]);
    table(&["DID", "FILE", "NOTE"], rows.collect())
}

/// Prints every member of a folder.
pub(crate) fn print_members(realm: &Name, members: &[Listed], format: Format, output: Output) -> CliResult<()> {
    match format {
        Format::Json => output.json(&Members { realm, members: members.iter().map(Entry::of).collect() }),
        Format::Ndjson => members.iter().map(Entry::of).try_for_each(|entry| output.json(&entry)),
        Format::Table if members.is_empty() => output.text("the folder of keys has no member"),
        Format::Table => {
            let rows = members.iter().map(|member| {
                let claims = member.credential.as_ref().map(|credential| &credential.claims);
                vec![
                    member.role.to_string(),
                    member.name.to_string(),
                    member.credential.as_ref().map_or_else(|| "-".to_owned(), rights),
                    claims.map_or_else(|| "-".to_owned(), |claims| Millis::from_seconds(claims.exp).utc()),
                    marks(member).join(", "),
                ]
            });
            output.text(&table(&["ROLE", "NAME", "GROUPS OR GRANT", "UNTIL", "NOTE"], rows.collect()))
        }
    }
}

/// Prints what the credential in a file says.
pub(crate) fn print_credential(
    file: &Path,
    standing: &Standing,
    credential: Option<&Examined>,
    format: Format,
    output: Output,
) -> CliResult<()> {
    if format != Format::Table {
        let credential = credential.map(Content::of);
        return output.json(&Shown { file: file.display().to_string(), status: Status::of(standing), credential });
    }
    let Some(credential) = credential else { return Ok(()) };
    let Examined { claims, key, issuer, .. } = credential;
    let right = if claims.role == Role::Operator { "grant" } else { "groups" };
    let rows = [
        ("status", Status::of(standing).state.replace('_', " ")),
        (right, rights(credential)),
        ("from", Millis::from_seconds(claims.nbf).utc()),
        ("until", Millis::from_seconds(claims.exp).utc()),
        ("realm", claims.realm.to_string()),
        ("key", key.thumbprint().to_string()),
        ("issuer", format!("{} {issuer}", claims.iss)),
        ("id", claims.jti.to_string()),
    ];
    let rows = rows.map(|(label, value)| format!("\n  {label:<8} {value}"));
    output.text(&format!("{} {}{}", claims.role, claims.sub, rows.concat()))
}

#[derive(Serialize)]
struct Changes<'a> {
    realm: &'a Name,
    files: &'a [FileChange],
    members: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Members<'a> {
    realm: &'a Name,
    members: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    #[serde(flatten)]
    status: Status<'a>,
    #[serde(flatten)]
    credential: Option<Content<'a>>,
}

/// A member of the folder.
#[derive(Serialize)]
struct Entry<'a> {
    role: Role,
    name: &'a Name,
    #[serde(flatten)]
    status: Status<'a>,
    /// Whether neither of its keys is in the folder.
    key_elsewhere: bool,
    #[serde(flatten)]
    terms: Option<TermsOf<'a>>,
}

/// What a credential in a file says.
#[derive(Serialize)]
struct Content<'a> {
    role: Role,
    name: &'a Name,
    realm: &'a Name,
    #[serde(flatten)]
    terms: TermsOf<'a>,
}

/// Whether it holds.
#[derive(Serialize)]
struct Status<'a> {
    /// `in_force`, `ends_soon`, `not_yet_valid`, `expired`, `revoked` or `unusable`.
    state: &'static str,
    /// Whether its holder may sign with it now.
    holds: bool,
    /// Why it is unusable.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct TermsOf<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [Name]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'a Grant>,
    /// In milliseconds since the Unix epoch, as the others.
    issued_at: Millis,
    not_before: Millis,
    expires_at: Millis,
    /// The thumbprint of the key that it is for.
    kid: Thumbprint,
    jti: Uuid,
    issuer: &'a Name,
    issuer_kid: Thumbprint,
}

impl<'a> Entry<'a> {
    fn of(member: &'a Listed) -> Self {
        Self {
            role: member.role,
            name: &member.name,
            status: Status::of(&member.standing),
            key_elsewhere: member.key_elsewhere,
            terms: member.credential.as_ref().map(TermsOf::of),
        }
    }
}

impl<'a> Content<'a> {
    fn of(credential: &'a Examined) -> Self {
        let claims = &credential.claims;
        Self { role: claims.role, name: &claims.sub, realm: &claims.realm, terms: TermsOf::of(credential) }
    }
}

impl<'a> TermsOf<'a> {
    fn of(Examined { claims, key, issuer, .. }: &'a Examined) -> Self {
        Self {
            groups: claims.groups.as_deref(),
            grant: claims.grant.as_ref(),
            issued_at: Millis::from_seconds(claims.iat),
            not_before: Millis::from_seconds(claims.nbf),
            expires_at: Millis::from_seconds(claims.exp),
            kid: key.thumbprint(),
            jti: claims.jti,
            issuer: &claims.iss,
            issuer_kid: *issuer,
        }
    }
}

impl<'a> Status<'a> {
    fn of(standing: &'a Standing) -> Self {
        let (state, holds, error) = match standing {
            Standing::InForce => ("in_force", true, None),
            Standing::EndsSoon => ("ends_soon", true, None),
            Standing::NotYetValid => ("not_yet_valid", false, None),
            Standing::Expired => ("expired", false, None),
            Standing::Revoked => ("revoked", false, None),
            Standing::Unusable(why) => ("unusable", false, Some(why.as_str())),
        };
        Self { state, holds, error }
    }
}

/// What is to be noticed about a member.
fn marks(member: &Listed) -> Vec<String> {
    let standing = match &member.standing {
        Standing::InForce => None,
        Standing::Unusable(why) => Some(why.clone()),
        standing => Some(Status::of(standing).state.replace('_', " ")),
    };
    standing.into_iter().chain(member.key_elsewhere.then(|| "key elsewhere".to_owned())).collect()
}

/// The groups of a client: `db, web`; or the grant of an operator: `ping, status to @web, at most 10s`.
fn rights(credential: &Examined) -> String {
    let Some(grant) = &credential.claims.grant else {
        let groups = joined(credential.claims.groups.iter().flatten().map(Name::to_string));
        return if groups.is_empty() { "-".to_owned() } else { groups };
    };
    let commands = match &grant.commands {
        Commands::Any => "any command".to_owned(),
        Commands::Only(names) if names.is_empty() => "no command".to_owned(),
        Commands::Only(names) => joined(names.iter().map(Name::to_string)),
    };
    let all = grant.all.then(|| format!("@{EVERYONE}"));
    let groups = grant.groups.iter().map(|group| format!("@{group}"));
    let targets = joined(all.into_iter().chain(groups).chain(grant.clients.iter().map(Name::to_string)));
    let targets = if targets.is_empty() { "nobody" } else { &targets };
    format!("{commands} to {targets}, at most {}", Span::from_millis(grant.max_ttl_ms))
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

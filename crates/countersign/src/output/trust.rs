//! The trust bundle, for people and for programs.

use countersign_host::clock;
use countersign_machine::server::Presence;
use countersign_protocol::key::{Jwk, PublicKey, Thumbprint};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Revoked, Trust};
use countersign_provisioning::{FileChange, Listed};
use countersign_server::Operator;
use serde::Serialize;

use super::{Output, changes_table, table};
use crate::args::Format;
use crate::cli_error::{CliError, CliResult};

/// What the broker has of the versions of a folder.
#[derive(Debug)]
pub(crate) struct Published<'a> {
    /// Those that it did not have before.
    pub(crate) versions: &'a [u64],
    /// Why it does not have all, if so.
    pub(crate) why_not: Option<String>,
}

/// The members whose logins the broker refuses, because they are revoked.
#[derive(Debug, Default)]
pub(crate) struct EndedLogins {
    /// Role and name of each.
    pub(crate) members: Vec<String>,
    /// Whether the broker was told of one by this command.
    pub(crate) is_new: bool,
}

/// Prints what was made of the trust bundle, and whether everybody can have it.
pub(crate) fn print_published(
    trust: &Trust,
    is_new: bool,
    published: &Published<'_>,
    logins: Option<&CliResult<EndedLogins>>,
    files: &[FileChange],
    format: Format,
    output: Output,
) -> CliResult<()> {
    let ended = logins.and_then(|logins| logins.as_ref().ok());
    let is_stored = published.why_not.is_none();
    let document = Made {
        realm: trust.realm(),
        version: trust.version(),
        new: is_new,
        stored: is_stored,
        published: published.versions,
        why_not: published.why_not.as_deref(),
        logins: logins.map(|logins| Logins {
            refused: ended.map(|ended| &ended.members[..]),
            why_not: logins.as_ref().err().map(CliError::what),
        }),
        files,
    };
    match format {
        Format::Json | Format::Ndjson => output.json(&document),
        Format::Table => {
            if !files.is_empty() {
                output.text(&changes_table(files))?;
            }
            if !is_stored {
                return Ok(());
            }
            let version = trust.version();
            output.text(&if published.versions.is_empty() {
                format!("the broker has version {version} of the trust bundle already")
            } else {
                format!("version {version} of the trust bundle is published, and stored at the broker")
            })?;
            match ended {
                Some(ended) if ended.is_new => output
                    .text(&format!("the broker refuses the logins of what is revoked: {}", ended.members.join(", "))),
                _ => Ok(()),
            }
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    realm: &'a Name,
    version: u64,
    /// Whether it was made by this command.
    new: bool,
    /// Whether the broker has it and all before it.
    stored: bool,
    /// The versions that were published now.
    published: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logins: Option<Logins<'a>>,
    files: &'a [FileChange],
}

/// What the broker does with the logins of revoked members.
#[derive(Serialize)]
struct Logins<'a> {
    /// Role and name of those whose logins it refuses; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a [String]>,
    /// Why one of them is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// Prints the bundle in force, and the version that each client reports; the error is why none of them is known.
pub(crate) fn print_trust(
    trust: &Trust,
    members: &[Listed],
    operator: Result<&Operator, &str>,
    format: Format,
    output: Output,
) -> CliResult<()> {
    let now = clock::wall();
    let clients: Vec<Holder<'_>> =
        operator.iter().flat_map(|operator| operator.roster().entries()).map(|it| Holder::of(it, trust)).collect();
    let document = Shown {
        realm: trust.realm(),
        version: trust.version(),
        expires_at: trust.expires_at(),
        expired: trust.is_expired(now),
        ends_soon: trust.term().ends_soon(now),
        pin: trust.pin(),
        threshold: trust.body().threshold,
        roots: trust.body().roots.iter().filter_map(thumbprint).collect(),
        issuers: trust
            .body()
            .issuers
            .iter()
            .filter_map(|it| Some(Issuer { name: &it.name, kid: thumbprint(&it.jwk)? }))
            .collect(),
        revoked: trust.body().revoked.iter().map(|revoked| Entry::of(revoked, members)).collect(),
        clients: operator.is_ok().then_some(&clients),
        no_clients: operator.err(),
    };
    if format != Format::Table {
        return output.json(&document);
    }
    let end = trust.term().mark(now);
    let mut lines = vec![
        format!("realm      {}", document.realm),
        format!("version    {}, until {}{end}", document.version, document.expires_at.utc()),
        format!("roots      {}", listed(&document.roots, &format!("; {} must sign", document.threshold))),
    ];
    for issuer in &document.issuers {
        let is_revoked = document.revoked.iter().any(|entry| entry.kid == Some(issuer.kid));
        lines.push(format!("issuer     {} {}{}", issuer.name, issuer.kid, if is_revoked { ", revoked" } else { "" }));
    }
    for entry in &document.revoked {
        let what = entry.kid.map_or_else(|| entry.jti.clone().unwrap_or_default(), |kid| kid.to_string());
        let whose = entry.member.as_deref().map(|member| format!(", {member}")).unwrap_or_default();
        lines.push(format!("revoked    {what}{whose}, since {}", entry.since.utc()));
    }
    output.text(&lines.join("\n"))?;
    match operator {
        Err(why) => output.note(format!("which clients hold it is not known: {why}")),
        Ok(_) if clients.is_empty() => output.note("no client is in the roster"),
        Ok(_) => {
            let rows = clients.iter().map(|client| {
                let note = if client.behind { "older" } else { "" };
                vec![client.client.to_string(), client.version.to_string(), note.to_owned()]
            });
            output.text(&table(&["CLIENT", "TRUST", "NOTE"], rows.collect()))?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a Name,
    version: u64,
    expires_at: Millis,
    expired: bool,
    /// In its last 30 days.
    ends_soon: bool,
    pin: Thumbprint,
    threshold: u64,
    roots: Vec<Thumbprint>,
    issuers: Vec<Issuer<'a>>,
    revoked: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<&'a Vec<Holder<'a>>>,
    /// Why the clients are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_clients: Option<&'a str>,
}

#[derive(Serialize)]
struct Issuer<'a> {
    name: &'a Name,
    kid: Thumbprint,
}

/// What is revoked, and whose it is where the folder of keys knows.
#[derive(Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<Thumbprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    since: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
}

impl Entry {
    fn of(revoked: &Revoked, members: &[Listed]) -> Self {
        let member = members.iter().find(|member| {
            member.credential.as_ref().is_some_and(|credential| match revoked {
                Revoked::Credential { jti, .. } => credential.claims.jti == *jti,
                Revoked::Key { kid, .. } => credential.key.thumbprint() == *kid,
            })
        });
        let member = member.map(|member| format!("{} {}", member.role, member.name));
        match revoked {
            Revoked::Credential { jti, since } => Self { kid: None, jti: Some(jti.to_string()), since: *since, member },
            Revoked::Key { kid, since } => Self { kid: Some(*kid), jti: None, since: *since, member },
        }
    }
}

/// The version that a client reports.
#[derive(Serialize)]
struct Holder<'a> {
    client: &'a Name,
    version: u64,
    /// Whether it is older than the one in force here.
    behind: bool,
}

impl<'a> Holder<'a> {
    fn of(presence: &'a Presence, trust: &Trust) -> Self {
        let version = presence.info().trust.version;
        Self { client: presence.client(), version, behind: version < trust.version() }
    }
}

fn thumbprint(jwk: &Jwk) -> Option<Thumbprint> {
    PublicKey::try_from(jwk).ok().map(|key| key.thumbprint())
}

fn listed(kids: &[Thumbprint], after: &str) -> String {
    let kids: Vec<String> = kids.iter().map(ToString::to_string).collect();
    kids.join(", ") + after
}

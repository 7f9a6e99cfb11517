//! The roster, for people and for programs.

use std::ops::Not;

use countersign_machine::server::Presence;
use countersign_protocol::command::JobsInfo;
use countersign_protocol::ending::Term;
use countersign_protocol::envelope::Expired;
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::text::echo;
use countersign_protocol::time::Millis;
use countersign_server::Operator;
use serde::Serialize;

use super::status::age;
use super::{Output, table};
use crate::args::Format;
use crate::cli_error::CliResult;

/// Prints every client that commands can name, with its latest verified presence.
pub(crate) fn print_roster(operator: &Operator, format: Format, now: Millis, output: Output) -> CliResult<()> {
    let roster = operator.roster();
    let trust = operator.trust().version();
    let entry = |client| Entry::of(client, roster.entry(client), roster.expired(client), trust, now);
    let entries: Vec<Entry<'_>> = operator.known().into_iter().map(entry).collect();
    match format {
        Format::Table if entries.is_empty() => {
            output.text("no client is known: the roster is empty, and the folder of keys has none")
        }
        Format::Table => output.text(&for_people(&entries, now)),
        Format::Json => output.json(&Document { clients: &entries, roster_incomplete: operator.incomplete() }),
        Format::Ndjson => entries.iter().try_for_each(|entry| output.json(entry)),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    clients: &'a [Entry<'a>],
    /// Why there may be others, if the roster was not read completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    roster_incomplete: Option<&'a str>,
}

/// One client; only its name where it never sent a presence.
#[derive(Serialize)]
struct Entry<'a> {
    client: &'a Name,
    /// When its credential expires, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_expires_at: Option<Millis>,
    /// Whether it has: the client executes nothing, and cannot prove its replies.
    #[serde(skip_serializing_if = "Not::not")]
    expired: bool,
    /// Whether it is in the last third of its life.
    #[serde(skip_serializing_if = "Not::not")]
    credential_ends_soon: bool,
    #[serde(flatten)]
    seen: Option<LastSeen<'a>>,
    #[serde(skip)]
    presence: Option<&'a Presence>,
}

#[derive(Serialize)]
struct LastSeen<'a> {
    state: State,
    /// Not seen for over 30 s.
    silent: bool,
    groups: &'a [Name],
    version: &'a str,
    /// The version of its trust bundle.
    trust_version: u64,
    /// Whether that is older than the one in force here.
    #[serde(skip_serializing_if = "Not::not")]
    trust_behind: bool,
    /// Whether that bundle ends within 30 days.
    #[serde(skip_serializing_if = "Not::not")]
    trust_ends_soon: bool,
    /// In milliseconds since the Unix epoch, by the client's clock.
    last_seen: Millis,
    /// How far that clock is ahead of this machine's, in milliseconds; 0 where they are not known to differ.
    clock_ahead_ms: i64,
    started_at: Millis,
    jobs: JobsInfo,
    epoch: Uuid,
    boot: Uuid,
}

impl<'a> Entry<'a> {
    fn of(
        client: &'a Name,
        presence: Option<&'a Presence>,
        expired: Option<&'a Expired>,
        trust: u64,
        now: Millis,
    ) -> Self {
        let seen = presence.map(|presence| LastSeen {
            state: presence.state(),
            silent: presence.is_silent(now),
            groups: presence.groups(),
            version: &presence.info().version,
            trust_version: presence.info().trust.version,
            trust_behind: presence.info().trust.version < trust,
            trust_ends_soon: Term::of_trust(presence.info().trust.expires_at).ends_soon(now),
            last_seen: presence.issued_at(),
            clock_ahead_ms: presence.clock(),
            started_at: presence.info().started_at,
            jobs: presence.info().jobs,
            epoch: presence.epoch(),
            boot: presence.boot(),
        });
        let until = presence.map(Presence::expires_at).or(expired.map(Expired::expired_at));
        let is_expired = until.is_some_and(|until| until <= now);
        let ends_soon = presence.is_some_and(|presence| presence.term().ends_soon(now));
        Self {
            client,
            credential_expires_at: until,
            expired: is_expired,
            credential_ends_soon: ends_soon,
            seen,
            presence,
        }
    }
}

impl Entry<'_> {
    /// What somebody should see to.
    fn marks(&self) -> impl Iterator<Item = &'static str> {
        let seen = self.seen.as_ref().filter(|seen| seen.state != State::Terminated);
        [
            (self.credential_ends_soon, "credential ends soon"),
            (seen.is_some_and(|seen| seen.trust_behind), "trust older"),
            (seen.is_some_and(|seen| seen.trust_ends_soon), "trust ends soon"),
        ]
        .into_iter()
        .filter_map(|(holds, mark)| holds.then_some(mark))
    }
}

fn for_people(entries: &[Entry<'_>], now: Millis) -> String {
    let rows = entries.iter().map(|entry| {
        let expired = entry.credential_expires_at.filter(|_| entry.expired);
        let expired = expired.map(|until| format!("expired on {}", until.utc()));
        let Some(seen) = &entry.seen else {
            let state = expired.as_deref().unwrap_or("key only");
            return [entry.client.as_str(), state, "-", "-", "-", "-"].map(str::to_owned).to_vec();
        };
        let groups: Vec<&str> = seen.groups.iter().map(Name::as_str).collect();
        let state = if seen.silent { format!("{}, silent", seen.state) } else { seen.state.to_string() };
        vec![
            entry.client.to_string(),
            [Some(state), expired]
                .into_iter()
                .flatten()
                .chain(entry.marks().map(str::to_owned))
                .collect::<Vec<_>>()
                .join(", "),
            if groups.is_empty() { "-".to_owned() } else { groups.join(",") },
            echo(seen.version),
            entry.presence.map(|presence| last_seen(presence, now)).unwrap_or_default(),
            if seen.state == State::Terminated { "-".to_owned() } else { seen.jobs.running.to_string() },
        ]
    });
    table(&["CLIENT", "STATE", "GROUPS", "VERSION", "LAST SEEN", "JOBS"], rows.collect())
}

/// How long ago it was seen, and how wrong its clock is. What was signed ahead of this machine's clock has no age.
fn last_seen(presence: &Presence, now: Millis) -> String {
    let ago = presence.is_dated().then(|| format!("{} ago", age(presence.last_seen_at(), now)));
    let span = age(Millis::new(0), Millis::new(i64::try_from(presence.clock().unsigned_abs()).unwrap_or(i64::MAX)));
    let clock = match presence.clock() {
        0 => None,
        ahead if ahead > 0 => Some(format!("clock {span} ahead")),
        _ => Some(format!("clock {span} behind")),
    };
    ago.into_iter().chain(clock).collect::<Vec<_>>().join(", ")
}

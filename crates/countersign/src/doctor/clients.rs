//! The clients: each asked, heard or not, and what it says about itself.

use std::future::pending;

use countersign_host::clock;
use countersign_machine::server::{Audience, CommandRequest, Options, Presence, Report, Verdict};
use countersign_protocol::command::{Builtin, Call};
use countersign_protocol::credential::Role;
use countersign_protocol::limits::{MAX_TTL, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::time::{Millis, span};
use countersign_server::{Follow, Operator};
use serde_json::Map;

use super::{Check, Findings, Level, Machine};
use crate::args::OperatorArgs;
use crate::cli_error::CliResult;
use crate::commands::clients::no_roster;
use crate::output::Output;
use crate::realm::Realm;
use crate::requests::{self, how_to_start};
use crate::text::counted;

/// How long the first answer of a client is waited for, in milliseconds.
const TIMEOUT: i64 = 3_000;
/// How long the question holds, in milliseconds.
const TTL: i64 = 10_000;
/// How many clients are named for one reason; of more their number is.
const MAX_NAMED: usize = 8;

/// Asks every client, as an operator of the folder.
pub(super) async fn examine(
    sender: &OperatorArgs,
    realm: &Realm,
    machine: &Machine,
    streams_are_known: bool,
    output: Output,
    found: &mut Findings,
) {
    if machine.of_role(Role::Operator).next().is_none() {
        return found.skipped(Check::Clients, "no operator's key is here, and only an operator can ask them");
    }
    let operator = match connect(sender, realm, output).await {
        Ok(operator) => operator,
        // Of several operators none is named, or the one that is named cannot be used: that is said already.
        Err(error) => return found.skipped(Check::Clients, format!("they were not asked: {}", error.what())),
    };
    if let Err(error) = ask(operator, streams_are_known, found).await {
        found.error(Check::Clients, Level::Broken, &error);
    }
}

async fn connect(sender: &OperatorArgs, realm: &Realm, output: Output) -> CliResult<Operator> {
    let member = realm.operator(sender)?;
    let opened = Realm::open(&sender.realm.keys)?;
    requests::connect(&sender.realm.broker, opened, member, Follow::Presence, output).await
}

async fn ask(mut operator: Operator, streams_are_known: bool, found: &mut Findings) -> CliResult<()> {
    if let Err(error) = operator.refresh().await {
        let is_said = streams_are_known && !found.is_clean(Check::Streams);
        return if is_said { Ok(()) } else { Err(no_roster(error)) };
    }
    if let Some(why) = operator.incomplete() {
        let hint = "`countersign clients forget NAME` for a retired client; else end whoever has its connection key";
        found.add(
            Check::Clients,
            Level::Warning,
            format!("the roster is incomplete: {why}"),
            "presences of clients only",
            hint,
        );
    }
    let known: Vec<Name> = operator.known().into_iter().cloned().collect();
    let there: Vec<Name> = known.iter().filter(|name| !is_gone(&operator, name)).cloned().collect();
    let report = match there.as_slice() {
        [] => None,
        there => Some(status(&mut operator, there).await?),
    };
    let mut remarks = Remarks::default();
    let (now, mut heard) = (clock::wall(), 0);
    for name in &known {
        let answer = report.as_ref().and_then(|report| report.replies.iter().find(|reply| reply.client == *name));
        let is_silent = |verdict: &Verdict| matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. });
        let has_answered = answer.is_some_and(|reply| !is_silent(&reply.verdict));
        heard += usize::from(has_answered);
        remark(name, has_answered, &operator, now, &mut remarks);
    }
    remarks.into_findings(found);
    found.fine(Check::Clients, format!("{heard} of {} answered", counted(known.len() as u64, "client")));
    Ok(())
}

/// What is to be said about clients, those of which the same is said together.
#[derive(Default)]
struct Remarks(Vec<Remark>);

struct Remark {
    check: Check,
    level: Level,
    what: &'static str,
    expected: &'static str,
    /// For the first of them.
    hint: String,
    clients: Vec<String>,
}

impl Remarks {
    fn add(
        &mut self,
        check: Check,
        level: Level,
        (what, expected): (&'static str, &'static str),
        client: String,
        hint: String,
    ) {
        match self.0.iter_mut().find(|known| known.what == what) {
            Some(known) => known.clients.push(client),
            None => self.0.push(Remark { check, level, what, expected, hint, clients: vec![client] }),
        }
    }

    fn into_findings(self, found: &mut Findings) {
        for Remark { check, level, what, expected, hint, clients } in self.0 {
            let more = clients.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let clients = clients.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
            found.add(check, level, format!("{what}: {clients}{more}"), expected, hint);
        }
    }
}

const EXPIRED: (&str, &str) =
    ("has an expired credential", "a credential in force: it runs nothing, and proves nothing");
const NEVER_HEARD: (&str, &str) = ("was never heard", "a client that has run once since `countersign setup`");
const ENDED: (&str, &str) = ("has ended", "a client that runs, or one that is removed from the roster");
const SILENT: (&str, &str) =
    ("does not answer", "an answer within 3 s: it has crashed, is cut off, or does not believe this operator");
const CLOCK: (&str, &str) =
    ("has another clock than this machine", "at most 5 s between them: until then it refuses what is sent from here");
const ENDS_SOON: (&str, &str) = ("has a credential that ends soon", "more than a third of its life left");
const OLDER_TRUST: (&str, &str) =
    ("holds an older trust bundle", "the newest version: it may still obey somebody who was revoked");

/// What is to be said about one client.
fn remark(name: &Name, has_answered: bool, operator: &Operator, now: Millis, remarks: &mut Remarks) {
    use Level::{Broken, Warning};
    let renew = || format!("countersign credential renew client {name}");
    if let Some(expired) = operator.roster().expired(name) {
        let client = format!("{name}, on {}", expired.expired_at().utc());
        return remarks.add(Check::Clients, Broken, EXPIRED, client, renew());
    }
    let presence = operator.roster().entry(name);
    match presence.map(Presence::state) {
        None if !has_answered => {
            let start = format!("countersign client --name {name}");
            return remarks.add(Check::Clients, Warning, NEVER_HEARD, name.to_string(), start);
        }
        Some(State::Terminated) => {
            let hint = format!(
                "start it again ({}), or `countersign clients forget {name}`",
                how_to_start(std::slice::from_ref(name))
            );
            return remarks.add(Check::Clients, Warning, ENDED, name.to_string(), hint);
        }
        _ if !has_answered => {
            let hint = format!("see its log on its machine, and `countersign watch --client {name}`");
            remarks.add(Check::Clients, Broken, SILENT, name.to_string(), hint);
        }
        _ => {}
    }
    let Some(presence) = presence else { return };
    let (clock, end) = (presence.clock(), presence.expires_at());
    if clock.abs() > SKEW {
        let how = if clock > 0 { "ahead" } else { "behind" };
        let client = format!("{name}, {} {how}", span(clock.abs()));
        remarks.add(Check::Clock, Broken, CLOCK, client, "timedatectl status, on both machines".to_owned());
    }
    if end <= now {
        remarks.add(Check::Clients, Broken, EXPIRED, format!("{name}, on {}", end.utc()), renew());
    } else if presence.term().ends_soon(now) {
        remarks.add(Check::Clients, Warning, ENDS_SOON, format!("{name}, on {}", end.utc()), renew());
    }
    let (held, newest) = (presence.info().trust.version, operator.trust().version());
    if held < newest {
        let client = format!("{name}, version {held} of {newest}");
        remarks.add(Check::Clients, Warning, OLDER_TRUST, client, "countersign trust publish".to_owned());
    }
}

/// Whether a client needs not be asked: it said that it ended, or can prove nothing.
fn is_gone(operator: &Operator, name: &Name) -> bool {
    let has_ended = operator.roster().entry(name).is_some_and(|it| it.state() == State::Terminated);
    has_ended || operator.roster().expired(name).is_some()
}

async fn status(operator: &mut Operator, clients: &[Name]) -> CliResult<Report> {
    let longest = operator.identity().credential().grant().map_or(MAX_TTL, |grant| grant.max_ttl_ms).min(MAX_TTL);
    let options = Options { timeout: TIMEOUT, ttl: TTL.min(longest), detach: false, retry: false, deadline: None };
    let request = CommandRequest::new(Call { name: Builtin::Status.into(), args: Map::new() }, false)?;
    let audience = Audience::Clients(clients.to_vec());
    let report = operator.request(request, &audience, options, pending(), |_| {}).await;
    report.map_err(|error| requests::failure(error, Some(operator)))
}

//! What every way of sending commands shares: the connection, the options, and the errors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use countersign_keys::Member;
use countersign_link::READABLE;
use countersign_machine::server::{
    self as machine, Audience, CommandRequest, Presence, Report, RequestError, TargetReport, Update, Verdict,
};
use countersign_protocol::command::{Builtin, Call, CommandKind, JobList, Recorded};
use countersign_protocol::credential::Role;
use countersign_protocol::ending::Ending;
use countersign_protocol::envelope::Identity;
use countersign_protocol::id::MessageId;
use countersign_protocol::json::read;
use countersign_protocol::limits::{MAX_TTL, MIN_MAX_PAYLOAD};
use countersign_protocol::name::Name;
use countersign_protocol::reply::ErrorCode;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use countersign_server::{Follow, Operator, OperatorConfig, OperatorError, OperatorEvent};
use serde_json::{Map, Value};

use crate::args::{BrokerArgs, SendArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::duration::Span;
use crate::history::{History, Recording, SentEntry};
use crate::output::{Gathering, Output, verdict_text};
use crate::parsing::Request;
use crate::realm::{Realm, one_of};
use crate::short_id::ShortId;
use crate::suggest::suggest;
use crate::text::{Text, code};
use crate::words;

/// How long the first reply is awaited, by default, in milliseconds.
const TIMEOUT: i64 = 5_000;
/// How long a command is valid, by default and where the grant allows it, in milliseconds.
const TTL: i64 = 30_000;

/// Whether the current folder is a clone of this project, with its recipes.
pub(crate) fn is_clone() -> bool {
    Path::new("just").is_file() && Path::new("scripts/client").is_file()
}

/// How clients that do not run are started: by the recipe where this is a clone that has it.
pub(crate) fn how_to_start(clients: &[Name]) -> String {
    let first = clients.first().map_or("NAME", Name::as_str);
    let recipe = match first {
        _ if !is_clone() => return format!("`countersign client --name {first}` on the machine that has its key"),
        "worker-1" => "./just up".to_owned(),
        other => format!("./just client {other}"),
    };
    format!("`{recipe}` if it ran here, else `countersign client --name {first}` on the machine that has its key")
}

/// Connects as an operator of a realm.
pub(crate) async fn connect(
    broker: &BrokerArgs,
    realm: Realm,
    member: Member,
    follow: Follow,
    output: Output,
) -> CliResult<Operator> {
    let folder = realm.folder;
    let enrolled = folder.names(Role::Client)?;
    let (address, trust) = (broker.address(), Arc::new(realm.trust));
    let accepted = Some(folder.accepted_trust(&trust.pin()));
    let config = OperatorConfig { broker: address, member, trust, accepted, follow, enrolled };
    let operator = Operator::connect(config).await.map_err(|error| match error {
        OperatorError::Link(error) => CliError::no_broker(error, broker, &folder),
        error => failure(error, None),
    })?;
    if operator.is_readable_by_others() {
        output.note(READABLE);
    }
    Ok(operator)
}

/// How a command is sent. What every client would refuse is not: a command that lives longer than the grant allows.
pub(crate) fn options(send: &SendArgs, identity: &Identity) -> CliResult<machine::Options> {
    let longest = identity.credential().grant().map_or(MAX_TTL, |grant| grant.max_ttl_ms).min(MAX_TTL);
    let ttl = send.ttl.map_or(TTL.min(longest), Span::millis);
    if ttl > longest {
        let (ttl, longest) = (Span::from_millis(ttl), Span::from_millis(longest));
        return Err(CliError::usage(format!("--ttl {ttl} is longer than a command of {} may live", identity.name()))
            .expected(format!("at most {longest}"))
            .hint(format!("--ttl {longest}, and --timeout for how long to wait")));
    }
    let timeout = send.timeout.map_or(TIMEOUT, Span::millis);
    let deadline = send.deadline.map(Span::millis);
    Ok(machine::Options { timeout, ttl, detach: send.detach, retry: send.retry, deadline })
}

/// What the history knows, where a request is about commands that were sent before.
pub(crate) fn known(request: &Request, history: &History) -> BTreeMap<MessageId, SentEntry> {
    let is_about_jobs = request.call.name.as_str() == Builtin::Jobs.name();
    if is_about_jobs || request.names_command() { history.known() } else { BTreeMap::new() }
}

/// To ask clients for their jobs: a part of an id may be that of one.
pub(crate) fn jobs() -> CliResult<CommandRequest> {
    Ok(CommandRequest::new(Call { name: Builtin::Jobs.into(), args: Map::new() }, false)?)
}

/// The command that a part of an id means: of the jobs that targets list, and of what was sent to them from here.
pub(crate) fn whole_id(
    short: &ShortId,
    known: &BTreeMap<MessageId, SentEntry>,
    audience: &Audience,
    jobs: &Report,
) -> CliResult<MessageId> {
    if let Some(id) = short.find(&ids(known, audience, jobs))? {
        return Ok(id);
    }
    let error = ShortId::unknown(short.as_str());
    let no_list = |reply: &&TargetReport| !matches!(reply.verdict, Verdict::Succeeded { .. });
    Err(match jobs.replies.iter().find(no_list) {
        Some(reply) => {
            let why = verdict_text(Builtin::Jobs.name(), None, &reply.verdict);
            error.expected(format!("the whole id: {} does not list its jobs ({why})", reply.client))
        }
        None => error,
    })
}

/// The ids that a part of one may mean: of the jobs that the targets list, and of what was sent to them from here.
fn ids(known: &BTreeMap<MessageId, SentEntry>, audience: &Audience, jobs: &Report) -> BTreeMap<MessageId, String> {
    let is_for = |entry: &&SentEntry| match audience {
        Audience::Clients(clients) => clients.iter().any(|client| entry.targets.contains_key(client)),
        Audience::Group(_) | Audience::All => true,
    };
    let sent = known.values().filter(is_for).map(|entry| (entry.command_id, entry.to_string()));
    let lists = jobs.replies.iter().filter_map(|reply| read::<JobList>(&reply.verdict.result()?).ok());
    let listed =
        lists.flat_map(|list| list.jobs).map(|job| (job.command_id, format!("{} of {}", job.command, job.operator)));
    listed.chain(sent).collect()
}

/// Writes what was sent into the history. Of a query for another command, what it finds out is written for that one, if the
/// history has it.
pub(crate) fn recording(
    request: &Request,
    dry_run: bool,
    sent: Option<(MessageId, Vec<Name>)>,
    known: &BTreeMap<MessageId, SentEntry>,
    history: &History,
) -> Option<Recording> {
    let Call { name, args } = &request.call;
    let builtin = Builtin::from_name(name.as_str());
    if builtin == Some(Builtin::Result) {
        let entry = known.get(&request.command_id()?)?;
        return Some(history.resume(entry.command_id, &entry.command));
    }
    let is_query = builtin.is_some_and(|builtin| builtin.kind() == CommandKind::Query);
    let (id, targets) = sent.filter(|_| !dry_run && !is_query)?;
    let args = if args.is_empty() { String::new() } else { Value::Object(args.clone()).to_string() };
    Some(history.record(id, name, &args, &request.audience.to_string(), targets))
}

/// Shows the updates that have arrived, where nobody waits for more.
pub(crate) fn show_updates(operator: &mut Operator, gathering: &mut Gathering) {
    while let Some(event) = operator.try_next() {
        if let OperatorEvent::Update { update, .. } = event {
            gathering.update(&update);
        }
    }
}

/// Shows the alarms that have arrived since the report on a request and cast doubt on it. Does not wait for more.
pub(crate) fn show_alarms(operator: &mut Operator, gathering: &mut Gathering) {
    operator.catch_up();
    while let Some(event) = operator.try_next() {
        if let OperatorEvent::Update { update: update @ Update::Notice { alarm: true, .. }, .. } = event {
            gathering.update(&update);
        }
    }
}

/// The warning in the last third of a credential's life, or in the last 30 days of the trust bundle; none before.
pub(crate) fn expiry_warning(identity: &Identity, trust: &Trust, now: Millis) -> Option<String> {
    let (own, bundle) = (identity.credential().term(), trust.term());
    if now >= own.warns_at() {
        return Some(Ending::Operator(identity.name()).sentence(own));
    }
    bundle.ends_soon(now).then(|| Ending::Trust.sentence(bundle))
}

/// The status that a report ends with.
pub(crate) fn exit(report: &Report) -> Exit {
    match report.exit_status() {
        0 if report.replies.iter().any(|reply| is_not_ended(report, reply)) => Exit::NotEnded,
        0 => Exit::Succeeded,
        3 => Exit::NoReply,
        6 => Exit::NotEnded,
        _ => Exit::Failed,
    }
}

/// Whether a query for a result found that the command runs.
fn is_not_ended(report: &Report, reply: &TargetReport) -> bool {
    let result = reply.verdict.result().filter(|_| report.command.as_str() == Builtin::Result.name());
    result.and_then(|result| read::<Recorded>(&result).ok()).is_some_and(|found| !found.status.is_final())
}

/// A request that failed before anything was sent, as an error; the operator knows what else could have been meant.
pub(crate) fn failure(error: OperatorError, operator: Option<&Operator>) -> CliError {
    match error {
        OperatorError::Link(error) => error.into(),
        OperatorError::Request(RequestError::UnknownClient(unknown)) => unknown_client(&unknown, operator),
        OperatorError::Request(RequestError::Nobody { ref audience, ended, .. }) => {
            nobody(&error, audience, ended, operator)
        }
        OperatorError::Request(RequestError::OverLimit { .. }) => {
            CliError::new(Exit::Broker, format!("{error}; nothing was sent"))
                .expected(format!("a broker that takes {MIN_MAX_PAYLOAD} bytes, or a smaller command"))
                .hint("raise `max_payload` in the broker's configuration, or send less")
        }
        OperatorError::Request(RequestError::NotInForce { .. }) => CliError::keys(format!("{error}; nothing was sent"))
            .expected("a credential that is in force; what is under way is still waited for")
            .hint("run `countersign credential renew` where issuer.pem is, and start again with the new credential"),
        OperatorError::Request(RequestError::Revoked { .. }) => CliError::keys(format!("{error}; nothing was sent"))
            .expected("a credential that the trust bundle in force vouches for")
            .hint("ask whoever keeps the realm; `countersign trust show` lists what is revoked"),
        OperatorError::Request(RequestError::Disconnected) => {
            CliError::new(Exit::Broker, "the connection to the broker is lost; nothing was sent")
                .expected("a broker; the connection is being made again by itself")
                .hint("give the command again when the broker is back")
        }
        OperatorError::Request(_) => CliError::usage(error)
            .expected("a command that its own schema allows; nothing was sent")
            .hint(code("schema NAME.args") + " shows what a built-in command takes"),
        OperatorError::Roster(_) => CliError::new(Exit::Broker, error)
            .expected("the stream of presences; without it nobody knows who is there, and nothing was sent")
            .hint("run `countersign setup` once, or name the clients one by one"),
        OperatorError::Silent(_) => CliError::new(Exit::Broker, format!("{error}; nothing was sent"))
            .expected("some part of it every few seconds, however slow the line; --timeout has no part in this")
            .hint(
                "run `countersign setup` once if the broker keeps no presences yet; else check the line to it, or name \
                 the clients one by one",
            ),
        OperatorError::ReplySubscriptionDenied(_) => CliError::new(Exit::Broker, format!("{error}; nothing was sent"))
            .expected("credentials of the broker (.creds) that let the operator receive its replies")
            .hint("compare the broker's accounts with nats/accounts.conf of this realm"),
        OperatorError::Interrupted => interrupted(Exit::Interrupted),
        OperatorError::Random(_) => CliError::new(Exit::Failed, error)
            .expected("random bytes from the operating system")
            .hint("run it again, on Linux 3.17 or later"),
    }
}

/// A signal, or the person, ended it, and nothing was sent.
pub(crate) fn interrupted(exit: Exit) -> CliError {
    CliError::new(exit, "interrupted before anything was sent")
}

/// The groups that some client of the roster is in.
pub(crate) fn groups(operator: &Operator) -> BTreeSet<&Name> {
    let roster = operator.roster();
    let expired = roster.all_expired().flat_map(|expired| expired.groups());
    roster.entries().flat_map(|presence| presence.groups()).chain(expired).collect()
}

/// There is no client of a name.
pub(crate) fn unknown_client(unknown: &Name, operator: Option<&Operator>) -> CliError {
    let known: Vec<Name> = operator.map(|it| it.known().into_iter().cloned().collect()).unwrap_or_default();
    let error = CliError::usage(format!(
        "{unknown} is no client that the roster or the folder of keys knows; nothing was sent"
    ))
    .expected(one_of("a client that is known", &known));
    match suggest(unknown.as_str(), known.iter().map(Name::as_str)) {
        Some(near) => error.hint(format!("name {near} instead")).meant(unknown, near),
        None => error.hint(
            code("clients")
                + " lists those that are known: each that has its key in the folder, or has run since \
                               `countersign setup`",
        ),
    }
}

/// The same error with what may have been meant, where a command is named that no target has.
pub(crate) fn meant_command(error: CliError, name: &Name, operator: &Operator) -> CliError {
    match near_command(name, operator) {
        Some(near) => error.meant(name, near),
        None => error,
    }
}

/// The command that is most like a name, of those that the clients of the roster have; none where one has that name.
fn near_command(name: &Name, operator: &Operator) -> Option<String> {
    let infos = operator.roster().entries().map(|presence| presence.info());
    let known: BTreeSet<&str> = infos.flat_map(|info| &info.commands).map(|it| it.name.as_str()).collect();
    if known.contains(name.as_str()) { None } else { suggest(name.as_str(), known).map(str::to_owned) }
}

/// What may have been meant, where a target answers that it has no command of the name that was asked for.
pub(crate) fn meant_by(call: &Call, report: &Report, typed: &[String], operator: &Operator) -> Option<Text> {
    let is_unknown = |reply: &TargetReport| {
        reply.verdict.error().is_some_and(|it| matches!(it.code, ErrorCode::NotFound | ErrorCode::UnknownCommand))
    };
    let name: Name = match Builtin::from_name(call.name.as_str()) {
        Some(Builtin::Describe) => call.args.get("command")?.as_str()?.parse().ok()?,
        Some(_) => return None,
        None => call.name.clone(),
    };
    let near = report.replies.iter().any(is_unknown).then(|| near_command(&name, operator))??;
    let line = words::replaced(typed, &[name.to_string()], &near)?;
    Some("there is a command of a similar name: " + code(words::line(line.iter().map(String::as_str))))
}

/// What is wrong with a group that no client of the roster is in.
pub(crate) fn unknown_group(group: &Name, operator: &Operator) -> Option<CliError> {
    let audience = Audience::Group(group.clone());
    let error = RequestError::Nobody { audience: audience.clone(), ended: 0, out_of_reach: 0 };
    (!groups(operator).contains(group)).then(|| nobody(&error.into(), &audience, 0, Some(operator)))
}

fn nobody(error: &OperatorError, audience: &Audience, ended: usize, operator: Option<&Operator>) -> CliError {
    let groups: Vec<Name> = operator.map(|it| groups(it).into_iter().cloned().collect()).unwrap_or_default();
    // A command that was right, in the second before anybody is there, or after all have ended.
    let empty =
        operator.is_some_and(|it| it.roster().entries().next().is_none() && it.roster().all_expired().next().is_none());
    let exit = if empty || ended > 0 { Exit::NoReply } else { Exit::Usage };
    let failure = CliError::new(exit, format!("{error}; nothing was sent"));
    match audience {
        _ if empty => failure
            .expected("a client that is there")
            .hint(code("clients") + " shows who is there; to start one: " + how_to_start(&[])),
        Audience::Group(group) if !groups.contains(group) => {
            let failure = failure
                .expected(one_of("a group that the roster knows", &groups))
                .hint(code("clients") + " shows who is there, and in which groups");
            match suggest(group.as_str(), groups.iter().map(Name::as_str)) {
                Some(near) => failure.hint(format!("@{near}")).meant(format!("@{group}"), format!("@{near}")),
                None => failure,
            }
        }
        _ if ended > 0 => {
            let of_audience = |it: &&Presence| match audience {
                Audience::Group(group) => it.groups().contains(group),
                Audience::Clients(_) | Audience::All => true,
            };
            let ended = operator.into_iter().flat_map(|operator| operator.roster().entries()).filter(of_audience);
            let ended: Vec<Name> = ended.map(|presence| presence.client().clone()).collect();
            failure.expected("a client that is there").hint(format!("start one again: {}", how_to_start(&ended)))
        }
        _ => failure
            .expected("a client that is there, and that the operator's grant reaches")
            .hint(code("clients") + " shows who is there"),
    }
}

impl From<RequestError> for CliError {
    fn from(error: RequestError) -> Self {
        failure(error.into(), None)
    }
}

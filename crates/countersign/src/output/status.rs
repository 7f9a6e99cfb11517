//! The answers to `status` and `jobs`, for people.

use std::collections::{BTreeMap, BTreeSet};

use countersign_protocol::command::{ClientInfo, CommandKind, Job, JobList};
use countersign_protocol::ending::Term;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Progress;
use countersign_protocol::text::echo;
use countersign_protocol::time::Millis;

use super::table;
use crate::duration::humanize;
use crate::history::SentEntry;
use crate::short_id::shorten;
use crate::text::cut;
use crate::words::pairs;

/// How much of a job's arguments is shown, in characters.
const MAX_ARGS: usize = 32;
/// Where they stand in a row.
const ARGUMENTS: usize = 3;

/// A client's status, in a block.
pub(super) fn block(client: &Name, info: &ClientInfo, credential: Option<Term>, now: Millis) -> String {
    let commands = |of: CommandKind| {
        let names: Vec<&str> = info.commands.iter().filter(|it| it.kind == of).map(|it| it.name.as_str()).collect();
        names.join(", ")
    };
    let groups: Vec<&str> = info.groups.iter().map(Name::as_str).collect();
    let dropped: Vec<String> = info.dropped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let until = |term: Term| format!("until {}{}", term.until().utc(), term.mark(now));
    let rows = [
        ("state", info.state.to_string()),
        ("jobs", format!("{} of {}", info.jobs.running, info.jobs.limit)),
        ("started", format!("{}, {} ago", info.started_at.utc(), age(info.started_at, now))),
        ("version", echo(&info.version)),
        ("groups", groups.join(", ")),
        ("credential", credential.map(until).unwrap_or_default()),
        ("trust", format!("version {}, {}", info.trust.version, until(Term::of_trust(info.trust.expires_at)))),
        ("commands", commands(CommandKind::Data)),
        ("epoch", info.epoch.to_string()),
        ("boot", info.boot.to_string()),
        ("dropped", dropped.join(", ")),
    ];
    let mut lines = vec![client.to_string()];
    for (label, value) in rows {
        let value = if value.is_empty() { "-" } else { &value };
        lines.push(format!("  {label:10} {value}"));
    }
    lines.join("\n")
}

/// A table of the jobs of clients.
pub(super) fn jobs<'a>(
    lists: impl IntoIterator<Item = (&'a Name, &'a JobList)>,
    known: &BTreeMap<MessageId, SentEntry>,
    now: Millis,
) -> String {
    let lists: Vec<(&Name, &JobList)> = lists.into_iter().collect();
    let ids: BTreeSet<&MessageId> =
        lists.iter().flat_map(|(_, list)| &list.jobs).map(|job| &job.command_id).chain(known.keys()).collect();
    let mut rows = Vec::new();
    let mut more = Vec::new();
    for (client, list) in lists {
        rows.extend(list.jobs.iter().map(|job| {
            let args = known.get(&job.command_id).map_or("", |entry| entry.args.as_str());
            row(
                client,
                job,
                shorten(&job.command_id, ids.iter().copied()),
                cut(&pairs(args), MAX_ARGS).into_owned(),
                now,
            )
        }));
        if list.more {
            more.push(format!("{client}: more than these"));
        }
    }
    if rows.is_empty() {
        return "no jobs, and none is remembered".to_owned();
    }
    let mut head = vec!["CLIENT", "ID", "COMMAND", "ARGUMENTS", "BY", "STATUS", "TIME"];
    if rows.iter().all(|row| row.get(ARGUMENTS).is_none_or(String::is_empty)) {
        head.remove(ARGUMENTS);
        rows.iter_mut().for_each(|row| drop(row.remove(ARGUMENTS)));
    }
    let mut lines = vec![table(&head, rows)];
    lines.extend(more);
    lines.join("\n")
}

/// How much is done.
pub(super) fn percent(progress: &Progress) -> String {
    format!("{:.0} %", progress.fraction * 100.0)
}

fn row(client: &Name, job: &Job, id: String, args: String, now: Millis) -> Vec<String> {
    let time = match job.ended_at {
        None => format!("for {}", age(job.started_at, now)),
        Some(ended_at) => format!("{}, {} ago", age(job.started_at, ended_at), age(ended_at, now)),
    };
    let status = match &job.progress {
        Some(progress) if job.ended_at.is_none() => percent(progress),
        _ => job.status.to_string(),
    };
    vec![client.to_string(), id, job.command.to_string(), args, job.operator.to_string(), status, time]
}

/// How long ago something was, or how long it took; nothing is shorter than nothing, whatever the clocks say.
pub(super) fn age(from: Millis, to: Millis) -> String {
    #[expect(clippy::cast_precision_loss, reason = "the milliseconds of some centuries")]
    let millis = to.since(from).max(0) as f64;
    if millis < 1_000.0 { format!("{:.1} s", millis / 1_000.0) } else { humanize(millis) }
}

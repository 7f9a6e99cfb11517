//! Replies as they arrive, and the verdicts when all are known.

use std::collections::{BTreeMap, BTreeSet};

use countersign_machine::server::{Report, TargetReport, Update, Verdict};
use countersign_protocol::command::{Builtin, ClientInfo, CommandKind, Description, JobList};
use countersign_protocol::id::MessageId;
use countersign_protocol::json::{JsonText, read};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, Outcome, Progress, State, Status};
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use serde::Serialize;

use super::answer::{MAX_ANSWER, answer, program, reply_text, verdict};
use super::{Output, describe, status, table};
use crate::args::{Format, WAIT};
use crate::cli_error::{CliError, CliResult};
use crate::duration::humanize;
use crate::history::{Recording, SentEntry};
use crate::requests::how_to_start;
use crate::short_id::short;
use crate::text::{Text, code, counted, cut};

/// How many clients a command that is suggested names.
const MAX_CLIENTS: usize = 8;

/// Prints the replies and verdicts of one request in the chosen format.
#[derive(Debug)]
pub(crate) struct Gathering {
    output: Output,
    format: Format,
    /// Whose verdict was shown as it arrived: printed, in `ndjson`, else counted.
    shown: BTreeSet<Name>,
    /// How far each target is that has replied, from 0 to 1.
    fractions: BTreeMap<Name, f64>,
    /// The first line that could not be printed.
    failed: Option<CliError>,
    /// Why the roster was not read completely for this request, if it was not.
    roster_incomplete: Option<String>,
    /// What is written of it into the history.
    recording: Option<Recording>,
    /// What the history knows of the commands that it is about.
    known: BTreeMap<MessageId, SentEntry>,
    /// Whether what its jobs write is shown before the verdicts.
    is_followed: bool,
}

impl Gathering {
    /// Nothing has arrived yet.
    pub(crate) fn new(output: Output, format: Format) -> Self {
        let (recording, known) = (None, BTreeMap::new());
        let (shown, fractions) = (BTreeSet::new(), BTreeMap::new());
        Self {
            output,
            format,
            shown,
            fractions,
            failed: None,
            roster_incomplete: None,
            recording,
            known,
            is_followed: false,
        }
    }

    /// Adds to the verdicts that there may be clients of which nothing is known.
    pub(crate) fn incomplete(&mut self, why: Option<&str>) {
        self.roster_incomplete = why.map(str::to_owned);
    }

    /// Writes what comes of it into the history too.
    pub(crate) fn record(&mut self, recording: Option<Recording>) {
        self.recording = recording;
    }

    /// Shows what the history knows of the commands that it is about.
    pub(crate) fn knowing(&mut self, known: BTreeMap<MessageId, SentEntry>) {
        self.known = known;
    }

    /// What its jobs write is shown before the verdicts.
    pub(crate) fn following(&mut self) {
        self.is_followed = true;
    }

    /// Shows an update while verdicts are awaited.
    pub(crate) fn update(&mut self, update: &Update) {
        if let (Some(recording), Update::Reply { client, outcome, .. }) = (&mut self.recording, update) {
            recording.reply(client, outcome);
        }
        match update {
            Update::Notice { client: None, alarm, text } => self.output.notice(*alarm, text),
            Update::Notice { alarm: true, text, .. } => self.output.alarm(text),
            Update::Notice { text, .. } => self.output.note(text),
            // It is for a prompt; a single command shows its own replies only.
            Update::ClientEvent { .. } => {}
            Update::Reply { client, command_id, outcome, state, latency_ms, .. } => {
                self.fractions.insert(client.clone(), fraction(outcome));
                if self.format == Format::Ndjson {
                    let printed = self.output.json(&self.arrival(client, *command_id, outcome, *state, *latency_ms));
                    self.failed = self.failed.take().or(printed.err());
                } else if !outcome.status().is_final() && self.fractions.len() > 1 {
                    self.output.progress(&overall(&self.fractions));
                } else if let Outcome::Accepted = outcome {
                    self.output.progress(&format!("{client}: accepted; Ctrl-C stops waiting, not the job"));
                } else if let Outcome::Progress(progress) = outcome {
                    let message = progress.message.as_deref().unwrap_or("done");
                    self.output.progress(&format!("{client}: {} {message}", status::percent(progress)));
                } else {
                    self.shown.insert(client.clone());
                    let count = self.shown.len();
                    self.output.progress(&format!("{count} answered, {client} last; Ctrl-C stops waiting"));
                }
            }
        }
    }

    /// Shows a final reply at once, as a line for people: the report on all targets may be long in coming.
    pub(crate) fn stream(&self, client: &Name, command_id: MessageId, outcome: &Outcome) {
        if self.format == Format::Table && outcome.status().is_final() {
            let command = self.recording.as_ref().map_or("", |recording| recording.command().as_str());
            self.output.reply(&format!("{client}: {} ({})", reply_text(command, outcome), short(&command_id)));
        }
    }

    /// Prints what is known at the end; `now` is for ages.
    pub(crate) fn finish(mut self, report: &Report, now: Millis) -> CliResult<()> {
        if let Some(recording) = &mut self.recording {
            recording.report(report);
        }
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if report.gaps > 0 {
            self.output
                .note(format!("{} missing, by their numbers", are(report.gaps, "interim reply", "interim replies")));
        }
        match self.format {
            Format::Json => self.output.json(&Document::of(report, true, self.roster_incomplete.as_deref())),
            Format::Ndjson => {
                let not_shown = report.replies.iter().filter(|reply| !self.shown.contains(&reply.client));
                not_shown
                    .map(|reply| Line { command_id: Some(reply.command_id), ..Line::of(reply, report) })
                    .try_for_each(|line| self.output.json(&line))?;
                self.output.json(&Document::of(report, false, self.roster_incomplete.as_deref()))
            }
            Format::Table => {
                if !(self.output.is_quiet() && says_no_more_than_success(report)) {
                    let about = self.recording.as_ref().map(Recording::command);
                    self.output.text(&for_people(report, about, &self.known, self.is_followed, now))?;
                }
                let offline = report.replies.iter().filter(|reply| matches!(reply.verdict, Verdict::Offline { .. }));
                let offline: Vec<Name> = offline.map(|reply| reply.client.clone()).collect();
                if !offline.is_empty() {
                    self.output.note(format!("to start a client that does not run: {}", how_to_start(&offline)));
                }
                if let Some(note) = what_runs(report) {
                    self.output.note(note);
                }
                Ok(())
            }
        }
    }

    /// The line of a reply as it arrives: with its verdict if that is for good, else with its status.
    fn arrival<'a>(
        &mut self,
        client: &'a Name,
        command_id: MessageId,
        outcome: &'a Outcome,
        state: State,
        latency_ms: f64,
    ) -> Line<'a> {
        let status = outcome.status();
        let (mut result, mut error, mut progress) = (None, None, None);
        match outcome {
            Outcome::Accepted => {}
            Outcome::Progress(of) => progress = Some(of),
            Outcome::Succeeded(of) => result = Some(JsonText::from(of)),
            Outcome::Failed(of) | Outcome::Refused(of) | Outcome::Cancelled(of) | Outcome::Interrupted(of) => {
                error = Some(of);
            }
        }
        let for_good = status.is_final() && error.is_none_or(|error| error.code.is_recorded());
        let is_shown = for_good && self.shown.insert(client.clone());
        Line {
            client,
            command_id: Some(command_id),
            verdict: is_shown.then_some(status.as_str()),
            is_final: is_shown.then_some(true),
            status: (!is_shown).then_some(status),
            state: Some(state),
            result,
            error,
            progress,
            latency_ms: Some(latency_ms),
            boots: None,
        }
    }
}

/// What `-o json` prints, and without `replies` the last line of `-o ndjson`.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    command_id: MessageId,
    command: &'a Name,
    targets: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    replies: Option<Vec<Line<'a>>>,
    summary: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roster_incomplete: Option<&'a str>,
    /// The `boots` of each client that has them, where there are no `replies` to show them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    boots: BTreeMap<&'a Name, usize>,
}

impl<'a> Document<'a> {
    pub(super) fn of(report: &'a Report, with_replies: bool, roster_incomplete: Option<&'a str>) -> Self {
        let doubtful = report.replies.iter().filter(|reply| reply.processes > 1 && !with_replies);
        Self {
            command_id: report.command_id,
            command: &report.command,
            targets: report.replies.len(),
            replies: with_replies.then(|| report.replies.iter().map(|reply| Line::of(reply, report)).collect()),
            summary: report.summary(),
            roster_incomplete,
            boots: doubtful.map(|reply| (&reply.client, reply.processes)).collect(),
        }
    }
}

/// One reply or verdict.
#[derive(Serialize)]
struct Line<'a> {
    client: &'a Name,
    /// In `ndjson`, for lines of several requests may be mixed; in `json` where it is another than the report's: it was sent
    /// the request again.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    /// Beside a verdict: whether nothing that comes later can change it, since it rests on a reply that is on record.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<JsonText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    /// How many processes answer as the client, where it may be more than one: the verdict is the word of one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    boots: Option<usize>,
}

impl<'a> Line<'a> {
    fn of(reply: &'a TargetReport, report: &Report) -> Self {
        Self {
            client: &reply.client,
            command_id: Some(reply.command_id).filter(|id| *id != report.command_id),
            verdict: Some(reply.verdict.word()),
            is_final: Some(reply.is_final),
            status: None,
            state: reply.state,
            result: reply.verdict.result_text().cloned(),
            error: reply.verdict.error(),
            progress: None,
            latency_ms: reply.latency_ms,
            boots: Some(reply.processes).filter(|processes| *processes > 1),
        }
    }
}

/// Whether the exit status says it all: every target succeeded at a command whose result is nothing that was asked for.
fn says_no_more_than_success(report: &Report) -> bool {
    let builtin = Builtin::from_name(report.command.as_str());
    builtin.is_some_and(|builtin| builtin.kind() != CommandKind::Query)
        && report.replies.iter().all(|reply| matches!(reply.verdict, Verdict::Succeeded { .. }))
}

/// What to type about what runs on, if something does.
fn what_runs(report: &Report) -> Option<Text> {
    let mut running = report.replies.iter().filter(|reply| reply.verdict == Verdict::Accepted);
    let first = running.next()?;
    let others: Vec<&TargetReport> = running.filter(|reply| reply.command_id == first.command_id).collect();
    let clients = match others.len() {
        0..MAX_CLIENTS => {
            [first].iter().chain(&others).map(|reply| reply.client.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => first.client.to_string(),
    };
    let id = short(&first.command_id);
    let wait = code(format!("wait {clients} {id}"));
    Some(if report.detached {
        wait + " waits for its end, and " + code(format!("result {clients} {id}")) + " shows how far it is"
    } else {
        "it runs on and was not cancelled; "
            + wait
            + " waits again, and "
            + code(format!("cancel {clients} {id}"))
            + " cancels it"
    })
}

/// The verdicts as text; what comes from clients is escaped. A report on a command that was sent before is `about` that one.
pub(super) fn for_people(
    report: &Report,
    about: Option<&Name>,
    known: &BTreeMap<MessageId, SentEntry>,
    is_followed: bool,
    now: Millis,
) -> String {
    let command = match about {
        Some(about) if report.command.as_str() == WAIT => about.as_str(),
        _ => report.command.as_str(),
    };
    if let [only] = report.replies.as_slice() {
        return alone(command, only, about, known, is_followed, now);
    }
    if command == Builtin::Jobs.name() {
        return jobs_of_many(report, known, now);
    }
    let rows = report.replies.iter().map(|reply| {
        vec![
            reply.client.to_string(),
            reply.verdict.word().to_owned(),
            reply.state.map_or_else(|| "-".to_owned(), |state| state.to_string()),
            cut(&answer(command, about, &reply.verdict), MAX_ANSWER).into_owned(),
            reply.latency_ms.map_or_else(|| "-".to_owned(), humanize),
        ]
    });
    let table = table(&["CLIENT", "VERDICT", "STATE", "ANSWER", "TIME"], rows.collect());
    format!("{table}\n\n{}", summary(report))
}

/// How far a target is, by its latest reply.
fn fraction(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Accepted => 0.0,
        Outcome::Progress(progress) => progress.fraction,
        _ => 1.0,
    }
}

/// How far all targets are that have replied, and which of them is last.
fn overall(fractions: &BTreeMap<Name, f64>) -> String {
    let percent = |fraction: f64| format!("{:.0} %", fraction * 100.0);
    let mean = fractions.values().sum::<f64>() / f64::from(u32::try_from(fractions.len()).unwrap_or(u32::MAX)).max(1.0);
    let last = fractions.iter().min_by(|(_, one), (_, other)| one.total_cmp(other));
    let last = last.map(|(client, fraction)| format!(", {client} last at {}", percent(*fraction))).unwrap_or_default();
    let targets = counted(fractions.len() as u64, "target");
    format!("{} of {targets}{last}; Ctrl-C stops waiting, not the jobs", percent(mean))
}

/// `3 targets: 2 succeeded, 1 no_reply`.
fn summary(report: &Report) -> String {
    let counts: Vec<String> = report.summary().iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{}: {}", counted(report.replies.len() as u64, "target"), counts.join(", "))
}

fn alone(
    command: &str,
    reply: &TargetReport,
    about: Option<&Name>,
    known: &BTreeMap<MessageId, SentEntry>,
    is_followed: bool,
    now: Millis,
) -> String {
    let client = &reply.client;
    let result = reply.verdict.result();
    if command == Builtin::Status.name()
        && let Some(info) = result.as_ref().and_then(|result| read::<ClientInfo>(result).ok())
    {
        return status::block(client, &info, reply.credential, now);
    }
    if command == Builtin::Jobs.name()
        && let Some(list) = result.as_ref().and_then(|result| read::<JobList>(result).ok())
    {
        return status::jobs([(client, &list)], known, now);
    }
    if command == Builtin::Describe.name()
        && let Some(description) = result.as_ref().and_then(|result| read::<Description>(result).ok())
    {
        return describe::block(client, &description);
    }
    let latency = reply.latency_ms.filter(|_| !matches!(reply.verdict, Verdict::Accepted));
    let time = latency.map(|latency| format!(", in {}", humanize(latency))).unwrap_or_default();
    if let Some((text, program)) = program(command, &reply.verdict) {
        return format!("{client}: {}{time}{}", escape(&text), program.rows(is_followed));
    }
    format!("{client}: {}{time}", escape(&verdict(command, about, &reply.verdict)))
}

/// One table of all jobs, and below it a line for each client that did not list any.
fn jobs_of_many(report: &Report, known: &BTreeMap<MessageId, SentEntry>, now: Millis) -> String {
    let lists: Vec<(&Name, JobList)> =
        report.replies.iter().filter_map(|reply| Some((&reply.client, read(&reply.verdict.result()?).ok()?))).collect();
    let mut lines = Vec::new();
    // Where nobody has listed any, it is not known that there are none.
    if !lists.is_empty() {
        lines.push(status::jobs(lists.iter().map(|(client, list)| (*client, list)), known, now));
    }
    let listed: BTreeSet<&Name> = lists.iter().map(|(client, _)| *client).collect();
    for reply in report.replies.iter().filter(|reply| !listed.contains(&reply.client)) {
        let text = verdict(report.command.as_str(), None, &reply.verdict);
        lines.push(format!("{}: {}", reply.client, escape(&text)));
    }
    lines.push(format!("\n{}", summary(report)));
    lines.join("\n")
}

fn are(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one} is") } else { format!("{count} {many} are") }
}

#[cfg(test)]
mod progress_tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn the_progress_of_many_is_one_line_that_names_the_last() {
        let done = Outcome::Succeeded(serde_json::Value::Null);
        let half = Outcome::Progress(Progress { fraction: 0.5, message: None });
        let replies = [("worker-1", &done), ("worker-2", &Outcome::Accepted), ("worker-3", &half)];
        let fractions = replies.map(|(client, outcome)| (client.parse().unwrap(), fraction(outcome))).into();
        let expected = "50 % of 3 targets, worker-2 last at 0 %; Ctrl-C stops waiting, not the jobs";
        assert_eq!(overall(&fractions), expected);
    }
}

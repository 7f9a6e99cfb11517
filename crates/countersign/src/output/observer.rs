//! What was seen on the broker: a line for people, or one of JSON.

#[cfg(test)]
#[path = "../../../machine/src/observer/fixture.rs"]
mod fixture;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use anstyle::AnsiColor;
use countersign_protocol::command::Command;
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::name::Name;
use countersign_protocol::renewal::{RenewalAnswer, RenewalRequest};
use countersign_protocol::reply::{Outcome, Reply};
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Map, Value};

use super::status::percent;
use super::{Output, json};
use crate::args::Format;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::text::counted;
use countersign_machine::observer::{Gap, Kind, Observation, ObservedMessage, Occurrence, VerifiedMessage};

/// How much of a message's text is shown to people, in characters before they are escaped.
const MAX_SUMMARY: usize = 240;
/// How much of a subject is shown to people.
const MAX_SUBJECT: usize = 96;

/// How often it is looked whether anybody reads standard output still.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Output {
    /// Prints what was seen in a line of its own; `false` where nobody reads any more.
    pub(crate) fn observation(self, observation: &Observation, format: Format) -> CliResult<bool> {
        let unwritable = |error| {
            CliError::new(Exit::Failed, format!("standard output cannot be written: {error}"))
                .expected("a place for what is seen")
                .hint("free some space, or print it elsewhere")
        };
        let line = match format {
            Format::Table => for_people(observation),
            Format::Json | Format::Ndjson => {
                json::line(&Line::of(observation)).map_err(|error| unwritable(io::Error::other(error)))?
            }
        };
        self.clear();
        super::stderr::flush(super::IN_ORDER);
        let mut stdout = anstream::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(unwritable(error)),
        }
    }
}

/// Whether anybody reads standard output still. Who watches for something rare would not learn otherwise that its reader has
/// gone.
pub(crate) fn is_read() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    // Where the system does not report it, writing the next line does.
    poll(&mut polled, Some(&Timespec::default())).is_err()
        || !polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// One line with its colours, which are taken out where they do not belong.
pub(super) fn for_people(observation: &Observation) -> String {
    match observation {
        Observation::Gap(gap) => line(gap.at, ("gap", AnsiColor::Yellow), "-", gap.client.as_str(), &missing(gap)),
        Observation::Message(seen) => {
            let mark = match (&seen.verdict, seen.occurrence) {
                (Ok(_), Occurrence::First) => ("ok", AnsiColor::Green),
                (Ok(_), Occurrence::Again) => ("ok again", AnsiColor::Yellow),
                (Ok(_), Occurrence::Late) => ("ok late", AnsiColor::Yellow),
                (Err(rejected), _) => (rejected.reason.as_str(), AnsiColor::Red),
            };
            line(seen.at, mark, seen.kind.as_str(), &who(seen), &summary(seen))
        }
    }
}

fn line(at: Millis, (mark, colour): (&str, AnsiColor), kind: &str, who: &str, summary: &str) -> String {
    let time = Timestamp::from_millisecond(at.get()).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S%.3fZ");
    let style = colour.on_default();
    format!("{time}  {style}{mark:10}{style:#}  {kind:8}  {who:24}  {}", shown(summary, MAX_SUMMARY))
}

fn who(seen: &ObservedMessage) -> String {
    let to = seen.to();
    match (&seen.verdict, seen.from()) {
        (Ok(VerifiedMessage::Trust(..)), _) => "roots → everyone".to_owned(),
        (Ok(_), Some(from)) => format!("{from} → {}", to.as_deref().unwrap_or("everyone")),
        (Err(_), Some(signer)) => format!("{signer} → ?"),
        (_, None) => "?".to_owned(),
    }
}

fn summary(seen: &ObservedMessage) -> String {
    match &seen.verdict {
        Ok(VerifiedMessage::Command(command)) => of_command(command),
        Ok(VerifiedMessage::Reply(reply, outcome, command)) => {
            let command = command.as_ref().map_or_else(|| reply.command_id.to_string(), ToString::to_string);
            format!("{command} {}{}", reply.status, of_outcome(outcome))
        }
        Ok(VerifiedMessage::Event(event, data)) => of_event(event, data),
        Ok(VerifiedMessage::Trust(trust, _)) => {
            format!("version {}, until {}", trust.version(), trust.expires_at().utc())
        }
        Ok(VerifiedMessage::RenewalRequest(_)) => "asks for its next credential".to_owned(),
        Ok(VerifiedMessage::RenewalAnswer(answer)) => match &answer.error {
            None => "with its next credential".to_owned(),
            Some(error) => format!("with no credential, {}: {}", error.code, error.message),
        },
        Err(rejected) => format!("{}: {}", shown(&seen.subject, MAX_SUBJECT), rejected.detail),
    }
}

fn of_command(command: &Command) -> String {
    let mut text = command.command.name.to_string();
    if !command.command.args.is_empty() {
        text = format!("{text} {}", Value::Object(command.command.args.clone()));
    }
    if command.dry_run.is_some() { format!("{text} (dry run)") } else { text }
}

fn of_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted => String::new(),
        Outcome::Progress(progress) => {
            format!(" {} {}", percent(progress), progress.message.as_deref().unwrap_or_default())
        }
        Outcome::Succeeded(result) => format!(" {result}"),
        Outcome::Failed(error) | Outcome::Refused(error) | Outcome::Cancelled(error) | Outcome::Interrupted(error) => {
            format!(" {}: {}", error.code, error.message)
        }
    }
}

fn of_event(event: &Event, data: &EventData) -> String {
    match data {
        EventData::Presence(info) => {
            let jobs = info.jobs;
            format!("{}, {} of {} jobs, version {}", event.state, jobs.running, jobs.limit, info.version)
        }
        EventData::Job(job) => format!("{} {} of {}, {}", job.command, job.status, job.operator, job.command_id),
        EventData::Security(security) => {
            let signer = security.signer.as_ref().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
            format!("{}, {}{signer}", security.reason, counted(security.count, "time"))
        }
    }
}

fn missing(gap: &Gap) -> String {
    let (count, are) = (counted(gap.missing, "message"), if gap.missing == 1 { "is" } else { "are" });
    let why = if gap.away { "perhaps sent while this watch was cut off" } else { "lost, removed or held back" };
    format!("{count} of {} {are} missing here: {why}", gap.client)
}

/// Text of others, cut and escaped.
fn shown(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => escape(text).into_owned(),
        Some((end, _)) => format!("{}…", escape(text.get(..end).unwrap_or_default())),
    }
}

/// A line of `-o ndjson`.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    at: Millis,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    again: bool,
    #[serde(skip_serializing_if = "is_false")]
    late: bool,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
}

/// The whole of a message that holds.
#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Command(&'a Command),
    Reply(&'a Reply),
    Event(&'a Event),
    Trust(&'a Map<String, Value>),
    RenewalRequest(&'a RenewalRequest),
    RenewalAnswer(&'a RenewalAnswer),
}

impl<'a> Line<'a> {
    pub(super) fn of(observation: &'a Observation) -> Self {
        let seen = match observation {
            Observation::Message(seen) => seen,
            Observation::Gap(gap) => {
                return Self {
                    at: gap.at,
                    verdict: Kind::Gap.as_str(),
                    detail: Some(missing(gap)),
                    again: false,
                    late: false,
                    kind: Kind::Gap.as_str(),
                    subject: None,
                    from: Some(gap.client.as_str()),
                    to: None,
                    missing: Some(gap.missing),
                    message: None,
                };
            }
        };
        let rejected = seen.verdict.as_ref().err();
        Self {
            at: seen.at,
            verdict: rejected.map_or("ok", |rejected| rejected.reason.as_str()),
            detail: rejected.map(|rejected| rejected.detail.clone()),
            again: seen.occurrence == Occurrence::Again,
            late: seen.occurrence == Occurrence::Late,
            kind: seen.kind.as_str(),
            subject: Some(&seen.subject),
            from: seen.from().map(Name::as_str),
            to: seen.to(),
            missing: None,
            message: seen.verdict.as_ref().ok().map(|genuine| match genuine {
                VerifiedMessage::Command(command) => Message::Command(command),
                VerifiedMessage::Reply(reply, ..) => Message::Reply(reply),
                VerifiedMessage::Event(event, _) => Message::Event(event),
                VerifiedMessage::Trust(_, payload) => Message::Trust(payload),
                VerifiedMessage::RenewalRequest(request) => Message::RenewalRequest(request),
                VerifiedMessage::RenewalAnswer(answer) => Message::RenewalAnswer(answer),
            }),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

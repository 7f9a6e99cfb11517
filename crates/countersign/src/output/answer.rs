//! What a client's answer comes to, in a line for people.

use countersign_machine::server::Verdict;
use countersign_protocol::command::{Builtin, DryRun, Recorded};
use countersign_protocol::json::read;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Outcome;
use serde_json::Value;

use super::client_event::outcome_text;
use crate::builtin::describe;
use crate::program_report::ProgramReport;
use crate::text::{error_text, reply_error};

/// How much of an answer is shown in a table of many, in characters; in JSON it is whole.
pub(super) const MAX_ANSWER: usize = 4_096;

/// What a verdict says beside its word. Where the command is a query for the result of another one, that is what it is about.
pub(crate) fn answer(command: &str, about: Option<&Name>, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Succeeded { result: Some(result) } => result_text(command, about, &result.value()),
        Verdict::Accepted => "it runs on".to_owned(),
        Verdict::Failed { error }
        | Verdict::Refused { error }
        | Verdict::Cancelled { error }
        | Verdict::Interrupted { error } => {
            let not_run = verdict.remark().map(|remark| format!("{remark}: ")).unwrap_or_default();
            not_run + &reply_error(verdict.word(), error)
        }
        Verdict::Succeeded { result: None } | Verdict::NoReply { .. } | Verdict::Offline { .. } => {
            verdict.remark().unwrap_or_default().to_owned()
        }
    }
}

/// The same with the word, where the answer does not tell it.
pub(crate) fn verdict(command: &str, about: Option<&Name>, verdict: &Verdict) -> String {
    let text = answer(command, about, verdict);
    match verdict {
        Verdict::Succeeded { result: Some(_) } | Verdict::NoReply { .. } => text,
        Verdict::Refused { .. } if verdict.remark().is_some() => text,
        Verdict::Accepted => format!("{}; {text}", verdict.word()),
        _ => format!("{}: {text}", verdict.word()),
    }
}

/// A final reply to a command.
pub(crate) fn reply_text(command: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(_) => format!("succeeded, {}", reply_answer(command, outcome)),
        _ => outcome_text(outcome),
    }
}

/// What a reply says beside its status.
pub(crate) fn reply_answer(command: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(result) => result_text(command, None, result),
        Outcome::Failed(error) | Outcome::Refused(error) | Outcome::Cancelled(error) | Outcome::Interrupted(error) => {
            reply_error(outcome.status().as_str(), error)
        }
        Outcome::Accepted | Outcome::Progress(_) => "it ran when this was written".to_owned(),
    }
}

/// The result of a command that succeeded.
fn result_text(command: &str, about: Option<&Name>, result: &Value) -> String {
    if read::<DryRun>(result).is_ok() {
        return "would run".to_owned();
    }
    if let (Some(about), Ok(Recorded { operator, result: Some(result), .. })) = (about, read::<Recorded>(result)) {
        return format!("succeeded ({operator}'s command): {}", result_text(about.as_str(), None, &result));
    }
    let builtin = Builtin::from_name(command);
    builtin.and_then(|builtin| (describe(builtin).answer)(result)).unwrap_or_else(|| other_result(result))
}

/// The result of a command that is not built in.
pub(crate) fn other_result(result: &Value) -> String {
    ProgramReport::of_result(result).map_or_else(|| result.to_string(), |report| report.line())
}

/// What an answer says of a program that ran: the verdict in a line, and what stands below it.
pub(super) fn program(command: &str, verdict: &Verdict) -> Option<(String, ProgramReport)> {
    let of_record = |recorded: Recorded| {
        let report = match (&recorded.result, &recorded.error) {
            (Some(result), _) => ProgramReport::of_result(result)?,
            (None, error) => ProgramReport::of_error(error.as_ref()?)?,
        };
        let by = format!("{} ({}'s command)", recorded.status, recorded.operator);
        let how = match &recorded.error {
            Some(error) => Some(error_text(recorded.status.as_str(), error)),
            None => report.exit(),
        };
        Some((joined(&by, how), report))
    };
    match verdict {
        Verdict::Succeeded { result: Some(result) } => {
            let result = result.value();
            if command == Builtin::Result.name() {
                return read(&result).ok().and_then(of_record);
            }
            let report = ProgramReport::of_result(&result)?;
            Some((joined(verdict.word(), report.exit()), report))
        }
        Verdict::Failed { error } | Verdict::Cancelled { error } => {
            let report = ProgramReport::of_error(error)?;
            Some((joined(verdict.word(), Some(error_text(verdict.word(), error))), report))
        }
        _ => None,
    }
}

fn joined(verdict: &str, how: Option<String>) -> String {
    how.map_or_else(|| verdict.to_owned(), |how| format!("{verdict}: {how}"))
}

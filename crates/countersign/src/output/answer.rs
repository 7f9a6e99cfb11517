//! What a client's answer comes to, in a line for people.

use countersign_machine::server::Verdict;
use countersign_protocol::command::{
    Builtin, Calculate, Cancelled, Changed, ClientInfo, DryRun, JobList, PingResult, Recorded, Stopped, Terminated,
};
use countersign_protocol::json::read;
use countersign_protocol::reply::{ErrorBody, ErrorCode};
use countersign_protocol::time::Millis;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::text::{counted, cut};

/// How much of an answer is shown in a table of many, in characters; in JSON it is whole.
pub(super) const MAX_ANSWER: usize = 4_096;
/// How much of a message is shown, in characters; in JSON it is whole.
pub(super) const MAX_MESSAGE: usize = 512;

/// A verdict, with what belongs to it.
pub(super) fn verdict(command: &str, verdict: &Verdict) -> String {
    let remark = verdict.remark();
    match verdict {
        Verdict::Succeeded { result: Some(result) } => result_text(command, &result.value()),
        Verdict::Accepted => "accepted; it runs on".to_owned(),
        Verdict::Failed { error }
        | Verdict::Refused { error }
        | Verdict::Cancelled { error }
        | Verdict::Interrupted { error } => format!("{}: {}", remark.unwrap_or(verdict.word()), error_text(error)),
        Verdict::NoReply { text } => text.clone(),
        Verdict::Succeeded { result: None } | Verdict::Offline { .. } => {
            format!("{}: {}", verdict.word(), remark.unwrap_or_default())
        }
    }
}

/// The result of a command that succeeded.
fn result_text(command: &str, result: &Value) -> String {
    let text = match Builtin::from_name(command) {
        _ if read::<DryRun>(result).is_ok() => Some("would run".to_owned()),
        Some(Builtin::Start) => typed(result, |it: Changed| choose(it.changed, "ready", "ready already")),
        Some(Builtin::Stop) => typed(result, |it: Stopped| {
            let state = choose(it.changed, "unready", "unready already");
            if it.running == 0 { state } else { format!("{state}; {} running on", counted(it.running, "job")) }
        }),
        Some(Builtin::Terminate) => {
            typed(result, |it: Terminated| format!("terminated; {} cancelled", counted(it.cancelled, "job")))
        }
        Some(Builtin::Cancel) => {
            typed(result, |it: Cancelled| choose(it.cancelled, "cancelled", "not cancelled: it had ended"))
        }
        Some(Builtin::Ping) => typed(result, |PingResult(seconds)| {
            format!("it is {} there ({seconds})", Millis::from_seconds(seconds).utc())
        }),
        Some(Builtin::Calculate) => typed(result, |it: Calculate| format!("printed \"{}\" after {} s", it.msg, it.x)),
        Some(Builtin::Status) => typed(result, |it: ClientInfo| {
            format!("{}; {} of {} jobs; version {}", it.state, it.jobs.running, it.jobs.limit, it.version)
        }),
        Some(Builtin::Jobs) => typed(result, |it: JobList| counted(it.jobs.len() as u64, "job")),
        Some(Builtin::Result) => typed(result, recorded),
        None => None,
    };
    text.unwrap_or_else(|| result.to_string())
}

fn recorded(it: Recorded) -> String {
    let by = format!("requested by {}", it.operator);
    match (it.result, it.error) {
        (Some(result), _) => format!("{} ({by}): {result}", it.status),
        (None, Some(error)) => format!("{} ({by}): {}", it.status, error_text(&error)),
        (None, None) if it.status.is_final() => format!("{} ({by}); no more is kept of it", it.status),
        (None, None) => format!("{} ({by}): it runs", it.status),
    }
}

/// An error, with the first of the details that a person can use.
fn error_text(error: &ErrorBody) -> String {
    let mut text = format!("{} ({})", cut(&error.message, MAX_MESSAGE), error.code);
    let errors = error.details.as_ref().and_then(|details| details.get("errors")).and_then(Value::as_array);
    if error.code == ErrorCode::InvalidArgs {
        for one in errors.into_iter().flatten().take(3) {
            let member = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            text = format!("{text}; at {}: {}", member("path"), member("message"));
        }
    }
    text
}

fn choose(condition: bool, yes: &str, no: &str) -> String {
    if condition { yes } else { no }.to_owned()
}

fn typed<T: DeserializeOwned>(result: &Value, text: impl FnOnce(T) -> String) -> Option<String> {
    read(result).ok().map(text)
}

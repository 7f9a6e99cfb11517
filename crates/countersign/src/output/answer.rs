//! What a client's answer comes to, in a line for people.

use countersign_machine::server::Verdict;
use countersign_protocol::command::{Builtin, DryRun};
use countersign_protocol::json::read;
use serde_json::Value;

use crate::builtin::describe;
use crate::text::reply_error;

/// How much of an answer is shown in a table of many, in characters; in JSON it is whole.
pub(super) const MAX_ANSWER: usize = 4_096;

/// A verdict, with what belongs to it.
pub(super) fn verdict(command: &str, verdict: &Verdict) -> String {
    let remark = verdict.remark();
    match verdict {
        Verdict::Succeeded { result: Some(result) } => result_text(command, &result.value()),
        Verdict::Accepted => "accepted; it runs on".to_owned(),
        Verdict::Failed { error }
        | Verdict::Refused { error }
        | Verdict::Cancelled { error }
        | Verdict::Interrupted { error } => {
            format!("{}: {}", remark.unwrap_or(verdict.word()), reply_error(verdict.word(), error))
        }
        Verdict::NoReply { text } => text.clone(),
        Verdict::Succeeded { result: None } | Verdict::Offline { .. } => {
            format!("{}: {}", verdict.word(), remark.unwrap_or_default())
        }
    }
}

/// The result of a command that succeeded.
fn result_text(command: &str, result: &Value) -> String {
    if read::<DryRun>(result).is_ok() {
        return "would run".to_owned();
    }
    let builtin = Builtin::from_name(command);
    builtin.and_then(|builtin| (describe(builtin).answer)(result)).unwrap_or_else(|| result.to_string())
}

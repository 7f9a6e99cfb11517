//! What became of a program, as its verdict says it (section 13).

use countersign_machine::client::ExecutionResult;
use countersign_protocol::json;
use countersign_protocol::output::OutputReport;
use countersign_protocol::text::escape;
use serde_json::{Map, Value, json};

use super::definition::Program;
use super::launch::{Cause, Ended, How};
use crate::registry::DEPTH_OF_RESULT;

/// The names of the signals, from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// What became of a program.
pub(super) enum Outcome {
    /// Nothing ran, and why.
    NotStarted(String),
    /// The helper said nothing more, and why.
    HelperLost(String),
    /// It ended, with what stands in the place of its result, or why that cannot be taken.
    Ended(Ended, Result<Option<Vec<u8>>, String>),
}

/// What the machine is told.
pub(super) fn verdict(program: &Program, outcome: Outcome, output: &OutputReport) -> ExecutionResult {
    let mut details =
        Map::from_iter([("stdout".to_owned(), json!(output.stdout)), ("stderr".to_owned(), json!(output.stderr))]);
    let (ended, result) = match outcome {
        Outcome::NotStarted(why) => return failed(details, "not_started", format!("it could not be started: {why}")),
        Outcome::HelperLost(why) => {
            let message = format!("what became of it is not known, and it may still run: its helper is gone ({why})");
            return failed(details, "helper_lost", message);
        }
        Outcome::Ended(ended, result) => (ended, result),
    };
    let how = match ended.how {
        How::Exit(code) => {
            details.insert("exit_code".to_owned(), json!(code));
            format!("exit status {code}")
        }
        How::Signal(signal) => {
            let name = signal_name(signal);
            let how = format!("ended by signal {name}");
            details.insert("signal".to_owned(), json!(name));
            how
        }
        How::Running(pid) => format!("process {pid} runs on"),
    };
    let mut message = match ended.cause {
        Cause::Itself => how,
        Cause::TimedOut => format!("timed out after {:?}: {how}", program.timeout),
        Cause::Cancelled => format!("the job was cancelled: {how}"),
    };
    if !ended.remaining.is_empty() {
        let remaining: Vec<String> = ended.remaining.iter().map(ToString::to_string).collect();
        message += &format!("; could not be ended: process {}", remaining.join(", "));
        details.insert("remaining".to_owned(), json!(ended.remaining));
    }
    match (ended.cause, ended.how) {
        (Cause::Cancelled, _) => {
            details.insert("reason".to_owned(), json!("cancelled"));
            ExecutionResult::Cancelled { message, details: Some(details) }
        }
        (Cause::TimedOut, _) => failed(details, "timed_out", message),
        (Cause::Itself, _) if !ended.remaining.is_empty() => failed(details, "not_ended", message),
        (Cause::Itself, How::Exit(0)) => succeeded(program, details, result),
        (Cause::Itself, How::Exit(_)) => failed(details, "exit_code", message),
        (Cause::Itself, How::Signal(_)) => failed(details, "signal", message),
        (Cause::Itself, How::Running(_)) => failed(details, "not_ended", message),
    }
}

fn succeeded(
    program: &Program,
    mut details: Map<String, Value>,
    result: Result<Option<Vec<u8>>, String>,
) -> ExecutionResult {
    match result.and_then(|result| value(program, result)) {
        Ok(Some(value)) => {
            details.insert("value".to_owned(), value);
        }
        Ok(None) => {}
        Err(why) => return failed(details, "result", format!("its result cannot be taken: {why}")),
    }
    let result = Value::Object(details);
    match program.result.errors(&result, 1).first() {
        Some(error) => ExecutionResult::Broken(format!("its result does not satisfy its own schema: {error}")),
        None => ExecutionResult::Done(result),
    }
}

/// The program's own result.
fn value(program: &Program, result: Option<Vec<u8>>) -> Result<Option<Value>, String> {
    let Some(bytes) = result else {
        let is_required = program.requires_value;
        return if is_required { Err("it wrote none to COUNTERSIGN_RESULT".to_owned()) } else { Ok(None) };
    };
    let value = json::parse_value(&bytes, DEPTH_OF_RESULT + 1);
    let value = value.map_err(|(error, at)| match error {
        json::JsonError::Syntax(_) | json::JsonError::Trailing(_) | json::JsonError::LoneSurrogate(_) => {
            error.to_string()
        }
        _ => format!("{error}, at byte {at}"),
    })?;
    match program.value.errors(&value, 1).first() {
        Some(error) => Err(format!("it does not satisfy its schema: {error}")),
        None => Ok(Some(value)),
    }
}

fn failed(mut details: Map<String, Value>, reason: &str, message: String) -> ExecutionResult {
    details.insert("reason".to_owned(), json!(reason));
    ExecutionResult::Failed { message: escape(&message).into_owned(), details: Some(details) }
}

fn signal_name(signal: i32) -> String {
    let known = usize::try_from(signal).ok().and_then(|number| SIGNALS.get(number.checked_sub(1)?));
    known.map_or_else(|| signal.to_string(), |name| (*name).to_owned())
}

//! What is asked about the output of a job, and what the answers say.

use countersign_machine::server::{Report, TargetReport, Verdict};
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::json::read;
use countersign_protocol::limits::MAX_INTEGER;
use countersign_protocol::name::Name;
use countersign_protocol::output::{OutputQuery, Stream, StreamReport};
use serde_json::{Map, Value, json};

use crate::cli_error::{CliError, CliResult};
use crate::requests;
use crate::text::{code, reply_error};

/// The clients of a report on the probe that have output of the job; an error where none has.
pub(super) fn readable(report: &Report) -> CliResult<Vec<Name>> {
    let has_output = |it: &&TargetReport| matches!(it.verdict, Verdict::Succeeded { .. });
    let found: Vec<Name> = report.replies.iter().filter(has_output).map(|it| it.client.clone()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let why = report.replies.first().map(|it| match &it.verdict {
        Verdict::Failed { error } | Verdict::Refused { error } => format!("{}: {}", it.client, reply_error("", error)),
        Verdict::NoReply { text } | Verdict::Offline { text } => format!("{}: {text}", it.client),
        other => format!("{}: {}", it.client, other.word()),
    });
    Err(CliError::new(requests::exit(report), why.unwrap_or_default())
        .expected("a job that a target has on record, with output that is still kept")
        .hint(code("jobs TARGET") + " lists the jobs"))
}

/// The question whose answers tell who has output of a job: a piece from beyond every end.
pub(super) fn probe(CommandId { command_id, command_digest }: CommandId, stream: Stream) -> Call {
    let offset = MAX_INTEGER.unsigned_abs();
    call(Builtin::Output, json!(OutputQuery { command_id, command_digest, stream, offset }))
}

pub(super) fn call(builtin: Builtin, args: Value) -> Call {
    let args = if let Value::Object(args) = args { args } else { Map::new() };
    Call { name: builtin.into(), args }
}

/// What a recorded final reply says of a stream: in its result, or in the details of its error.
pub(super) fn final_report(recorded: &Value, stream: Stream) -> Option<StreamReport> {
    let places = ["/result", "/error/details"].map(|place| format!("{place}/{stream}"));
    places.iter().find_map(|place| read(recorded.pointer(place)?).ok())
}

//! The clients' events, each in a line for people.

use countersign_machine::server::{ClientEvent, NOT_RUN};
use countersign_protocol::command::Job;
use countersign_protocol::ending::Ending;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Outcome, State};

use super::answer::other_result;
use super::status::percent;
use crate::short_id::short;
use crate::text::{counted, reply_error};

/// A final reply that came after the report on its request; its texts are not yet escaped.
pub(crate) fn late_line(client: &Name, command_id: MessageId, outcome: &Outcome) -> String {
    format!("{client}: {} ({}, after the report on it)", outcome_text(outcome), short(&command_id))
}

/// A reply, without what belongs to its command.
pub(super) fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted => "accepted".to_owned(),
        Outcome::Progress(progress) => percent(progress),
        Outcome::Succeeded(result) => format!("succeeded, {}", other_result(result)),
        Outcome::Failed(error) | Outcome::Refused(error) | Outcome::Cancelled(error) | Outcome::Interrupted(error) => {
            let status = outcome.status().as_str();
            let what = if error.code.is_recorded() { status } else { NOT_RUN };
            format!("{what}, {}", reply_error(status, error))
        }
    }
}

/// The line; its texts are not yet escaped.
pub(crate) fn event_line(client: &Name, event: &ClientEvent) -> String {
    match event {
        ClientEvent::Joined { state } => format!("{client} is there, {state}"),
        ClientEvent::Restarted { state, new_epoch: false } => format!("{client} has started again, {state}"),
        ClientEvent::Restarted { state, new_epoch: true } => {
            format!("{client} has started again, {state}, in a new epoch: it has forgotten what it was sent before")
        }
        ClientEvent::State { to: State::Terminated, .. } => format!("{client} has ended"),
        ClientEvent::State { from, to } => format!("{client} is {to}; it was {from}"),
        ClientEvent::Silent => format!("{client} has been silent for 30 s"),
        ClientEvent::Back { state } => format!("{client} is heard again, {state}"),
        ClientEvent::Ending { term } => Ending::Client(client).sentence(*term),
        ClientEvent::Job(job) => job_line(client, job),
        ClientEvent::Security(security) => {
            let signer = security.signer.as_ref().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
            format!("{client} reports {} ({}{signer})", security.reason, counted(security.count, "time"))
        }
    }
}

fn job_line(client: &Name, job: &Job) -> String {
    let Job { command, operator, command_id, status, .. } = job;
    if status.is_final() {
        format!("{client}: {command} of {operator} has ended: {status} ({})", short(command_id))
    } else {
        format!("{client} runs {command} of {operator} ({})", short(command_id))
    }
}

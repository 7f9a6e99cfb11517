//! Do the state machine and the bounds permit it now, and what will it do? (Section 9, rows 13 and 14; section 4.)

use countersign_protocol::command::{Builtin, CommandId, CommandKind, CommandName};
use countersign_protocol::name::Name;
use countersign_protocol::output::OutputQuery;
use serde::Deserialize;
use serde_json::Value;

use super::validate::Valid;
use crate::client::journal::Started;
use crate::client::refusal::{Refusal, Rejection};
use crate::client::state::State;

/// The decision of the state machine and the bounds at this moment.
pub(super) struct Capacity {
    pub(super) state: State,
    pub(super) free_slots: bool,
    pub(super) slots: usize,
    /// How many jobs of the same command run.
    pub(super) running: usize,
    pub(super) room: bool,
    /// Whether the journal could be written the last time.
    pub(super) writable: bool,
}

/// A valid command that is permitted now, and what it will do.
pub(super) struct Decided {
    started: Started,
    decision: Decision,
    kind: CommandKind,
}

/// What a command will do once it is recorded.
pub(super) enum Decision {
    /// A command of the protocol's own.
    Own(OwnCommand),
    /// A data command, with these arguments.
    Execute(Value),
}

/// What the machine does by itself.
pub(in crate::client) enum OwnCommand {
    DryRun,
    Start,
    Stop,
    Terminate,
    Cancel(CommandId),
    Status,
    Jobs,
    Result(CommandId),
    Output(OutputQuery),
    Describe(Name),
}

pub(super) fn decide(valid: Valid, capacity: &Capacity) -> Result<Decided, Rejection> {
    let (kind, builtin, is_dry_run) = (valid.kind(), valid.builtin(), valid.is_dry_run());
    let long_running = valid.is_long_running();
    let full = valid.concurrency().filter(|limit| capacity.running >= *limit);
    let refusal = match (kind, capacity.state) {
        (CommandKind::Query, _) => None,
        (CommandKind::Control | CommandKind::Data, State::Terminated) => Some(Refusal::Terminating),
        (CommandKind::Data, State::Unready) => Some(Refusal::NotReady),
        (CommandKind::Data, State::Ready) if long_running && !capacity.free_slots => {
            Some(Refusal::JobsBusy(capacity.slots))
        }
        (CommandKind::Data, State::Ready) if let Some(limit) = full => {
            Some(Refusal::CommandBusy(valid.command().clone(), limit))
        }
        (CommandKind::Control, State::Unready | State::Ready) | (CommandKind::Data, State::Ready) => match capacity {
            Capacity { writable: false, .. } => Some(Refusal::NotRecorded),
            Capacity { room: false, .. } => Some(Refusal::RecordFull),
            Capacity { .. } => None,
        },
    };
    if let Some(refusal) = refusal {
        return Err(valid.refuse(refusal));
    }
    let (started, args) = valid.into_parts();
    let decision = match builtin {
        _ if is_dry_run => Ok(OwnCommand::DryRun),
        Some(Builtin::Start) => Ok(OwnCommand::Start),
        Some(Builtin::Stop) => Ok(OwnCommand::Stop),
        Some(Builtin::Terminate) => Ok(OwnCommand::Terminate),
        Some(Builtin::Status) => Ok(OwnCommand::Status),
        Some(Builtin::Jobs) => Ok(OwnCommand::Jobs),
        Some(Builtin::Cancel) => CommandId::deserialize(&args).map(OwnCommand::Cancel),
        Some(Builtin::Result) => CommandId::deserialize(&args).map(OwnCommand::Result),
        Some(Builtin::Output) => OutputQuery::deserialize(&args).map(OwnCommand::Output),
        Some(Builtin::Describe) => CommandName::deserialize(&args).map(|named| OwnCommand::Describe(named.command)),
        Some(Builtin::Ping | Builtin::Calculate) | None => {
            let started = Started { long_running, ..started };
            return Ok(Decided { started, decision: Decision::Execute(args), kind });
        }
    };
    match decision {
        Ok(command) => {
            Ok(Decided { started: Started { long_running: false, ..started }, decision: Decision::Own(command), kind })
        }
        Err(error) => {
            let errors = vec![(String::new(), error.to_string())];
            Err(Rejection::Refuse(Box::new(started), Refusal::InvalidArgs(errors)))
        }
    }
}

impl Decided {
    pub(super) fn into_parts(self) -> (Started, Decision, CommandKind) {
        (self.started, self.decision, self.kind)
    }
}

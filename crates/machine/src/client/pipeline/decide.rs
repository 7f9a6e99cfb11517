//! Do the state machine and the bounds permit it now, and what will it do? (Section 9, rows 13 and 14; section 4.)

use countersign_protocol::command::{Builtin, CommandId, CommandKind};
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
}

pub(super) fn decide(valid: Valid, capacity: &Capacity) -> Result<Decided, Rejection> {
    let (kind, builtin, is_dry_run) = (valid.kind(), valid.builtin(), valid.is_dry_run());
    let long_running = valid.is_long_running();
    let refusal = match (kind, capacity.state) {
        (CommandKind::Query, _) => None,
        (CommandKind::Control | CommandKind::Data, State::Terminated) => Some(Refusal::Terminating),
        (CommandKind::Data, State::Unready) => Some(Refusal::NotReady),
        (CommandKind::Data, State::Ready) if long_running && !capacity.free_slots => {
            Some(Refusal::JobsBusy(capacity.slots))
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
        _ if is_dry_run => Decision::Own(OwnCommand::DryRun),
        Some(Builtin::Start) => Decision::Own(OwnCommand::Start),
        Some(Builtin::Stop) => Decision::Own(OwnCommand::Stop),
        Some(Builtin::Terminate) => Decision::Own(OwnCommand::Terminate),
        Some(Builtin::Status) => Decision::Own(OwnCommand::Status),
        Some(Builtin::Jobs) => Decision::Own(OwnCommand::Jobs),
        Some(builtin @ (Builtin::Cancel | Builtin::Result)) => match CommandId::deserialize(&args) {
            Ok(named) if builtin == Builtin::Cancel => Decision::Own(OwnCommand::Cancel(named)),
            Ok(named) => Decision::Own(OwnCommand::Result(named)),
            Err(error) => {
                let errors = vec![(String::new(), error.to_string())];
                return Err(Rejection::Refuse(Box::new(started), Refusal::InvalidArgs(errors)));
            }
        },
        Some(Builtin::Ping | Builtin::Calculate) | None => Decision::Execute(args),
    };
    let started = Started { long_running: long_running && !is_dry_run, ..started };
    Ok(Decided { started, decision, kind })
}

impl Decided {
    pub(super) fn into_parts(self) -> (Started, Decision, CommandKind) {
        (self.started, self.decision, self.kind)
    }
}

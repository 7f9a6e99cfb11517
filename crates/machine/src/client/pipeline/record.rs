//! What was decided is recorded before anything of it happens (section 8). Only what is recorded can be applied.

use countersign_protocol::name::Name;
use serde_json::Value;

use super::decide::{Decided, Decision, OwnCommand};
use crate::client::Client;
use crate::client::effect::{JobKey, Step};
use crate::client::refusal::ReplyContext;

/// A decided command that is on record. There is no other way to one than through every stage of the line.
pub(in crate::client) struct Recorded {
    reply_context: ReplyContext,
    action: Action,
}

/// What is applied for a recorded command.
pub(in crate::client) enum Action {
    Own(OwnCommand),
    Execute(Execution),
}

/// A data command that has been verified, authorised, validated and recorded. Only the machine makes one, and only of a
/// command that is on record: it is the proof that [`Effect::Execute`](crate::client::Effect::Execute) carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Execution {
    key: JobKey,
    name: Name,
    args: Value,
    operator: Name,
    long_running: bool,
}

impl Client {
    pub(super) fn record(&mut self, decided: Decided, step: &mut Step) -> Recorded {
        let (started, decision, kind) = decided.into_parts();
        let reply_context = started.reply_context.clone();
        let action = match decision {
            Decision::Own(command) => Action::Own(command),
            Decision::Execute(args) => Action::Execute(Execution {
                key: reply_context.key,
                name: started.command.clone(),
                args,
                operator: reply_context.operator.clone(),
                long_running: started.long_running,
            }),
        };
        self.remember(started, kind, step);
        Recorded { reply_context, action }
    }
}

impl Recorded {
    pub(in crate::client) fn into_parts(self) -> (ReplyContext, Action) {
        (self.reply_context, self.action)
    }
}

impl Execution {
    /// What [`Client::finished`] is to name.
    pub fn key(&self) -> JobKey {
        self.key
    }

    /// The registered command.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its arguments, an object that satisfies the command's schema and its type.
    pub fn args(&self) -> &Value {
        &self.args
    }

    /// Its arguments, for whoever takes them.
    pub fn into_args(self) -> Value {
        self.args
    }

    /// The operator whose command it is.
    pub fn operator(&self) -> &Name {
        &self.operator
    }

    /// Whether it runs as a job, beside everything else.
    pub fn is_long_running(&self) -> bool {
        self.long_running
    }
}

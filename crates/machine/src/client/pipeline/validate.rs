//! Does this client know the command, and do the arguments satisfy its schema and its type? (Section 9, rows 11 and
//! 12: first whether the trust bundle still lets it.)

use countersign_protocol::command::{Builtin, CommandKind};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::MAX_ERRORS;
use countersign_protocol::name::Name;
use serde_json::Value;

use super::fresh::Fresh;
use crate::client::catalogue::{Catalogue, Known};
use crate::client::journal::Started;
use crate::client::refusal::{Refusal, Rejection};

/// A fresh command that the client knows, with arguments that it can take.
pub(super) struct Valid {
    started: Started,
    kind: CommandKind,
    own: Option<Builtin>,
    long_running: bool,
    concurrency: Option<usize>,
    dry_run: bool,
    args: Value,
}

pub(super) fn validate(fresh: Fresh, catalogue: &Catalogue, trust_expired: bool) -> Result<Valid, Rejection> {
    let (message, started) = fresh.into_addressed().into_parts();
    let refuse = |started, refusal| Err(Rejection::Refuse(Box::new(started), refusal));
    let known = catalogue.find(&message.command.name);
    let is_obeyed = known.is_some_and(|known| match known {
        Known::Own(builtin) => builtin.kind() == CommandKind::Query || builtin == Builtin::Terminate,
        Known::Data(_) => false,
    });
    if trust_expired && !is_obeyed {
        return refuse(started, Refusal::TrustExpired);
    }
    let Some(known) = known else {
        return refuse(started, Refusal::UnknownCommand(message.command.name));
    };
    let args = Value::Object(message.command.args);
    let errors = known.errors(&args, MAX_ERRORS);
    if !errors.is_empty() {
        return refuse(started, Refusal::InvalidArgs(errors));
    }
    let own = match known {
        Known::Own(builtin) => Some(builtin),
        Known::Data(_) => None,
    };
    let (kind, long_running, concurrency) = (known.kind(), known.is_long_running(), known.concurrency());
    Ok(Valid { started, kind, own, long_running, concurrency, dry_run: message.dry_run.is_some(), args })
}

impl Valid {
    pub(super) fn kind(&self) -> CommandKind {
        self.kind
    }

    pub(super) fn operator(&self) -> Thumbprint {
        self.started.reply_context.key.operator
    }

    pub(super) fn command(&self) -> &Name {
        &self.started.command
    }

    pub(super) fn concurrency(&self) -> Option<usize> {
        self.concurrency
    }

    pub(super) fn is_long_running(&self) -> bool {
        self.long_running
    }

    /// What the program's own data commands are not.
    pub(super) fn builtin(&self) -> Option<Builtin> {
        self.own
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn into_parts(self) -> (Started, Value) {
        (self.started, self.args)
    }

    pub(super) fn refuse(self, refusal: Refusal) -> Rejection {
        Rejection::Refuse(Box::new(self.started), refusal)
    }
}

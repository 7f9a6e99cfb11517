//! Is it for this client? (Section 9, row 7: epoch, realm, `reply_to`, subject and target fit together,
//! and name this client, one of its groups, or all.)

use countersign_protocol::command::{Command, Target};
use countersign_protocol::credential::Credential;
use countersign_protocol::envelope::{Authentic, Reason};
use countersign_protocol::limits::LATE;
use countersign_protocol::name::Name;
use countersign_protocol::subject::{self, ReplyTo};
use countersign_protocol::time::Millis;

use crate::client::effect::JobKey;
use crate::client::journal::Started;
use crate::client::refusal::{Refusal, Rejection, ReplyContext};

/// What this client answers to: its own names.
pub(in crate::client) struct LocalIdentity<'a> {
    pub(super) realm: &'a Name,
    pub(super) name: &'a Name,
    pub(super) groups: &'a [Name],
}

/// An authentic command that names this client, one of its groups, or all.
pub(super) struct Addressed {
    command: Authentic<Command>,
    started: Started,
}

pub(super) fn address(
    command: Authentic<Command>,
    local: &LocalIdentity<'_>,
    now: Millis,
    skew: i64,
) -> Result<Addressed, Rejection> {
    let message = command.message();
    let reject = |reason, detail: &str| Err(Rejection::drop(reason, &message.from, detail));
    if message.epoch.is_some() && !matches!(message.to, Target::Client(_)) {
        return reject(Reason::Envelope, "an epoch in a command that is not to one client");
    }
    let fits = ReplyTo::parse(&message.reply_to).is_some_and(|reply_to| {
        reply_to.realm == message.realm && reply_to.operator == message.from && reply_to.command_id == message.id
    });
    if !fits {
        return reject(Reason::Address, "the reply_to is not the operator's own for this command");
    }
    if message.subject != subject::command(local.realm, &message.to) {
        return reject(Reason::Address, "the subject does not belong to the target");
    }
    let is_named = match &message.to {
        Target::Client(client) => client == local.name,
        Target::Group(group) => local.groups.contains(group),
        Target::All(_) => true,
    };
    if !is_named {
        return reject(Reason::Address, "the target is another");
    }
    let reply_context = ReplyContext {
        key: JobKey { id: message.id, operator: command.credential().kid() },
        operator: message.from.clone(),
        reply_to: message.reply_to.clone(),
        digest: command.digest(),
    };
    let until = message.expires_at.plus(skew).plus(LATE);
    let started = Started { reply_context, command: message.command.name.clone(), long_running: false, at: now, until };
    Ok(Addressed { command, started })
}

impl Addressed {
    pub(super) fn message(&self) -> &Command {
        self.command.message()
    }

    pub(super) fn credential(&self) -> &Credential {
        self.command.credential()
    }

    pub(super) fn started(&self) -> &Started {
        &self.started
    }

    pub(super) fn into_started(self) -> Started {
        self.started
    }

    pub(super) fn into_parts(self) -> (Command, Started) {
        (self.command.into_message(), self.started)
    }

    pub(super) fn refuse(self, refusal: Refusal) -> Rejection {
        Rejection::Refuse(Box::new(self.started), refusal)
    }
}

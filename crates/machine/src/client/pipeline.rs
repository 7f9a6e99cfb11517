//! The stages of the straight line (section 9). Each takes one type and gives a stronger one that only it can make, so that a
//! command which skipped a stage cannot be recorded, and one that was not recorded cannot be carried out.

use countersign_protocol::command::{Builtin, Command, CommandId, CommandKind, Target};
use countersign_protocol::envelope::{Authentic, Reason};
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::{LATE, MAX_AHEAD, MAX_ERRORS};
use countersign_protocol::name::Name;
use countersign_protocol::subject::{self, ReplyTo};
use countersign_protocol::time::Millis;
use serde::Deserialize;
use serde_json::Value;

use super::catalogue::{Catalogue, Known};
use super::effect::JobKey;
use super::journal::Started;
use super::refusal::{Refusal, Rejection, ReplyContext};
use super::state::State;

/// An authentic command that names this client, one of its groups, or all.
pub(super) struct Addressed {
    command: Authentic<Command>,
    started: Started,
}

/// One whose operator may give this command to this client.
pub(super) struct Authorised(Addressed);

/// One that is neither too old, nor too new, nor possibly a replay from before the journal began.
pub(super) struct Fresh(Addressed);

/// One that the client knows, with arguments that satisfy schema and type.
pub(super) struct Valid {
    started: Started,
    kind: CommandKind,
    own: Option<Builtin>,
    long_running: bool,
    dry_run: bool,
    args: Value,
}

/// One that the state machine and the bounds permit now, and what it will do.
pub(super) struct Decided {
    pub(super) started: Started,
    pub(super) decision: Decision,
    pub(super) kind: CommandKind,
}

/// What a command will do once it is recorded.
pub(super) enum Decision {
    DryRun,
    Start,
    Stop,
    Terminate,
    Cancel(CommandId),
    Status,
    Jobs,
    Result(CommandId),
    Execute(Value),
}

/// Whom this client answers to: its own names.
pub(super) struct LocalIdentity<'a> {
    pub(super) realm: &'a Name,
    pub(super) name: &'a Name,
    pub(super) groups: &'a [Name],
}

/// What freshness is measured by (section 8).
pub(super) struct Freshness {
    pub(super) now: Millis,
    pub(super) skew: i64,
    pub(super) max_ttl: i64,
    pub(super) epoch: Uuid,
    pub(super) since: Millis,
    /// Whether the next start is sure to know that it was this late, whatever the disk may lose until then.
    pub(super) is_assured: bool,
}

/// What the state machine and the bounds say at this moment.
pub(super) struct Capacity {
    pub(super) state: State,
    pub(super) free_slots: bool,
    pub(super) slots: usize,
    pub(super) room: bool,
    /// Whether the journal could be written the last time.
    pub(super) writable: bool,
}

impl Addressed {
    pub(super) fn new(
        command: Authentic<Command>,
        local: &LocalIdentity<'_>,
        now: Millis,
        skew: i64,
    ) -> Result<Self, Rejection> {
        let message = command.message();
        let stop = |reason, detail: &str| Err(Rejection::drop(reason, &message.from, detail));
        if message.epoch.is_some() && !matches!(message.to, Target::Client(_)) {
            return stop(Reason::Envelope, "an epoch in a command that is not to one client");
        }
        let fits = ReplyTo::parse(&message.reply_to).is_some_and(|reply_to| {
            reply_to.realm == message.realm && reply_to.operator == message.from && reply_to.command_id == message.id
        });
        if !fits {
            return stop(Reason::Address, "the reply_to is not the operator's own for this command");
        }
        if message.subject != subject::command(local.realm, &message.to) {
            return stop(Reason::Address, "the subject does not belong to the target");
        }
        let mine = match &message.to {
            Target::Client(client) => client == local.name,
            Target::Group(group) => local.groups.contains(group),
            Target::All(_) => true,
        };
        if !mine {
            return stop(Reason::Address, "the target is another");
        }
        let reply_context = ReplyContext {
            key: JobKey { id: message.id, operator: command.credential().kid() },
            operator: message.from.clone(),
            reply_to: message.reply_to.clone(),
            digest: command.digest(),
        };
        let until = message.expires_at.plus(skew).plus(LATE);
        let started =
            Started { reply_context, command: message.command.name.clone(), long_running: false, at: now, until };
        Ok(Self { command, started })
    }

    pub(super) fn started(&self) -> &Started {
        &self.started
    }

    pub(super) fn into_started(self) -> Started {
        self.started
    }

    pub(super) fn authorise(self, local: &LocalIdentity<'_>) -> Result<Authorised, Rejection> {
        let message = self.command.message();
        let grant = self.command.credential().grant();
        if !grant.is_some_and(|grant| grant.reaches(local.name, local.groups)) {
            return Err(match message.to {
                Target::Client(_) => self.refuse(Refusal::OutOfReach),
                Target::Group(_) | Target::All(_) => {
                    Rejection::drop(Reason::OutOfReach, &message.from, "only among others, and out of reach")
                }
            });
        }
        if !grant.is_some_and(|grant| grant.permits(message.command.name.as_str())) {
            let name = message.command.name.clone();
            return Err(self.refuse(Refusal::NotGranted(name)));
        }
        Ok(Authorised(self))
    }

    fn refuse(self, refusal: Refusal) -> Rejection {
        Rejection::Refuse(Box::new(self.started), refusal)
    }
}

impl Authorised {
    pub(super) fn fresh(self, at: &Freshness) -> Result<Fresh, Rejection> {
        let Self(addressed) = self;
        let message = addressed.command.message();
        let now = at.now;
        let life = message.expires_at.since(message.issued_at);
        let granted = addressed.command.credential().grant().map_or(0, |grant| grant.max_ttl_ms);
        let max = at.max_ttl.min(granted);
        let query = Builtin::from_name(message.command.name.as_str())
            .is_some_and(|builtin| builtin.kind() == CommandKind::Query);
        let is_of_this_epoch = at.is_assured && message.issued_at > at.since.plus(at.skew);
        let refusal = if message.issued_at > now.plus(MAX_AHEAD) {
            return Err(Rejection::drop(Reason::Ahead, &message.from, "issued more than an hour ahead"));
        } else if life <= 0 || life > max {
            Refusal::Lifetime { life, max }
        } else if now >= addressed.started.until {
            let ago = now.since(message.expires_at) / 1_000;
            let detail = format!("expired {ago} s ago by this machine's clock");
            return Err(Rejection::drop(Reason::Late, &message.from, detail));
        } else if message.epoch.is_some_and(|epoch| epoch != at.epoch) {
            Refusal::WrongEpoch(at.epoch)
        } else if message.epoch.is_none() && !query && !is_of_this_epoch {
            Refusal::Starting(at.epoch)
        } else if now >= message.expires_at.plus(at.skew) {
            Refusal::Expired { now }
        } else if message.issued_at > now.plus(at.skew) {
            Refusal::NotYetValid { now }
        } else {
            return Ok(Fresh(addressed));
        };
        Err(addressed.refuse(refusal))
    }
}

impl Fresh {
    pub(super) fn validate(self, catalogue: &Catalogue, trust_expired: bool) -> Result<Valid, Rejection> {
        let Self(Addressed { command, started }) = self;
        let stop = |started: Started, refusal| Err(Rejection::Refuse(Box::new(started), refusal));
        let message = command.into_message();
        let known = catalogue.find(&message.command.name);
        let obeyed = known.is_some_and(|known| match known {
            Known::Own(builtin) => builtin.kind() == CommandKind::Query || builtin == Builtin::Terminate,
            Known::Data(_) => false,
        });
        if trust_expired && !obeyed {
            return stop(started, Refusal::TrustExpired);
        }
        let Some(known) = known else {
            return stop(started, Refusal::UnknownCommand(message.command.name));
        };
        let args = Value::Object(message.command.args);
        let errors = known.errors(&args, MAX_ERRORS);
        if !errors.is_empty() {
            return stop(started, Refusal::InvalidArgs(errors));
        }
        let own = match known {
            Known::Own(builtin) => Some(builtin),
            Known::Data(_) => None,
        };
        let dry_run = message.dry_run.is_some();
        Ok(Valid { started, kind: known.kind(), own, long_running: known.is_long_running(), dry_run, args })
    }
}

impl Valid {
    pub(super) fn kind(&self) -> CommandKind {
        self.kind
    }

    pub(super) fn operator(&self) -> countersign_protocol::key::Thumbprint {
        self.started.reply_context.key.operator
    }

    pub(super) fn decide(self, capacity: &Capacity) -> Result<Decided, Rejection> {
        let Self { started, kind, own, long_running, dry_run, args } = self;
        let refusal = match (kind, capacity.state) {
            (CommandKind::Query, _) => None,
            (_, State::Terminated) => Some(Refusal::Terminating),
            (CommandKind::Data, State::Unready) => Some(Refusal::NotReady),
            (CommandKind::Data, State::Ready) if long_running && !capacity.free_slots => {
                Some(Refusal::JobsBusy(capacity.slots))
            }
            _ if !capacity.writable => Some(Refusal::NotRecorded),
            _ if !capacity.room => Some(Refusal::RecordFull),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Err(Rejection::Refuse(Box::new(started), refusal));
        }
        let decision = match own {
            _ if dry_run => Decision::DryRun,
            Some(Builtin::Start) => Decision::Start,
            Some(Builtin::Stop) => Decision::Stop,
            Some(Builtin::Terminate) => Decision::Terminate,
            Some(Builtin::Status) => Decision::Status,
            Some(Builtin::Jobs) => Decision::Jobs,
            Some(builtin @ (Builtin::Cancel | Builtin::Result)) => match CommandId::deserialize(&args) {
                Ok(asked) if builtin == Builtin::Cancel => Decision::Cancel(asked),
                Ok(asked) => Decision::Result(asked),
                Err(error) => {
                    let errors = vec![(String::new(), error.to_string())];
                    return Err(Rejection::Refuse(Box::new(started), Refusal::InvalidArgs(errors)));
                }
            },
            Some(Builtin::Ping | Builtin::Calculate) | None => Decision::Execute(args),
        };
        let started = Started { long_running: long_running && !dry_run, ..started };
        Ok(Decided { started, decision, kind })
    }
}

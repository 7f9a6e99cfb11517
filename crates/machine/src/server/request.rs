//! Making commands: validated, then signed (sections 3 and 4).

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use countersign_protocol::command::{Builtin, Call, Command, DryRun, Target, True, Version};
use countersign_protocol::credential::CredentialError;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::limits::{MAX_BODY, MAX_ERRORS, SKEW};
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::Outcome;
use countersign_protocol::schema::{self, SchemaError};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use serde_json::{Value, json};

use super::{Audience, CommandRequest, Effect, Now, OperatorEvent, Options, RequestId, Update, micros};

/// Why a request was not sent to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Neither the roster nor the folder of keys knows the client.
    #[error("no client of the name {0} is known")]
    UnknownClient(Name),
    /// Nothing is ever sent to an empty set.
    #[error("{audience} matches no client: {}", of_nobody(*ended, *out_of_reach))]
    Nobody {
        /// Its audience.
        audience: Audience,
        /// How many it matches that have terminated.
        ended: usize,
        /// How many it matches that the operator's grant does not reach.
        out_of_reach: usize,
    },
    /// The arguments of a built-in command do not satisfy its schema; 16 errors at most.
    #[error("invalid arguments for {command}: {}", list(errors))]
    Arguments {
        /// The command.
        command: Name,
        /// What is wrong and where.
        errors: Vec<SchemaError>,
    },
    /// The operator's own credential is not in force: no client would take the command.
    #[error("the credential of {operator} is not in force: it ends on {}, and it is {}", until.utc(), now.utc())]
    NotInForce {
        /// The operator.
        operator: Name,
        /// When the credential expires.
        until: Millis,
        /// The time, by this machine's clock.
        now: Millis,
    },
    /// The trust bundle does not vouch for the operator's own credential: no client would take the command.
    #[error("version {version} of the trust bundle does not vouch for the credential of {operator}: {why}")]
    Revoked {
        /// The operator.
        operator: Name,
        /// The version of the bundle.
        version: u64,
        /// Why not.
        why: CredentialError,
    },
    /// There is no connection for the moment: what is published now would be sent when it is back, and run then.
    #[error("the connection to the broker is lost")]
    Disconnected,
    /// It is no message that a client would take (sections 3 and 4).
    #[error("the command cannot be sent: {0}")]
    Envelope(String),
    /// It is larger than the broker takes (section 10).
    #[error("the command takes {size} bytes with its headers, and the broker takes {limit} at most (max_payload)")]
    OverLimit {
        /// What it takes, headers and body, in bytes.
        size: usize,
        /// What the broker takes, in bytes.
        limit: usize,
    },
    /// The body is longer than section 2 allows.
    #[error("the command would be {got} bytes long; at most {MAX_BODY} are accepted")]
    TooLarge {
        /// Its length in bytes.
        got: usize,
    },
}

/// What is the same for all targets of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RequestContext {
    /// The bundle in force.
    pub(super) trust: Arc<Trust>,
    pub(super) identity: Arc<Identity>,
    pub(super) session: Session,
    pub(super) request: CommandRequest,
    pub(super) options: Options,
    /// When the request expires, by the wall; what is reissued keeps it (section 8).
    pub(super) expires_at: Millis,
    /// The same by the monotonic clock.
    pub(super) expires: u64,
    pub(super) random: Random,
    pub(super) id: RequestId,
    /// The ids of all that was sent for it, the latest queries for a result included.
    pub(super) issued: BTreeSet<MessageId>,
    /// A later control command went to many.
    pub(super) superseded: bool,
    /// Since when there is no connection, monotonic; `None` while there is one.
    pub(super) cut_off: Option<u64>,
    /// How long there was none since the request was submitted, in microseconds; the present outage not included.
    pub(super) outage: u64,
    /// When the whole wait is over, monotonic.
    pub(super) deadline: Option<u64>,
    /// The report was made: nothing more is sent.
    pub(super) done: bool,
}

/// The numbers that a seed stands for: SHA-256 over the seed and a counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Random {
    pub(super) seed: [u8; 32],
    pub(super) drawn: u64,
}

/// A command before it is signed.
pub(super) struct UnsignedCommand<'a> {
    pub(super) id: MessageId,
    pub(super) to: Target,
    pub(super) epoch: Option<Uuid>,
    pub(super) issued_at: Millis,
    pub(super) expires_at: Millis,
    pub(super) dry_run: bool,
    pub(super) call: &'a Call,
}

impl RequestContext {
    /// A new id, for a command issued now.
    pub(super) fn id(&mut self, now: Now) -> MessageId {
        let mut unique = [0; 10];
        unique.copy_from_slice(&self.random.draw()[..10]);
        let id = MessageId::new(now.wall, unique);
        self.issued.insert(id);
        id
    }

    /// The monotonic moment that lies a span in milliseconds from now, ±20 %.
    pub(super) fn about(&mut self, millis: i64, now: Now) -> u64 {
        let [low, high, ..] = self.random.draw();
        let permille = 800 + u64::from(u16::from_le_bytes([low, high])) * 400 / u64::from(u16::MAX);
        now.micros.saturating_add(micros(millis).saturating_mul(permille) / 1_000)
    }

    /// How long a target may take to its first reply, in milliseconds. A retry waits until the expiry at least.
    pub(super) fn first_reply_timeout(&self) -> i64 {
        if self.options.retry { self.options.timeout.max(self.options.ttl) } else { self.options.timeout }
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.is_some()
    }

    /// How long there was no connection since the request was submitted, in milliseconds.
    pub(super) fn time_cut_off(&self, now: Now) -> i64 {
        let present = self.cut_off.map_or(0, |since| now.micros.saturating_sub(since));
        i64::try_from(self.outage.saturating_add(present) / 1_000).unwrap_or(i64::MAX)
    }

    /// What is added to a text about silence.
    pub(super) fn cut_off(&self) -> &'static str {
        if self.is_cut_off() {
            ", and there is no connection to the broker: what was handed over may still arrive until it expires"
        } else {
            ""
        }
    }

    pub(super) fn reply_to(&self, id: &MessageId) -> String {
        subject::reply_to(self.trust.realm(), self.identity.name(), &self.session, id)
    }

    /// A remark on one of its targets.
    pub(super) fn notice(&self, client: &Name, text: String) -> Effect {
        self.update(Update::Notice { client: Some(client.clone()), alarm: false, text })
    }

    pub(super) fn update(&self, update: Update) -> Effect {
        Effect::Emit(OperatorEvent::Update { id: Some(self.id), update })
    }

    /// Signs a command once it satisfies the schema of the envelope and section 3.
    pub(super) fn sign(&self, unsigned: UnsignedCommand<'_>) -> Result<Signed, RequestError> {
        may_sign(&self.identity, &self.trust, unsigned.issued_at)?;
        let to = unsigned.to;
        let command = Command {
            v: Version,
            id: unsigned.id,
            realm: self.trust.realm().clone(),
            from: self.identity.name().clone(),
            credential: self.identity.credential().jti(),
            subject: subject::command(self.trust.realm(), &to),
            to,
            reply_to: self.reply_to(&unsigned.id),
            issued_at: unsigned.issued_at,
            expires_at: unsigned.expires_at,
            epoch: unsigned.epoch,
            dry_run: unsigned.dry_run.then_some(True),
            command: unsigned.call.clone(),
        };
        let unfit = |error: &dyn Display| RequestError::Envelope(error.to_string());
        let value = serde_json::to_value(&command).map_err(|error| unfit(&error))?;
        json::check(&value, 1).map_err(|error| unfit(&error))?;
        let errors = schema::envelope(MessageType::Command).errors(&value, MAX_ERRORS);
        if !errors.is_empty() {
            return Err(RequestError::Envelope(list(&errors)));
        }
        let body = serde_json::to_vec(&command).map_err(|error| unfit(&error))?;
        if body.len() > MAX_BODY {
            return Err(RequestError::TooLarge { got: body.len() });
        }
        Ok(self.identity.sign(MessageType::Command, command.subject, body))
    }
}

impl Random {
    /// The next of the numbers.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut input = [0; 40];
        input[..32].copy_from_slice(&self.seed);
        input[32..].copy_from_slice(&self.drawn.to_le_bytes());
        *Digest::of(&input).as_bytes()
    }
}

/// Whether the operator's own credential is in force. From its end on nothing is signed and no request is sent; what was
/// sent before is waited for, since the replies are the clients'.
pub fn may_sign(identity: &Identity, trust: &Trust, now: Millis) -> Result<(), RequestError> {
    let credential = identity.credential();
    if let Err(why) = credential.vouched_for(trust) {
        return Err(RequestError::Revoked { operator: identity.name().clone(), version: trust.version(), why });
    }
    if credential.is_in_force(now, SKEW) {
        return Ok(());
    }
    Err(RequestError::NotInForce { operator: identity.name().clone(), until: credential.expires_at(), now })
}

impl CommandRequest {
    /// A command and its arguments. With `dry_run` every check is made and nothing has an effect (section 4).
    pub fn new(command: Call, dry_run: bool) -> Result<Self, RequestError> {
        let builtin = Builtin::from_name(command.name.as_str());
        if let Some(builtin) = builtin {
            let errors = schema::arguments(builtin).errors(&Value::Object(command.args.clone()), MAX_ERRORS);
            if !errors.is_empty() {
                return Err(RequestError::Arguments { command: command.name, errors });
            }
        }
        Ok(Self { command, builtin, dry_run, awaited: None, is_own: false })
    }

    /// To wait for the end of a command that was sent before: each client is sent `result` queries until it has ended there, and
    /// the verdict is that of the command.
    pub fn wait(command_id: MessageId) -> Self {
        let args = [("command_id".to_owned(), json!(command_id))].into_iter().collect();
        let command = Call { name: Builtin::Result.into(), args };
        Self { command, builtin: Some(Builtin::Result), dry_run: false, awaited: Some(command_id), is_own: false }
    }

    /// The same, for a command that this operator has sent: one that another operator has sent under the same id is another
    /// command, and its end is not this one's.
    #[must_use]
    pub fn of_own(self) -> Self {
        Self { is_own: true, ..self }
    }

    /// The command's name.
    pub fn name(&self) -> &Name {
        &self.command.name
    }

    /// The name in its report: what waits for another command is not a query for its result.
    pub(super) fn reported_name(&self) -> Name {
        let wait = self.awaited.and_then(|_| "wait".parse().ok());
        wait.unwrap_or_else(|| self.command.name.clone())
    }

    /// Whether an outcome can be one of this request: the result of a built-in command satisfies its schema.
    pub(super) fn fits(&self, outcome: &Outcome) -> bool {
        match (outcome, self.builtin) {
            (Outcome::Succeeded(result), _) if self.dry_run => json::read::<DryRun>(result).is_ok(),
            (Outcome::Succeeded(result), Some(builtin)) => schema::result(builtin).accepts(result),
            _ => true,
        }
    }
}

fn list(errors: &[SchemaError]) -> String {
    let one = |error: &SchemaError| match error.path.as_str() {
        "" => error.message.clone(),
        path => format!("at {path}: {}", error.message),
    };
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn of_nobody(ended: usize, out_of_reach: usize) -> String {
    match (ended, out_of_reach) {
        (0, 0) => "the roster holds none".to_owned(),
        (ended, 0) => format!("all that the roster holds have ended ({ended})"),
        (0, out) => format!("all that the roster holds are out of reach of the operator's grant ({out})"),
        (ended, out) => format!("of those that the roster holds, {ended} have ended and {out} are out of reach"),
    }
}

//! The messages that a client signs (section 5).

use std::sync::Arc;

use countersign_protocol::command::Version;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::limits::{MAX_BODY, MAX_VALUES};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply, Status};
use countersign_protocol::subject;
use countersign_protocol::text;
use countersign_protocol::time::Millis;
use serde::Serialize;

use super::refusal::ReplyContext;
use super::state::State;

/// The longest message for people that a command's failure may bring, in characters.
const MAX_FAILURE: usize = 1_024;
/// How many values a result or the details of an error may hold: what section 3 allows, less those of the reply around them,
/// which are no more than 32.
const MAX_CONTENT: usize = MAX_VALUES - 32;

/// What everything else of a reply with data takes at most, in bytes: the headers and the other members.
const AROUND_DATA: usize = 8_192;

/// Makes and signs replies and events, and numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Outbox {
    identity: Arc<Identity>,
    epoch: Uuid,
    boot: Uuid,
    n: u64,
    max_payload: usize,
}

impl Outbox {
    pub(super) fn new(identity: Arc<Identity>, epoch: Uuid, boot: Uuid) -> Self {
        Self { identity, epoch, boot, n: 0, max_payload: usize::MAX }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What is signed from now on is signed under another credential of the same key.
    pub(super) fn set_identity(&mut self, identity: Arc<Identity>) {
        self.identity = identity;
    }

    pub(super) fn boot(&self) -> Uuid {
        self.boot
    }

    /// What is signed from now on belongs to another epoch.
    pub(super) fn begin_epoch(&mut self, epoch: Uuid) {
        self.epoch = epoch;
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.n
    }

    /// What the broker takes of one message, in bytes (section 10).
    pub(super) fn limit(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Whether section 2 and the broker allow a message of this size.
    pub(super) fn fits(&self, message: &Signed) -> bool {
        message.body.len() <= MAX_BODY && message.size() <= self.max_payload
    }

    /// A reply and the status that it has. A final one that does not fit is replaced: by `result_too_large`, or where it is a
    /// refusal by the same one without its details.
    pub(super) fn fitting(
        &mut self,
        reply_context: &ReplyContext,
        seq: u64,
        outcome: Outcome,
        state: State,
        now: Millis,
    ) -> (Signed, Status) {
        let (status, values) = (outcome.status(), values(&outcome));
        let code = match &outcome {
            Outcome::Refused(error) => Some(error.code),
            _ => None,
        };
        let reply = self.sign_reply(reply_context, self.reply_body(reply_context, seq, outcome, state, now));
        if (self.fits(&reply) && values <= MAX_CONTENT) || !status.is_final() {
            self.n += 1;
            return (reply, status);
        }
        let (size, largest) = (reply.size(), self.max_payload);
        let text = match reply.body.len() {
            got if got > MAX_BODY => format!("the reply would be {got} bytes long; at most {MAX_BODY} are sent"),
            _ if values > MAX_CONTENT => {
                format!("the result holds {values} JSON values; at most {MAX_CONTENT} fit a message")
            }
            _ => format!("the reply would take {size} bytes; the broker takes {largest} (max_payload)"),
        };
        let outcome = match code {
            Some(code) => Outcome::Refused(ErrorBody::new(code, "the details do not fit in a message")),
            None => Outcome::Failed(ErrorBody::new(ErrorCode::ResultTooLarge, text)),
        };
        let status = outcome.status();
        let reply = self.sign_reply(reply_context, self.reply_body(reply_context, seq, outcome, state, now));
        self.n += 1;
        (reply, status)
    }

    /// How many bytes a reply can bring in base64, with ample room for everything else in it.
    pub(super) fn room_for_data(&self) -> usize {
        self.max_payload.min(MAX_BODY).saturating_sub(AROUND_DATA) / 4 * 3
    }

    /// Whether the first reply with this outcome would fit.
    pub(super) fn would_fit(&self, reply_context: &ReplyContext, outcome: Outcome, state: State, now: Millis) -> bool {
        self.fits(&self.sign_reply(reply_context, self.reply_body(reply_context, 0, outcome, state, now)))
    }

    /// A reply whose content is this client's own, and short.
    pub(super) fn reply(
        &mut self,
        reply_context: &ReplyContext,
        seq: u64,
        outcome: Outcome,
        state: State,
        now: Millis,
    ) -> Signed {
        self.fitting(reply_context, seq, outcome, state, now).0
    }

    pub(super) fn event(&mut self, data: EventData, state: State, now: Millis) -> Signed {
        let credential = self.identity.credential();
        let subject = subject::event(credential.realm(), self.identity.name(), data.kind());
        let event = Event {
            v: Version,
            id: message_id(self.boot, self.n, now),
            realm: credential.realm().clone(),
            from: self.identity.name().clone(),
            credential: credential.jti(),
            subject: subject.clone(),
            issued_at: now,
            epoch: self.epoch,
            boot: self.boot,
            n: self.n,
            state,
            kind: data.kind(),
            data: data.to_map(),
        };
        self.n += 1;
        self.identity.sign(MessageType::Event, subject, to_json(&event))
    }

    fn reply_body(
        &self,
        reply_context: &ReplyContext,
        seq: u64,
        outcome: Outcome,
        state: State,
        now: Millis,
    ) -> Vec<u8> {
        let credential = self.identity.credential();
        let (status, progress, result, error) = outcome.into_members();
        to_json(&Reply {
            v: Version,
            id: message_id(self.boot, self.n, now),
            realm: credential.realm().clone(),
            from: self.identity.name().clone(),
            credential: credential.jti(),
            to: reply_context.operator.clone(),
            subject: subject::reply(&reply_context.reply_to, self.identity.name()),
            command_id: reply_context.key.id,
            command_digest: reply_context.digest,
            issued_at: now,
            epoch: self.epoch,
            boot: self.boot,
            n: self.n,
            state,
            seq,
            status,
            progress,
            result,
            error,
        })
    }

    fn sign_reply(&self, reply_context: &ReplyContext, body: Vec<u8>) -> Signed {
        let subject = subject::reply(&reply_context.reply_to, self.identity.name());
        self.identity.sign(MessageType::Reply, subject, body)
    }
}

/// The id of a process's `n`-th message: unique because the boot is random and numbers are not used twice.
pub(super) fn message_id(boot: Uuid, n: u64, now: Millis) -> MessageId {
    let mut seed = [0; 24];
    seed[..16].copy_from_slice(boot.as_bytes());
    seed[16..].copy_from_slice(&n.to_be_bytes());
    let digest = Digest::of(&seed);
    let mut unique = [0; 10];
    unique.copy_from_slice(&digest.as_bytes()[..10]);
    MessageId::new(now, unique)
}

/// How many JSON values the part of a reply holds whose content is not the protocol's own.
fn values(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Accepted | Outcome::Progress(_) => 0,
        Outcome::Succeeded(result) => json::count(result),
        Outcome::Failed(error) | Outcome::Refused(error) | Outcome::Cancelled(error) | Outcome::Interrupted(error) => {
            error.details.iter().flat_map(|details| details.values()).map(json::count).sum()
        }
    }
}

/// The answer to a `cancel` or `result` whose command is not on record.
pub(super) fn not_found() -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, "no command with this id is on record here, or several are")
}

/// The answer to an `output` of which nothing is kept.
pub(super) fn no_output() -> ErrorBody {
    let text =
        "no output of this command is kept here: it is no job, or is not on record, or its output gave way to others'";
    ErrorBody::new(ErrorCode::NotFound, text)
}

/// The answer to a `describe` of what is not registered.
pub(super) fn no_command(name: &Name) -> ErrorBody {
    let name = text::echo(name.as_str());
    ErrorBody::new(ErrorCode::NotFound, format!("no command `{name}` is registered here"))
}

/// A message for people, cut to a length that fits one.
pub(super) fn shorten(message: &str) -> String {
    message.chars().take(MAX_FAILURE).collect()
}

pub(super) fn to_json(message: &impl Serialize) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "structs of strings, numbers and objects, which JSON can always hold")]
    serde_json::to_vec(message).expect("a message is written as JSON")
}

//! The messages that a client signs (section 5).

use std::sync::Arc;

use countersign_protocol::command::Version;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::MAX_BODY;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply, Status};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use serde::Serialize;

use super::refusal::Asker;
use super::state::State;

/// The longest message for people that a command's failure may bring, in characters.
const MAX_FAILURE: usize = 1_024;

/// Makes and signs replies and events, and numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Outbox {
    identity: Arc<Identity>,
    epoch: Uuid,
    boot: Uuid,
    n: u64,
}

impl Outbox {
    pub(super) fn new(identity: Arc<Identity>, epoch: Uuid, boot: Uuid) -> Self {
        Self { identity, epoch, boot, n: 0 }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn boot(&self) -> Uuid {
        self.boot
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.n
    }

    /// A final reply, or `result_too_large` in its place, and the status that it has.
    pub(super) fn fitting(
        &mut self,
        asker: &Asker,
        seq: u64,
        outcome: Outcome,
        state: State,
        now: Millis,
    ) -> (Signed, Status) {
        let status = outcome.status();
        let body = self.reply_body(asker, seq, outcome, state, now);
        if body.len() <= MAX_BODY {
            return (self.sign_reply(asker, body), status);
        }
        let text = format!("the result takes {} bytes with its envelope; at most {MAX_BODY} fit a message", body.len());
        let outcome = Outcome::Failed(ErrorBody::new(ErrorCode::ResultTooLarge, text));
        let body = self.reply_body(asker, seq, outcome, state, now);
        (self.sign_reply(asker, body), Status::Failed)
    }

    /// A reply whose content is this client's own, and short.
    pub(super) fn reply(&mut self, asker: &Asker, seq: u64, outcome: Outcome, state: State, now: Millis) -> Signed {
        self.fitting(asker, seq, outcome, state, now).0
    }

    pub(super) fn event(&mut self, data: EventData, state: State, now: Millis) -> Signed {
        let credential = self.identity.credential();
        let subject = subject::event(credential.realm(), self.identity.name(), data.kind());
        let event = Event {
            v: Version,
            id: self.id(now),
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
        self.identity.sign(MessageType::Event, subject, json(&event))
    }

    fn reply_body(&self, asker: &Asker, seq: u64, outcome: Outcome, state: State, now: Millis) -> Vec<u8> {
        let credential = self.identity.credential();
        let (status, progress, result, error) = outcome.into_members();
        json(&Reply {
            v: Version,
            id: self.id(now),
            realm: credential.realm().clone(),
            from: self.identity.name().clone(),
            credential: credential.jti(),
            to: asker.operator.clone(),
            subject: subject::reply(&asker.reply_to, self.identity.name()),
            command_id: asker.key.id,
            command_digest: asker.digest,
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

    fn sign_reply(&mut self, asker: &Asker, body: Vec<u8>) -> Signed {
        self.n += 1;
        let subject = subject::reply(&asker.reply_to, self.identity.name());
        self.identity.sign(MessageType::Reply, subject, body)
    }

    /// Unique because the boot is random and numbers are not used twice.
    fn id(&self, now: Millis) -> MessageId {
        let mut seed = [0; 24];
        seed[..16].copy_from_slice(self.boot.as_bytes());
        seed[16..].copy_from_slice(&self.n.to_be_bytes());
        let digest = Digest::of(&seed);
        let mut unique = [0; 10];
        unique.copy_from_slice(&digest.as_bytes()[..10]);
        MessageId::new(now, unique)
    }
}

/// The answer to a `cancel` or `result` whose command is not on record.
pub(super) fn not_found() -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, "no command with this id is on record here, or several are")
}

/// A message for people, cut to a length that fits one.
pub(super) fn shorten(message: &str) -> String {
    message.chars().take(MAX_FAILURE).collect()
}

fn json(message: &impl Serialize) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "structs of strings, numbers and objects, which JSON can always hold")]
    serde_json::to_vec(message).expect("a message is written as JSON")
}

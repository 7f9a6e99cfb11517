//! A realm in which a test makes the traffic.

#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use std::sync::Arc;

use countersign_protocol::command::{ClientInfo, Command, Job, Target, Version};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Delivery, Identity, MessageType, Signed};
use countersign_protocol::event::{Event, EventData, Security, SecurityReason};
use countersign_protocol::id::Uuid;
use countersign_protocol::reply::{Outcome, Reply, State, Status};
use countersign_protocol::subject;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use countersign_testkit::realm::{Draft, Realm, START, full_grant, message_id, name, to};
use serde_json::{Value, json};

use countersign_machine::observer::{Observation, Watcher};

/// The realm `demo` with the operator `alice` and the client `worker-1` in the group `web`.
pub(crate) struct World {
    pub(crate) realm: Realm,
    pub(crate) alice: Arc<Identity>,
    pub(crate) worker: Arc<Identity>,
    pub(crate) watcher: Watcher,
    count: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let realm = Realm::new("demo");
        let alice = realm.operator("alice", full_grant());
        let worker = realm.client("worker-1", &["web"]);
        let watcher = Watcher::new(Arc::clone(&realm.trust));
        Self { realm, alice, worker, watcher, count: 0 }
    }

    fn next_id(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Takes what arrives.
    pub(crate) fn take(&mut self, delivery: &Delivery) -> Vec<Observation> {
        self.watcher.take(delivery, START).collect()
    }

    /// A command of alice's.
    pub(crate) fn draft(&mut self, to: Target, call: &str, args: Value) -> Draft {
        let id = self.next_id();
        Draft::new(&self.alice, to, call, args, id, START)
    }

    /// A `ping` of alice's to worker-1.
    pub(crate) fn ping(&mut self) -> Signed {
        self.draft(to("worker-1"), "ping", json!({})).sign(&self.alice)
    }

    /// The reply of worker-1 with this number.
    pub(crate) fn reply(&mut self, command: &Signed, n: u64, outcome: Outcome) -> Signed {
        self.reply_with(command, n, outcome, |_| {})
    }

    /// The same, changed before it is signed.
    pub(crate) fn reply_with(
        &mut self,
        command: &Signed,
        n: u64,
        outcome: Outcome,
        change: impl FnOnce(&mut Reply),
    ) -> Signed {
        let command_body: Command = serde_json::from_slice(&command.body).unwrap();
        let (status, progress, result, error) = outcome.into_members();
        let mut reply = Reply {
            v: Version,
            id: message_id(self.next_id()),
            realm: command_body.realm,
            from: name("worker-1"),
            credential: self.worker.credential().jti(),
            to: command_body.from,
            subject: subject::reply(&command_body.reply_to, &name("worker-1")),
            command_id: command_body.id,
            command_digest: Digest::of(&command.body),
            issued_at: START,
            epoch: uuid(1),
            boot: uuid(2),
            n,
            state: State::Ready,
            seq: 0,
            status,
            progress,
            result,
            error,
        };
        change(&mut reply);
        self.worker.sign(MessageType::Reply, reply.subject.clone(), json!(reply).to_string().into_bytes())
    }

    /// The event of worker-1 with this number.
    pub(crate) fn event(&mut self, n: u64, data: &EventData) -> Signed {
        self.event_with(n, data, |_| {})
    }

    /// The same, changed before it is signed.
    pub(crate) fn event_with(&mut self, n: u64, data: &EventData, change: impl FnOnce(&mut Event)) -> Signed {
        let mut event = Event {
            v: Version,
            id: message_id(self.next_id()),
            realm: name("demo"),
            from: name("worker-1"),
            credential: self.worker.credential().jti(),
            subject: subject::event(&name("demo"), &name("worker-1"), data.kind()),
            issued_at: START,
            epoch: uuid(1),
            boot: uuid(2),
            n,
            state: State::Ready,
            kind: data.kind(),
            data: data.to_map(),
        };
        change(&mut event);
        self.worker.sign(MessageType::Event, event.subject.clone(), json!(event).to_string().into_bytes())
    }

    /// The trust bundle of the realm, or of another, as its root publishes it.
    pub(crate) fn trust(&self, realm: &str) -> Vec<u8> {
        let issuer = Issuer { name: name("issuer"), jwk: self.realm.issuer.public().jwk() };
        let body = TrustBody {
            v: Version,
            realm: name(realm),
            version: 2,
            expires_at: START.plus(86_400_000),
            roots: vec![self.realm.root.public().jwk()],
            threshold: 1,
            issuers: vec![issuer],
            revoked: Vec::new(),
        };
        Trust::sign(&body, &[&self.realm.root])
    }
}

/// A message without headers.
pub(crate) fn bare(subject: &str, body: Vec<u8>) -> Delivery {
    Delivery::new(subject, false, [], body.into())
}

pub(crate) fn presence(version: &str) -> EventData {
    let info: ClientInfo = serde_json::from_value(json!({
        "state": "ready", "epoch": uuid(1), "boot": uuid(2), "n": 0, "version": version, "started_at": START,
        "heartbeat_ms": 10_000, "groups": ["web"], "jobs": { "running": 1, "limit": 64 }, "dropped": {},
        "commands": [], "trust": { "version": 1, "expires_at": START },
    }))
    .unwrap();
    EventData::Presence(Box::new(info))
}

pub(crate) fn job() -> EventData {
    EventData::Job(Job {
        command_id: message_id(7),
        command: name("calculate"),
        operator: name("alice"),
        status: Status::Accepted,
        started_at: START,
        ended_at: None,
        progress: None,
    })
}

pub(crate) fn security() -> EventData {
    EventData::Security(Security { reason: SecurityReason::IdConflict, count: 2, signer: Some(name("mallory")) })
}

pub(crate) fn uuid(number: u8) -> Uuid {
    Uuid::from_random([number; 16])
}

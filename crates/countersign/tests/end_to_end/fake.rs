//! Clients whose keys are in wrong hands: they sign whatever a test wants, and a broker that is not honest lets one of them
//! publish anywhere.

use std::fs;
use std::time::Instant;

use countersign_host::clock;
use countersign_keys::{load_member, load_trust, read_key};
use countersign_protocol::command::{Command, Version};
use countersign_protocol::credential::{Claims, Confirmation, Credential, Grant, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Outcome, Reply, State};
use countersign_protocol::subject;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use countersign_testkit::broker::TIMEOUT;
use countersign_testkit::hostile::{Message, Peer};
use countersign_testkit::realm::name;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::process::Process;

/// Clears the screen, turns the text red, rings, goes back over the line, and reorders it.
pub const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7}\rok\u{202e}neves\u{2066}\u{200b}\u{2028}\n\u{85}end";

/// A client with its keys in the hands of a test. It receives what a client of its name and groups receives.
pub struct FakeWorker {
    pub identity: Identity,
    pub peer: Peer,
    n: u64,
}

impl FakeWorker {
    pub fn new(fleet: &Fleet, client: &str) -> Self {
        let (keys, client) = (fleet.keys(), name(client));
        let trust = load_trust(&keys).unwrap();
        let member = load_member(&keys, Role::Client, &client, &trust, clock::wall(), SKEW).unwrap();
        let mut peer = fleet.peer(&keys.creds(Role::Client, &client));
        for subject in subject::subscriptions(&name("demo"), &client, member.identity.credential().groups()) {
            peer.subscribe(&subject);
        }
        Self { identity: member.identity, peer, n: 0 }
    }

    /// Starts an operator's process, and waits for the command that it sends.
    pub fn receive_command(&mut self, fleet: &Fleet, arguments: &[&str]) -> (Process, Message) {
        let operator = fleet.spawn(arguments);
        (operator, self.peer.message())
    }

    pub fn reply(&mut self, command: &Message, seq: u64, outcome: Outcome) -> Signed {
        self.reply_with(command, seq, outcome, |_| {})
    }

    /// The same, with whatever is changed before it is signed.
    pub fn reply_with(
        &mut self,
        command: &Message,
        seq: u64,
        outcome: Outcome,
        change: impl FnOnce(&mut Reply),
    ) -> Signed {
        let body: Command = serde_json::from_slice(&command.body).unwrap();
        let (status, progress, result, error) = outcome.into_members();
        let (id, issued_at) = self.next();
        let mut reply = Reply {
            v: Version,
            id,
            realm: body.realm,
            from: self.identity.name().clone(),
            credential: self.identity.credential().jti(),
            to: body.from,
            subject: subject::reply(&body.reply_to, self.identity.name()),
            command_id: body.id,
            command_digest: Digest::of(&command.body),
            issued_at,
            epoch: Uuid::from_random([1; 16]),
            boot: Uuid::from_random([2; 16]),
            n: self.n,
            state: State::Ready,
            seq,
            status,
            progress,
            result,
            error,
        };
        change(&mut reply);
        let bytes = serde_json::to_vec(&reply).unwrap();
        self.identity.sign(MessageType::Reply, reply.subject, bytes)
    }

    pub fn answer(&mut self, command: &Message, seq: u64, outcome: Outcome) {
        let reply = self.reply(command, seq, outcome);
        self.peer.send(&reply);
    }

    /// What it reports about itself.
    pub fn info(&self) -> Value {
        json!({
            "state": "ready", "epoch": Uuid::from_random([1; 16]), "boot": Uuid::from_random([2; 16]), "n": self.n,
            "version": HOSTILE, "started_at": 0, "heartbeat_ms": 10_000, "dropped": {}, "commands": [],
            "groups": self.identity.credential().groups(), "jobs": { "running": 0, "limit": 1 },
            "trust": { "version": 1, "expires_at": 9_007_199_254_740_991_i64 },
        })
    }

    /// A current presence in the state `ready`, with whatever is changed before it is signed.
    pub fn presence(&mut self, change: impl FnOnce(&mut Event)) -> Signed {
        let (id, issued_at) = self.next();
        let Value::Object(data) = self.info() else { panic!("an object") };
        let mut event = Event {
            v: Version,
            id,
            realm: name("demo"),
            from: self.identity.name().clone(),
            credential: self.identity.credential().jti(),
            subject: subject::event(&name("demo"), self.identity.name(), EventKind::Presence),
            issued_at,
            epoch: Uuid::from_random([1; 16]),
            boot: Uuid::from_random([2; 16]),
            n: self.n,
            state: State::Ready,
            kind: EventKind::Presence,
            data,
        };
        change(&mut event);
        let bytes = serde_json::to_vec(&event).unwrap();
        self.identity.sign(MessageType::Event, event.subject, bytes)
    }

    /// Publishes a presence that is some milliseconds old, and waits until the broker stores it.
    pub fn present(&mut self, fleet: &Fleet, age: i64) {
        let presence = self.presence(|event| event.issued_at = event.issued_at.plus(-age));
        self.peer.send(&presence);
        wait_until_stored(fleet, &presence.subject, &presence.body);
    }

    fn next(&mut self) -> (MessageId, Millis) {
        self.n += 1;
        let now = clock::wall();
        (MessageId::new(now, [self.n.to_le_bytes()[0]; 10]), now)
    }
}

/// Waits until this body is the last that the broker stores on the subject of a presence.
pub fn wait_until_stored(fleet: &Fleet, subject: &str, body: &[u8]) {
    const INBOX: &str = "_INBOX.operator-alice.test";
    let mut alice = fleet.peer(&fleet.keys().creds(Role::Operator, &name("alice")));
    alice.subscribe(INBOX);
    let deadline = Instant::now() + TIMEOUT;
    let request = serde_json::json!({ "last_by_subj": subject }).to_string();
    loop {
        alice.publish("cs.demo.roster.get", Some(INBOX), None, request.as_bytes());
        if alice.message().body == body {
            return;
        }
        assert!(Instant::now() < deadline, "the broker does not store what was published on {subject}");
    }
}

/// Lets a client publish anywhere from its next connection on, as a broker that is not honest does.
pub fn unleash(fleet: &Fleet, client: &str) {
    let commands = format!("cs.demo.cmd.client.{client}");
    fleet.allow(&fleet.keys().creds(Role::Client, &name(client)), &["cs.>"], &[&commands, "cs.demo.cmd.>"]);
}

/// Adds an operator to the realm, with this grant. From now on operators have to be named.
pub fn enrol(fleet: &Fleet, operator: &str, grant: Grant) {
    fleet.run(&["init", "--operator", operator]).exits(0);
    let (keys, operator) = (fleet.keys(), name(operator));
    let now = clock::wall().seconds();
    let claims = Claims {
        iss: name("issuer"),
        sub: operator.clone(),
        jti: Uuid::from_random([0x78; 16]),
        iat: now,
        nbf: now - 60,
        exp: now + 3_600,
        realm: name("demo"),
        role: Role::Operator,
        cnf: Confirmation { jwk: read_key(&keys.key(Role::Operator, &operator)).unwrap().public().jwk() },
        grant: Some(grant),
        groups: None,
    };
    let issuer = read_key(&keys.issuer_key()).unwrap();
    fs::write(keys.credential(Role::Operator, &operator), Credential::issue(&claims, &issuer)).unwrap();
}

/// Nothing that a terminal would obey.
#[track_caller]
pub fn harmless(text: &str) {
    for line in text.lines() {
        assert_eq!(escape(line), line);
    }
}

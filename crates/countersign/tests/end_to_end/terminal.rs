//! An operator's terminal and a client's log before peers that lie: a client whose key is in wrong hands, and the broker.

use countersign_host::clock;
use countersign_host::keys::load_member;
use countersign_protocol::command::{Command, Version};
use countersign_protocol::credential::Role;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress, Reply, State};
use countersign_protocol::subject;
use countersign_protocol::text::escape;
use countersign_testkit::hostile::{FakeBroker, Message, Peer};
use countersign_testkit::realm::name;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Process;

/// Clears the screen, turns the text red, rings, goes back over the line, and reorders it.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7}\rok\u{202e}neves\u{2066}\u{200b}\u{2028}\n\u{85}end";

/// worker-1, with its keys in the hands of a test.
struct FakeWorker {
    identity: Identity,
    peer: Peer,
    n: u64,
}

impl FakeWorker {
    fn new(fleet: &Fleet) -> Self {
        let (keys, worker) = (fleet.keys(), name("worker-1"));
        let trust = countersign_host::keys::load_trust(&keys).unwrap();
        let member = load_member(&keys, Role::Client, &worker, &trust, clock::wall(), SKEW).unwrap();
        let mut peer = fleet.peer(&keys.seed(Role::Client, &worker));
        peer.subscribe("cs.demo.cmd.client.worker-1");
        Self { identity: member.identity, peer, n: 0 }
    }

    /// Starts an operator's command, and waits for what it sends.
    fn asked(&mut self, fleet: &Fleet, arguments: &[&str]) -> (Process, Message) {
        let operator = fleet.spawn(arguments);
        (operator, self.peer.message())
    }

    fn reply(&mut self, command: &Message, seq: u64, outcome: Outcome) -> Signed {
        let body: Command = serde_json::from_slice(&command.body).unwrap();
        let (status, progress, result, error) = outcome.into_members();
        self.n += 1;
        let now = clock::wall();
        let reply = Reply {
            v: Version,
            id: MessageId::new(now, [self.n.to_le_bytes()[0]; 10]),
            realm: body.realm,
            from: name("worker-1"),
            credential: self.identity.credential().jti(),
            to: body.from,
            subject: subject::reply(&body.reply_to, &name("worker-1")),
            command_id: body.id,
            command_digest: Digest::of(&command.body),
            issued_at: now,
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
        let bytes = serde_json::to_vec(&reply).unwrap();
        self.identity.sign(MessageType::Reply, reply.subject, bytes)
    }

    fn answer(&mut self, command: &Message, seq: u64, outcome: Outcome) {
        let reply = self.reply(command, seq, outcome);
        self.peer.send(&reply);
    }
}

/// Nothing that a terminal would obey.
#[track_caller]
fn harmless(text: &str) {
    for line in text.lines() {
        assert_eq!(escape(line), line);
    }
}

#[test]
fn what_a_client_signs_cannot_move_the_operators_cursor() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let mut worker = FakeWorker::new(&fleet);
    let details = json!({ "errors": [{ "path": HOSTILE, "message": HOSTILE }] });
    for format in ["table", "json", "ndjson"] {
        let (operator, command) = worker.asked(&fleet, &["calculate", "worker-1", "5", "x", "-o", format]);
        worker.answer(&command, 0, Outcome::Accepted);
        let progress = Progress { fraction: 0.5, message: Some(HOSTILE.to_owned()) };
        worker.answer(&command, 1, Outcome::Progress(progress));
        let mut error = ErrorBody::new(ErrorCode::InvalidArgs, HOSTILE);
        error.details = serde_json::from_value(details.clone()).unwrap();
        worker.answer(&command, 2, Outcome::Refused(error));
        let ran = operator.ended().exits(1);
        harmless(&ran.stdout);
        harmless(&ran.stderr);
        assert!(ran.stdout.contains("end"), "{ran:#?}");
        if format == "json" {
            assert_eq!(ran.of("worker-1")["error"]["message"], HOSTILE, "a program gets it as it was signed");
        }

        let (operator, command) = worker.asked(&fleet, &["call", "worker-1", "anything", "-o", format]);
        worker.answer(&command, 0, Outcome::Succeeded(json!({ HOSTILE: [HOSTILE] })));
        harmless(&operator.ended().exits(0).stdout);

        let (operator, command) = worker.asked(&fleet, &["status", "worker-1", "-o", format]);
        let info = json!({
            "state": "ready", "epoch": Uuid::from_random([1; 16]), "boot": Uuid::from_random([2; 16]), "n": 9,
            "version": HOSTILE, "started_at": 0, "heartbeat_ms": 10_000, "groups": [], "jobs": { "running": 0, "limit": 1 },
            "dropped": {}, "commands": [], "trust": { "version": 1, "expires_at": 9_007_199_254_740_991_i64 },
        });
        worker.answer(&command, 0, Outcome::Succeeded(info));
        harmless(&operator.ended().exits(0).stdout);
    }
}

#[test]
fn what_a_broker_says_cannot_move_the_operators_cursor() {
    let fleet = Fleet::new();
    let fake = FakeBroker::start("nonce");
    let mut command = fleet.command(&["ping", "worker-1"]);
    command.env("NATS_URL", fake.url());
    let operator = Process::spawn(command);
    let mut session = fake.accept_silently();
    session.send(format!("-ERR 'Authorization Violation {}'\r\n", HOSTILE.replace(['\r', '\n'], "")).as_bytes());
    let ran = operator.ended().exits(4);
    harmless(&ran.stderr);
    assert!(ran.stderr.contains("refuses us") && ran.stderr.contains("try:"), "{ran:#?}");
}

#[test]
fn what_is_thrown_at_a_client_cannot_move_the_cursor_of_who_reads_its_log() {
    let (fleet, mut worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    for member in ["from", "realm", "id", "subject", "reply_to"] {
        let mut body: Value = forger.terminate();
        body[member] = json!(HOSTILE);
        forger.send(&forger.sign_bytes(body.to_string().into_bytes()));
    }
    for member in ["alg", "typ", "kid"] {
        let mut protected = forger.protected();
        protected[member] = json!(HOSTILE);
        forger.send(&forger.seal(&protected.to_string(), b"{}"));
    }
    let print = forger.order("calculate", json!({ "x": 0, "msg": HOSTILE }));
    assert_eq!(forger.ask(&print)["status"], "succeeded");
    fleet.dropped("worker-1", &[("address", 2), ("envelope", 3), ("type", 3)]);
    worker.stderr.wait_for("dropped a message");
    harmless(&worker.stderr.so_far());
    let printed = worker.stdout.wait_for("end");
    harmless(&printed);
    assert_eq!(printed, worker.stdout.so_far(), "in one line");
}

#[test]
fn a_status_503_from_a_peer_is_never_taken_for_a_reply() {
    let fleet = Fleet::new();
    let mut worker = FakeWorker::new(&fleet);
    let (operator, command) = worker.asked(&fleet, &["ping", "worker-1", "-o", "json", "--timeout", "30s"]);
    let genuine = worker.reply(&command, 0, Outcome::Succeeded(json!(1_795_485_600)));
    let about = b"NATS/1.0 503\r\nNats-Subject: cs.demo.cmd.client.worker-1\r\n\r\n".as_slice();
    for headers in
        [b"NATS/1.0 503\r\n\r\n".as_slice(), b"NATS/1.0 503 No Responders\r\n\r\n", about, b"NATS/1.0\r\n\r\n"]
    {
        for body in [b"".as_slice(), &genuine.body] {
            worker.peer.publish(&genuine.subject, None, Some(headers), body);
        }
    }
    // Headers stripped, and a status line before genuine ones.
    worker.peer.publish(&genuine.subject, None, None, &genuine.body);
    let with_status =
        [b"NATS/1.0 503".as_slice(), &countersign_testkit::hostile::signed_headers(&genuine)[8..]].concat();
    worker.peer.publish(&genuine.subject, None, Some(&with_status), &genuine.body);
    let failed = worker.reply(&command, 0, Outcome::Succeeded(json!(7)));
    worker.peer.send(&failed);
    let reply = operator.ended().exits(0).of("worker-1");
    assert_eq!(
        (&reply["verdict"], &reply["result"]),
        (&json!("succeeded"), &json!(7)),
        "what was signed, and it alone"
    );
}

#[test]
fn where_nobody_answers_a_503_alone_does_not_make_a_client_offline() {
    let fleet = Fleet::new();
    let mut worker = FakeWorker::new(&fleet);
    let (operator, command) = worker.asked(&fleet, &["ping", "worker-1", "-o", "json", "--timeout", "400ms"]);
    let subject = command.reply.clone().unwrap();
    worker.peer.publish(&format!("{subject}.worker-1"), None, Some(b"NATS/1.0 503\r\n\r\n"), b"");
    assert_eq!(operator.ended().exits(3).verdict("worker-1"), "no_reply");
}

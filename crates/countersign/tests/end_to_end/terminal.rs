//! An operator's terminal and a client's log before hostile peers: a client whose key is in wrong hands, and the broker.

use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress};
use countersign_testkit::hostile::{FakeBroker, signed_headers};
use serde_json::{Value, json};

use crate::fake::{FakeWorker, HOSTILE, harmless};
use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Process;

#[test]
fn what_a_client_signs_cannot_move_the_operators_cursor() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let details = json!({ "errors": [{ "path": HOSTILE, "message": HOSTILE }] });
    for format in ["table", "json", "ndjson"] {
        let (operator, command) = worker.receive_command(&fleet, &["calculate", "worker-1", "5", "x", "-o", format]);
        worker.answer(&command, 0, Outcome::Accepted);
        let progress = Progress { fraction: 0.5, message: Some(HOSTILE.to_owned()) };
        worker.answer(&command, 1, Outcome::Progress(progress));
        let mut error = ErrorBody::new(ErrorCode::InvalidArgs, HOSTILE);
        error.details = serde_json::from_value(details.clone()).unwrap();
        worker.answer(&command, 2, Outcome::Refused(error));
        let ran = operator.wait().exits(1);
        harmless(&ran.stdout);
        harmless(&ran.stderr);
        assert!(ran.stdout.contains("end"), "{ran:#?}");
        if format == "json" {
            assert_eq!(ran.of("worker-1")["error"]["message"], HOSTILE, "a program gets it as it was signed");
        }

        let (operator, command) = worker.receive_command(&fleet, &["call", "worker-1", "anything", "-o", format]);
        worker.answer(&command, 0, Outcome::Succeeded(json!({ HOSTILE: [HOSTILE] })));
        harmless(&operator.wait().exits(0).stdout);

        let (operator, command) = worker.receive_command(&fleet, &["status", "worker-1", "-o", format]);
        let info = worker.info();
        worker.answer(&command, 0, Outcome::Succeeded(info));
        harmless(&operator.wait().exits(0).stdout);
    }
}

#[test]
fn what_a_broker_sends_cannot_move_the_operators_cursor() {
    let fleet = Fleet::new();
    let fake = FakeBroker::start("nonce");
    let mut command = fleet.command(&["ping", "worker-1"]);
    command.env("NATS_URL", fake.url());
    let operator = Process::spawn(command);
    // Two connections: for commands, and for events.
    let mut sessions = [fake.accept_silently(), fake.accept_silently()];
    for session in &mut sessions {
        session.send(format!("-ERR 'Authorization Violation {}'\r\n", HOSTILE.replace(['\r', '\n'], "")).as_bytes());
    }
    let ran = operator.wait().exits(4);
    harmless(&ran.stderr);
    assert!(ran.stderr.contains("refuses us") && ran.stderr.contains("try:"), "{ran:#?}");
}

#[test]
fn what_is_sent_to_a_client_cannot_move_the_cursor_of_whoever_reads_its_log() {
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
    let print = forger.command("calculate", json!({ "x": 0, "msg": HOSTILE }));
    assert_eq!(forger.request(&print)["status"], "succeeded");
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
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let (operator, command) = worker.receive_command(&fleet, &["ping", "worker-1", "-o", "json", "--timeout", "30s"]);
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
    let with_status = [b"NATS/1.0 503".as_slice(), &signed_headers(&genuine)[8..]].concat();
    worker.peer.publish(&genuine.subject, None, Some(&with_status), &genuine.body);
    let failed = worker.reply(&command, 0, Outcome::Succeeded(json!(7)));
    worker.peer.send(&failed);
    let reply = operator.wait().exits(0).of("worker-1");
    assert_eq!(
        (&reply["verdict"], &reply["result"]),
        (&json!("succeeded"), &json!(7)),
        "what was signed, and it alone"
    );
}

#[test]
fn where_nobody_answers_a_503_alone_does_not_make_a_client_offline() {
    let fleet = Fleet::new();
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let (operator, command) = worker.receive_command(&fleet, &["ping", "worker-1", "-o", "json", "--timeout", "400ms"]);
    let subject = command.reply.clone().unwrap();
    worker.peer.publish(&format!("{subject}.worker-1"), None, Some(b"NATS/1.0 503\r\n\r\n"), b"");
    assert_eq!(operator.wait().exits(3).verdict("worker-1"), "no_reply");
}

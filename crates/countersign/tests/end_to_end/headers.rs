//! Bytes that no NATS library can read, from a peer and from the broker itself.

use countersign_protocol::credential::Role;
use countersign_protocol::id::Uuid;
use countersign_testkit::hostile::{FakeBroker, hostile_header_blocks, message_frame};
use countersign_testkit::realm::name;
use serde_json::json;

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Process;

const SUBJECT: &str = "cs.demo.cmd.client.worker-1";

#[test]
fn after_malformed_headers_from_a_peer_a_client_reconnects_and_loses_nothing_that_is_sent_then() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let before = fleet.status("worker-1");
    for (what, headers) in hostile_header_blocks() {
        forger.peer.borrow().publish(SUBJECT, None, Some(&headers), b"x");
        forger.peer.borrow_mut().flush();
        // The operator does not know when the client is connected again: it resends until there is a reply.
        let ran = fleet.run(&["ping", "worker-1", "--retry", "-o", "json"]);
        assert_eq!(ran.code, Some(0), "{what}: {ran:#?}");
        let commands: Vec<_> = (0..5).map(|_| forger.command("ping", json!({}))).collect();
        forger.peer.borrow().send_all(&commands);
        for command in &commands {
            assert_eq!(forger.reply_to(command).json()["status"], "succeeded", "{what}");
        }
    }
    let after = fleet.status("worker-1");
    assert_eq!((&after["boot"], &after["epoch"]), (&before["boot"], &before["epoch"]), "the same process");
    assert_eq!(after["state"], "ready");
}

#[test]
fn an_operator_whose_connection_is_broken_by_malformed_headers_still_gets_its_verdict() {
    let (fleet, worker) = Fleet::ready();
    let insider = fleet.peer(&fleet.keys().creds(Role::Client, &name("worker-1")));
    let mut observer = fleet.observer();
    let operator = fleet.spawn(&["calculate", "worker-1", "5", "once", "-o", "json"]);
    let accepted =
        observer.wait_for("accepted", |it| it.json()["status"] == "accepted" && it.subject.contains(".reply."));
    insider.publish(&accepted.subject, None, Some(b"NATS/1.0\r\nA: b\rc\r\n\r\n"), b"x");
    let ran = operator.wait().exits(0);
    assert_eq!(ran.of("worker-1")["result"], json!({ "x": 5.0, "msg": "once" }));
    assert!(ran.stderr.contains("connection"), "and it is reported: {ran:#?}");
    assert_eq!(worker.printed(), "once\n");
}

/// What a hostile broker sends instead of a message.
fn hostile_frames(sid: &str) -> Vec<(&'static str, Vec<u8>)> {
    let blocks = hostile_header_blocks().into_iter();
    let mut frames: Vec<_> =
        blocks.map(|(what, block)| (what, message_frame(SUBJECT.as_bytes(), sid, &block, b"x"))).collect();
    frames.extend([
        ("a subject that is not UTF-8", message_frame(b"cs.demo.\xff\xfe", sid, b"NATS/1.0\r\n\r\n", b"x")),
        ("such a subject without headers", [b"MSG cs.\xff ", sid.as_bytes(), b" 1\r\nx\r\n"].concat()),
        ("an empty header block", message_frame(SUBJECT.as_bytes(), sid, b"", b"x")),
        ("sizes that do not fit", format!("HMSG {SUBJECT} {sid} 20 10\r\n0123456789\r\n").into_bytes()),
        ("a size that is no number", format!("MSG {SUBJECT} {sid} x\r\nx\r\n").into_bytes()),
        ("an unknown operation", b"NONSENSE\r\n".to_vec()),
        ("INFO that is no JSON", b"INFO {\r\n".to_vec()),
        ("an error that is not UTF-8", b"-ERR '\xff'\r\n".to_vec()),
    ]);
    frames
}

#[test]
fn whatever_a_hostile_broker_sends_a_client_comes_back_and_answers_the_next_command() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let forger = Forger::with_epoch(&fleet, Uuid::from_random([0; 16]));
    let fake = FakeBroker::start("nonce");
    let mut command = fleet.command(&["client", "--name", "worker-1"]);
    command.env("NATS_URL", fake.url());
    let _worker = Process::spawn(command);
    let mut session = fake.accept();
    let mut boots = Vec::new();
    for (what, frame) in hostile_frames(&session.subscription(SUBJECT)) {
        session.send(&frame);
        // A query needs no epoch, and the epoch is unknown here.
        let command = forger.draft("status", json!({})).with(|command| command.epoch = None).sign(&forger.identity);
        let id = crate::forge::id_of(&command).to_string();
        let reply = loop {
            session.deliver(&command);
            match session.published(|it| it.json()["command_id"] == *id) {
                Some(reply) => break reply.json(),
                None => session = fake.accept(),
            }
        };
        assert_eq!(reply["status"], "succeeded", "{what}");
        boots.push(reply["boot"].clone());
    }
    boots.dedup();
    assert_eq!(boots.len(), 1, "the same process throughout");
}

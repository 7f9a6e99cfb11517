//! Forged and misplaced replies, at a real operator's process.

use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{MessageType, Signed};
use countersign_protocol::id::MessageId;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress};
use countersign_testkit::hostile::{Message, signed_headers};
use countersign_testkit::realm::{message_id, name};
use serde_json::{Value, json};

use crate::fake::{FakeWorker, HOSTILE, harmless, unleash};
use crate::fleet::Fleet;
use crate::groups::verdicts;
use crate::process::Ran;

/// The reply to a `ping`.
fn pong(seconds: i64) -> Outcome {
    Outcome::Succeeded(json!(seconds))
}

fn failed() -> Outcome {
    Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "it did not work"))
}

fn progress(fraction: f64) -> Outcome {
    Outcome::Progress(Progress { fraction, message: None })
}

/// Two clients, both with their keys in the hands of a test.
fn two(fleet: &Fleet) -> [FakeWorker; 2] {
    ["worker-1", "worker-2"].map(|client| FakeWorker::new(fleet, client))
}

/// Sends both the command of one operator, lets each reply, and waits for the report.
fn run_and_answer(
    fleet: &Fleet,
    [one, other]: &mut [FakeWorker; 2],
    arguments: &[&str],
    outcomes: [Outcome; 2],
) -> Ran {
    let (operator, command) = one.receive_command(fleet, arguments);
    let [of_one, of_other] = outcomes;
    let to_other = other.peer.message();
    one.answer(&command, 0, of_one);
    other.answer(&to_other, 0, of_other);
    operator.wait()
}

#[test]
fn nothing_but_the_clients_own_reply_makes_its_verdict_and_each_other_kind_is_reported_once() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    unleash(&fleet, "worker-2");
    let [mut worker, mut mallory] = two(&fleet);
    let (operator, command) = worker.receive_command(&fleet, &["ping", "worker-1", "-o", "json"]);
    let old = worker.reply(&command, 0, pong(666));
    worker.peer.send(&old);
    operator.wait().exits(0);

    let (operator, command) = worker.receive_command(&fleet, &["ping", "worker-1", "-o", "json", "--timeout", "30s"]);
    let honest = worker.reply(&command, 0, pong(1));
    let at = honest.subject.clone();
    let (kid, other) = (worker.identity.kid().to_string(), message_id(7));
    let of_other = at.replace(&id_of(&command).to_string(), &other.to_string());
    let by_1 = "note: a message signed by worker-1 was ignored: ";
    let by_2 = "note: a message signed by worker-2 was ignored: ";
    let forged_by_2 = mallory.reply_with(&command, 0, pong(666), |reply| {
        (reply.from, reply.subject) = (name("worker-1"), at.clone());
    });
    let thrown: Vec<(Signed, String)> = vec![
        (
            Signed { body: worker.reply(&command, 0, pong(666)).body, ..honest.clone() },
            format!("note: a message was ignored: not authentic (signature), not signed by the key {kid}"),
        ),
        (
            worker.identity.sign(MessageType::Command, at.clone(), honest.body.to_vec()),
            "note: a message was ignored: not authentic (type), ".to_owned(),
        ),
        (
            Signed { credential: "e30.e30.AA".into(), ..honest.clone() },
            "note: a message was ignored: not authentic (credential), ".to_owned(),
        ),
        (forged_by_2, format!("{by_2}not authentic (credential), names worker-1 and ")),
        (
            mallory.reply_with(&command, 0, pong(666), |reply| reply.subject.clone_from(&at)),
            format!("{by_2}not a reply to this process"),
        ),
        (mallory.reply(&command, 0, pong(666)), format!("{by_2}a reply to a command that was not sent to it")),
        (Signed { subject: at.clone(), ..old }, format!("{by_1}not authentic (address), for cs.demo.reply.alice.")),
        (
            worker.reply_with(&command, 0, pong(666), |reply| reply.command_digest = Digest::of(b"other bytes")),
            format!("{by_1}a reply to other bytes than it was sent"),
        ),
        (
            worker.reply_with(&command, 0, pong(666), |reply| reply.to = name("bob")),
            format!("{by_1}not a reply to this process"),
        ),
        (
            worker.reply_with(&command, 0, pong(666), |reply| (reply.command_id, reply.subject) = (other, of_other)),
            format!("{by_1}a reply to a command that is not pending here"),
        ),
        (
            worker.reply(&command, 0, Outcome::Succeeded(json!("soon"))),
            format!("{by_1}a reply that does not fit the command"),
        ),
        (
            worker.reply_with(&command, 0, pong(666), |reply| reply.realm = name("plant")),
            format!("{by_1}not authentic (realm), for the realm plant"),
        ),
        (
            worker.identity.sign(MessageType::Event, at.clone(), honest.body.to_vec()),
            format!("{by_1}not authentic (envelope), "),
        ),
        (
            worker.identity.sign(MessageType::Reply, at.clone(), br#"{"v":1,"v":1}"#.to_vec()),
            format!("{by_1}not authentic (json), "),
        ),
    ];
    for (message, _) in &thrown {
        for _ in 0..3 {
            mallory.peer.send(message);
        }
    }
    // Headers stripped, statuses with and without a body, and one with genuine headers below it.
    let about = b"NATS/1.0 503\r\nNats-Subject: cs.demo.cmd.client.worker-1\r\n\r\n".as_slice();
    let with_status = [b"NATS/1.0 503".as_slice(), &signed_headers(&honest)[8..]].concat();
    mallory.peer.publish(&at, None, None, &honest.body);
    for headers in [b"NATS/1.0 503\r\n\r\n".as_slice(), about, &with_status] {
        for body in [b"".as_slice(), &honest.body] {
            mallory.peer.publish(&at, None, Some(headers), body);
        }
    }
    mallory.peer.flush();
    worker.peer.send(&honest);
    let ran = operator.wait().exits(0);
    assert_eq!((&ran.of("worker-1")["verdict"], &ran.of("worker-1")["result"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(ran.json()["targets"], 1);
    let stripped = "note: a message was ignored: not authentic (headers), ";
    let expected: Vec<&str> = thrown.iter().map(|(_, note)| note.as_str()).chain([stripped]).collect();
    let got: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(got.len(), expected.len(), "{ran:#?}");
    for (got, expected) in got.iter().zip(expected) {
        assert!(got.starts_with(expected), "{expected:?} in {ran:#?}");
    }
    harmless(&ran.stderr);
}

#[test]
fn a_reply_to_a_group_counts_only_from_a_client_that_the_issuer_put_in_it() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2"]);
    unleash(&fleet, "worker-2");
    let [mut worker, mut mallory] = two(&fleet);
    worker.present(&fleet, 0);
    let (operator, command) = worker.receive_command(&fleet, &["ping", "@web", "-o", "json", "--timeout", "30s"]);
    for _ in 0..2 {
        mallory.answer(&command, 0, pong(666));
    }
    mallory.peer.flush();
    worker.answer(&command, 0, pong(1));
    let ran = operator.wait().exits(0);
    assert_eq!((verdicts(&ran), &ran.of("worker-1")["result"]), (vec!["worker-1 succeeded".to_owned()], &json!(1)));
    let note = "note: a message signed by worker-2 was ignored: a reply to a command that was not sent to it\n";
    assert_eq!(ran.stderr, note);
}

#[test]
fn the_first_final_reply_stands_and_one_that_differs_is_an_alarm() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let [mut worker, mut other] = two(&fleet);
    for (first, second, verdict, code) in [(pong(1), failed(), "succeeded", 0), (failed(), pong(2), "failed failed", 1)]
    {
        let arguments = ["ping", "worker-1", "worker-2", "-o", "json", "--timeout", "30s"];
        let (operator, command) = worker.receive_command(&fleet, &arguments);
        let to_other = other.peer.message();
        let final_reply = worker.reply(&command, 0, first);
        // A copy is not reported; neither is an earlier reply.
        for _ in 0..3 {
            worker.peer.send(&final_reply);
        }
        worker.answer(&command, 0, Outcome::Accepted);
        for seq in 1..4 {
            worker.answer(&command, seq, second.clone());
        }
        worker.peer.flush();
        other.answer(&to_other, 0, pong(3));
        let ran = operator.wait().exits(code);
        assert_eq!(verdicts(&ran), [format!("worker-1 {verdict}"), "worker-2 succeeded".to_owned()]);
        let alarm =
            "warning: a message signed by worker-1 was ignored: a second final reply that differs from the first\n";
        assert_eq!(ran.stderr, alarm);
    }
}

#[test]
fn a_conflict_is_reported_even_where_nothing_else_is() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let [mut worker, mut other] = two(&fleet);
    let (operator, command) = worker.receive_command(&fleet, &["ping", "worker-1", "worker-2", "-q", "-o", "ndjson"]);
    let to_other = other.peer.message();
    for seconds in [1, 2] {
        worker.answer(&command, 0, pong(seconds));
    }
    let stranger = worker.reply_with(&command, 0, pong(1), |reply| reply.to = name("bob"));
    worker.peer.send(&stranger);
    worker.peer.flush();
    other.answer(&to_other, 0, pong(3));
    let ran = operator.wait().exits(0);
    assert_eq!(ran.stderr.matches("warning: ").count(), 1, "{ran:#?}");
    assert_eq!(ran.stderr.lines().count(), 1, "--quiet suppresses a note, and not a warning: {ran:#?}");
    let got: Vec<Value> = ran.lines().into_iter().map(|line| line["result"].clone()).collect();
    assert_eq!(got, [json!(1), json!(3), Value::Null], "one line for each, and the summary");
}

#[test]
fn replies_with_gaps_and_out_of_order_end_in_the_final_one_at_once() {
    let fleet = Fleet::of(&["worker-1"]);
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let done = || Outcome::Succeeded(json!({ "x": 5.0, "msg": "x" }));
    let (operator, command) = worker.receive_command(&fleet, &["calculate", "worker-1", "5", "x", "-o", "ndjson"]);
    worker.answer(&command, 3, progress(0.5));
    worker.answer(&command, 0, Outcome::Accepted);
    worker.answer(&command, 2, progress(0.25));
    worker.answer(&command, 3, progress(0.5));
    worker.answer(&command, 9, done());
    let ran = operator.wait().exits(0);
    let lines = ran.lines();
    let got: Vec<(&Value, &Value)> = lines.iter().map(|it| (&it["status"], &it["verdict"])).collect();
    assert_eq!(
        got,
        [(&json!("progress"), &Value::Null), (&Value::Null, &json!("succeeded")), (&Value::Null, &Value::Null)]
    );
    assert_eq!(
        (&lines[0]["progress"]["fraction"], ran.stderr.as_str()),
        (&json!(0.5), "note: 8 interim replies are missing, by their numbers\n")
    );

    let (operator, command) = worker.receive_command(&fleet, &["calculate", "worker-1", "5", "x", "-o", "json"]);
    worker.answer(&command, 4, done());
    assert_eq!(verdicts(&operator.wait().exits(0)), ["worker-1 succeeded"], "all interim ones are missing");

    // The highest number leaves no room for another interim reply, and still for the final one.
    let (operator, command) = worker.receive_command(&fleet, &["calculate", "worker-1", "5", "x", "-o", "json"]);
    worker.answer(&command, 9_007_199_254_740_991, progress(0.1));
    worker.answer(&command, 1, failed());
    assert_eq!(verdicts(&operator.wait().exits(1)), ["worker-1 failed failed"]);
}

#[test]
fn a_status_503_about_a_group_is_a_guess_that_gives_way_to_what_its_clients_sign() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web"]);
    let [mut silent, mut recent] = two(&fleet);
    silent.present(&fleet, 31_000);
    recent.present(&fleet, 0);
    let (operator, command) = silent.receive_command(&fleet, &["ping", "@web", "-o", "ndjson", "--timeout", "30s"]);
    let reply_to = command.reply.clone().unwrap();
    for subject in ["cs.demo.cmd.group.web", "cs.demo.cmd.all", "cs.demo.cmd.client.worker-2"] {
        let headers = format!("NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n");
        for body in [b"".as_slice(), b"{}"] {
            recent.peer.publish(&format!("{reply_to}.worker-2"), None, Some(headers.as_bytes()), body);
        }
    }
    recent.peer.flush();
    // What its client signs is worth more than the guess.
    silent.answer(&command, 0, pong(1));
    silent.peer.flush();
    recent.answer(&command, 0, pong(2));
    let ran = operator.wait().exits(0);
    let got: Vec<(Value, Value)> =
        ran.lines().into_iter().map(|it| (it["verdict"].clone(), it["result"].clone())).collect();
    assert_eq!(got, [(json!("succeeded"), json!(1)), (json!("succeeded"), json!(2)), (Value::Null, Value::Null)]);
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
    assert!(ran.stderr.starts_with("note: a message was ignored: not authentic (headers), "), "{ran:#?}");
}

#[test]
fn what_clients_sign_is_harmless_in_every_answer_and_format() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let mut workers = two(&fleet);
    let id = message_id(7).to_string();
    let mut refusal = ErrorBody::new(ErrorCode::InvalidArgs, HOSTILE);
    refusal.details = serde_json::from_value(json!({ "errors": [{ "path": HOSTILE, "message": HOSTILE }] })).unwrap();
    let job = json!({
        "command_id": id, "command": "calculate", "operator": "alice", "status": "progress", "started_at": 0,
        "progress": { "fraction": 0.5, "message": HOSTILE },
    });
    let jobs = Outcome::Succeeded(json!({ "jobs": [job], "more": true }));
    let on_record = |mut of: Value| {
        of["command_digest"] = json!(Digest::of(b"any"));
        of["operator"] = json!("bob");
        Outcome::Succeeded(of)
    };
    let recorded = on_record(json!({ "status": "failed", "error": { "code": "failed", "message": HOSTILE } }));
    let recorded_result = on_record(json!({ "status": "succeeded", "result": { HOSTILE: HOSTILE } }));
    let printed = Outcome::Succeeded(json!({ "x": 0.0, "msg": HOSTILE }));
    let anything = Outcome::Succeeded(json!({ HOSTILE: [HOSTILE, { HOSTILE: null }] }));
    let info = Outcome::Succeeded(workers[0].info());
    let result = ["result", "worker-1", &id];
    let [calculate, call]: [&[&str]; 2] = [&["calculate", "worker-1", "0", "x"], &["call", "worker-1", "anything"]];
    let cases: Vec<(&[&str], &Outcome, i32)> = vec![
        (calculate, &printed, 0),
        (call, &anything, 0),
        (&["status", "worker-1"], &info, 0),
        (&["jobs", "worker-1"], &jobs, 0),
        (&result, &recorded, 0),
        (&result, &recorded_result, 0),
    ];
    let refused = Outcome::Refused(refusal);
    let refusals = cases.iter().map(|(arguments, ..)| (*arguments, &refused, 1)).collect::<Vec<_>>();
    for (arguments, outcome, code) in cases.iter().copied().chain(refusals) {
        let of_both = [&arguments[..1], &["worker-2"], &arguments[1..]].concat();
        for format in ["table", "json", "ndjson"] {
            let format = ["-o", format, "--timeout", "30s"];
            let (operator, command) = workers[0].receive_command(&fleet, &[arguments, &format].concat());
            workers[0].answer(&command, 0, outcome.clone());
            let alone = operator.wait();
            let both = [outcome.clone(), outcome.clone()];
            let among = run_and_answer(&fleet, &mut workers, &[&of_both[..], &format].concat(), both);
            for ran in [alone.exits(code), among.exits(code)] {
                harmless(&ran.stdout);
                // A table of jobs shows their progress, and not its message.
                let is_shown = ran.stdout.contains("neves") || (arguments[0], code, format[1]) == ("jobs", 0, "table");
                assert!(is_shown && ran.stderr.is_empty(), "{arguments:?} {ran:#?}");
            }
        }
    }
}

#[test]
fn an_invalid_name_makes_a_reply_invalid_and_what_is_reported_of_it_is_harmless() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    unleash(&fleet, "worker-2");
    let [mut worker, mut mallory] = two(&fleet);
    let (operator, command) = worker.receive_command(&fleet, &["jobs", "worker-1", "--timeout", "30s"]);
    let id = message_id(7).to_string();
    for member in ["command", "operator", "status", "command_id", HOSTILE] {
        let mut job =
            json!({ "command_id": id, "command": "ping", "operator": "alice", "status": "progress", "started_at": 0 });
        job[member] = json!(HOSTILE);
        worker.answer(&command, 0, Outcome::Succeeded(json!({ "jobs": [job], "more": false })));
    }
    let honest = worker.reply(&command, 0, Outcome::Succeeded(json!({ "jobs": [], "more": false })));
    let mut body: Value = serde_json::from_slice(&honest.body).unwrap();
    for member in ["status", "from", "state", HOSTILE] {
        let before = body.clone();
        body[member] = json!(HOSTILE);
        let bytes = body.to_string().into_bytes();
        worker.peer.send(&worker.identity.sign(MessageType::Reply, honest.subject.clone(), bytes));
        body = before;
    }
    body["subject"] = json!(HOSTILE);
    let elsewhere = worker.identity.sign(MessageType::Reply, honest.subject.clone(), body.to_string().into_bytes());
    worker.peer.send(&elsewhere);
    // A subject of this session that no honest client would publish on.
    let reply_to = command.reply.clone().unwrap();
    let session = reply_to.rsplit_once('.').unwrap().0;
    let misplaced = mallory.reply(&command, 0, pong(1));
    mallory.peer.send_to(&format!("{session}.\u{1b}[2J\u{202e}neves"), &misplaced);
    mallory.peer.flush();
    let credential = HOSTILE.replace(['\r', '\n'], "");
    worker.peer.send(&Signed { credential: credential.as_str().into(), ..honest.clone() });
    worker.peer.send(&Signed { signature: credential, ..honest.clone() });
    worker.peer.send(&honest);
    let ran = operator.wait().exits(0);
    assert_eq!(ran.stdout, "no jobs, and none is remembered\n");
    harmless(&ran.stderr);
    let notes = [
        ("a message signed by worker-1 was ignored: a reply that does not fit the command\n", ""),
        ("a message signed by worker-1 was ignored: not authentic (envelope), ", ""),
        ("a message signed by worker-1 was ignored: not authentic (address), for \\u{1b}[2J", ""),
        ("a message signed by worker-2 was ignored: not authentic (address), for cs.demo.", "\\u{1b}[2J\\u{202e}neves"),
        ("a message was ignored: not authentic (credential), ", ""),
        ("a message was ignored: not authentic (headers), ", ""),
    ];
    for (note, detail) in notes {
        assert_eq!(ran.stderr.matches(note).count(), 1, "{note} {ran:#?}");
        assert!(ran.stderr.contains(detail), "{detail} {ran:#?}");
    }
    assert_eq!(ran.stderr.lines().count(), notes.len(), "{ran:#?}");
}

fn id_of(command: &Message) -> MessageId {
    command.json()["id"].as_str().unwrap().parse().unwrap()
}

//! What a script can rely on: exit statuses, one verdict for each target, and what is on standard output.

use countersign_testkit::broker::Broker;
use countersign_testkit::hostile::Message;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::process::{Process, Signal};

/// A verdict's document has just what was promised.
#[track_caller]
fn well_formed(document: &Value, command: &str, targets: u64) {
    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert!(
        members
            .iter()
            .all(|member| ["command_id", "command", "targets", "replies", "summary"].contains(&member.as_str()))
    );
    assert_eq!((&document["command"], &document["targets"]), (&json!(command), &json!(targets)));
    let id: Result<countersign_protocol::id::MessageId, _> = document["command_id"].as_str().unwrap().parse();
    id.unwrap();
    let summary = document["summary"].as_object().unwrap();
    assert_eq!(summary.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), targets);
}

#[test]
fn every_target_gets_one_verdict_and_a_dead_one_does_not_spoil_the_others() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "worker-3"]);
    let _worker = fleet.client("worker-1");
    let dead = fleet.client("worker-2");
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    dead.kill();
    // worker-3 was never started: nothing at all is known of it.
    let ping = |format| fleet.spawn(&["ping", "worker-1", "worker-2", "worker-3", "--timeout", "5s", "-o", format]);
    let [document, lines, table] = ["json", "ndjson", "table"].map(ping);
    let ran = document.wait().exits(3);
    well_formed(&ran.json(), "ping", 3);
    assert_eq!(
        ["worker-1", "worker-2", "worker-3"].map(|client| ran.verdict(client)),
        ["succeeded", "no_reply", "no_reply"]
    );
    assert_eq!(ran.json()["summary"], json!({ "succeeded": 1, "no_reply": 2 }));
    let reply = ran.of("worker-1");
    assert!(reply["latency_ms"].as_f64().unwrap() > 0.0 && reply["result"].is_i64() && reply["state"] == "ready");

    let lines = lines.wait().exits(3).lines();
    assert_eq!(lines.len(), 4, "a line for each verdict and a summary: {lines:#?}");
    assert_eq!((&lines[0]["client"], &lines[0]["verdict"]), (&json!("worker-1"), &json!("succeeded")), "as it arrives");
    assert_eq!(lines[1]["verdict"], "no_reply");
    well_formed(&lines[3], "ping", 3);
    assert_eq!(lines[3].get("replies"), None);

    let table = table.wait().exits(3);
    for text in ["worker-1", "worker-2", "worker-3", "succeeded", "no_reply", "unknown", "3 targets"] {
        assert!(table.stdout.contains(text), "{text}: {table:#?}");
    }
    // Refused weighs more than silent.
    fleet.run(&["stop", "worker-1"]).exits(0);
    let ran = ping("json").wait().exits(1);
    assert_eq!(ran.json()["summary"], json!({ "refused": 1, "no_reply": 2 }));
}

#[test]
fn a_client_that_hangs_gives_no_reply_and_one_that_ended_is_offline() {
    let (fleet, worker) = Fleet::ready();
    worker.signal(Signal::STOP);
    let ran = fleet.run(&["ping", "worker-1", "--timeout", "300ms", "-o", "json"]).exits(3);
    assert_eq!(ran.verdict("worker-1"), "no_reply");
    let ran = fleet.run(&["ping", "worker-1", "--timeout", "300ms"]).exits(3);
    assert!(ran.stdout.contains("whether it ran, and how it ended, is unknown"), "{ran:#?}");
    worker.signal(Signal::CONT);
    fleet.run(&["terminate", "worker-1"]).exits(0);
    worker.wait().exits(0);
    let ran = fleet.run(&["ping", "worker-1", "-o", "json"]).exits(3);
    assert_eq!(ran.verdict("worker-1"), "offline");
    let ran = fleet.run(&["ping", "worker-1"]).exits(3);
    assert!(ran.stdout.contains("that is a guess"), "{ran:#?}");
    assert!(
        ran.stderr.contains("to start a client that does not run: `countersign client --name worker-1` on the"),
        "{ran:#?}"
    );
    let ran = fleet.run(&["ping", "@all"]).exits(3);
    assert!(
        ran.stderr.contains("try: start one again: `countersign client --name worker-1` on the machine"),
        "{ran:#?}"
    );
}

#[test]
fn no_broker_and_a_broker_that_refuses_are_distinguished_from_everything_else() {
    let mut fleet = Fleet::new();
    let strangers = Broker::configured("authorization: { user: somebody, password: else }\n");
    for arguments in [&["ping", "worker-1"][..], &["setup"]] {
        let mut command = fleet.command(arguments);
        command.env("NATS_URL", strangers.url());
        let refused = Process::spawn(command).wait().exits(4);
        assert!(refused.stderr.contains("refuses us"), "{refused:#?}");
        assert_eq!((refused.stdout.as_str(), refused.stderr.lines().count()), ("", 3));
    }
    fleet.broker.stop();
    for arguments in [&["ping", "worker-1"][..], &["setup"]] {
        let none = fleet.run(arguments).exits(4);
        assert!(none.stderr.contains("no NATS server answers"), "{none:#?}");
        assert_eq!((none.stdout.as_str(), none.stderr.lines().count()), ("", 3));
    }
}

#[test]
fn what_is_found_wrong_before_anything_is_sent_is_wrong_usage() {
    let fleet = Fleet::new();
    let mut observer = fleet.observer();
    for arguments in [
        &["ping"][..],
        &["ping", "worker-9"],
        &["ping", "Worker-1"],
        &["calculate", "worker-1", "nan", "x"],
        &["calculate", "worker-1", "-1", "x"],
        &["calculate", "worker-1", "86401", "x"],
        &["calculate", "worker-1", "1"],
        &["cancel", "worker-1", "7"],
        &["call", "worker-1", "calculate", "--args", r#"{"x":1,"x":1,"msg":""}"#],
        &["call", "worker-1", "calculate", "--args", r#"{"x":"1","msg":""}"#],
        &["ping", "worker-1", "--ttl", "2m"],
        &["ping", "worker-1", "--timeout", "soon"],
        &["dance", "worker-1"],
    ] {
        let ran = fleet.run(arguments).exits(2);
        assert_eq!(ran.stdout, "");
        assert!((1..=3).contains(&ran.stderr.lines().count()), "{ran:#?}");
    }
    let asks_the_broker =
        |it: &&Message| it.subject.starts_with("cs.demo.roster.") || it.subject == "cs.demo.trust.get";
    assert_eq!(observer.so_far().iter().find(|it| !asks_the_broker(it)), None, "nothing was sent");
}

#[test]
fn missing_and_mismatched_keys_are_reported_as_unusable() {
    let fleet = Fleet::new();
    for (arguments, code) in [(&["ping", "worker-1", "--as", "bob"][..], 5), (&["client", "--name", "worker-9"], 5)] {
        let ran = fleet.run(arguments).exits(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 3), "{ran:#?}");
    }
    let mut command = fleet.command(&["ping", "worker-1"]);
    command.env("COUNTERSIGN_KEYS", "nowhere");
    Process::spawn(command).wait().exits(5);
    std::fs::write(fleet.keys().pin(), "A".repeat(43)).unwrap();
    for arguments in [&["ping", "worker-1"][..], &["client", "--name", "worker-1"]] {
        let ran = fleet.run(arguments).exits(5);
        assert!(ran.stderr.contains("trust.json"), "the bundle is not that of the pin: {ran:#?}");
    }
}

#[test]
fn an_interrupted_wait_ends_with_130_reports_what_is_known_and_leaves_the_job() {
    let (fleet, worker) = Fleet::ready();
    let mut waiting = fleet.spawn(&["calculate", "worker-1", "600", "later", "-o", "ndjson"]);
    waiting.stdout.wait_for("\"accepted\"");
    waiting.signal(Signal::INT);
    let lines = waiting.wait().exits(130).lines();
    assert_eq!(lines.last().unwrap()["summary"], json!({ "accepted": 1 }));
    assert_eq!(fleet.status("worker-1")["jobs"]["running"], 1);

    let mut observer = fleet.observer();
    worker.signal(Signal::STOP);
    let retrying = fleet.spawn(&["ping", "worker-1", "--retry", "-o", "json"]);
    for _ in 0..2 {
        observer.wait_for("the ping, and the same again", |it| it.json()["command"]["name"] == "ping");
    }
    retrying.signal(Signal::INT);
    assert_eq!(retrying.wait().exits(130).verdict("worker-1"), "no_reply");
    worker.signal(Signal::CONT);
}

#[test]
fn a_retry_sends_the_same_bytes_until_there_is_an_answer_and_it_runs_once() {
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    worker.signal(Signal::STOP);
    let retrying = fleet.spawn(&["calculate", "worker-1", "0", "once", "--retry", "-o", "json"]);
    let is_it = |it: &countersign_testkit::hostile::Message| it.json()["command"]["name"] == "calculate";
    let first = observer.wait_for("the command", is_it).signed();
    for _ in 0..2 {
        assert_eq!(observer.wait_for("the same again", is_it).signed(), first);
    }
    worker.signal(Signal::CONT);
    assert_eq!(retrying.wait().exits(0).verdict("worker-1"), "succeeded");
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(worker.printed(), "once\n");
}

#[test]
fn a_dry_run_is_checked_like_the_real_thing_and_has_no_effect() {
    let (fleet, worker) = Fleet::ready();
    for arguments in [&["calculate", "worker-1", "0", "never"][..], &["stop", "worker-1"], &["terminate", "worker-1"]] {
        let ran = fleet.run(&[arguments, &["--dry-run", "-o", "json"]].concat()).exits(0);
        assert_eq!(ran.of("worker-1")["result"], json!({ "dry_run": true }), "{arguments:?}");
    }
    let unknown = fleet.run(&["call", "worker-1", "dance", "--dry-run", "-o", "json"]).exits(1);
    assert_eq!(unknown.verdict("worker-1"), "refused unknown_command");
    fleet.run(&["stop", "worker-1"]).exits(0);
    let refused = fleet.run(&["ping", "worker-1", "--dry-run", "-o", "json"]).exits(1);
    assert_eq!(refused.verdict("worker-1"), "refused not_ready");
    assert_eq!(worker.printed(), "");
}

#[test]
fn a_command_by_its_name_takes_its_arguments_from_text_file_and_standard_input() {
    let (fleet, worker) = Fleet::ready();
    let args = json!({ "x": 0, "msg": "called" }).to_string();
    fleet.run(&["call", "worker-1", "calculate", "--args", &args]).exits(0);
    let file = fleet.path().join("args.json");
    std::fs::write(&file, &args).unwrap();
    fleet.run(&["call", "worker-1", "calculate", "--args-file", "args.json"]).exits(0);
    assert_eq!(fleet.run(&["call", "worker-1", "ping", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    assert_eq!(worker.printed(), "called\ncalled\n");
}

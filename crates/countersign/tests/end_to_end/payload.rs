//! A broker that accepts less than a command, a reply or a presence needs (`max_payload`).

use std::fs;

use serde_json::json;

use crate::fleet::Fleet;
use crate::process::{Ran, Signal};

/// The largest message in these tests, in bytes: room for every short honest one.
const LIMIT: usize = 5_000;

/// Starts the broker again with another `max_payload`.
fn limit(fleet: &mut Fleet, bytes: usize) {
    let path = fleet.path().join("nats.conf");
    let configuration = fs::read_to_string(&path).unwrap();
    let (before, _) = configuration.split_once("\nmax_payload: ").unwrap();
    fs::write(&path, format!("{before}\nmax_payload: {bytes}\n")).unwrap();
    fleet.broker.stop();
    fleet.broker.restart();
    fleet.resubscribe();
}

/// The sizes of the command and its final reply when the text of a calculation has this number of bytes.
fn sizes(fleet: &Fleet, text: usize) -> (usize, usize) {
    let mut observer = fleet.observer();
    fleet.run(&["calculate", "worker-1", "0", &"x".repeat(text)]).exits(0);
    let command = observer.wait_for("the command", |it| it.json()["command"]["name"] == "calculate");
    let reply = observer.wait_for("its final reply", |it| it.json()["status"] == "succeeded");
    (command.signed().size(), reply.signed().size())
}

#[track_caller]
fn in_three_lines(ran: &Ran, first: &str) {
    let (note, error) = ran.stderr.split_once('\n').unwrap();
    assert!(note.starts_with(&format!("note: the broker takes messages of {LIMIT} bytes at most")), "{ran:#?}");
    assert!(error.starts_with(first) && error.contains("max_payload"), "{ran:#?}");
    assert_eq!((ran.stdout.as_str(), error.lines().count()), ("", 3), "{ran:#?}");
}

#[test]
fn a_command_over_the_brokers_limit_fails_at_once_and_a_reply_over_it_is_a_verdict_of_its_own() {
    let (mut fleet, worker) = Fleet::ready();
    let (command, reply) = sizes(&fleet, 100);
    assert!(reply > command, "or no reply is too large for a broker that accepts the command: {reply}, {command}");
    limit(&mut fleet, LIMIT);
    fleet.run(&["ping", "worker-1", "--retry"]).exits(0);
    let mut observer = fleet.observer();

    // The longest that is sent at all: its reply is longer.
    let fits = 100 + LIMIT - command;
    let calculate = |text: usize| fleet.run(&["calculate", "worker-1", "0", &"x".repeat(text), "-o", "json"]);
    let ran = calculate(fits).exits(1);
    assert_eq!(ran.verdict("worker-1"), "failed result_too_large", "{ran:#?}");
    assert_eq!(ran.of("worker-1")["final"], true, "it ran, and will not run again: {ran:#?}");
    assert!(ran.of("worker-1")["error"]["message"].as_str().unwrap().contains("max_payload"), "{ran:#?}");
    let id = ran.json()["command_id"].as_str().unwrap().to_owned();
    let result = fleet.run(&["result", "worker-1", &id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!((&result["status"], &result["error"]["code"]), (&json!("failed"), &json!("result_too_large")));

    observer.so_far();
    let expected =
        format!("error: the command takes {} bytes with its headers, and the broker takes {LIMIT}", LIMIT + 1);
    in_three_lines(&calculate(fits + 1).exits(4), &expected);
    for audience in ["@all", "worker-1"] {
        let text = "x".repeat(4_096);
        let ran = fleet.run(&["calculate", audience, "0", &text]).exits(4);
        in_three_lines(&ran, "error: the command takes ");
        assert!(ran.stderr.contains("nothing was sent"), "{ran:#?}");
    }
    let sent = observer.so_far().into_iter().filter(|it| it.subject.starts_with("cs.demo.cmd.")).count();
    assert_eq!(sent, 0, "nothing was sent");
    assert!(worker.printed().lines().any(|line| line.len() == fits), "what fitted was carried out");
}

#[test]
fn a_client_whose_presence_the_broker_does_not_accept_reports_it_and_is_not_healthy_until_it_does() {
    let mut fleet = Fleet::new();
    limit(&mut fleet, 1_024);
    let mut worker = fleet.spawn(&["client", "--name", "worker-1", "--health", "health"]);
    worker.stderr.wait_for("the broker takes messages of 1024 bytes at most (max_payload)");
    let line = worker.stderr.wait_for("the presence takes ");
    assert!(line.contains("(max_payload): no operator sees this client"), "{line}");
    let health = || fleet.run(&["health", "--health", "health"]);
    health().exits(1);
    assert!(fleet.run(&["clients"]).exits(0).stdout.lines().all(|line| !line.contains("unready")));

    limit(&mut fleet, 327_680);
    fleet.presence("worker-1", "unready");
    fleet.run(&["start", "worker-1", "--retry"]).exits(0);
    fleet.run(&["health", "--health", "health"]).exits(0);
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
}

//! The life of a client from its start to its end.

use serde_json::json;

use crate::fleet::Fleet;
use crate::process::Signal;

#[test]
fn a_client_is_started_pinged_calculates_is_stopped_and_terminated() {
    let fleet = Fleet::new();
    let mut worker = fleet.client("worker-1");
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(1).verdict("worker-1"), "refused not_ready");

    let started = fleet.run(&["start", "worker-1", "-o", "json"]).exits(0).of("worker-1");
    assert_eq!((&started["result"], &started["state"]), (&json!({ "changed": true }), &json!("ready")));
    let again = fleet.run(&["start", "worker-1", "-o", "json"]).exits(0).of("worker-1");
    assert_eq!(again["result"], json!({ "changed": false }), "a repetition does not look like a failure");

    let before = countersign_host::clock::wall().seconds();
    let ping = fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).of("worker-1")["result"].as_i64().unwrap();
    assert!((before..=countersign_host::clock::wall().seconds()).contains(&ping), "{ping} is not now");

    let calculated = fleet.run(&["calculate", "worker-1", "0.25", "done \u{1b}[31m!", "-o", "json"]).exits(0);
    assert_eq!(calculated.of("worker-1")["result"], json!({ "x": 0.25, "msg": "done \u{1b}[31m!" }));
    let printed = worker.stdout.wait_for("done");
    assert_eq!(printed, "done \\u{1b}[31m!\n", "printed when the time is over, control characters escaped");

    let info = fleet.status("worker-1");
    assert_eq!((&info["state"], &info["jobs"]["running"], &info["dropped"]), (&json!("ready"), &json!(0), &json!({})));
    let jobs = fleet.run(&["jobs", "worker-1", "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    let job = &jobs["jobs"][0];
    let got = [&job["command"], &job["operator"], &job["status"], &jobs["more"]];
    assert_eq!(got, [&json!("calculate"), &json!("alice"), &json!("succeeded"), &json!(false)]);
    let id = job["command_id"].as_str().unwrap();
    let result = fleet.run(&["result", "worker-1", id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!(
        (&result["status"], &result["operator"], &result["result"]),
        (&json!("succeeded"), &json!("alice"), &json!({ "x": 0.25, "msg": "done \u{1b}[31m!" }))
    );
    assert!(result["command_digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{result}");

    let detached = fleet.run(&["calculate", "worker-1", "600", "never", "--detach", "-o", "json"]).exits(0);
    assert_eq!(detached.verdict("worker-1"), "accepted");
    let id = detached.json()["command_id"].as_str().unwrap().to_owned();
    let stopped = fleet.run(&["stop", "worker-1", "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!(stopped, json!({ "changed": true, "running": 1 }), "jobs that run go on");
    let cancelled = fleet.run(&["cancel", "worker-1", &id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!(cancelled, json!({ "cancelled": true }));
    let result = fleet.run(&["result", "worker-1", &id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!((&result["status"], &result["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(1).verdict("worker-1"), "refused not_ready");

    let terminated = fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(0).of("worker-1");
    assert_eq!((&terminated["result"], &terminated["state"]), (&json!({ "cancelled": 0 }), &json!("terminated")));
    assert_eq!(worker.wait().exits(0).stdout, "done \\u{1b}[31m!\n", "nothing else was printed");
}

#[test]
fn terminate_cancels_jobs_each_with_its_final_reply_and_exits_cleanly() {
    let (fleet, worker) = Fleet::ready();
    let waiting = fleet.spawn(&["calculate", "worker-1", "600", "never", "-o", "json"]);
    fleet.event("worker-1", "job");
    let terminated = fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(0);
    assert_eq!(terminated.of("worker-1")["result"], json!({ "cancelled": 1 }));
    assert_eq!(waiting.wait().exits(1).verdict("worker-1"), "cancelled cancelled");
    assert_eq!(worker.wait().exits(0).stdout, "");
}

#[test]
fn sigterm_and_sigint_end_a_client_as_terminate_does() {
    for signal in [Signal::TERM, Signal::INT] {
        let (fleet, worker) = Fleet::ready();
        let waiting = fleet.spawn(&["calculate", "worker-1", "600", "never", "-o", "json"]);
        fleet.event("worker-1", "job");
        worker.signal(signal);
        assert_eq!(waiting.wait().exits(1).verdict("worker-1"), "cancelled cancelled");
        fleet.presence("worker-1", "terminated");
        assert_eq!(worker.wait().exits(0).stdout, "");
        // A clean end keeps the epoch and the journal.
        let worker = fleet.client("worker-1");
        fleet.run(&["start", "worker-1"]).exits(0);
        drop(worker);
    }
}

#[test]
fn a_second_client_on_the_same_state_folder_refuses_to_start() {
    let (fleet, _worker) = Fleet::ready();
    let second = fleet.run(&["client", "--name", "worker-1"]).exits(1);
    assert!(second.stderr.contains("another client holds") && second.stderr.contains("try:"), "{second:#?}");
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
}

#[test]
fn queries_and_control_are_answered_at_once_while_every_job_slot_is_taken() {
    let fleet = Fleet::new();
    let _worker = fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--jobs", "2"]));
    fleet.run(&["start", "worker-1"]).exits(0);
    for _ in 0..2 {
        let accepted = fleet.run(&["calculate", "worker-1", "600", "never", "--detach", "-o", "json"]).exits(0);
        assert_eq!(accepted.verdict("worker-1"), "accepted");
    }
    let third = fleet.run(&["calculate", "worker-1", "600", "never", "-o", "json"]).exits(1);
    assert_eq!(third.verdict("worker-1"), "refused busy");
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    assert_eq!(fleet.status("worker-1")["jobs"], json!({ "running": 2, "limit": 2 }));
    let stopped = fleet.run(&["stop", "worker-1", "-o", "json"]).exits(0);
    assert_eq!(stopped.of("worker-1")["result"], json!({ "changed": true, "running": 2 }));
}

#[test]
fn a_job_is_accepted_at_once_while_other_messages_are_answered() {
    let (fleet, mut worker) = Fleet::ready();
    let job = |seconds: &str, text: &str| fleet.spawn(&["calculate", "worker-1", seconds, text, "-o", "ndjson"]);
    let mut operators = Vec::new();
    for number in 1..=4 {
        let mut operator = job("600", "never");
        operator.stdout.wait_for("\"accepted\"");
        operators.push(operator);
        fleet.run(&["ping", "worker-1"]).exits(0);
        assert_eq!(fleet.status("worker-1")["jobs"]["running"], json!(number), "no job is over yet");
    }
    job("0.3", "a short one").wait().exits(0);
    worker.stdout.wait_for("a short one\n");
    fleet.run(&["terminate", "worker-1"]).exits(0);
    for operator in operators {
        operator.wait().exits(1);
    }
}

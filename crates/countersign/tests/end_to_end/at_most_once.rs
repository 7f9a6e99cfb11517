//! A command runs once at most, whatever is repeated, crashes or is lost.

use std::fs;
use std::iter::repeat_n;

use countersign_testkit::hostile::Message;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::{Forger, commands, id_of, replies_to};
use crate::process::Signal;

fn of_status<'a>(replies: &[&'a Message], status: &str) -> Vec<&'a Message> {
    replies.iter().copied().filter(|reply| reply.json()["status"] == status).collect()
}

/// All are the same, byte for byte: body, signature, credential and subject.
#[track_caller]
fn identical(replies: &[&Message]) {
    assert!(replies.windows(2).all(|pair| pair[0].signed() == pair[1].signed()), "{replies:#?}");
}

#[test]
fn a_command_that_arrives_a_hundred_times_at_once_runs_once() {
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let forger = Forger::new(&fleet);
    let command = forger.command("calculate", json!({ "x": 0, "msg": "once" }));
    forger.peer.borrow().send_all(repeat_n(&command, 100));
    assert_eq!(forger.reply_to(&command).json()["status"], "succeeded");
    forger.peer.borrow_mut().flush();
    let info = fleet.status("worker-1");
    let observed = observer.so_far();
    let replies = replies_to(&observed, &id_of(&command).to_string());
    let (accepted, succeeded) = (of_status(&replies, "accepted"), of_status(&replies, "succeeded"));
    assert!(!accepted.is_empty() && !succeeded.is_empty());
    identical(&accepted);
    identical(&succeeded);
    // The job's own events name its id, too.
    let repeated = (accepted.len() + succeeded.len()) as u64 - 2;
    assert_eq!(info["dropped"]["repeat"].as_u64().unwrap_or(0), 99 - repeated, "each is answered or counted");
    assert!(repeated <= 90, "and only a few a second are answered: {repeated}");
    fleet.run(&["calculate", "worker-1", "0", "another"]).exits(0);
    assert_eq!(worker.printed(), "once\nanother\n");
}

#[test]
fn a_replayed_command_gets_the_recorded_reply_while_it_runs_after_it_finished_and_after_a_restart() {
    let (fleet, mut worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let forger = Forger::new(&fleet);
    let operator = fleet.spawn(&["calculate", "worker-1", "5", "once", "-o", "json"]);
    let genuine = observer.wait_for("the command", |it| it.json()["command"]["name"] == "calculate").signed();
    let id = id_of(&genuine).to_string();
    let mut reply = || observer.wait_for("a reply", |it| it.json()["command_id"] == *id);
    let mut latest = reply();
    assert_eq!(latest.json()["status"], "accepted");
    forger.send(&genuine);
    // It may report its progress before it has the replayed command.
    loop {
        let next = reply();
        if next.signed() == latest.signed() {
            break;
        }
        assert_eq!(next.json()["status"], "progress", "while it runs, its latest interim reply");
        latest = next;
    }
    operator.wait().exits(0);
    worker.stdout.wait_for("once");
    while latest.json()["status"] != "succeeded" {
        latest = reply();
    }
    let succeeded = latest.signed();
    let mut reply = || reply().signed();
    forger.send(&genuine);
    assert_eq!(reply(), succeeded, "the recorded reply, byte for byte");

    worker.signal(Signal::TERM);
    assert_eq!(worker.wait().exits(0).stdout, "once\n");
    let worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    forger.send(&genuine);
    assert_eq!(reply(), succeeded, "from the journal on disk");
    fleet.run(&["terminate", "worker-1"]).exits(0);
    assert_eq!(worker.wait().exits(0).stdout, "");
}

#[test]
fn what_ran_when_the_client_was_killed_is_interrupted_and_never_runs_again() {
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let waiting = fleet.spawn(&["calculate", "worker-1", "600", "never", "-o", "json"]);
    let genuine = observer.wait_for("the command", |it| it.json()["command"]["name"] == "calculate").signed();
    fleet.event("worker-1", "job");
    worker.kill();
    let worker = fleet.client("worker-1");
    let ran = waiting.wait().exits(1);
    assert_eq!(ran.verdict("worker-1"), "interrupted interrupted");
    let id = id_of(&genuine).to_string();
    assert_eq!(ran.json()["command_id"], *id);
    let result = fleet.run(&["result", "worker-1", &id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!((&result["status"], &result["error"]["code"]), (&json!("interrupted"), &json!("interrupted")));

    fleet.run(&["start", "worker-1"]).exits(0);
    observer.so_far();
    let forger = Forger::new(&fleet);
    forger.send(&genuine);
    let again = observer.wait_for("the recorded reply", |it| it.json()["command_id"] == *id).json();
    assert_eq!(again["status"], "interrupted");
    assert_eq!(fleet.status("worker-1")["jobs"]["running"], 0, "no second run");
    fleet.run(&["calculate", "worker-1", "0", "after"]).exits(0);
    assert_eq!(worker.printed(), "after\n");
}

#[test]
fn a_client_that_was_killed_at_any_moment_runs_nothing_twice() {
    let (fleet, mut worker) = Fleet::ready();
    let mut printed = String::new();
    let forger = Forger::new(&fleet);
    let mut commands = Vec::new();
    for round in 0..4 {
        let mut draft = forger.draft("calculate", json!({ "x": 0, "msg": format!("round {round}") }));
        // The epoch of the latest start.
        draft.command.epoch = fleet.status("worker-1")["epoch"].as_str().map(|epoch| epoch.parse().unwrap());
        let command = draft.sign(&forger.identity);
        forger.send(&command);
        // Killed at some moment between its arrival and its end: which one is chance, and each must be safe.
        if round % 2 == 0 {
            forger.peer.borrow_mut().flush();
        } else {
            fleet.event("worker-1", "job");
        }
        worker.signal(Signal::KILL);
        printed += &worker.wait().stdout;
        worker = fleet.client("worker-1");
        fleet.run(&["start", "worker-1"]).exits(0);
        commands.push(command);
        for command in &commands {
            forger.request(command);
        }
        fleet.forget_events();
    }
    worker.signal(Signal::TERM);
    printed += &worker.wait().exits(0).stdout;
    for round in 0..4 {
        let times = printed.matches(&format!("round {round}\n")).count();
        assert!(times <= 1, "round {round} ran {times} times: {printed}");
    }
}

#[test]
fn without_its_journal_a_client_refuses_all_earlier_commands_and_a_ping_is_reissued_automatically() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    // A generous skew keeps the journal young for as long as this takes.
    let client = || fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--skew", "60s"]));
    let worker = client();
    let mut observer = fleet.observer();
    // The broker stores no presence, so the server knows no epoch, and the client's journal is new: the command is reissued.
    assert_eq!(fleet.run(&["start", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    let sent: Vec<Value> = commands(&observer.so_far(), "worker-1", "start").iter().map(|it| it.json()).collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].get("epoch"), None);
    let new_epoch = (&sent[1]["epoch"], sent[1]["id"] != sent[0]["id"], &sent[1]["expires_at"]);
    assert_eq!(new_epoch, (&fleet.status("worker-1")["epoch"], true, &sent[0]["expires_at"]));

    let forger = Forger::new(&fleet);
    let with_epoch = forger.command("calculate", json!({ "x": 0, "msg": "once" }));
    let mut without_epoch = forger.draft("calculate", json!({ "x": 0, "msg": "twice" }));
    without_epoch.command.epoch = None;
    let without_epoch = without_epoch.sign(&forger.identity);
    assert_eq!(forger.request(&with_epoch)["status"], "succeeded");
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait().exits(0).stdout, "once\n");

    fs::remove_dir_all(fleet.state_folder("worker-1")).unwrap();
    let worker = client();
    let epoch = fleet.status("worker-1")["epoch"].clone();
    assert_ne!(epoch, sent[1]["epoch"], "a missing journal makes a new epoch");
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(1).verdict("worker-1"), "refused not_ready");
    fleet.run(&["start", "worker-1"]).exits(0);
    for (command, code) in [(&with_epoch, "wrong_epoch"), (&without_epoch, "starting")] {
        let refusal = forger.request(command);
        let got = (&refusal["status"], &refusal["error"]["code"], &refusal["error"]["details"]["epoch"]);
        assert_eq!(got, (&json!("refused"), &json!(code), &epoch));
    }
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    let calculate = ["calculate", "worker-1", "0", "again", "-o", "json"];
    assert_eq!(
        fleet.run(&calculate).exits(1).verdict("worker-1"),
        "refused starting",
        "it is not reissued automatically"
    );
    assert_eq!(fleet.run(&[&calculate[..], &["--retry"]].concat()).exits(0).verdict("worker-1"), "succeeded");
    assert_eq!(worker.printed(), "again\n");
}

#[test]
fn another_body_under_a_known_id_is_a_conflict_and_reported() {
    let (fleet, worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let first = forger.draft("calculate", json!({ "x": 0, "msg": "first" }));
    assert_eq!(forger.request(&first.sign(&forger.identity))["status"], "succeeded");
    let second = first.with(|command| command.command.args["msg"] = json!("second")).sign(&forger.identity);
    let refusal = forger.request(&second);
    assert_eq!((&refusal["status"], &refusal["error"]["code"]), (&json!("refused"), &json!("id_conflict")));
    let event = fleet.event("worker-1", "security");
    assert_eq!(event["data"], json!({ "reason": "id_conflict", "count": 1, "signer": "alice" }));
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(worker.printed(), "first\n");
}

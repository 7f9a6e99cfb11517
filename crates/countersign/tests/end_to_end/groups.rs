//! Commands to groups and to all: which clients get them, and one true verdict for each that should.

use std::collections::BTreeMap;

use countersign_protocol::credential::Grant;
use countersign_protocol::reply::Outcome;
use countersign_testkit::hostile::{Message, Peer};
use countersign_testkit::realm::full_grant;
use serde_json::{Value, json};

use crate::fake::{FakeWorker, enrol};
use crate::fleet::Fleet;
use crate::forge::names;
use crate::process::{Process, Ran, Signal};

/// A client that accepts commands to many from its first moment on: without a skew its epoch is never young.
pub fn settled(fleet: &Fleet, client: &str) -> Process {
    fleet.client_as(client, fleet.command(&["client", "--name", client, "--skew", "0s"]))
}

/// Every target of a command and its verdict.
#[track_caller]
pub fn verdicts(ran: &Ran) -> Vec<String> {
    let document = ran.json();
    let replies = document["replies"].as_array().unwrap();
    let clients = replies.iter().map(|reply| reply["client"].as_str().unwrap());
    clients.map(|client| format!("{client} {}", ran.verdict(client))).collect()
}

/// The results of every target.
#[track_caller]
fn results(ran: &Ran) -> Vec<Value> {
    ran.json()["replies"].as_array().unwrap().iter().map(|reply| reply["result"].clone()).collect()
}

/// What was sent to clients until now: where, and what it is.
pub fn sent(observer: &mut Peer) -> Vec<String> {
    let observed = observer.so_far();
    let commands = observed.iter().filter(|it| it.subject.starts_with("cs.demo.cmd."));
    commands.map(|it| format!("{} {}", it.subject, it.json()["command"]["name"].as_str().unwrap())).collect()
}

/// Waits until this number of clients have accepted a command, and returns the id for each.
fn accepted(observer: &mut Peer, clients: usize) -> BTreeMap<String, String> {
    let is_it = |it: &Message| it.subject.starts_with("cs.demo.reply.") && it.json()["status"] == "accepted";
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut ids = BTreeMap::new();
    while ids.len() < clients {
        let reply = observer.wait_for("an acceptance", is_it).json();
        ids.insert(text(&reply["from"]), text(&reply["command_id"]));
    }
    ids
}

#[test]
fn a_command_to_a_group_or_all_is_one_message_that_its_clients_and_no_others_obey() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web,db", "worker-3"]);
    let workers = ["worker-1", "worker-2", "worker-3"].map(|client| settled(&fleet, client));
    let mut observer = fleet.observer();
    let ran = fleet.run(&["start", "@web", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
    assert_eq!(sent(&mut observer), ["cs.demo.cmd.group.web start"]);
    assert_eq!(fleet.status("worker-3")["state"], "unready");

    observer.so_far();
    let ran = fleet.run(&["start", "@all", "-o", "json"]).exits(0);
    assert_eq!(results(&ran), [false, false, true].map(|changed| json!({ "changed": changed })));
    assert_eq!(ran.json()["summary"], json!({ "succeeded": 3 }));
    assert_eq!(sent(&mut observer), ["cs.demo.cmd.all start"]);

    let ran = fleet.run(&["calculate", "@db", "0", "only here", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-2 succeeded"]);
    let table = fleet.run(&["ping", "@all"]).exits(0).stdout;
    for text in ["worker-1", "worker-2", "worker-3", "3 targets: 3 succeeded"] {
        assert!(table.contains(text), "{table}");
    }
    assert_eq!(workers.map(Process::printed), ["", "only here\n", ""]);
}

#[test]
fn of_three_with_a_long_command_one_killed_and_one_frozen_each_gets_its_true_verdict() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "worker-3"]);
    let [killed, frozen, _third] = ["worker-1", "worker-2", "worker-3"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    let mut observer = fleet.observer();
    let waiting = fleet.spawn(&["calculate", "@all", "60", "x", "--retry", "-o", "json"]);
    let ids = accepted(&mut observer, 3);
    killed.kill();
    frozen.signal(Signal::STOP);
    fleet.run(&["cancel", "worker-3", &ids["worker-3"]]).exits(0);
    // Half a minute of silence (section 8), then all is known that can be.
    let ran = waiting.wait().exits(1);
    assert_eq!(verdicts(&ran), ["worker-1 no_reply", "worker-2 no_reply", "worker-3 cancelled cancelled"]);
    assert_eq!(ran.json()["summary"], json!({ "no_reply": 2, "cancelled": 1 }));
}

#[test]
fn a_client_of_many_that_was_killed_and_restarted_in_mid_command_is_interrupted() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let [killed, other] = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    let mut observer = fleet.observer();
    let waiting = fleet.spawn(&["calculate", "@all", "600", "x", "--retry", "-o", "json"]);
    let ids = accepted(&mut observer, 2);
    killed.kill();
    let again = fleet.client("worker-1");
    fleet.run(&["cancel", "worker-2", &ids["worker-2"]]).exits(0);
    let ran = waiting.wait().exits(1);
    assert_eq!(verdicts(&ran), ["worker-1 interrupted interrupted", "worker-2 cancelled cancelled"]);
    assert_eq!([again.printed(), other.printed()], ["", ""], "nothing ran to its end, or again");
}

#[test]
fn a_client_that_died_a_moment_ago_gives_no_reply_and_one_that_terminated_is_not_expected() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "worker-3"]);
    let [_worker, killed, ended] = ["worker-1", "worker-2", "worker-3"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    fleet.run(&["terminate", "worker-3"]).exits(0);
    ended.wait().exits(0);
    killed.kill();
    // All at once: after half a minute of silence the verdicts would differ.
    let ping = fleet.spawn(&["ping", "@all", "--timeout", "5s", "-o", "json"]);
    let table = fleet.spawn(&["ping", "@all", "--timeout", "5s"]);
    let dance = fleet.spawn(&["call", "@all", "dance", "--retry", "--ttl", "5s", "--timeout", "5s", "-o", "json"]);
    assert_eq!(verdicts(&ping.wait().exits(3)), ["worker-1 succeeded", "worker-2 no_reply"]);
    let table = table.wait().exits(3).stdout;
    assert!(table.contains("whether it ran, and how it ended, is unknown"), "{table}");
    assert!(table.contains("2 targets: 1 no_reply, 1 succeeded"), "{table}");
    // A refusal outweighs what is unknown.
    assert_eq!(verdicts(&dance.wait().exits(1)), ["worker-1 refused unknown_command", "worker-2 no_reply"]);
}

#[test]
fn nothing_is_sent_where_the_targets_match_no_client() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:db"]);
    let mut observer = fleet.observer();
    let exits = |status, arguments: &[&str], texts: &[&str]| {
        let ran = fleet.run(arguments).exits(status);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 3), "{ran:#?}");
        assert!(texts.iter().all(|text| ran.stderr.contains(text)), "{texts:?} in {ran:#?}");
    };
    let fails = |arguments: &[&str], texts: &[&str]| exits(2, arguments, texts);
    // Not wrong usage: the same command is right a second later.
    for nobody in ["@all", "@web"] {
        exits(3, &["ping", nobody], &["matches no client: the roster holds none; nothing was sent"]);
    }
    let worker = fleet.client("worker-1");
    for (unknown, hint) in [
        ("@wbe", "try: countersign ping @web"),
        ("@db", "try: `countersign clients`"),
        ("@zzz", "the roster knows: web"),
    ] {
        fails(&["ping", unknown], &[hint, "matches no client"]);
    }
    for beside in [["@all", "worker-1"], ["worker-1", "@web"], ["@web", "@all"]] {
        fails(&["ping", beside[0], beside[1]], &["stands beside other targets", "or one @group, or @all"]);
    }
    for none in ["@", "@Web", "@*", "@a.b", "@>"] {
        fails(&["ping", none], &["is not the name of a group after the @"]);
    }
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    for all_ended in ["@all", "@web"] {
        exits(3, &["ping", all_ended], &["all that the roster holds have ended (1); nothing was sent"]);
    }
    assert_eq!(sent(&mut observer), [] as [&str; 0]);
}

#[test]
fn an_operator_whose_grant_covers_some_clients_gets_their_replies_and_the_rest_send_nothing() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:db"]);
    enrol(&fleet, "bob", Grant { all: false, groups: names(&["web"]), ..full_grant() });
    let _workers = ["worker-1", "worker-2"].map(|client| settled(&fleet, client));
    let mut observer = fleet.observer();
    let ran = fleet.run(&["start", "@all", "--as", "bob", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded"]);
    assert_eq!(sent(&mut observer), ["cs.demo.cmd.all start"]);
    let status = fleet.run(&["status", "worker-2", "--as", "alice", "-o", "json"]).exits(0).of("worker-2");
    let info = (&status["result"]["state"], &status["result"]["dropped"]);
    assert_eq!(info, (&json!("unready"), &json!({ "out_of_reach": 1 })), "silent, and without effect");

    observer.so_far();
    let ran = fleet.run(&["start", "@db", "--as", "bob"]).exits(2);
    assert!(ran.stderr.contains("@db matches no client: all that the roster holds are out of reach"), "{ran:#?}");
    assert_eq!(sent(&mut observer), [] as [&str; 0]);
    let ran = fleet.run(&["start", "worker-2", "--as", "bob", "-o", "json"]).exits(1);
    assert_eq!(verdicts(&ran), ["worker-2 refused forbidden"]);
}

#[test]
fn a_client_that_was_not_expected_and_answers_gets_a_verdict_like_the_others() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web"]);
    let mut expected = FakeWorker::new(&fleet, "worker-1");
    let mut unexpected = FakeWorker::new(&fleet, "worker-2");
    expected.present(&fleet, 0);
    for target in ["@web", "@all"] {
        let (operator, command) = expected.receive_command(&fleet, &["ping", target, "-o", "json", "--timeout", "30s"]);
        assert_eq!(unexpected.peer.message(), command);
        unexpected.answer(&command, 0, Outcome::Succeeded(json!(2)));
        unexpected.peer.flush();
        expected.answer(&command, 0, Outcome::Succeeded(json!(1)));
        let ran = operator.wait().exits(0);
        assert_eq!(
            (verdicts(&ran), ran.json()["targets"].clone()),
            (vec!["worker-1 succeeded".to_owned(), "worker-2 succeeded".to_owned()], json!(2))
        );
        assert_eq!((ran.of("worker-2")["result"].clone(), ran.stderr.as_str()), (json!(2), ""));
    }
}

#[test]
fn replies_are_printed_line_by_line_as_they_arrive_while_others_are_awaited() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let [_worker, frozen] = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    frozen.signal(Signal::STOP);
    let mut waiting = fleet.spawn(&["ping", "@all", "-o", "ndjson", "--timeout", "30s", "--ttl", "60s"]);
    let first: Value = serde_json::from_str(&waiting.stdout.wait_for("succeeded")).unwrap();
    assert_eq!((&first["client"], &first["verdict"]), (&json!("worker-1"), &json!("succeeded")));
    assert_eq!(waiting.stdout.so_far().lines().count(), 1);
    frozen.signal(Signal::CONT);
    let lines = waiting.wait().exits(0).lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!((&lines[1]["client"], &lines[1]["verdict"]), (&json!("worker-2"), &json!("succeeded")));
    assert_eq!((&lines[2]["targets"], &lines[2]["summary"]), (&json!(2), &json!({ "succeeded": 2 })));
    assert_eq!(lines[2].get("replies"), None);
}

#[test]
fn two_operators_at_once_each_get_all_verdicts_and_none_of_the_others_replies() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    enrol(&fleet, "bob", full_grant());
    let [_worker, frozen] = ["worker-1", "worker-2"].map(|client| settled(&fleet, client));
    fleet.run(&["start", "@all", "--as", "alice"]).exits(0);
    let mut observer = fleet.observer();
    frozen.signal(Signal::STOP);
    let ordered = |command: &[&str], operator| {
        let command = [command, &["--as", operator, "-o", "json", "--timeout", "30s"]].concat();
        fleet.spawn(&command)
    };
    let alice = ordered(&["calculate", "@all", "0", "of alice"], "alice");
    let bob = ordered(&["ping", "@all"], "bob");
    let second = ordered(&["ping", "@all"], "alice");
    for _ in 0..3 {
        let is_it = |it: &Message| it.json()["from"] == "worker-1" && it.json()["status"] == "succeeded";
        observer.wait_for("worker-1's answer to each", is_it);
    }
    frozen.signal(Signal::CONT);
    for (operator, command) in [(alice, "calculate"), (bob, "ping"), (second, "ping")] {
        let ran = operator.wait().exits(0);
        assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
        assert_eq!((ran.json()["command"].as_str(), ran.stderr.as_str()), (Some(command), ""), "nothing else came");
        assert!(results(&ran).iter().all(|result| result.is_object() == (command == "calculate")), "{ran:#?}");
    }
    for reply in observer.so_far().iter().filter(|it| it.subject.starts_with("cs.demo.reply.")) {
        assert_eq!(reply.subject.split('.').nth(3), reply.json()["to"].as_str());
    }
}

#[test]
fn detached_commands_dry_runs_and_queries_about_jobs_go_to_many_too() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web", "worker-3"]);
    let workers = ["worker-1", "worker-2", "worker-3"].map(|client| settled(&fleet, client));
    fleet.run(&["start", "@all"]).exits(0);
    let ran = fleet.run(&["calculate", "@web", "0", "never", "--dry-run", "-o", "json"]).exits(0);
    assert_eq!(results(&ran), [json!({ "dry_run": true }), json!({ "dry_run": true })]);

    let ran = fleet.run(&["calculate", "@web", "600", "never", "--detach", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 accepted", "worker-2 accepted"]);
    assert_eq!(ran.json()["summary"], json!({ "accepted": 2 }));
    let id = ran.json()["command_id"].as_str().unwrap().to_owned();

    let ran = fleet.run(&["jobs", "@all", "-o", "json"]).exits(0);
    let listed: Vec<Value> = results(&ran).iter().map(|list| list["jobs"].clone()).collect();
    for jobs in &listed[..2] {
        let got = (jobs.as_array().unwrap().len(), &jobs[0]["command_id"], &jobs[0]["operator"]);
        assert_eq!(got, (1, &json!(id), &json!("alice")));
    }
    assert_eq!(listed[2], json!([]));
    let table = fleet.run(&["jobs", "@all"]).exits(0).stdout;
    assert_eq!(
        table.lines().filter(|line| line.contains(&id[id.len() - 6..]) && line.contains("calculate")).count(),
        2,
        "{table}"
    );
    assert!(table.ends_with("\n\n3 targets: 3 succeeded\n"), "{table}");

    let ran = fleet.run(&["status", "@web", "-o", "json"]).exits(0);
    for info in results(&ran) {
        let got = (&info["groups"], &info["jobs"]["running"], &info["state"]);
        assert_eq!(got, (&json!(["web"]), &json!(1), &json!("ready")));
    }
    assert_eq!(results(&ran).len(), 2);

    let ran = fleet.run(&["result", "@web", &id, "-o", "json"]).exits(6);
    assert!(results(&ran).iter().all(|it| it["status"] == "accepted" || it["status"] == "progress"), "{ran:#?}");
    let ran = fleet.run(&["cancel", "@all", &id, "-o", "json"]).exits(1);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded", "worker-3 failed not_found"]);
    assert_eq!(results(&ran)[..2], [json!({ "cancelled": true }), json!({ "cancelled": true })]);
    let ran = fleet.run(&["result", "@all", &id, "-o", "json"]).exits(1);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded", "worker-3 failed not_found"]);
    assert!(results(&ran)[..2].iter().all(|it| it["status"] == "cancelled"), "{ran:#?}");
    assert_eq!(workers.map(Process::printed), ["", "", ""]);
}

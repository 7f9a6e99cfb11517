//! Section 9 from the address to the grant: who is meant, who may, and what is silence.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes, refusal};
use countersign_machine::client::State;
use countersign_protocol::command::{Target, True};
use countersign_protocol::credential::{Commands, Grant};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Reason;
use countersign_protocol::reply::{ErrorCode, Outcome};
use countersign_testkit::realm::{Draft, Realm, full_grant, name, to};
use serde_json::json;

fn nothing() -> Grant {
    Grant {
        commands: Commands::Only(Vec::new()),
        clients: Vec::new(),
        groups: Vec::new(),
        all: false,
        max_ttl_ms: 60_000,
    }
}

/// Sends `start` to a client that is ready to be started, as an operator with this grant, to this target.
fn start_with(grant: Grant, target: Target) -> (Worker, Vec<countersign_protocol::reply::Reply>) {
    let mut worker = Worker::new();
    worker.pass(6_000);
    let bob = worker.realm.operator("bob", grant);
    let start = Draft::new(&bob, target, "start", json!({}), 1, worker.now.wall).sign(&bob);
    let replies = worker.send(&start);
    (worker, replies)
}

#[test]
fn a_client_obeys_its_own_name_its_groups_and_all() {
    for target in [to("worker-1"), Target::Group(name("web")), Target::All(True)] {
        let (worker, replies) = start_with(full_grant(), target);
        assert_eq!(outcomes(&replies), [Outcome::Succeeded(json!({ "changed": true }))]);
        assert_eq!(worker.state(), State::Ready);
    }
}

#[test]
fn a_grant_reaches_by_name_by_group_or_all() {
    let start = || Commands::Only(vec![name("start")]);
    for grant in [
        Grant { commands: start(), clients: vec![name("worker-1")], ..nothing() },
        Grant { commands: start(), groups: vec![name("web")], ..nothing() },
        Grant { commands: start(), all: true, ..nothing() },
    ] {
        let (worker, _) = start_with(grant, to("worker-1"));
        assert_eq!(worker.state(), State::Ready);
    }
}

#[test]
fn out_of_reach_is_forbidden_to_a_name_and_silence_among_others() {
    let elsewhere =
        Grant { commands: Commands::Any, clients: vec![name("worker-2")], groups: vec![name("db")], ..nothing() };
    for grant in [nothing(), elsewhere] {
        let (worker, replies) = start_with(grant.clone(), to("worker-1"));
        assert_eq!(refusal(&replies), ErrorCode::Forbidden);
        assert_eq!(worker.state(), State::Unready);
        for target in [Target::Group(name("web")), Target::All(True)] {
            let (mut worker, replies) = start_with(grant.clone(), target);
            assert!(replies.is_empty());
            assert_eq!(worker.dropped(Reason::OutOfReach), 1);
            assert_eq!(worker.state(), State::Unready);
            assert!(
                matches!(worker.run_command("start", json!({})), Outcome::Succeeded(_)),
                "the next honest command works"
            );
        }
    }
}

#[test]
fn a_command_outside_the_grant_is_forbidden_and_not_recorded() {
    let grant = Grant { commands: Commands::Only(vec![name("ping")]), all: true, ..nothing() };
    let (worker, replies) = start_with(grant, to("worker-1"));
    assert_eq!(refusal(&replies), ErrorCode::Forbidden);
    assert_eq!(worker.snapshot(9).len(), 1, "nothing but the start of the process");
}

#[test]
fn the_shorter_life_of_client_and_credential_is_the_longest() {
    let grant = Grant { max_ttl_ms: 10_000, ..full_grant() };
    let (worker, replies) = start_with(grant, to("worker-1"));
    assert_eq!(refusal(&replies), ErrorCode::Lifetime);
    assert_eq!(worker.state(), State::Unready);
}

#[test]
fn a_command_for_another_is_dropped() {
    for target in [to("worker-2"), Target::Group(name("db"))] {
        let (worker, replies) = start_with(full_grant(), target);
        assert!(replies.is_empty());
        assert_eq!(worker.dropped(Reason::Address), 1);
        assert_eq!(worker.state(), State::Unready);
    }
}

#[test]
fn a_command_that_is_moved_to_another_subject_is_dropped() {
    let mut worker = Worker::ready();
    let mut stop = worker.draft("stop", json!({})).sign(&worker.alice);
    stop.subject = "cs.demo.cmd.all".to_owned();
    assert!(worker.deliver(&stop).is_empty());
    assert_eq!(worker.dropped(Reason::Address), 1);
    assert_eq!(worker.state(), State::Ready);
}

#[test]
fn a_subject_that_does_not_belong_to_the_target_is_dropped() {
    let mut worker = Worker::ready();
    let stop = worker.draft("stop", json!({})).with(|command| command.subject = "cs.demo.cmd.all".to_owned());
    let stop = stop.sign(&worker.alice);
    assert!(worker.deliver(&stop).is_empty());
    assert_eq!(worker.dropped(Reason::Address), 1);
    assert_eq!(worker.state(), State::Ready);
}

#[test]
fn a_command_of_another_realm_is_dropped() {
    let other = Realm::new("other");
    let mallory = other.operator("alice", full_grant());
    let mut worker = Worker::ready();
    let stop = Draft::new(&mallory, to("worker-1"), "stop", json!({}), 1, worker.now.wall).sign(&mallory);
    assert!(worker.deliver(&stop).is_empty());
    assert_eq!(worker.dropped(Reason::Credential), 1);
    let stop = worker.draft("stop", json!({})).with(|command| command.realm = name("other")).sign(&worker.alice);
    assert!(worker.deliver(&stop).is_empty());
    assert_eq!(worker.dropped(Reason::Realm), 1);
    assert_eq!(worker.state(), State::Ready);
}

#[test]
fn a_reply_to_that_is_not_the_operators_own_for_this_command_is_dropped() {
    let mut worker = Worker::ready();
    let changes: [fn(&str) -> String; 14] = [
        |_| "cs.demo.cmd.>".to_owned(),
        |_| "cs.demo.cmd.all".to_owned(),
        |_| "$SYS.REQ.SERVER.PING".to_owned(),
        |_| "$JS.API.STREAM.DELETE.cs-demo-presence".to_owned(),
        |_| String::new(),
        |own| own.replace("alice", "bob"),
        |own| own.replace("demo", "other"),
        |own| own.replace("k3v9q2m8x7c1b5n0", "*"),
        |own| own.replace("k3v9q2m8x7c1b5n0", "short"),
        |own| own.replace("k3v9q2m8x7c1b5n0", "UPPERCASEUPPERCASE"),
        |own| format!("{own}.more"),
        |own| format!("{own} "),
        |own| own.replace("reply", "event"),
        |own| own[..own.len() - 36].to_owned() + "00000000-0000-7000-8000-000000000000",
    ];
    for (count, change) in changes.into_iter().enumerate() {
        let stop = worker.draft("stop", json!({})).with(|command| command.reply_to = change(&command.reply_to));
        let reply_to = stop.command.reply_to.clone();
        let stop = stop.sign(&worker.alice);
        assert!(worker.deliver(&stop).is_empty(), "{reply_to}");
        assert_eq!(worker.dropped(Reason::Address), count as u64 + 1, "{reply_to}");
    }
    assert_eq!(worker.state(), State::Ready);
    assert!(matches!(worker.run_command("stop", json!({})), Outcome::Succeeded(_)), "the next honest command works");
}

#[test]
fn an_epoch_is_only_for_one_client() {
    let mut worker = Worker::ready();
    let alice = worker.alice.clone();
    let stop = Draft::new(&alice, Target::All(True), "stop", json!({}), 1_000, worker.now.wall);
    let stop = stop.epoch(worker.client.epoch()).sign(&alice);
    assert!(worker.send(&stop).is_empty());
    assert_eq!(worker.dropped(Reason::Envelope), 1);
    assert_eq!(worker.security_events(), [("envelope".to_owned(), 1, Some("alice".to_owned()))]);
    assert_eq!(worker.state(), State::Ready);
}

#[test]
fn two_operators_may_use_one_id() {
    let mut worker = Worker::ready();
    let bob = worker.realm.operator("bob", full_grant());
    let alice = worker.alice.clone();
    for operator in [&alice, &bob] {
        let ping = Draft::new(operator, to("worker-1"), "ping", json!({}), 500, worker.now.wall).sign(operator);
        assert!(matches!(outcomes(&worker.send(&ping))[..], [Outcome::Succeeded(_)]));
    }
    assert_eq!(worker.executed.len(), 2);
}

#[test]
fn result_finds_the_operators_own_command_first_and_anothers_only_where_the_id_is_unique() {
    let mut worker = Worker::ready();
    let (bob, carol) = (worker.realm.operator("bob", full_grant()), worker.realm.operator("carol", full_grant()));
    let now = worker.now.wall;
    let run_command = |worker: &mut Worker| {
        let id = countersign_testkit::realm::message_id(500);
        worker.run_command("result", json!({ "command_id": id }))
    };
    let ping = Draft::new(&bob, to("worker-1"), "ping", json!({}), 500, now).sign(&bob);
    worker.send(&ping);
    assert!(matches!(run_command(&mut worker), Outcome::Succeeded(_)), "unique");
    let ping = Draft::new(&carol, to("worker-1"), "ping", json!({}), 500, now).sign(&carol);
    worker.send(&ping);
    assert!(matches!(run_command(&mut worker), Outcome::Failed(_)), "ambiguous");
    let alice = worker.alice.clone();
    let stop = Draft::new(&alice, to("worker-1"), "stop", json!({}), 500, now).sign(&alice);
    worker.send(&stop);
    let Outcome::Succeeded(own) = run_command(&mut worker) else { panic!() };
    assert_eq!(own["result"], json!({ "changed": true, "running": 0 }));
}

#[test]
fn a_digest_finds_the_operators_own_command_and_never_another_of_the_same_id() {
    let mut worker = Worker::ready();
    let bob = worker.realm.operator("bob", full_grant());
    let (alice, now) = (worker.alice.clone(), worker.now.wall);
    let id = countersign_testkit::realm::message_id(500);
    let job = |operator| {
        let args = json!({ "x": 60, "msg": "" });
        Draft::new(operator, to("worker-1"), "calculate", args, 500, now).sign(operator)
    };
    let (bobs, own) = (job(&bob), job(&alice));
    worker.send(&bobs);
    for digest in [Digest::of(&own.body), Digest::of(&bobs.body)] {
        for command in ["result", "cancel"] {
            let outcome = worker.run_command(command, json!({ "command_id": id, "command_digest": digest }));
            let Outcome::Failed(error) = outcome else { panic!("{command}: {outcome:?}") };
            assert_eq!(error.code, ErrorCode::NotFound, "{command}");
        }
    }
    let Outcome::Succeeded(found) = worker.run_command("result", json!({ "command_id": id })) else { panic!() };
    assert_eq!((&found["operator"], &found["command_digest"]), (&json!("bob"), &json!(Digest::of(&bobs.body))));

    worker.send(&own);
    let digest = Digest::of(&own.body);
    let Outcome::Succeeded(found) = worker.run_command("result", json!({ "command_id": id, "command_digest": digest }))
    else {
        panic!()
    };
    assert_eq!((&found["operator"], &found["command_digest"]), (&json!("alice"), &json!(digest)));
    let cancel = worker.draft("cancel", json!({ "command_id": id, "command_digest": digest })).sign(&alice);
    let reported = outcomes(&worker.send(&cancel));
    assert!(reported.contains(&Outcome::Succeeded(json!({ "cancelled": true }))), "{reported:?}");
    assert_eq!(worker.running.len(), 1, "bob's goes on");
}

#[test]
fn an_own_query_comes_before_anothers_command_of_the_same_id() {
    let mut worker = Worker::ready();
    let bob = worker.realm.operator("bob", full_grant());
    let (alice, now) = (worker.alice.clone(), worker.now.wall);
    let id = countersign_testkit::realm::message_id(500);
    worker.send(&Draft::new(&bob, to("worker-1"), "ping", json!({}), 500, now).sign(&bob));
    worker.send(&Draft::new(&alice, to("worker-1"), "jobs", json!({}), 500, now).sign(&alice));
    let Outcome::Succeeded(found) = worker.run_command("result", json!({ "command_id": id })) else { panic!() };
    assert_eq!(found["operator"], "alice");
}

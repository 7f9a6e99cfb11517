//! A broker that stops, starts again, refuses, or swallows everything.

use countersign_testkit::hostile::FakeBroker;
use serde_json::json;

use crate::fleet::Fleet;
use crate::forge::{Forger, commands, id_of};
use crate::process::{Process, Signal};

#[test]
fn after_a_crash_of_the_broker_a_waiting_operator_gets_its_verdict_and_nothing_runs_twice() {
    let (mut fleet, mut worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let mut waiting = fleet.spawn(&["calculate", "worker-1", "1", "once", "-o", "ndjson"]);
    waiting.stdout.wait_for("\"accepted\"");
    let genuine = commands(&observer.so_far(), "worker-1", "calculate")[0].signed();
    fleet.broker.kill();
    worker.stdout.wait_for("once");
    fleet.broker.restart();
    let lines = waiting.wait().exits(0).lines();
    let [.., verdict, summary] = lines.as_slice() else { panic!("{lines:#?}") };
    assert_eq!((&verdict["verdict"], &verdict["result"]), (&json!("succeeded"), &json!({ "x": 1.0, "msg": "once" })));
    assert_eq!(summary["command_id"], id_of(&genuine).to_string());

    // The client reconnects by itself; the operator resends until it has.
    assert_eq!(fleet.run(&["ping", "worker-1", "--retry", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    let forger = Forger::new(&fleet);
    assert_eq!(forger.request(&genuine)["status"], "succeeded", "what a broker replays gets the recorded reply");
    fleet.run(&["calculate", "worker-1", "0", "after"]).exits(0);
    assert_eq!(fleet.status("worker-1")["dropped"], json!({}));
    assert_eq!(worker.printed(), "once\nafter\n");
}

#[test]
fn a_command_that_was_lost_with_its_broker_ends_in_a_verdict_that_claims_no_more_than_is_known() {
    let (mut fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    worker.signal(Signal::STOP);
    let waiting = fleet.spawn(&["ping", "worker-1", "--timeout", "1500ms", "-o", "json"]);
    observer.wait_for("the ping", |it| it.json()["command"]["name"] == "ping");
    fleet.broker.stop();
    fleet.broker.restart();
    assert_eq!(waiting.wait().exits(3).verdict("worker-1"), "no_reply");
    worker.signal(Signal::CONT);
    assert_eq!(fleet.run(&["ping", "worker-1", "--retry", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
}

#[test]
fn a_client_waits_for_a_broker_that_is_not_there_yet_and_announces_itself_when_it_is() {
    let mut fleet = Fleet::new();
    fleet.broker.stop();
    let mut worker = fleet.spawn(&["client", "--name", "worker-1"]);
    worker.stderr.wait_for("not connected");
    fleet.broker.restart();
    worker.stderr.wait_for("connected\n");
    fleet.run(&["start", "worker-1", "--retry"]).exits(0);
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    fleet.resubscribe();
    fleet.run(&["stop", "worker-1"]).exits(0);
    assert_eq!(fleet.presence("worker-1", "unready")["data"]["state"], "unready");
}

#[test]
fn a_broker_that_swallows_everything_leaves_every_target_with_a_verdict() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let fake = FakeBroker::start("nonce");
    let mut command = fleet.command(&["ping", "worker-1", "worker-2", "--timeout", "300ms", "-o", "json"]);
    command.env("NATS_URL", fake.url());
    let operator = Process::spawn(command);
    let _swallowing = fake.accept_operator();
    let ran = operator.wait().exits(3);
    assert_eq!(["worker-1", "worker-2"].map(|client| ran.verdict(client)), ["no_reply", "no_reply"]);
}

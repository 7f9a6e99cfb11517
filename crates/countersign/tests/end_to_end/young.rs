//! The first seconds of a client: commands from before it has subscribed, and many of them while its epoch is young.

use countersign_testkit::hostile::{Message, Peer};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::groups::verdicts;
use crate::process::Process;

/// A client whose epoch stays young for a minute, so that nothing here depends on how fast the machine is.
fn young(fleet: &Fleet, client: &str) -> Process {
    fleet.client_as(client, fleet.command(&["client", "--name", client, "--skew", "60s"]))
}

/// How often a client has refused a command as `starting` until now.
fn refused_as_starting(observer: &mut Peer) -> usize {
    let is_it = |it: &Message| it.json()["error"]["code"] == "starting";
    observer.so_far().iter().filter(|it| it.subject.contains(".reply.") && is_it(it)).count()
}

#[test]
fn every_one_of_many_quick_rounds_to_young_clients_gets_the_true_verdict_of_each() {
    const CLIENTS: [&str; 4] = ["worker-1", "worker-2", "worker-3", "worker-4"];
    const ROUNDS: usize = 24;
    let fleet = Fleet::of(&CLIENTS);
    let _workers = CLIENTS.map(|client| young(&fleet, client));
    fleet.run(&["start", "@all"]).exits(0);
    let mut observer = fleet.observer();
    let script = "ping @all\n".repeat(ROUNDS);
    let ran = Process::spawn_with(fleet.command(&["server", "-o", "ndjson"]), &script).wait().exits(0);
    let lines: Vec<Value> = ran.lines().into_iter().filter(|line| line["verdict"].is_string()).collect();
    assert_eq!(lines.len(), ROUNDS * CLIENTS.len());
    assert!(lines.iter().all(|line| line["verdict"] == "succeeded"), "{ran:#?}");
    assert_eq!(refused_as_starting(&mut observer), ROUNDS * CLIENTS.len(), "each met an epoch too young for it");
}

#[test]
fn of_a_hundred_commands_at_once_a_young_client_answers_every_one() {
    const COMMANDS: usize = 100;
    let fleet = Fleet::new();
    let _worker = young(&fleet, "worker-1");
    let forger = Forger::new(&fleet);
    let command = |_| forger.draft("ping", json!({})).with(|command| command.epoch = None).sign(&forger.identity);
    let commands: Vec<_> = (0..COMMANDS).map(command).collect();
    forger.peer.borrow().send_all(&commands);
    for command in &commands {
        assert_eq!(forger.reply_to(command).json()["error"]["code"], "starting");
    }
}

#[test]
fn a_command_that_was_published_before_its_client_had_subscribed_is_received_nevertheless() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let mut observer = fleet.observer();
    let operator = fleet.spawn(&["start", "worker-1", "worker-2", "--timeout", "60s", "-o", "json"]);
    for _ in 0..2 {
        observer.wait_for("the command", |it| it.json()["command"]["name"] == "start");
    }
    let _workers = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    let ran = operator.wait().exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
}

#[test]
fn a_client_that_was_killed_and_restarted_obeys_at_once_by_name_and_among_all() {
    let (fleet, worker) = Fleet::ready();
    worker.kill();
    // Until 15 s and the skew have passed since the last time in its journal, it cannot know what is new.
    let _worker = fleet.client("worker-1");
    let mut observer = fleet.observer();
    fleet.run(&["start", "worker-1"]).exits(0);
    assert_eq!(refused_as_starting(&mut observer), 0, "a command by name carries the epoch that it has announced");
    let ran = fleet.run(&["calculate", "@all", "0", "done", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded"]);
    assert_eq!(refused_as_starting(&mut observer), 1, "and a command to all is reissued, without --retry");
}

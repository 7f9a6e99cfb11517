//! A machine that was cloned: two processes with one key, and each with a journal.

use std::process::Command as Program;

use countersign_protocol::reply::Outcome;
use countersign_testkit::hostile::Message;
use serde_json::json;

use crate::fake::FakeWorker;
use crate::fleet::Fleet;

#[test]
fn a_command_that_two_processes_answer_reports_both_and_that_the_verdict_comes_from_one() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _original = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let copied = Program::new("cp").args(["-r", "state", "state-of-clone"]).current_dir(fleet.path()).status().unwrap();
    assert!(copied.success());
    let mut clone = fleet.command(&["client", "--name", "worker-1"]);
    clone.env("COUNTERSIGN_STATE", "state-of-clone");
    let _clone = fleet.client_as("worker-1", clone);

    // It replies after both of them, so that there is one report on all.
    let mut last = FakeWorker::new(&fleet, "worker-2");
    let mut observer = fleet.observer();
    for audience in [&["worker-1", "worker-2"][..], &["@all"]] {
        last.present(&fleet, 0);
        let (operator, command) =
            last.receive_command(&fleet, &[&["ping"], audience, &["-o", "json", "--timeout", "60s"]].concat());
        let mut boots = std::collections::BTreeSet::new();
        while boots.len() < 2 {
            let is_its = |it: &Message| it.subject.contains(".reply.") && it.subject.ends_with(".worker-1");
            let reply = observer.wait_for("a reply of either", is_its).json();
            boots.insert(reply["boot"].as_str().unwrap().to_owned());
        }
        last.answer(&command, 0, Outcome::Succeeded(json!(1)));
        let ran = operator.wait();
        assert_eq!(ran.of("worker-1")["boots"], 2, "{ran:#?}");
        assert!(ran.stderr.contains("two processes answer as worker-1 ("), "{ran:#?}");
        assert!(ran.stderr.contains("the verdict is the word of one of them"), "{ran:#?}");
    }
}

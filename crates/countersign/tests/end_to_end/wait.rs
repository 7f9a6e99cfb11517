//! Waiting for commands that were sent before, and not for ever for those that are sent now.

use serde_json::Value;

use crate::fleet::Fleet;
use crate::process::Ran;
use crate::prompt::prompt_at;

/// The id of a command that a document is about.
fn id(ran: &Ran) -> String {
    ran.json()["command_id"].as_str().unwrap().to_owned()
}

/// A calculation that runs on its own.
fn detached(fleet: &Fleet, seconds: &str) -> String {
    id(&fleet.run(&["calculate", "worker-1", seconds, "all done", "--detach", "-o", "json"]).exits(0))
}

#[test]
fn a_detached_command_is_awaited_by_a_part_of_its_id_and_ends_as_if_it_had_been_sent_now() {
    let (fleet, _worker) = Fleet::ready();
    let command = detached(&fleet, "2");
    let short = &command[command.len() - 6..];
    let ran = fleet.run(&["wait", "worker-1", short]).exits(0);
    assert!(ran.stdout.starts_with("worker-1: printed \"all done\" after 2 s, in "), "{ran:#?}");
    let ran = fleet.run(&["wait", "worker-1", &command, "-o", "json"]).exits(0);
    assert_eq!((ran.verdict("worker-1"), id(&ran)), ("succeeded".to_owned(), command));
    assert_eq!(ran.json()["command"], "wait");
    assert_eq!(ran.of("worker-1")["result"]["msg"], "all done");
}

#[test]
fn a_wait_for_a_cancelled_command_fails_like_the_command() {
    let (fleet, _worker) = Fleet::ready();
    let command = detached(&fleet, "600");
    let wait = fleet.spawn(&["wait", "worker-1", &command, "-o", "json"]);
    let ran = fleet.run(&["result", "worker-1", &command]).exits(6);
    assert!(ran.stdout.starts_with("worker-1: runs (alice's command)"), "{ran:#?}");
    fleet.run(&["cancel", "worker-1", &command[command.len() - 4..]]).exits(0);
    assert_eq!(wait.wait().exits(1).verdict("worker-1"), "cancelled cancelled");
    fleet.run(&["result", "worker-1", &command]).exits(0);
}

#[test]
fn the_result_of_a_running_command_shows_how_far_it_is_and_a_status_of_its_own() {
    let (fleet, _worker) = Fleet::ready();
    let operator = fleet.spawn(&["calculate", "worker-1", "600", "never", "-o", "ndjson"]);
    let mut operator = operator;
    let line = operator.stdout.wait_for("\"progress\"");
    let command = serde_json::from_str::<Value>(&line).unwrap()["command_id"].as_str().unwrap().to_owned();
    let ran = fleet.run(&["result", "worker-1", &command]).exits(6);
    assert!(ran.stdout.contains("runs (alice's command): ") && ran.stdout.contains(" %"), "{ran:#?}");
    let ran = fleet.run(&["result", "worker-1", &command, "-o", "json"]).exits(6);
    assert!(ran.of("worker-1")["result"]["progress"]["fraction"].is_number(), "{ran:#?}");
}

#[test]
fn a_deadline_ends_the_wait_and_not_the_command_and_says_what_to_type() {
    let (fleet, _worker) = Fleet::ready();
    let ran = fleet.run(&["calculate", "worker-1", "600", "on", "--deadline", "1s"]).exits(6);
    assert!(ran.stdout.starts_with("worker-1: accepted; it runs on"), "{ran:#?}");
    for what in ["it runs on and was not cancelled", "countersign wait worker-1 ", "countersign cancel worker-1 "] {
        assert!(ran.stderr.contains(what), "{ran:#?}");
    }
    let command = ran.stderr.split("wait worker-1 ").nth(1).unwrap().split('`').next().unwrap();
    let ran = fleet.run(&["wait", "worker-1", command, "--deadline", "1s", "-o", "json"]).exits(6);
    assert_eq!((ran.verdict("worker-1"), ran.of("worker-1")["final"].clone()), ("accepted".to_owned(), false.into()));
    fleet.run(&["result", "worker-1", command]).exits(6);
}

#[test]
fn a_deadline_ends_the_reading_of_output_too_and_says_that_there_may_be_more() {
    let (fleet, _worker) = Fleet::ready();
    let command = detached(&fleet, "600");
    let short = &command[command.len() - 6..];
    let ran = fleet.run(&["output", "worker-1", short, "--follow", "--deadline", "1s"]).exits(6);
    assert!(ran.stderr.contains("the deadline is over: there may be more output than was shown"), "{ran:#?}");
    fleet.run(&["calculate", "worker-1", "600", "on", "--follow", "--deadline", "1s"]).exits(6);
    fleet.run(&["result", "worker-1", short]).exits(6);
}

#[test]
fn a_part_that_means_several_commands_or_none_sends_nothing_and_lists_them() {
    let (fleet, _worker) = Fleet::ready();
    let (first, second) = (detached(&fleet, "600"), detached(&fleet, "600"));
    // The time that both begin with.
    let ran = fleet.run(&["cancel", "worker-1", &first[..8]]).exits(2);
    for part in ["commands; nothing was sent", &first[first.len() - 6..], &second[second.len() - 6..]] {
        assert!(ran.stderr.contains(part), "{ran:#?}");
    }
    let ran = fleet.run(&["cancel", "worker-1", "ffffffffffff"]).exits(2);
    assert!(ran.stderr.contains("no command with the id `ffffffffffff` is known; nothing was sent"), "{ran:#?}");
    let jobs = fleet.run(&["jobs", "worker-1"]).exits(0).stdout;
    assert!(jobs.contains(&first[first.len() - 6..]) && !jobs.contains(&first), "{jobs}");
    assert!(jobs.contains("ARGUMENTS") && jobs.contains("msg=\"all done\" x=600.0"), "{jobs}");
}

#[test]
fn at_the_prompt_a_part_of_an_id_is_understood_a_wait_goes_on_in_the_background_and_history_is_shown() {
    let (fleet, _worker) = Fleet::ready();
    let command = detached(&fleet, "600");
    let short = &command[command.len() - 6..];
    let mut person = prompt_at(&fleet, "worker-1 ready> ");
    person.line(&format!("wait {short}"));
    person.wait_for("goes on in the background");
    person.line(&format!("cancel {short}"));
    // The history of this prompt is another one: the id was resolved by what the client lists.
    person.wait_for("worker-1: cancelled, in ");
    person.wait_for("what came of `wait");
    person.line("history");
    person.wait_for("1 succeeded");
}

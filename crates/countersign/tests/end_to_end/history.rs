//! What the operator's side keeps of what it sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::fleet::Fleet;
use crate::process::{Process, Signal};

/// The only file of the history.
fn file(fleet: &Fleet) -> PathBuf {
    let folder = fleet.path().join(".local/state/countersign/history.d");
    let realm = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    realm.join("alice.jsonl")
}

#[test]
fn what_became_of_a_command_is_known_after_its_client_is_gone() {
    let (fleet, worker) = Fleet::ready();
    let ran = fleet.run(&["calculate", "worker-1", "0", "all done", "-o", "json"]).exits(0);
    let id = ran.json()["command_id"].as_str().unwrap().to_owned();
    fleet.run(&["ping", "worker-1", "--dry-run"]).exits(0);
    fleet.run(&["status", "worker-1"]).exits(0);
    fleet.run(&["terminate", "worker-1"]).exits(0);
    worker.wait().exits(0);
    let list = fleet.run(&["history"]).exits(0).stdout;
    assert_eq!(list.lines().count(), 4, "{list}");
    for word in ["start", "calculate", "terminate", "1 succeeded", &id[id.len() - 6..]] {
        assert!(list.contains(word), "{list}");
    }
    let one = fleet.run(&["history", &id[id.len() - 6..]]).exits(0).stdout;
    for word in [id.as_str(), "calculate msg=\"all done\" x=0.0", "succeeded", "printed \"all done\" after 0 s"] {
        assert!(one.contains(word), "{word}: {one}");
    }
    let document = fleet.run(&["history", &id, "-o", "json"]).exits(0).json();
    assert_eq!(document["history"][0]["targets"]["worker-1"]["verdict"], "succeeded");
    assert_eq!(fs::metadata(file(&fleet)).unwrap().permissions().mode() & 0o777, 0o600);
    fleet.run(&["history", "--since", "1ms"]).exits(0);
    let unknown = fleet.run(&["history", "ffff"]).exits(2).stderr;
    assert!(unknown.contains("no command with the id `ffff` is known"), "{unknown}");
}

#[test]
fn a_killed_operator_leaves_what_it_sent_and_a_later_result_completes_it() {
    let (fleet, _worker) = Fleet::ready();
    let mut operator = fleet.spawn(&["calculate", "worker-1", "3", "all done", "-o", "ndjson"]);
    let line = operator.stdout.wait_for("accepted");
    operator.kill();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let id = line["command_id"].as_str().unwrap();
    let one = fleet.run(&["history", id]).exits(0).stdout;
    assert!(one.contains("accepted") && one.contains("it ran when this was written"), "{one}");
    fleet.run(&["wait", "worker-1", id]).exits(0);
    let one = fleet.run(&["history", id]).exits(0).stdout;
    assert!(one.contains("succeeded") && !one.contains("accepted"), "{one}");
}

#[test]
fn a_history_that_cannot_be_written_fails_no_command_and_is_said_once() {
    let (fleet, _worker) = Fleet::ready();
    let blocked = fleet.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let mut command = fleet.command(&["server"]);
    command.env("XDG_STATE_HOME", &blocked);
    let ran = Process::spawn_with(command, "ping worker-1\nping worker-1\n").wait().exits(0);
    assert_eq!(ran.stderr.matches("cannot be written").count(), 1, "{ran:#?}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:#?}");
}

#[test]
fn an_interrupted_wait_is_written_as_what_was_known() {
    let (fleet, _worker) = Fleet::ready();
    let mut operator = fleet.spawn(&["calculate", "worker-1", "600", "on", "-o", "ndjson"]);
    operator.stdout.wait_for("accepted");
    operator.signal(Signal::INT);
    operator.wait().exits(130);
    assert!(fleet.run(&["history"]).exits(0).stdout.contains("1 accepted"));
}

#[test]
fn quiet_prints_nothing_of_a_command_that_succeeds_and_everything_else() {
    let (fleet, _worker) = Fleet::ready();
    for command in
        [&["ping", "worker-1", "-q"][..], &["calculate", "worker-1", "0", "x", "-q"], &["stop", "worker-1", "-q"]]
    {
        let ran = fleet.run(command).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{command:?}");
    }
    assert!(fleet.run(&["ping", "worker-1", "-q"]).exits(1).stdout.contains("not_ready"));
    assert!(fleet.run(&["status", "worker-1", "-q"]).exits(0).stdout.contains("unready"));
    assert!(fleet.run(&["start", "worker-1", "-q", "-o", "json"]).exits(0).stdout.contains("succeeded"));
}

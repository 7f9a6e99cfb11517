//! A client's state folder in other hands: emptied, removed, replaced, or restored from an older copy while its client is at
//! work or stopped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Signal;

/// Copies a folder into a new one, which is as private.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, copied).unwrap();
        }
    }
}

#[test]
fn whatever_files_are_removed_from_a_state_folder_a_second_client_on_it_does_not_start() {
    let (fleet, worker) = Fleet::ready();
    let folder = fleet.state_folder("worker-1");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    let second = fleet.run(&["client", "--name", "worker-1"]).exits(1);
    assert!(second.stderr.contains("error: another client holds state/worker-1\n"), "{second:#?}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "it has not touched the folder");
    // One that takes any free name does not take this one.
    let claiming = fleet.run(&["client", "--claim"]).exits(1);
    assert!(claiming.stderr.contains("no name is left to claim"), "{claiming:#?}");

    // The first goes on, and once it has ended the next one starts.
    fleet.run(&["calculate", "worker-1", "0", "once"]).exits(0);
    assert_eq!(worker.printed(), "once\n");
    fleet.client("worker-1");
}

#[test]
fn a_client_whose_state_folder_is_removed_or_replaced_ends_with_an_error_and_notifies_its_operators() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let [removed, replaced] = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    let folder = fleet.state_folder("worker-2");
    fs::rename(fleet.state_folder("worker-1"), fleet.path().join("aside")).unwrap();
    let older = fleet.path().join("older");
    copy(&folder, &older);
    fs::rename(&folder, fleet.path().join("moved")).unwrap();
    fs::rename(&older, &folder).unwrap();
    for (client, worker) in [("worker-1", removed), ("worker-2", replaced)] {
        let ran = worker.wait().exits(1);
        let what = format!("state/{client} was removed or replaced while the client ran");
        assert!(ran.stderr.contains(&format!("{what}: another client could be at work beside this one")), "{ran:#?}");
        let last: Vec<&str> = ran.stderr.lines().rev().take(3).collect();
        assert_eq!(last[2], format!("error: {what}"), "{ran:#?}");
        assert!(last[0].starts_with("try: start it again"), "{ran:#?}");
        let clients = fleet.run(&["clients", "-o", "json"]).exits(0).json();
        let entry = clients["clients"].as_array().unwrap().iter().find(|entry| entry["client"] == client).unwrap();
        assert_eq!(entry["state"], "terminated", "it has announced its end: {entry}");
    }
    // Started again, both obey.
    let _again = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
}

#[test]
fn what_ran_after_a_copy_of_the_state_folder_was_taken_does_not_run_again_once_the_copy_is_restored() {
    let fleet = Fleet::new();
    // Without a skew it takes what does not name its epoch at once.
    let client = || fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--skew", "0s"]));
    let worker = client();
    fleet.run(&["start", "worker-1"]).exits(0);
    let (folder, backup) = (fleet.state_folder("worker-1"), fleet.path().join("backup"));
    copy(&folder, &backup);
    let forger = Forger::new(&fleet);
    let named = forger.command("calculate", json!({ "x": 0, "msg": "named" }));
    let mut open = forger.draft("calculate", json!({ "x": 0, "msg": "open" }));
    open.command.epoch = None;
    let open = open.sign(&forger.identity);
    assert_eq!(forger.request(&named)["status"], "succeeded");
    assert_eq!(forger.request(&open)["status"], "succeeded");
    assert_eq!(worker.printed(), "named\nopen\n");

    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&backup, &folder).unwrap();
    let worker = client();
    fleet.run(&["start", "worker-1"]).exits(0);
    for (command, code) in [(&named, "wrong_epoch"), (&open, "starting")] {
        let refusal = forger.request(command);
        assert_eq!((&refusal["status"], &refusal["error"]["code"]), (&json!("refused"), &json!(code)));
    }
    fleet.run(&["calculate", "worker-1", "0", "new"]).exits(0);
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait().exits(0).stdout, "new\n");
}

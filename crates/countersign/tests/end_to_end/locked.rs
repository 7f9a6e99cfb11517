//! Commands and a running issuer, which change one folder of keys side by side.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use countersign_keys::{KeyFolder, LOCK_WAIT, load_trust};
use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;

use crate::accounts::is_let_in;
use crate::enrolment::{Worker, token};
use crate::fleet::Fleet;
use crate::issuer::issuer;
use crate::process::Process;

/// Waits until a process waits for a folder.
fn waits_for(process: &Process, folder: &KeyFolder) {
    let path = fs::canonicalize(folder.path()).unwrap();
    let open = format!("/proc/{}/fd", process.pid().as_raw_nonzero());
    for _ in 0..6_000 {
        if fs::read_dir(&open).unwrap().flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path)) {
            return;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("it does not wait")
}

#[test]
fn members_that_are_revoked_at_once_are_all_revoked_by_the_trust_bundle_and_by_the_broker() {
    let clients = ["worker-1", "worker-2", "worker-3"];
    let fleet = Fleet::of(&clients);
    let lock = fleet.keys().lock(LOCK_WAIT).unwrap();
    let revoking = clients.map(|client| fleet.spawn(&["revoke", client]));
    revoking.iter().for_each(|process| waits_for(process, &fleet.keys()));
    drop(lock);
    for process in revoking {
        process.wait().exits(0);
    }
    let trust = load_trust(&fleet.keys()).unwrap();
    assert_eq!((trust.version(), trust.body().revoked.len()), (4, 3));
    for client in clients {
        assert!(!is_let_in(&fleet, &fleet.keys().creds(Role::Client, &name(client))), "{client}");
    }
}

#[test]
fn an_issuer_leaves_the_folder_to_a_command_and_answers_who_asked_meanwhile() {
    let fleet = Fleet::new();
    let mut issuer = issuer(&fleet);
    let text = token(&fleet, &["worker-7"]);
    let worker = Worker::new(&fleet, "worker");
    let lock = fleet.keys().lock(LOCK_WAIT).unwrap();
    let enrolling = worker.spawn(&fleet, &["enroll"], &text);
    issuer.stderr.wait_for("another process has been changing the folder");
    assert!(!fleet.keys().credential(Role::Client, &name("worker-7")).exists());
    drop(lock);
    enrolling.wait().exits(0);
}

#[test]
fn two_runs_with_one_token_in_one_folder_have_one_pair_of_keys() {
    let fleet = Fleet::new();
    let issuer = issuer(&fleet);
    let text = token(&fleet, &["worker-7"]);
    let worker = Worker::new(&fleet, "worker");
    let keys = KeyFolder::create(worker.0.join("keys")).unwrap();
    let lock = keys.lock(LOCK_WAIT).unwrap();
    let both = [(); 2].map(|()| worker.spawn(&fleet, &["enroll"], &text));
    both.iter().for_each(|process| waits_for(process, &keys));
    drop(lock);
    let said = both.map(|process| process.wait().exits(0).stderr);
    assert_eq!(said.iter().filter(|said| said.contains("is enrolled already")).count(), 1, "{said:#?}");
    drop(issuer);
}

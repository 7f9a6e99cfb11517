//! Clients that are given no name and claim the first that is free.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;

use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;
use serde_json::json;

use crate::fleet::Fleet;
use crate::process::Process;

const NAMES: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

fn claim(fleet: &Fleet) -> Process {
    fleet.spawn(&["client", "--claim"])
}

/// The name that a client has claimed.
fn claimed(client: &mut Process) -> String {
    let line = client.stderr.wait_for("claimed the name ");
    line.trim_end().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn clients_that_start_at_once_claim_a_name_each_and_one_more_reports_that_none_is_left() {
    let fleet = Fleet::of(&NAMES);
    let mut clients = NAMES.map(|_| claim(&fleet));
    let names: BTreeSet<String> = clients.iter_mut().map(claimed).collect();
    assert_eq!(names, NAMES.map(str::to_owned).into());
    for client in &mut clients {
        client.stderr.wait_for("connected\n");
    }
    let ran = fleet.run(&[&["status"], &NAMES[..], &["-o", "json"]].concat()).exits(0);
    assert_eq!(
        ran.json()["summary"],
        json!({ "succeeded": 3 }),
        "each signs with its own key under the name that it claimed"
    );

    let none = fleet.run(&["client", "--claim"]).exits(1);
    assert_eq!(
        none.stderr,
        "error: no name is left to claim: all 3 of the folder keys are held\n\
         expected: one that no other process is: worker-1, worker-2, worker-3\n\
         try: make one by `countersign credential issue client NAME`; or start fewer clients\n"
    );
    let by_name = fleet.run(&["client", "--name", "worker-2"]).exits(1);
    assert!(by_name.stderr.starts_with("error: another client holds state/worker-2\n"), "{by_name:#?}");
}

#[test]
fn sixteen_clients_that_start_at_once_claim_a_name_each() {
    let names: Vec<String> = (1..=16).map(|number| format!("worker-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fleet = Fleet::of(&names);
    let mut clients: Vec<Process> = names.iter().map(|_| claim(&fleet)).collect();
    for client in &mut clients {
        client.stderr.wait_for("connected\n");
    }
    let claimed: BTreeSet<String> = clients.iter_mut().map(claimed).collect();
    assert_eq!(claimed.len(), names.len());
}

#[test]
fn the_name_of_a_client_that_was_killed_is_free_again() {
    let fleet = Fleet::of(&NAMES[..2]);
    let (mut first, mut second) = (claim(&fleet), claim(&fleet));
    let names = [claimed(&mut first), claimed(&mut second)];
    first.kill();
    let mut next = claim(&fleet);
    assert_eq!(claimed(&mut next), names[0]);
    fleet.run(&["client", "--claim"]).exits(1);
}

#[test]
fn a_host_claims_again_the_name_that_it_had_though_one_before_it_is_free() {
    let fleet = Fleet::of(&NAMES);
    let host = fs::read("/proc/sys/kernel/hostname").unwrap();
    for (client, host) in [("worker-1", &b"another\n"[..]), ("worker-3", &host)] {
        let folder = fleet.state_folder(client);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
        fs::write(folder.join("host"), host).unwrap();
    }
    let mut clients = NAMES.map(|_| None);
    let names = clients.each_mut().map(|client| claimed(client.insert(claim(&fleet))));
    assert_eq!(names, ["worker-3", "worker-1", "worker-2"]);
}

#[test]
fn a_name_whose_key_is_elsewhere_is_not_claimed() {
    let fleet = Fleet::of(&NAMES[..2]);
    for path in [fleet.keys().key(Role::Client, &name("worker-1")), fleet.keys().creds(Role::Client, &name("worker-1"))]
    {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(claimed(&mut claim(&fleet)), "worker-2");
    fs::remove_file(fleet.keys().key(Role::Client, &name("worker-2"))).unwrap();
    let none = fleet.run(&["client", "--claim"]).exits(5);
    assert!(none.stderr.starts_with("error: the folder keys has no client\n"), "{none:#?}");
}

#[test]
fn a_client_is_given_its_name_or_claims_one_and_not_both() {
    let fleet = Fleet::new();
    for arguments in [&["client"][..], &["client", "--name", "worker-1", "--claim"]] {
        let ran = fleet.run(arguments).exits(2);
        assert!(ran.stderr.contains("--name <NAME>"), "{ran:#?}");
    }
}

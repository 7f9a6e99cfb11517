//! What docs/operations.md says of keys that are stolen or lost, done as it says.

use std::fs;

use crate::fleet::Fleet;

/// Removes what a name begins with from the folder of keys: `operators/bob.*`.
fn remove(fleet: &Fleet, pattern: &str) {
    let (below, name) = pattern.trim_end_matches('*').rsplit_once('/').unwrap();
    let files = fs::read_dir(fleet.keys().path().join(below)).unwrap().map(|entry| entry.unwrap());
    let files: Vec<_> = files.filter(|it| it.file_name().to_str().unwrap().starts_with(name)).collect();
    assert!(!files.is_empty(), "{pattern}");
    files.iter().for_each(|file| fs::remove_file(file.path()).unwrap());
}

#[test]
fn after_a_lost_laptop_a_stolen_worker_and_a_lost_issuer_the_commands_of_the_page_restore_everybody() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _worker = fleet.client("worker-1");
    let mut stolen = fleet.client("worker-2");
    let ping =
        |operator: &str, client: &str, more: &[&str]| fleet.run(&[&["ping", client, "--as", operator], more].concat());
    fleet.run(&["start", "@all", "--as", "alice"]).exits(0);

    // A lost laptop: another key of the same name, with the same grant.
    let grant = ["credential", "issue", "operator", "bob", "--command", "ping"];
    fleet.run(&grant).exits(0);
    ping("bob", "worker-1", &[]).exits(0);
    fleet.run(&["revoke", "bob"]).exits(0);
    ping("bob", "worker-1", &[]).exits(5);
    ping("alice", "worker-1", &[]).exits(0);
    remove(&fleet, "operators/bob.*");
    remove(&fleet, "nats/operator-bob.*");
    fleet.run(&grant).exits(0);
    ping("bob", "worker-1", &[]).exits(0);

    // A stolen worker: it is put out, and another machine has its name.
    fleet.run(&["revoke", "worker-2"]).exits(0);
    stolen.stderr.wait_for("not connected");
    let silent = ping("alice", "worker-2", &["--timeout", "1s", "-o", "json"]);
    assert!(["no_reply", "offline"].contains(&silent.verdict("worker-2").as_str()), "{silent:#?}");
    remove(&fleet, "clients/worker-2.*");
    remove(&fleet, "nats/client-worker-2.*");
    fleet.run(&["credential", "issue", "client", "worker-2"]).exits(0);
    stolen.kill();
    let _elsewhere = fleet.spawn(&["client", "--name", "worker-2", "--state", "elsewhere", "--start-ready"]);
    ping("alice", "worker-2", &["--retry", "--timeout", "20s"]).exits(0);

    // A lost issuer: what the old key issued holds, and the new one issues.
    fs::remove_file(fleet.keys().issuer_key()).unwrap();
    fleet.run(&["credential", "issue", "client", "worker-3"]).exits(5);
    fleet.run(&["trust", "rotate", "issuer"]).exits(0);
    for client in ["worker-1", "worker-2"] {
        ping("alice", client, &[]).exits(0);
    }
    fleet.run(&["credential", "issue", "client", "worker-3"]).exits(0);
    let _new = fleet.client("worker-3");
    fleet.run(&["start", "worker-3", "--as", "alice"]).exits(0);
    ping("bob", "worker-3", &[]).exits(0);
}

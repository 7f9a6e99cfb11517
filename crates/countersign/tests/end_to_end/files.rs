//! Key files that others can reach, and a disk that takes nothing more.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use countersign_host::keys::read_key;
use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::fleet::Fleet;
use crate::process::Process;

#[test]
fn a_key_file_that_others_can_reach_or_replace_is_refused_and_the_reason_is_said() {
    let fleet = Fleet::new();
    let (keys, worker, alice) = (fleet.keys(), name("worker-1"), name("alice"));
    let client = || fleet.run(&["client", "--name", "worker-1"]);
    let operator = || fleet.run(&["ping", "worker-1", "--timeout", "100ms"]);
    let cases: [(_, &dyn Fn() -> crate::process::Ran); 4] = [
        (keys.key(Role::Client, &worker), &client),
        (keys.seed(Role::Client, &worker), &client),
        (keys.key(Role::Operator, &alice), &operator),
        (keys.seed(Role::Operator, &alice), &operator),
    ];
    for (path, run) in cases {
        let shown = path.strip_prefix(fleet.path()).unwrap().display().to_string();
        let refused = |why: &str| {
            let ran = run().exits(5);
            assert!(ran.stderr.contains(&shown) && ran.stderr.contains(why), "{why}: {ran:#?}");
            assert_eq!(ran.stderr.lines().count(), 3, "what happened, what was expected, what to do: {ran:#?}");
        };
        for mode in [0o644, 0o640, 0o604, 0o660] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            refused(&format!("is open to others: its mode is {mode:04o}"));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        refused("does not exist");
        symlink(&aside, &path).unwrap();
        refused("is a symbolic link");
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg("-m").arg("600").arg(&path).status().unwrap().success());
        refused("is not a regular file");
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    let worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    drop(worker);
}

#[test]
fn a_connection_key_that_is_the_key_that_signs_is_refused() {
    let fleet = Fleet::new();
    let (keys, worker) = (fleet.keys(), name("worker-1"));
    // The very key that the client's nkey seed holds, as the message-signing key.
    let seed = fs::read_to_string(keys.seed(Role::Client, &worker)).unwrap();
    let raw = data_encoding::BASE32_NOPAD.decode(seed.trim().as_bytes()).unwrap();
    let same = countersign_protocol::key::SecretKey::from_seed(raw[2..34].try_into().unwrap());
    fs::write(keys.key(Role::Client, &worker), same.to_pem().as_bytes()).unwrap();
    let refused = fleet.run(&["client", "--name", "worker-1"]).exits(5);
    assert!(refused.stderr.contains("the same key as"), "{refused:#?}");
    // And one that no credential vouches for.
    let other = read_key(&keys.issuer_key()).unwrap();
    fs::write(keys.key(Role::Client, &worker), other.to_pem().as_bytes()).unwrap();
    let refused = fleet.run(&["client", "--name", "worker-1"]).exits(5);
    assert!(refused.stderr.contains("the credential is for the key"), "{refused:#?}");
}

/// worker-1 in such a way that a limit on the size of its files makes its writes fail, as a full disk does. Such a limit
/// otherwise kills a process.
fn limited_client(fleet: &Fleet) -> Process {
    let client = fleet.command(&["client", "--name", "worker-1"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(client.get_program()).args(client.get_args());
    shell.current_dir(fleet.path());
    shell.env_clear().envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    fleet.client_as("worker-1", shell)
}

/// Lets a client's journal grow no more, or again.
fn fill_the_disk(fleet: &Fleet, worker: &Process, full: bool) {
    let record = fleet.record("worker-1").join("journal");
    let size = full.then(|| fs::metadata(&record).unwrap().len());
    prlimit(Some(worker.pid()), Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

#[test]
fn what_cannot_be_recorded_is_answered_with_not_recorded_and_not_executed() {
    let fleet = Fleet::new();
    let worker = limited_client(&fleet);
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["calculate", "worker-1", "0", "before"]).exits(0);

    fill_the_disk(&fleet, &worker, true);
    for arguments in [["calculate", "worker-1", "0", "never"].as_slice(), &["ping", "worker-1"], &["stop", "worker-1"]]
    {
        let ran = fleet.run(&[arguments, &["-o", "json"]].concat()).exits(1);
        assert_eq!(ran.verdict("worker-1"), "refused not_recorded");
    }
    let info = fleet.status("worker-1");
    assert_eq!(
        (&info["state"], &info["jobs"]["running"]),
        (&"ready".into(), &0.into()),
        "queries go on; nothing changed"
    );
    let terminate = fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(1);
    assert_eq!(terminate.verdict("worker-1"), "refused not_recorded");

    fill_the_disk(&fleet, &worker, false);
    fleet.run(&["calculate", "worker-1", "0", "after"]).exits(0);
    fleet.run(&["terminate", "worker-1"]).exits(0);
    assert_eq!(worker.ended().exits(0).stdout, "before\nafter\n");
    let again = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    drop(again);
}

#[test]
fn a_job_that_ends_while_the_disk_is_full_is_answered_when_it_no_longer_is() {
    let fleet = Fleet::new();
    let mut worker = limited_client(&fleet);
    fleet.run(&["start", "worker-1"]).exits(0);
    let operator = fleet.spawn(&["calculate", "worker-1", "5", "once", "-o", "json"]);
    fleet.event("worker-1", "job");
    fill_the_disk(&fleet, &worker, true);
    worker.stdout.wait_for("once");
    worker.stderr.wait_for("the journal cannot be written");
    fill_the_disk(&fleet, &worker, false);
    assert_eq!(operator.ended().exits(0).verdict("worker-1"), "succeeded");
    let jobs = fleet.run(&["jobs", "worker-1", "-o", "json"]).exits(0).of("worker-1")["result"]["jobs"].clone();
    assert_eq!(jobs[0]["status"], "succeeded");
    assert_eq!(worker.printed(), "once\n");
}

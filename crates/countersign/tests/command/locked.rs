//! A folder of keys is changed by one process at a time, and what a change rests on is read when its turn has come.

use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use countersign_host::clock;
use countersign_keys::{KeyFolder, LOCK_WAIT};
use countersign_protocol::credential::Role;
use countersign_protocol::trust::Revoked;
use countersign_provisioning::{Rights, Terms, member_key, renew, revoke};
use countersign_testkit::realm::name;

use crate::folder::{Folder, Run};

/// Starts a command, and waits until it waits for the folder.
#[expect(
    clippy::zombie_processes,
    reason = "whoever called waits for it, and the test fails where it does not come so far"
)]
fn waiting(folder: &Folder, args: &[&str]) -> Child {
    let child = folder.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let keys = fs::canonicalize(folder.path("keys")).unwrap();
    let opened = || {
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == keys))
    };
    for _ in 0..6_000 {
        if opened() {
            return child;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("it does not wait: {args:?}")
}

fn ended(child: Child) -> Run {
    Run::of(child.wait_with_output().unwrap())
}

#[test]
fn of_two_inits_at_once_one_makes_the_realm_and_the_other_leaves_it() {
    let folder = Folder::new();
    let lock = KeyFolder::create(folder.path("keys")).unwrap().lock(LOCK_WAIT).unwrap();
    let both = [(); 2].map(|()| waiting(&folder, &["init", "-o", "json"]));
    drop(lock);
    let mut did = both.map(|child| ended(child).expect(0).did("root.pem").0);
    did.sort();
    assert_eq!(did, ["left", "made"]);
    folder.run(&["init"]).expect(0);
}

#[test]
fn what_another_command_has_written_meanwhile_is_what_the_next_one_changes() {
    let folder = Folder::with_keys(&[]);
    let keys = KeyFolder::new(folder.path("keys"));
    let lock = keys.lock(LOCK_WAIT).unwrap();
    let next = waiting(&folder, &["credential", "renew", "client", "worker-1", "--valid", "7d"]);
    let terms = Terms { rights: Rights::Client { groups: Some(vec![name("web")]) }, life_ms: None };
    renew(&keys, &folder.trust(), &[name("worker-1")], &terms).unwrap();
    drop(lock);
    ended(next).expect(0);
    let listed = folder.run(&["credential", "list", "-o", "json"]).expect(0).json();
    let worker = listed["members"].as_array().unwrap().iter().find(|it| it["name"] == "worker-1").unwrap().clone();
    assert_eq!(worker["groups"][0], "web", "the groups of the one and the life of the other: {worker:#}");
}

#[test]
fn of_two_versions_of_the_trust_bundle_that_are_made_at_once_one_follows_the_other() {
    let folder = Folder::with_keys(&[]);
    let keys = KeyFolder::new(folder.path("keys"));
    let lock = keys.lock(LOCK_WAIT).unwrap();
    let next = waiting(&folder, &["revoke", "worker-1", "--nats-url", "nats://127.0.0.1:1"]);
    let kid = member_key(&keys, &folder.trust(), Role::Operator, &name("alice")).unwrap();
    revoke(&keys, &folder.trust(), &[Revoked::Key { kid, since: clock::wall() }]).unwrap();
    drop(lock);
    ended(next).expect(4);
    assert_eq!((folder.trust().version(), folder.trust().body().revoked.len()), (3, 2));
}

#[test]
fn every_command_that_changes_the_folder_waits_for_a_bounded_time_and_says_so() {
    let folder = Folder::with_keys(&[]);
    let kid = fs::read_to_string(folder.path("keys/root.thumbprint")).unwrap();
    fs::write(folder.path("request"), "{}").unwrap();
    let before = folder.files();
    let _lock = KeyFolder::new(folder.path("keys")).lock(LOCK_WAIT).unwrap();
    let away = ["--nats-url", "nats://127.0.0.1:1"];
    let commands: [&[&str]; 12] = [
        &["init", "--client", "worker-2"],
        &["credential", "issue", "client", "worker-2"],
        &["credential", "renew", "client", "worker-1"],
        &["revoke", "worker-1"],
        &["trust", "publish"],
        &["trust", "rotate", "issuer"],
        &["trust", "rotate", "root"],
        &["enroll", "token", "worker-2"],
        &["enroll", "token", "worker-1", "--replace"],
        &["enroll", "sign", "request"],
        &["enroll", "approve", "worker-2", kid.trim()],
        &["enroll", "deny", "worker-2"],
    ];
    let waiting = commands.map(|args| {
        let has_broker = matches!(args[0], "revoke" | "trust") || args[1] == "token";
        let args = if has_broker { [args, &away].concat() } else { args.to_vec() };
        (args.clone(), waiting(&folder, &args))
    });
    // What only reads does not wait.
    folder.run(&["credential", "list"]).expect(0);
    folder.run(&["enroll", "list"]).expect(0);
    for (args, child) in waiting {
        let run = ended(child).expect(5);
        let [what, expected, hint] = run.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{args:?}: {run:#?}") };
        assert!(what.starts_with("error: another process has been changing the folder "), "{args:?}: {run:#?}");
        assert!(expected.contains("at a time") && hint == "try: run it again when the other has ended", "{run:#?}");
    }
    assert_eq!(folder.files(), before);
}

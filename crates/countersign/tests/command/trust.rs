//! `revoke` and `trust`: what they leave on the disk, also where they are interrupted, and what they refuse.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use countersign_keys::{KeyFolder, load_trust};
use countersign_protocol::trust::Trust;

use crate::folder::{Folder, Run};

/// Where no broker is.
const NOWHERE: [&str; 2] = ["--nats-url", "nats://127.0.0.1:1"];

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn keys(folder: &Folder) -> KeyFolder {
    KeyFolder::new(folder.path("keys"))
}

fn trust(folder: &Folder) -> Trust {
    load_trust(&keys(folder)).unwrap()
}

/// Without a broker, each of them is made, and exits with 4.
fn offline(folder: &Folder, words: &[&str]) -> Run {
    folder.run(&[words, &NOWHERE].concat())
}

fn restore(folder: &Folder, files: &Files) {
    for path in folder.files().into_keys().filter(|path| !files.contains_key(path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, content) in files {
        put(path, content);
    }
}

fn put(path: &Path, content: &[u8]) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    let is_secret = path.extension().is_some_and(|end| end == "pem" || end == "nk" || end == "creds");
    let mode = if is_secret { 0o600 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_kill_after_any_write_leaves_the_version_before_or_the_new_one_and_running_it_again_completes_it() {
    for words in [
        &["revoke", "worker-1"][..],
        &["trust", "rotate", "root"],
        &["trust", "rotate", "root", "--lost"],
        &["trust", "rotate", "issuer"],
    ] {
        let folder = Folder::with_keys(&[]);
        if words.contains(&"--lost") {
            fs::remove_file(folder.path("keys/root.pem")).unwrap();
        }
        let before = folder.files();
        let run = offline(&folder, &[words, &["-o", "json"]].concat()).expect(4);
        let after = folder.files();
        // The order in which each file had its last change: as it is reported, with what is not reported before what was not
        // written until then. Two writes may have one time.
        let mut changed: Vec<&PathBuf> =
            after.iter().filter(|(path, now)| before.get(*path) != Some(*now)).map(|(path, _)| path).collect();
        let written = |path: &Path| fs::metadata(path).map(|about| (about.ctime(), about.ctime_nsec())).unwrap();
        let json = run.json();
        let reported: Vec<PathBuf> = json["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| folder.path("keys").join(it["file"].as_str().unwrap()))
            .collect();
        let position = |path: &PathBuf| reported.iter().rposition(|it| it == path);
        let order: BTreeMap<&PathBuf, _> = changed
            .iter()
            .map(|path| match position(path) {
                Some(at) => (*path, (at, true)),
                None => {
                    let from = written(path);
                    let is_later = |other: &&&PathBuf| written(other) >= from;
                    let next = changed.iter().filter(is_later).filter_map(|it| position(it)).min();
                    (*path, (next.unwrap_or(reported.len()), false))
                }
            })
            .collect();
        changed.sort_by_key(|path| order[*path]);
        assert!(changed.len() >= 4, "{words:?}: {changed:?} {run:#?}");
        for done in 0..changed.len() {
            let mut files = before.clone();
            for path in &changed[..done] {
                files.insert((*path).clone(), after[*path].clone());
            }
            // A new key waits beside the old one until it takes its place.
            for key in ["root", "issuer"] {
                let [present, fresh] =
                    ["pem", "new.pem"].map(|extension| folder.path(&format!("keys/{key}.{extension}")));
                if changed[done..].contains(&&present) {
                    files.insert(fresh, after[&present].clone());
                }
            }
            restore(&folder, &files);
            let version = trust(&folder).version();
            assert!(version == 1 || version == 2, "{words:?} after {done} of {changed:?}");
            let is_in_force = words.contains(&"--lost") && version == 2;
            offline(&folder, if is_in_force { &["trust", "publish"] } else { words }).expect(4);
            let now = trust(&folder);
            assert!(now.version() == version || now.version() == version + 1, "{words:?} after {done} of {changed:?}");
            assert_eq!(fs::read(folder.path("keys/trust.json")).unwrap(), now.bytes(), "{words:?} after {done}");
            assert!(now.is_root(&folder.trust().pin()), "trust.json and the pin fit");
            let issuer = folder.key("issuer.pem").public().thumbprint();
            assert!(now.issuer(&issuer).is_some(), "{words:?} after {done}: issuer.pem is an issuer");
            assert!(!folder.path("keys/root.new.pem").exists() && !folder.path("keys/issuer.new.pem").exists());
            for member in
                folder.run(&["credential", "list", "-o", "json"]).expect(0).json()["members"].as_array().unwrap()
            {
                let state = if words[0] == "revoke" && member["role"] == "client" { "revoked" } else { "in_force" };
                assert_eq!(member["state"], state, "{words:?} after {done}: {member}");
            }
        }
    }
}

#[test]
fn a_folder_without_room_has_the_version_before_whole() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let limited =
        format!("ulimit -f 0; exec {} revoke worker-1 --nats-url {}", env!("CARGO_BIN_EXE_countersign"), NOWHERE[1]);
    let ran = std::process::Command::new("sh").args(["-c", &limited]).current_dir(folder.path("")).output().unwrap();
    let run = Run::of(ran);
    assert!(run.status != 0 && run.status != 4, "{run:#?}");
    let mut after = folder.files();
    after.retain(|path, content| !(path.extension().is_some_and(|end| end == "new") && content.is_empty()));
    assert_eq!(after, before);
    offline(&folder, &["revoke", "worker-1"]).expect(4);
    assert_eq!(trust(&folder).version(), 2);
}

#[test]
fn what_cannot_be_revoked_is_refused_and_nothing_is_written() {
    let folder = Folder::with_keys(&["--client", "alice"]);
    let before = folder.files();
    let refused = |words: &[&str], status: i32, says: &str| {
        let run = offline(&folder, words).expect(status);
        assert!(run.stderr.contains(says), "{words:?}: {run:#?}");
        assert_eq!(run.stderr.lines().count(), 3, "{run:#?}");
        assert_eq!(folder.files(), before, "{words:?}");
    };
    refused(&["revoke"], 2, "required arguments were not provided");
    refused(&["revoke", "worker-9"], 5, "has no client worker-9");
    refused(&["revoke", "alice"], 2, "a client and an operator alice");
    refused(&["revoke", "--kid", folder.read("keys/root.thumbprint").trim()], 2, "is a root's key");
    fs::rename(folder.path("keys/root.pem"), folder.path("root.pem")).unwrap();
    let before = folder.files();
    let run = offline(&folder, &["revoke", "alice", "--role", "client"]).expect(5);
    assert!(run.stderr.contains("root.pem is missing"), "{run:#?}");
    assert_eq!(folder.files(), before);
}

#[test]
fn a_thumbprint_that_begins_with_a_hyphen_is_no_option() {
    let folder = Folder::with_keys(&[]);
    let kid = "-2bkGKYX5_bP1SII5kd9drq0anxrvpwkRD_0JmjOFWo";
    offline(&folder, &["revoke", "--kid", kid]).expect(4);
    assert_eq!(trust(&folder).version(), 2);
}

#[test]
fn what_is_revoked_is_listed_and_not_renewed() {
    let folder = Folder::with_keys(&[]);
    offline(&folder, &["revoke", "worker-1"]).expect(4);
    let listed = folder.run(&["credential", "list"]).expect(0).stdout;
    assert!(listed.lines().any(|line| line.contains("worker-1") && line.contains("revoked")), "{listed}");
    folder.run(&["credential", "renew", "client", "worker-1"]).expect(5);
    let shown = offline(&folder, &["trust", "show", "-o", "json"]).expect(0).json();
    assert_eq!((&shown["version"], &shown["revoked"][0]["member"]), (&2.into(), &"client worker-1".into()));
    assert!(shown["no_clients"].as_str().unwrap().contains("no NATS server answers"), "{shown}");
}

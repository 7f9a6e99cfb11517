//! Programs that their definitions confine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use countersign_protocol::credential::Role;
use rustix::process::geteuid;
use serde_json::json;

use super::{ANY_X, Workshop, define, ended, folder, shell};
use crate::fleet::Fleet;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// Whether the kernel is as new as this.
fn is_linux(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

/// Whether programs can be confined here.
#[expect(clippy::print_stderr, reason = "a test that checks nothing says so")]
pub fn is_possible() -> bool {
    let is_possible = fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|lsm| lsm.contains("landlock"))
        || fs::read_to_string("/proc/kallsyms").is_ok_and(|symbols| symbols.contains("landlock_restrict_self"));
    if !is_possible || !is_linux(6, 2) {
        eprintln!("not tested: this kernel has no Landlock, or one before Linux 6.2");
        return false;
    }
    true
}

/// Copies a folder with all that it holds for a user.
fn copy_for(user: u32, from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy_for(user, &entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
            chown(&to, Some(user), Some(user)).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    chown(to, Some(user), Some(user)).unwrap();
}

/// Starts the client as a user that is not root, whoever the test is, with keys of its own.
fn not_as_root(definitions: &[(&str, &str)]) -> (Workshop, PathBuf) {
    let fleet = Fleet::new();
    define(&folder(&fleet), definitions);
    if !geteuid().is_root() {
        let key = fleet.keys().key(Role::Client, &"worker-1".parse().unwrap());
        let worker = super::client(&fleet);
        fleet.run(&["start", "worker-1"]).exits(0);
        return (Workshop { fleet, worker }, key);
    }
    let home = fleet.path().join("nobody");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(fleet.path(), PermissionsExt::from_mode(0o711)).unwrap();
    fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    copy_for(NOBODY, &fleet.path().join("keys"), &home.join("keys"));
    let (keys, state) = (home.join("keys"), home.join("state"));
    let (keys, state) = (super::text(&keys), super::text(&state));
    let mut client = fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]);
    client.args(["--keys", keys, "--state", state]).uid(NOBODY).gid(NOBODY);
    let worker = fleet.client_as("worker-1", client);
    fleet.run(&["start", "worker-1"]).exits(0);
    let key = countersign_keys::KeyFolder::new(keys).key(Role::Client, &"worker-1".parse().unwrap());
    (Workshop { fleet, worker }, key)
}

#[test]
fn a_confined_program_reaches_neither_the_clients_keys_nor_its_helper_and_writes_only_where_it_may() {
    if !is_possible() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let (open, closed) = (place.path().join("open"), place.path().join("closed"));
    for folder in [&open, &closed] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
    }
    fs::write(closed.join("file"), "kept").unwrap();
    fs::set_permissions(closed.join("file"), PermissionsExt::from_mode(0o666)).unwrap();
    let attempts = format!(
        "client=$(cut -d' ' -f4 /proc/$PPID/stat); cat > args\n\
         try() {{ \"$@\" >/dev/null 2>&1 && echo done || echo not; }}\n\
         try head -c 1 \"$(sed 's/.*:\"//; s/\".*//' args)\"; try cat /proc/$client/environ; try ls {closed}\n\
         try touch {closed}/new; try truncate -s 0 {closed}/file; try rm {closed}/file; try kill -0 $PPID\n\
         try touch {open}/new; try touch inside; try sh -c 'echo {{}} > $COUNTERSIGN_RESULT'; try ls /usr /etc\n\
         try grep -q CapEff /proc/self/status; echo 1 > $COUNTERSIGN_PROGRESS",
        closed = closed.display(),
        open = open.display(),
    );
    let args = ANY_X.lines().nth(1).unwrap();
    let confined = shell(&attempts, &format!("{args}\nread_only = true\nwritable = [\"{}\"]", open.display()));
    let usual = shell(&attempts, ANY_X);
    let (shop, key) = not_as_root(&[("confined", &confined), ("usual", &usual)]);
    let attempted = |name: &str| {
        let reply = shop.call(name, &json!({ "x": key }));
        let text = reply["result"]["stdout"]["text"].as_str().unwrap_or_else(|| panic!("{reply}"));
        text.lines().map(|line| line == "done").collect::<Vec<_>>()
    };
    let mut expected = [[false; 7], [true; 7]].concat();
    expected.truncate(12);
    expected[6] = !is_linux(6, 12);
    assert_eq!(attempted("confined"), expected, "{attempts}");
    assert_eq!(fs::read(closed.join("file")).unwrap(), b"kept");
    assert_eq!(attempted("usual"), [true; 12], "what is not confined can do all of it");
}

#[test]
fn a_confined_program_reads_what_its_definition_names_and_has_the_verdicts_of_any_other() {
    if !is_possible() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("run.sh");
    super::write(&script, "#!/bin/sh\ncat \"$(dirname \"$0\")/data\"; exit 3\n", 0o755);
    super::write(&place.path().join("data"), "data\n", 0o644);
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let named = |rest: &str| format!("program = [\"{}\"]\nread_only = true\n{rest}\n", script.display());
    let readable = named(&format!("readable = [\"{}\"]", place.path().display()));
    let slow = shell("sleep 4030.1 & sleep 4030.1", "read_only = true\ntimeout = \"1s\"\ngrace = \"100ms\"");
    let missing = shell("true", "read_only = true\nwritable = [\"/no/such/folder\"]");
    let shop = Workshop::of(&[("bare", &named("")), ("readable", &readable), ("slow", &slow), ("missing", &missing)]);
    let output = |name: &str| {
        let details = shop.call(name, &json!({}))["error"]["details"].clone();
        assert_eq!(details["exit_code"], 3, "{details}");
        details["stdout"]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!((output("bare").as_str(), output("readable").as_str()), ("", "data\n"));
    let timed_out = shop.call("slow", &json!({}));
    assert_eq!(ended(&timed_out), ("failed".to_owned(), &json!("timed_out")), "{timed_out}");
    assert_eq!(super::running("4030.1"), [""; 0]);
    let not_started = shop.call("missing", &json!({}));
    assert_eq!(ended(&not_started), ("failed".to_owned(), &json!("not_started")), "{not_started}");
    assert!(not_started["error"]["message"].as_str().unwrap().contains("/no/such/folder: "), "{not_started}");
}

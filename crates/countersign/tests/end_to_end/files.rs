//! Key files that others can reach, or that are the wrong ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use countersign_keys::read_key;
use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;

use crate::fleet::Fleet;

#[test]
fn a_key_file_that_others_can_reach_or_replace_is_refused_and_the_reason_is_reported() {
    let fleet = Fleet::new();
    let (keys, worker, alice) = (fleet.keys(), name("worker-1"), name("alice"));
    let client = || fleet.run(&["client", "--name", "worker-1"]);
    let operator = || fleet.run(&["ping", "worker-1", "--timeout", "100ms"]);
    let cases: [(_, &dyn Fn() -> crate::process::Ran, _); 4] = [
        (keys.key(Role::Client, &worker), &client, "is not here"),
        (keys.creds(Role::Client, &worker), &client, "does not exist"),
        (keys.key(Role::Operator, &alice), &operator, "is not here"),
        (keys.creds(Role::Operator, &alice), &operator, "does not exist"),
    ];
    for (path, run, missing) in cases {
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
        refused(missing);
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
    let seed = fs::read_to_string(keys.creds(Role::Client, &worker)).unwrap();
    let seed = countersign_testkit::accounts::seed_in(&seed);
    let raw = data_encoding::BASE32_NOPAD.decode(seed.as_bytes()).unwrap();
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

//! `countersign init`: what it makes, and what it never touches. Renewals are in [`crate::renewal`].

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use countersign_protocol::credential::{Commands, Credential, Grant, Role};
use countersign_protocol::time::Millis;
use nkeys::KeyPair;

use countersign_testkit::accounts;

use crate::folder::{Folder, mode};

const MADE: [&str; 27] = [
    "root.pem",
    "issuer.pem",
    "trust.json",
    "root.thumbprint",
    "operators/alice.pem",
    "operators/alice.jwt",
    "clients/worker-1.pem",
    "clients/worker-1.jwt",
    "authority.nk",
    "nats/accounts.conf",
    "nats/operator-alice.creds",
    "nats/operator-alice.jwt",
    "nats/client-worker-1.creds",
    "nats/client-worker-1.jwt",
    "nats/observer.creds",
    "nats/observer.jwt",
    "nats/setup.creds",
    "nats/setup.jwt",
    "nats/trust.creds",
    "nats/trust.jwt",
    "nats/accounts.creds",
    "nats/accounts.jwt",
    "nats/issuer.creds",
    "nats/issuer.jwt",
    // And the folders.
    "operators",
    "clients",
    "nats",
];

/// How many of them are files.
const FILES: usize = 24;

/// A credential of the folder, as it holds now.
pub fn credential(folder: &Folder, file: &str) -> Credential {
    let now = Millis::new(jiff::Timestamp::now().as_millisecond());
    Credential::verify(folder.read(&format!("keys/{file}")).trim(), &folder.trust(), now, 1_000).unwrap()
}

/// The groups of a user in its JWT for the broker.
pub fn tags(folder: &Folder, user: &str) -> Vec<String> {
    let jwt = folder.read(&format!("keys/nats/{user}.jwt"));
    let tags = accounts::claims(jwt.trim())["nats"]["tags"].clone();
    serde_json::from_value(tags).unwrap_or_default()
}

#[test]
fn a_first_run_makes_everything_with_the_defaults() {
    let folder = Folder::new();
    let run = folder.run(&["init", "-o", "json"]).expect(0);
    assert_eq!(run.json()["realm"], "demo");
    for file in &MADE[..FILES] {
        assert!(folder.path("keys").join(file).is_file(), "{file}");
        assert_eq!(run.did(file).0, "made", "{file}");
    }
    assert_eq!(folder.files().len(), FILES);
    assert_eq!((folder.trust().realm().as_str(), folder.trust().version()), ("demo", 1));

    let alice = credential(&folder, "operators/alice.jwt");
    assert_eq!((alice.role(), alice.name().as_str()), (Role::Operator, "alice"));
    let everything =
        Grant { commands: Commands::Any, clients: Vec::new(), groups: Vec::new(), all: true, max_ttl_ms: 60_000 };
    assert_eq!(alice.grant(), Some(&everything));
    assert_eq!(alice.expires_at().since(alice.issued_at()), 30 * 86_400_000);
    assert_eq!(alice.kid(), folder.key("operators/alice.pem").public().thumbprint());

    let worker = credential(&folder, "clients/worker-1.jwt");
    assert_eq!((worker.role(), worker.name().as_str(), worker.groups()), (Role::Client, "worker-1", &[][..]));
    assert_eq!(worker.expires_at().since(worker.issued_at()), 90 * 86_400_000);
    assert_eq!(worker.kid(), folder.key("clients/worker-1.pem").public().thumbprint());
}

#[test]
fn private_files_are_for_their_owner_alone() {
    let folder = Folder::with_keys(&[]);
    assert_eq!(mode(&folder.path("keys")), 0o700);
    for file in MADE {
        let path = folder.path("keys").join(file);
        let expected = match path.extension().map(|extension| extension.to_str().unwrap()) {
            Some("pem" | "nk" | "creds") => 0o600,
            Some(_) => 0o644,
            None => 0o700,
        };
        assert_eq!(mode(&path), expected, "{file}");
    }
}

#[test]
fn no_private_key_is_printed() {
    let folder = Folder::new();
    let run = folder.run(&["init", "-vv"]).expect(0);
    for (path, bytes) in folder.files() {
        if path.extension().is_some_and(|extension| ["nk", "pem", "creds"].contains(&extension.to_str().unwrap())) {
            let secret = String::from_utf8(bytes).unwrap();
            for secret in secret.lines().filter(|line| line.len() > 40 && !line.starts_with("eyJ")) {
                let secret = secret.rsplit(' ').next().unwrap();
                assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{path:?}");
            }
        }
    }
}

#[test]
fn realm_operators_clients_and_groups_are_as_requested() {
    let folder = Folder::new();
    let args = ["init", "--realm", "plant", "--operator", "bob", "--client", "press:web,db,web", "--client", "lathe"];
    folder.run(&args).expect(0);
    assert_eq!(folder.trust().realm().as_str(), "plant");
    assert_eq!(credential(&folder, "operators/bob.jwt").name().as_str(), "bob");
    let groups: Vec<String> =
        credential(&folder, "clients/press.jwt").groups().iter().map(|group| group.to_string()).collect();
    assert_eq!(groups, ["db", "web"]);
    assert_eq!(tags(&folder, "client-press"), ["group:db", "group:web"]);
    assert!(!folder.path("keys/operators/alice.pem").exists() && !folder.path("keys/clients/worker-1.pem").exists());
}

#[test]
fn a_second_run_changes_nothing_and_reports_what_it_left() {
    let folder = Folder::with_keys(&["--operator", "bob", "--client", "press:web"]);
    let before = folder.files();
    let run = folder.run(&["init", "-o", "json"]).expect(0);
    assert_eq!(folder.files(), before);
    let files = run.json()["files"].as_array().unwrap().clone();
    assert!(files.iter().all(|change| change["did"] == "left"), "{run:#?}");
    assert_eq!(run.did("operators/bob.pem").0, "left");
    assert!(run.did("operators/bob.jwt").1.starts_with("until 20"), "{run:#?}");
    // Without the format for programs it is a table, and the rest is on standard error.
    let run = folder.run(&["init"]).expect(0);
    assert!(run.stdout.starts_with("DID   FILE") && run.stdout.contains("left  operators/bob.pem"), "{run:#?}");
    assert_eq!(run.stderr, "note: the realm demo is in keys, and nothing was due\n");
}

#[test]
fn a_later_client_is_added_alone() {
    let folder = Folder::with_keys(&["--realm", "plant", "--operator", "bob", "--client", "press"]);
    let before = folder.files();
    folder.run(&["init", "--client", "lathe:web"]).expect(0);
    let mut after = folder.files();
    for file in ["clients/lathe.pem", "clients/lathe.jwt", "nats/client-lathe.creds", "nats/client-lathe.jwt"] {
        assert!(after.remove(&folder.path("keys").join(file)).is_some(), "{file}");
    }
    assert_eq!(after, before, "nothing of the broker's has changed");
    assert_eq!(credential(&folder, "clients/lathe.jwt").realm().as_str(), "plant");
}

#[test]
fn what_is_missing_is_made_again_and_what_is_there_is_kept() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let missing = ["operators/alice.jwt", "nats/observer.creds", "nats/observer.jwt", "nats/accounts.conf"]
        .map(|file| folder.path("keys").join(file));
    missing.iter().for_each(|path| fs::remove_file(path).unwrap());
    folder.run(&["init"]).expect(0);
    let after = folder.files();
    assert_eq!(after.len(), before.len());
    // The new credential of alice has another end, and her login has the same.
    // What is made again within a second says the same of the accounts.
    let follows =
        |path: &Path| path.to_string_lossy().contains("nats/operator-alice.") || path.ends_with("nats/accounts.conf");
    for (path, bytes) in after.into_iter().filter(|(path, _)| !follows(path)) {
        assert_eq!(before[&path] == bytes, !missing.contains(&path), "{path:?}");
    }
}

#[test]
fn the_keys_and_the_list_of_users_of_an_earlier_version_are_taken_over() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2:web"]);
    let nats = folder.path("keys/nats");
    // As they were: a seed in a file of its own, and all users in a list. The keys of worker-2 are elsewhere.
    let mut users = String::new();
    for user in ["observer", "setup", "trust", "operator-alice", "client-worker-1", "client-worker-2"] {
        let creds = folder.read(&format!("keys/nats/{user}.creds"));
        let seed = accounts::seed_in(&creds);
        let key = KeyPair::from_seed(seed).unwrap().public_key();
        users.push_str(&format!("      {{ # {}\n        nkey: {key}\n      }}\n", user.replacen('-', " ", 1)));
        if user != "client-worker-2" {
            let path = nats.join(format!("{user}.nk"));
            fs::write(&path, format!("{seed}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    let keys_before = fs::read_dir(&nats).unwrap().map(|entry| entry.unwrap().path());
    let (made, _): (Vec<_>, Vec<_>) = keys_before.partition(|path| path.extension().is_some_and(|it| it != "nk"));
    made.iter().for_each(|path| fs::remove_file(path).unwrap());
    fs::remove_file(folder.path("keys/authority.nk")).unwrap();
    fs::remove_file(folder.path("keys/clients/worker-2.pem")).unwrap();
    fs::write(nats.join("users.conf"), &users).unwrap();

    let run = folder.run(&["init", "-o", "json"]).expect(0);
    for gone in ["users.conf", "observer.nk", "operator-alice.nk", "client-worker-1.nk"] {
        assert_eq!(run.did(&format!("nats/{gone}")).0, "removed");
        assert!(!nats.join(gone).exists(), "{gone}");
    }
    for user in ["observer", "setup", "trust", "operator-alice", "client-worker-1", "client-worker-2"] {
        let claims = accounts::claims(folder.read(&format!("keys/nats/{user}.jwt")).trim());
        assert!(users.contains(claims["sub"].as_str().unwrap()), "{user} has the key that it had");
    }
    assert_eq!(tags(&folder, "client-worker-2"), ["group:web"]);
    assert!(!nats.join("client-worker-2.creds").exists());
    let broker = crate::broker::Broker::start(&folder);
    folder.run(&["setup", "--nats-url", &broker.url()]).expect(0);
}

#[test]
fn an_interrupted_first_run_is_completed() {
    let folder = Folder::with_keys(&[]);
    let root = folder.read("keys/root.pem");
    for file in &MADE[2..FILES] {
        fs::remove_file(folder.path("keys").join(file)).unwrap();
    }
    folder.run(&["init"]).expect(0);
    assert_eq!((folder.read("keys/root.pem"), folder.files().len()), (root, FILES));
    credential(&folder, "operators/alice.jwt");
}

#[test]
fn a_key_that_cannot_be_read_is_not_overwritten() {
    let folder = Folder::with_keys(&[]);
    for (file, bytes) in [
        ("operators/alice.pem", "not a key"),
        ("nats/setup.creds", "not credentials"),
        ("authority.nk", ""),
        ("root.pem", ""),
    ] {
        let folder_before = folder.files();
        let path = folder.path("keys").join(file);
        fs::write(&path, bytes).unwrap();
        let run = folder.run(&["init"]).expect(5);
        assert!(run.stderr.starts_with(&format!("error: keys/{file}: ")), "{run:#?}");
        assert_eq!(run.stderr.lines().count(), 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
        fs::write(&path, &folder_before[&path]).unwrap();
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = Folder::with_keys(&[]);
    fs::set_permissions(folder.path("keys/issuer.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = folder.run(&["init", "--client", "worker-2"]).expect(5);
    assert!(run.stderr.starts_with("error: keys/issuer.pem is open to others: its mode is 0644\n"), "{run:#?}");
    assert!(!folder.path("keys/clients/worker-2.jwt").exists());
}

#[test]
fn a_link_in_the_place_of_a_key_is_refused() {
    let folder = Folder::with_keys(&[]);
    let path = folder.path("keys/operators/alice.pem");
    fs::rename(&path, folder.path("elsewhere.pem")).unwrap();
    symlink(folder.path("elsewhere.pem"), &path).unwrap();
    let run = folder.run(&["init"]).expect(5);
    assert!(run.stderr.starts_with("error: keys/operators/alice.pem is a symbolic link\n"), "{run:#?}");
}

#[test]
fn no_credential_is_issued_for_a_connection_key() {
    let folder = Folder::with_keys(&[]);
    let seed = KeyPair::new_user().seed().unwrap();
    let (_, raw) = nkeys::decode_seed(&seed).unwrap();
    let key = countersign_protocol::key::SecretKey::from_seed(raw);
    // The connection key of somebody else: it is known all the same.
    let account = accounts::key(&folder.read("keys/authority.nk"), "realm");
    fs::write(folder.path("keys/nats/observer.creds"), accounts::user(&account, "test", &seed, &[], &[])).unwrap();
    fs::remove_file(folder.path("keys/nats/observer.jwt")).unwrap();
    let path = folder.path("keys/operators/mallory.pem");
    fs::write(&path, key.to_pem().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let run = folder.run(&["init", "--operator", "mallory"]).expect(5);
    assert_eq!(
        run.stderr.lines().next().unwrap(),
        "error: keys/operators/mallory.pem is the key of a connection to the broker too"
    );
    assert!(!folder.path("keys/operators/mallory.jwt").exists());
}

#[test]
fn no_credential_is_issued_for_a_connection_key_that_lies_elsewhere() {
    let folder = Folder::with_keys(&[]);
    let (_, raw) = nkeys::decode_seed(accounts::seed_in(&folder.read("keys/nats/client-worker-1.creds"))).unwrap();
    for file in ["clients/worker-1.pem", "nats/client-worker-1.creds"] {
        fs::remove_file(folder.path("keys").join(file)).unwrap();
    }
    let path = folder.path("keys/clients/worker-2.pem");
    fs::write(&path, countersign_protocol::key::SecretKey::from_seed(raw).to_pem().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let run = folder.run(&["init", "--client", "worker-2"]).expect(5);
    assert!(run.stderr.contains("keys/clients/worker-2.pem is the key of a connection to the broker too"), "{run:#?}");
}

#[test]
fn one_client_with_two_sets_of_groups_cannot_be_had() {
    let folder = Folder::new();
    let run = folder.run(&["init", "--client", "worker-1:web", "--client", "worker-1:db"]).expect(2);
    assert_eq!(run.stderr.lines().next().unwrap(), "error: the client worker-1 is named twice, with different groups");
    assert!(!folder.path("keys").exists());
}

#[test]
fn names_that_are_none_are_refused_and_nothing_is_made() {
    let folder = Folder::new();
    for args in
        [["--client", "Worker"], ["--client", "a:b,C"], ["--operator", "a.b"], ["--realm", ""], ["--client", ":a"]]
    {
        folder.run(&[&["init"][..], &args].concat()).expect(2);
    }
    assert!(!folder.path("keys").exists());
}

#[test]
fn openssl_reads_the_private_keys() {
    let folder = Folder::with_keys(&[]);
    for file in ["root.pem", "issuer.pem", "operators/alice.pem", "clients/worker-1.pem"] {
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-noout", "-text", "-in"]).arg(folder.path("keys").join(file));
        // Without openssl there is nothing to check.
        let Ok(read) = openssl.output() else { return };
        assert!(read.status.success(), "{read:?}");
        assert!(String::from_utf8_lossy(&read.stdout).starts_with("ED25519 Private-Key:"), "{read:?}");
    }
}

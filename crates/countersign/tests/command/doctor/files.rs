//! What is found without a broker: files, and what they state.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use countersign_protocol::credential::{Claims, Confirmation, Credential, Role};
use countersign_protocol::id::Uuid;
use countersign_testkit::accounts;
use countersign_testkit::realm::name;
use serde_json::json;

use super::{Diagnosis, copy_of, move_member};
use crate::folder::{Folder, Run};
use crate::renewal::trust_ending_in;

const DAY: i64 = 86_400;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn set_mode(folder: &Folder, below: &str, mode: u32) {
    fs::set_permissions(folder.path(below), Permissions::from_mode(mode)).unwrap();
}

/// Puts the content of one file into another, which keeps its mode.
fn overwrite(folder: &Folder, from: &str, to: &str) {
    fs::copy(folder.path(from), folder.path(to)).unwrap();
}

/// Gives worker-1 a credential from a day to a day, counted from today.
fn credential(folder: &Folder, from: i64, to: i64) {
    let claims = Claims {
        iss: name("issuer"),
        sub: name("worker-1"),
        jti: Uuid::from_random([9; 16]),
        iat: now() + from * DAY,
        nbf: now() + from * DAY,
        exp: now() + to * DAY,
        realm: name("demo"),
        role: Role::Client,
        cnf: Confirmation { jwk: folder.key("clients/worker-1.pem").public().jwk() },
        grant: None,
        groups: Some(Vec::new()),
    };
    fs::write(folder.path("keys/clients/worker-1.jwt"), Credential::issue(&claims, &folder.key("issuer.pem"))).unwrap();
}

/// Gives a user who is no member a login from a day to a day, counted from today.
fn login(folder: &Folder, user: &str, from: i64, to: i64) {
    let creds = folder.read(&format!("keys/nats/{user}.creds"));
    let old = accounts::jwt_in(&creds).unwrap();
    let mut claims = accounts::claims(old);
    claims["iat"] = json!(now() + from * DAY);
    claims["exp"] = json!(now() + to * DAY);
    let signer = accounts::key(&folder.read("keys/authority.nk"), &format!("signs-{user}"));
    let fresh = accounts::signed(claims, &signer);
    fs::write(folder.path(&format!("keys/nats/{user}.creds")), creds.replace(old, &fresh)).unwrap();
    fs::write(folder.path(&format!("keys/nats/{user}.jwt")), fresh).unwrap();
}

fn revoke(folder: &Folder, client: &str) {
    folder.run(&["revoke", client, "--nats-url", "nats://127.0.0.1:1"]).expect(4);
}

/// What breaks something, and what is to be found: its level, its check, what it says, and what it advises.
type Case = (fn(&Folder), &'static str, &'static str, &'static str, &'static str);

/// What can be broken at once, and found in one look.
const CASES: [&[Case]; 12] = [
    &[
        (
            |it| set_mode(it, "keys/clients/worker-1.pem", 0o644),
            "broken",
            "keys",
            "is open to others: its mode is 0644",
            "chmod 600",
        ),
        (
            |it| set_mode(it, "keys/nats/setup.creds", 0o640),
            "broken",
            "keys",
            "nats/setup.creds is open to others",
            "chmod 600",
        ),
        (
            |it| {
                fs::rename(it.path("keys/issuer.pem"), it.path("issuer.pem")).unwrap();
                symlink(it.path("issuer.pem"), it.path("keys/issuer.pem")).unwrap();
            },
            "broken",
            "keys",
            "keys/issuer.pem is a symbolic link",
            "put the file itself",
        ),
        (
            |it| {
                fs::remove_file(it.path("keys/operators/alice.pem")).unwrap();
                assert!(
                    Command::new("mkfifo")
                        .args(["-m", "600"])
                        .arg(it.path("keys/operators/alice.pem"))
                        .status()
                        .unwrap()
                        .success()
                );
            },
            "broken",
            "keys",
            "operators/alice.pem is not a regular file",
            "remove",
        ),
        (
            |it| login(it, "observer", -300, 60),
            "warning",
            "logins",
            "the login in keys/nats/observer.creds ends on",
            "countersign init",
        ),
    ],
    &[
        (
            |it| login(it, "issuer", -300, 60),
            "warning",
            "logins",
            "the login in keys/nats/issuer.creds ends on",
            "countersign init",
        ),
        (
            |it| set_mode(it, "keys/clients", 0o777),
            "broken",
            "keys",
            "keys/clients can be written by others",
            "chmod go-w",
        ),
        (
            |it| login(it, "observer", -300, -1),
            "broken",
            "logins",
            "the login in keys/nats/observer.creds has ended on",
            "countersign init",
        ),
        (
            |it| fs::write(it.path("keys/authority.nk"), "authority SO\n").unwrap(),
            "broken",
            "keys",
            "not the keys of the broker's accounts",
            "bring it back from a copy",
        ),
    ],
    &[(|it| set_mode(it, "", 0o757), "broken", "keys", "can be written by others: its mode is 0757", "chmod go-w")],
    &[
        (
            |it| overwrite(it, "keys/operators/alice.pem", "keys/clients/worker-1.pem"),
            "broken",
            "keys",
            "clients/worker-1.pem",
            "put the right key there",
        ),
        (
            |it| overwrite(it, "keys/clients/worker-1.pem", "keys/issuer.pem"),
            "broken",
            "keys",
            "keys/issuer.pem is no issuer by version 1",
            "trust rotate issuer",
        ),
        (
            |it| overwrite(it, "keys/clients/worker-1.pem", "keys/root.pem"),
            "broken",
            "keys",
            "keys/root.pem is no root of version 1",
            "bring the present root.pem",
        ),
    ],
    &[
        (
            |it| fs::remove_file(it.path("keys/nats/client-worker-1.creds")).unwrap(),
            "broken",
            "keys",
            "nats/client-worker-1.creds does not exist",
            "countersign init",
        ),
        (
            |it| trust_ending_in(it, 20, Vec::new()),
            "warning",
            "trust",
            "version 3 of the trust bundle ends on",
            "countersign init",
        ),
    ],
    &[(
        |it| fs::remove_file(it.path("keys/clients/worker-1.jwt")).unwrap(),
        "broken",
        "keys",
        "and its credential keys/clients/worker-1.jwt is not",
        "credential issue client worker-1",
    )],
    &[
        (
            |it| credential(it, -80, 10),
            "warning",
            "credentials",
            "the credential of client worker-1 ends on",
            "countersign credential renew client worker-1",
        ),
        (
            |it| trust_ending_in(it, -1, Vec::new()),
            "broken",
            "trust",
            "version 3 of the trust bundle has expired on",
            "countersign init",
        ),
    ],
    &[(
        |it| credential(it, -90, -1),
        "broken",
        "credentials",
        "the credential of client worker-1 has expired on",
        "countersign credential renew client worker-1",
    )],
    &[(
        |it| credential(it, 1, 10),
        "broken",
        "credentials",
        "the credential of client worker-1 is not valid yet",
        "timedatectl",
    )],
    &[(
        |it| revoke(it, "worker-1"),
        "broken",
        "credentials",
        "the credential of client worker-1 is revoked",
        "credential issue client worker-1",
    )],
    &[(
        |it| fs::write(it.path("keys/clients/worker-1.jwt"), "a.b.c").unwrap(),
        "broken",
        "credentials",
        "clients/worker-1.jwt: ",
        "compare it",
    )],
    &[(
        |it| fs::write(it.path("keys/trust.json"), "{}").unwrap(),
        "broken",
        "trust",
        "keys/trust.json: ",
        "fetch trust.json again",
    )],
];

#[test]
fn each_file_that_is_broken_or_about_to_end_is_found_with_what_to_do() {
    let base = Folder::with_keys(&[]);
    for cases in CASES {
        let folder = copy_of(&base);
        cases.iter().for_each(|(breaks, ..)| breaks(&folder));
        let found = Diagnosis::offline(&folder, &[]);
        for (_, level, check, says, hint) in cases {
            found.found(level, check, says, hint).exits(2);
        }
    }
    Diagnosis::offline(&base, &[]).is_fine("keys").is_fine("credentials").is_fine("logins").is_fine("trust");
}

#[test]
fn a_folder_of_members_that_cannot_be_read_is_found_and_is_not_one_without_members() {
    let folder = Folder::with_keys(&[]);
    fs::rename(folder.path("keys/clients"), folder.path("clients")).unwrap();
    // Root may read every folder: what is none is as unreadable to it.
    fs::write(folder.path("keys/clients"), "").unwrap();
    Diagnosis::offline(&folder, &[])
        .found("broken", "keys", "keys/clients: Not a directory", "check the folder's permissions")
        .exits(2);
    for command in [&["credential", "list"][..], &["credential", "renew", "client", "--all"], &["revoke", "worker-1"]] {
        let run = folder.run(command);
        assert!(run.status != 0 && run.stderr.contains("keys/clients: Not a directory"), "{command:?}: {run:#?}");
    }
    fs::remove_file(folder.path("keys/clients")).unwrap();
    fs::rename(folder.path("clients"), folder.path("keys/clients")).unwrap();
    Diagnosis::offline(&folder, &[]).is_fine("keys").is_fine("credentials");
}

#[test]
fn a_key_of_somebody_else_is_found() {
    let folder = Folder::with_keys(&[]);
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        chown(folder.path("keys/clients/worker-1.pem"), Some(4_711), None).unwrap();
        Diagnosis::offline(&folder, &[]).found(
            "broken",
            "keys",
            "belongs to user 4711",
            "chown 0 keys/clients/worker-1.pem",
        );
    }
}

#[test]
fn a_connection_key_that_signs_messages_is_found() {
    let folder = Folder::with_keys(&[]);
    let creds = folder.read("keys/nats/client-worker-1.creds");
    let (_, raw) = nkeys::decode_seed(accounts::seed_in(&creds)).unwrap();
    let key = countersign_protocol::key::SecretKey::from_seed(raw);
    fs::write(folder.path("keys/clients/worker-1.pem"), key.to_pem().as_bytes()).unwrap();
    let found = Diagnosis::offline(&folder, &[]);
    found.found("broken", "keys", "the same key as keys/clients/worker-1.pem", "remove it and run `countersign init`");
}

#[test]
fn a_trust_bundle_that_went_back_and_a_gap_in_its_chain_are_found() {
    let folder = Folder::with_keys(&["--client", "worker-2", "--client", "worker-3"]);
    let first = folder.read("keys/trust.json");
    for client in ["worker-2", "worker-3"] {
        revoke(&folder, client);
    }
    Diagnosis::offline(&folder, &[]).is_fine("trust");
    let third = folder.read("keys/trust.json");
    fs::write(folder.path("keys/trust.json"), first).unwrap();
    let found = Diagnosis::offline(&folder, &[]);
    found.found("warning", "trust", "keys/trust.json is not version 3, which is in force", "countersign trust publish");
    fs::write(folder.path("keys/trust.json"), third).unwrap();
    fs::remove_file(folder.path("keys/trust/1.json")).unwrap();
    fs::remove_file(folder.path("keys/trust/2.json")).unwrap();
    let found = Diagnosis::offline(&folder, &[]);
    found.found(
        "warning",
        "trust",
        "the versions of the trust bundle before 3 are not in keys/trust",
        "bring the folder",
    );
}

#[test]
fn keys_that_lie_together_are_found_and_not_those_that_lie_where_they_belong() {
    let folder = Folder::with_keys(&[]);
    let found = Diagnosis::offline(&folder, &[]);
    found.found("warning", "places", "keys/root.pem is on this machine", "mv keys/root.pem");
    found.found("warning", "places", "beside the private keys of operator alice; client worker-1", "move each");
    let [operator, worker] =
        [("operator", "alice"), ("client", "worker-1")].map(|(role, name)| move_member(&folder, role, name));
    fs::remove_file(folder.path("keys/root.pem")).unwrap();
    for machine in [&folder, &operator, &worker] {
        Diagnosis::offline(machine, &[]).is_fine("places").is_fine("keys").is_fine("credentials").is_fine("trust");
    }
    let machines = [&folder, &operator, &worker].map(|it| Diagnosis::offline(it, &[]).run.json()["machine"].clone());
    assert_eq!(machines, [json!(["issuer"]), json!(["operator"]), json!(["worker"])]);
}

#[test]
fn on_a_members_machine_the_advice_is_to_fetch_what_the_issuers_makes() {
    let folder = Folder::with_keys(&[]);
    credential(&folder, -90, -1);
    let worker = move_member(&folder, "client", "worker-1");
    let found = Diagnosis::offline(&worker, &[]);
    found.found("broken", "credentials", "has expired", "where issuer.pem is; then bring the new .jwt files here");
    // Where its keys are elsewhere, it is nothing that is broken here.
    Diagnosis::offline(&folder, &[]).found(
        "warning",
        "credentials",
        "has expired",
        "countersign credential renew client worker-1",
    );
}

#[test]
fn a_state_that_others_reach_or_that_has_no_room_is_found() {
    let folder = Folder::with_keys(&[]);
    let found = Diagnosis::offline(&folder, &[]);
    assert_eq!(found.finding("state", "no client of this folder has run").unwrap()["level"], "skipped");
    fs::create_dir_all(folder.path("state/worker-1")).unwrap();
    set_mode(&folder, "state/worker-1", 0o755);
    Diagnosis::offline(&folder, &[]).found("broken", "state", "is open to others: its mode is 0755", "chmod 700");
    set_mode(&folder, "state/worker-1", 0o700);
    Diagnosis::offline(&folder, &[]).is_fine("state");
    // A limit on the size of files counts as a full disk, as it does for a client.
    let limited = format!(
        "ulimit -f 100; exec {} doctor -o json --nats-url nats://127.0.0.1:1 --state state",
        env!("CARGO_BIN_EXE_countersign")
    );
    let ran = Command::new("sh")
        .args(["-c", &limited])
        .current_dir(folder.path(""))
        .env_clear()
        .env("HOME", folder.path(""))
        .output();
    Diagnosis::of(Run::of(ran.unwrap()))
        .found("broken", "state", "File too large", "check the folder and the disk")
        .exits(2);
    assert_eq!(fs::read_dir(folder.path("state/worker-1")).unwrap().count(), 0, "nothing is left there");
    // What it has accepted is of another chain.
    let pin = folder.read("keys/root.thumbprint");
    fs::write(folder.path(&format!("state/worker-1/trust.{}.json", pin.trim())), "{}").unwrap();
    Diagnosis::offline(&folder, &[]).found("broken", "trust", "state/worker-1/trust.", "fetch trust.json again");
}

#[test]
fn definitions_of_programs_that_are_wrong_or_cannot_be_started_are_found() {
    let folder = Folder::with_keys(&[]);
    fs::create_dir(folder.path("commands.d")).unwrap();
    set_mode(&folder, "commands.d", 0o755);
    let look = |definition: &str| {
        fs::write(folder.path("commands.d/report.toml"), definition).unwrap();
        set_mode(&folder, "commands.d/report.toml", 0o644);
        Diagnosis::offline(&folder, &["--commands", "commands.d"])
    };
    look("program = [\"/bin/true\"]").is_fine("commands");
    look("programm = [\"/bin/true\"]").found("broken", "commands", "programm", "commands check commands.d");
    look("program = [\"/no/such/program\"]").found(
        "warning",
        "commands",
        "the command report cannot be started now",
        "commands check",
    );
}

#[test]
fn a_folder_without_keys_is_broken_and_another_realm_is_wrong_usage() {
    let folder = Folder::new();
    Diagnosis::offline(&folder, &[]).found("broken", "trust", "there are no keys", "--keys").exits(2);
    let folder = Folder::with_keys(&[]);
    let run = folder.run(&["doctor", "--realm", "plant"]).expect(2);
    assert!(run.stderr.contains("is of the realm demo, not plant") && run.stdout.is_empty(), "{run:#?}");
}

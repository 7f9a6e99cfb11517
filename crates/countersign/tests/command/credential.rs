//! `countersign credential`: what it issues and renews, what it shows, and what it refuses.

use std::fs;
use std::os::unix::fs::symlink;

use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Revoked;
use serde_json::{Value, json};

use countersign_testkit::accounts::{self, seed_in};

use crate::folder::{Folder, Run, mode};
use crate::init::{credential, tags};
use crate::renewal::trust_ending_in;

const DAY: i64 = 86_400;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// It ends with this status and three lines, which begin and end so.
#[track_caller]
fn refused(run: Run, status: i32, error: &str, hint: &str) {
    let run = run.expect(status);
    let [first, expected, last] = run.stderr.lines().collect::<Vec<_>>()[..] else { panic!("three lines: {run:#?}") };
    assert_eq!(first, format!("error: {error}"));
    assert!(expected.starts_with("expected: ") && last.starts_with("try: ") && last.contains(hint), "{run:#?}");
}

/// A credential for worker-1's key that holds between these days from now.
fn held(folder: &Folder, from: i64, until: i64) -> Claims {
    Claims {
        iss: name("issuer"),
        sub: name("worker-1"),
        jti: Uuid::from_random([7; 16]),
        iat: now() + from * DAY,
        nbf: now() + from * DAY,
        exp: now() + until * DAY,
        realm: name("demo"),
        role: Role::Client,
        cnf: Confirmation { jwk: folder.key("clients/worker-1.pem").public().jwk() },
        grant: None,
        groups: Some(vec![name("web")]),
    }
}

/// Puts a credential in the place of worker-1's.
fn put(folder: &Folder, claims: &Claims) {
    let raw = Credential::issue(claims, &folder.key("issuer.pem"));
    fs::write(folder.path("keys/clients/worker-1.jwt"), raw).unwrap();
}

/// A member as `credential list` has it.
#[track_caller]
fn listed(folder: &Folder, member: &str) -> Value {
    let run = folder.run(&["credential", "list", "-o", "json"]).expect(0);
    let members = run.json()["members"].as_array().unwrap().clone();
    members.into_iter().find(|it| it["name"] == member).unwrap_or_else(|| panic!("{member}: {run:#?}"))
}

/// A member's row in the table.
#[track_caller]
fn row(folder: &Folder, member: &str) -> String {
    let table = folder.run(&["credential", "list"]).expect(0).stdout;
    table.lines().find(|line| line.contains(member)).unwrap_or_else(|| panic!("{member}: {table}")).to_owned()
}

#[test]
fn a_client_is_issued_its_keys_its_credential_and_its_place_at_the_broker_and_nobody_else_changes() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let run =
        folder.run(&["credential", "issue", "client", "worker-7", "--group", "web", "--group", "db", "-o", "json"]);
    let run = run.expect(0);
    let worker = credential(&folder, "clients/worker-7.jwt");
    assert_eq!((worker.role(), worker.groups()), (Role::Client, &[name("db"), name("web")][..]));
    assert_eq!(worker.expires_at().since(worker.issued_at()), 90 * DAY * 1_000);
    assert_eq!(worker.kid(), folder.key("clients/worker-7.pem").public().thumbprint());
    assert_eq!(run.json()["members"], json!([listed(&folder, "worker-7")]));

    let mut after = folder.files();
    for (file, bits) in [
        ("clients/worker-7.pem", 0o600),
        ("clients/worker-7.jwt", 0o644),
        ("nats/client-worker-7.creds", 0o600),
        ("nats/client-worker-7.jwt", 0o644),
    ] {
        assert_eq!(run.did(file).0, "made");
        assert_eq!(mode(&folder.path("keys").join(file)), bits, "{file}");
        assert!(after.remove(&folder.path("keys").join(file)).is_some());
    }
    assert_eq!(tags(&folder, "client-worker-7"), ["group:db", "group:web"]);
    assert_eq!(after, before, "nothing of the broker's has changed");
}

#[test]
fn an_operator_is_granted_what_the_options_name_and_without_options_everything() {
    let folder = Folder::with_keys(&[]);
    let issue = |arguments: &[&str]| folder.run(&[&["credential", "issue", "operator"], arguments].concat()).expect(0);
    issue(&[
        "bob",
        "--command",
        "status",
        "--command",
        "ping",
        "--target",
        "@web",
        "--target",
        "worker-1",
        "--ttl",
        "10s",
        "--valid",
        "7d",
    ]);
    let bob = credential(&folder, "operators/bob.jwt");
    let narrow = Grant {
        commands: Commands::Only(vec![name("ping"), name("status")]),
        clients: vec![name("worker-1")],
        groups: vec![name("web")],
        all: false,
        max_ttl_ms: 10_000,
    };
    assert_eq!(bob.grant(), Some(&narrow));
    assert_eq!(bob.expires_at().since(bob.issued_at()), 7 * DAY * 1_000);

    issue(&["carol"]);
    issue(&["dave", "--command", "*", "--target", "@all"]);
    let everything = credential(&folder, "operators/alice.jwt");
    for operator in ["carol", "dave"] {
        let issued = credential(&folder, &format!("operators/{operator}.jwt"));
        assert_eq!(issued.grant(), everything.grant(), "{operator}");
        assert_eq!(issued.expires_at().since(issued.issued_at()), 30 * DAY * 1_000);
    }
}

#[test]
fn init_and_issue_make_the_same_member() {
    let [by_init, by_issue] = [(); 2].map(|()| Folder::with_keys(&[]));
    by_init.run(&["init", "--client", "worker-7:web", "--operator", "bob"]).expect(0);
    by_issue.run(&["credential", "issue", "client", "worker-7", "--group", "web"]).expect(0);
    by_issue.run(&["credential", "issue", "operator", "bob"]).expect(0);
    let names = |folder: &Folder| -> Vec<_> {
        folder.files().keys().map(|path| path.strip_prefix(folder.path("")).unwrap().to_owned()).collect()
    };
    assert_eq!(names(&by_init), names(&by_issue));
    let run = by_issue.run(&["init", "-o", "json"]).expect(0);
    assert!(run.json()["files"].as_array().unwrap().iter().all(|it| it["did"] == "left"), "{run:#?}");
}

#[test]
fn a_member_that_is_there_is_not_issued_again() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let run = folder.run(&["credential", "issue", "client", "worker-1", "--group", "web"]);
    refused(
        run,
        2,
        "the client worker-1 is in the folder keys already",
        "countersign credential renew client worker-1",
    );
    // Nor one whose keys were moved, even if the record of its connection key is lost.
    for file in ["operators/alice.pem", "nats/operator-alice.creds", "nats/operator-alice.jwt"] {
        fs::remove_file(folder.path("keys").join(file)).unwrap();
    }
    folder.run(&["credential", "issue", "operator", "alice"]).expect(2);
    assert!(folder.files().iter().all(|(path, bytes)| before[path] == *bytes));
    // An operator may have a client's name.
    folder.run(&["credential", "issue", "operator", "worker-1"]).expect(0);
}

#[test]
fn an_interrupted_issue_is_completed_by_the_next_one() {
    let whole = Folder::with_keys(&[]);
    let issue = ["credential", "issue", "client", "worker-7", "--group", "web"];
    whole.run(&issue).expect(0);
    // In the order in which they are made.
    let made =
        ["clients/worker-7.pem", "clients/worker-7.jwt", "nats/client-worker-7.creds", "nats/client-worker-7.jwt"];
    for there in 0..made.len() {
        let kept: Vec<String> = made.iter().map(|file| whole.read(&format!("keys/{file}"))).collect();
        for file in &made[there..] {
            fs::remove_file(whole.path("keys").join(file)).unwrap();
        }
        whole.run(&issue).expect(0);
        for (file, text) in made.iter().zip(&kept).take(there.min(1)) {
            assert_eq!(whole.read(&format!("keys/{file}")), *text, "no key is made twice");
        }
        assert_eq!(credential(&whole, "clients/worker-7.jwt").groups(), [name("web")]);
        let [seed, before] =
            [&whole.read("keys/nats/client-worker-7.creds"), &kept[2]].map(|it| seed_in(it).to_owned());
        assert!(there < 3 || seed == before, "no connection key is made twice");
        assert_eq!(tags(&whole, "client-worker-7"), ["group:web"], "{there}");
        assert!(!whole.files().keys().any(|path| path.extension().is_some_and(|it| it == "new")));
    }
}

#[test]
fn without_the_issuers_key_nothing_is_made() {
    let folder = Folder::with_keys(&[]);
    fs::remove_file(folder.path("keys/issuer.pem")).unwrap();
    let before = folder.files();
    let missing = "keys/issuer.pem is missing, and a credential is to be issued";
    let run = folder.run(&["credential", "issue", "client", "worker-7"]);
    refused(run, 5, missing, "run `countersign credential issue` on the machine that has it");
    let run = folder.run(&["credential", "renew", "client", "worker-1"]);
    refused(run, 5, missing, "run `countersign credential renew` on the machine that has it");
    assert_eq!(folder.files(), before);
}

#[test]
fn under_an_expired_trust_bundle_nothing_is_issued() {
    let folder = Folder::with_keys(&[]);
    trust_ending_in(&folder, 0, Vec::new());
    let before = folder.files();
    for arguments in [["issue", "client", "worker-7"], ["renew", "client", "worker-1"]] {
        let run = folder.run(&[&["credential"][..], &arguments].concat());
        refused(run, 5, "keys/trust.json has expired", "countersign init");
    }
    assert_eq!(folder.files(), before);
}

#[test]
fn what_is_no_group_command_target_or_bound_is_refused_and_nothing_is_made() {
    let folder = Folder::with_keys(&[]);
    let before = folder.files();
    let wrong: [&[&str]; 16] = [
        &["client", "Worker"],
        &["client", "../x"],
        &["client", "x", "--group", "all"],
        &["client", "x", "--group", "@web"],
        &["client", "x", "--group", "*"],
        &["client", "x", "--ttl", "10s"],
        &["operator", "x", "--command", "Ping"],
        &["operator", "x", "--command", "ping,stop"],
        &["operator", "x", "--target", "@"],
        &["operator", "x", "--target", "@\u{1b}[2J"],
        &["operator", "x", "--target", "*"],
        &["operator", "x", "--ttl", "0s"],
        &["operator", "x", "--ttl", "60001ms"],
        &["operator", "x", "--valid", "59s"],
        &["operator", "x", "--valid", "3651d"],
        &["operator", "x", "--group", "web"],
    ];
    for arguments in wrong {
        let run = folder.run(&[&["credential", "issue"], arguments].concat()).expect(2);
        assert!(run.stderr.starts_with("error: ") && !run.stderr.contains('\u{1b}'), "{run:#?}");
    }
    let alone: [(&[&str], &str); 2] = [
        (&["--command", "*", "--command", "ping"], "`--command *` stands beside other commands"),
        (&["--target", "web-1", "--target", "@all"], "`--target @all` stands beside other targets"),
    ];
    for (arguments, error) in alone {
        let run = folder.run(&[&["credential", "issue", "operator", "x"], arguments].concat());
        refused(run, 2, error, "leave one of the two out");
    }
    assert_eq!(folder.files(), before);
    for bound in [["--ttl", "1ms"], ["--ttl", "60s"], ["--valid", "1m"], ["--valid", "3650d"]] {
        let operator = format!("x{}", folder.files().len());
        folder.run(&[&["credential", "issue", "operator", &operator][..], &bound].concat()).expect(0);
        credential(&folder, &format!("operators/{operator}.jwt"));
    }
}

#[test]
fn a_credential_that_would_be_too_long_is_not_written() {
    let folder = Folder::with_keys(&[]);
    let groups: Vec<String> = (0..100).map(|number| format!("{number:0>64}")).collect();
    let options = groups.iter().flat_map(|group| ["--group", group]);
    let arguments: Vec<&str> = ["credential", "issue", "client", "worker-7"].into_iter().chain(options).collect();
    let run = folder.run(&arguments).expect(5);
    assert!(run.stderr.contains("try: name fewer groups"), "{run:#?}");
    assert!(!folder.path("keys/clients/worker-7.jwt").exists());
    folder.run(&["credential", "issue", "client", "worker-7", "--group", "web"]).expect(0);
}

#[test]
fn a_renewal_keeps_what_no_option_names_and_changes_what_one_does() {
    let folder = Folder::with_keys(&[]);
    let grant = ["--command", "ping", "--target", "@web", "--ttl", "10s", "--valid", "7d"];
    folder.run(&[&["credential", "issue", "operator", "bob"][..], &grant].concat()).expect(0);
    let key = folder.read("keys/operators/bob.pem");
    let renew = |options: &[&str]| {
        let before = credential(&folder, "operators/bob.jwt");
        folder.run(&[&["credential", "renew", "operator", "bob"], options].concat()).expect(0);
        let after = credential(&folder, "operators/bob.jwt");
        assert!(after.jti() != before.jti() && after.kid() == before.kid(), "a new one, of the same key");
        (before, after)
    };
    let life = |credential: &Credential| credential.expires_at().since(credential.issued_at());

    let (before, after) = renew(&[]);
    assert_eq!((after.grant(), life(&after)), (before.grant(), 7 * DAY * 1_000));
    let (before, after) = renew(&["--command", "stop"]);
    assert_eq!(after.grant().unwrap().commands, Commands::Only(vec![name("stop")]));
    assert_eq!(after.grant().unwrap().groups, before.grant().unwrap().groups);
    let (_, after) = renew(&["--target", "worker-1", "--ttl", "20s", "--valid", "1d"]);
    let grant = after.grant().unwrap();
    assert_eq!((&grant.groups[..], &grant.clients[..], grant.all), (&[][..], &[name("worker-1")][..], false));
    assert_eq!((grant.max_ttl_ms, life(&after)), (20_000, DAY * 1_000));
    let (_, after) = renew(&["--command", "*", "--target", "@all", "--ttl", "60s"]);
    assert_eq!(after.grant(), credential(&folder, "operators/alice.jwt").grant(), "wider again");
    assert_eq!(folder.read("keys/operators/bob.pem"), key);
}

#[test]
fn other_groups_of_a_client_are_other_permissions_at_the_broker() {
    let folder = Folder::with_keys(&["--client", "worker-1:web"]);
    let renew = |options: &[&str]| {
        folder.run(&[&["credential", "renew", "client", "worker-1", "-o", "json"], options].concat()).expect(0)
    };
    let run = renew(&["--group", "db"]);
    assert!(run.did("clients/worker-1.jwt").1.starts_with("with other groups; "), "{run:#?}");
    assert_eq!(run.did("nats/client-worker-1.creds").0, "renewed");
    assert_eq!(credential(&folder, "clients/worker-1.jwt").groups(), [name("db")]);
    assert_eq!(tags(&folder, "client-worker-1"), ["group:db"]);
    renew(&[]);
    assert_eq!(credential(&folder, "clients/worker-1.jwt").groups(), [name("db")]);
    assert_eq!(tags(&folder, "client-worker-1"), ["group:db"]);
    renew(&["--no-groups"]);
    assert!(credential(&folder, "clients/worker-1.jwt").groups().is_empty());
    assert_eq!(tags(&folder, "client-worker-1"), [""; 0]);
}

#[test]
fn who_lives_elsewhere_is_renewed_for_the_keys_that_are_there() {
    let folder = Folder::with_keys(&["--client", "worker-1:web"]);
    let moved =
        ["clients/worker-1.pem", "nats/client-worker-1.creds", "operators/alice.pem", "nats/operator-alice.creds"];
    moved.iter().for_each(|file| fs::remove_file(folder.path("keys").join(file)).unwrap());
    let kid = credential(&folder, "clients/worker-1.jwt").kid();
    let connection = |of: &str| accounts::claims(folder.read(&format!("keys/nats/{of}.jwt")).trim());
    let before = connection("client-worker-1");
    // In another second, it ends in another.
    let renewed = (0..1_000).map(|_| {
        folder.run(&["credential", "renew", "client", "worker-1"]).expect(0);
        connection("client-worker-1")
    });
    let after = renewed.into_iter().find(|after| after["exp"] != before["exp"]).unwrap();
    assert_eq!(credential(&folder, "clients/worker-1.jwt").kid(), kid);
    assert_eq!((&after["sub"], &after["nats"]), (&before["sub"], &before["nats"]));
    assert_eq!(after["exp"], credential(&folder, "clients/worker-1.jwt").expires_at().seconds());
    folder.run(&["credential", "issue", "client", "worker-2"]).expect(0);
    assert!(moved.iter().all(|file| !folder.path("keys").join(file).exists()));
    assert!(row(&folder, "worker-1").ends_with("key elsewhere") && row(&folder, "alice").ends_with("key elsewhere"));
    assert_eq!(listed(&folder, "worker-2")["key_elsewhere"], false);
}

#[test]
fn all_of_a_role_are_renewed_except_those_that_are_revoked() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2:web"]);
    put(&folder, &held(&folder, -60, -1));
    let [alice, two] = ["operators/alice.jwt", "clients/worker-2.jwt"].map(|file| folder.read(&format!("keys/{file}")));
    let jti = credential(&folder, "clients/worker-2.jwt").jti();
    trust_ending_in(&folder, 300, vec![Revoked::Credential { jti, since: Millis::new(0) }]);
    let run = folder.run(&["credential", "renew", "client", "--all", "-o", "json"]).expect(0);
    assert_eq!(run.did("clients/worker-1.jwt").0, "renewed");
    assert_eq!(run.did("clients/worker-2.jwt"), ("left".to_owned(), "not renewed: it is revoked".to_owned()));
    assert_eq!(credential(&folder, "clients/worker-1.jwt").groups(), [name("web")], "as in the expired one");
    assert_eq!(
        [alice, two],
        ["operators/alice.jwt", "clients/worker-2.jwt"].map(|file| folder.read(&format!("keys/{file}")))
    );
    // Who names it is told.
    let before = folder.files();
    let run = folder.run(&["credential", "renew", "client", "worker-1", "worker-2"]);
    refused(run, 5, "keys/clients/worker-2.jwt is not renewed: it is revoked", "credential issue client worker-2");
    assert_eq!(folder.files(), before, "nor is the other one renewed");
    // Nor is that the advice to whom it belongs.
    let run = folder.run(&["client", "--name", "worker-2", "--state", "state"]);
    let why = format!("keys/clients/worker-2.jwt: the credential {jti}, its key or its issuer's is revoked");
    refused(run, 5, &why, "`countersign credential issue`: new keys are needed");
}

#[test]
fn what_does_not_verify_or_is_not_there_is_not_renewed() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2"]);
    let run = folder.run(&["credential", "renew", "client", "worker-3"]);
    refused(run, 5, "the folder keys has no client worker-3", "worker-3");
    assert!(!folder.path("keys/clients/worker-3.pem").exists());
    let two = folder.read("keys/clients/worker-2.jwt");
    fs::write(folder.path("keys/clients/worker-1.jwt"), two).unwrap();
    let before = folder.files();
    for who in ["worker-1", "--all"] {
        let run = folder.run(&["credential", "renew", "client", who]);
        let error = "keys/clients/worker-1.jwt is not renewed: it is of client worker-2";
        refused(run, 5, error, "countersign credential issue client worker-1");
    }
    assert_eq!(folder.files(), before);
}

#[test]
fn show_says_whose_credential_it_is_what_it_says_and_that_it_holds() {
    let folder = Folder::with_keys(&[]);
    let options = ["--command", "ping", "--target", "@web", "--ttl", "10s"];
    folder.run(&[&["credential", "issue", "operator", "bob"][..], &options].concat()).expect(0);
    let bob = credential(&folder, "operators/bob.jwt");
    // Wherever the file is.
    fs::rename(folder.path("keys/operators/bob.jwt"), folder.path("sent.jwt")).unwrap();
    let shown = folder.run(&["credential", "show", "sent.jwt"]).expect(0).stdout;
    let issuer = folder.key("issuer.pem").public().thumbprint();
    for text in [
        "operator bob\n".to_owned(),
        "  status   in force\n".to_owned(),
        "  grant    ping to @web, at most 10s\n".to_owned(),
        format!("  until    {}\n", bob.expires_at().utc()),
        format!("  key      {}\n", bob.kid()),
        format!("  issuer   issuer {issuer}\n"),
    ] {
        assert!(shown.contains(&text), "{text}: {shown}");
    }
    let run = folder.run(&["credential", "show", "sent.jwt", "-o", "json"]).expect(0).json();
    assert_eq!((&run["role"], &run["name"], &run["realm"]), (&json!("operator"), &json!("bob"), &json!("demo")));
    assert_eq!((&run["state"], &run["holds"]), (&json!("in_force"), &json!(true)));
    assert_eq!((&run["kid"], &run["issuer_kid"]), (&json!(bob.kid()), &json!(issuer)));
    assert_eq!(run["grant"], json!(bob.grant()));
    assert_eq!(run["expires_at"], json!(bob.expires_at()));
}

#[test]
fn a_credential_that_does_not_hold_is_shown_with_the_reason_and_exit_status_5() {
    let folder = Folder::with_keys(&[]);
    let other = Folder::with_keys(&["--realm", "plant"]);
    let jti = Uuid::from_random([9; 16]);
    trust_ending_in(&folder, 300, vec![Revoked::Credential { jti, since: Millis::new(0) }]);
    let issued = |claims: &Claims| Credential::issue(claims, &folder.key("issuer.pem"));
    let cases = [
        (issued(&held(&folder, -60, -1)), "expired", "expired on "),
        (issued(&held(&folder, 1, 60)), "not_yet_valid", "not valid before "),
        (issued(&Claims { jti, ..held(&folder, 0, 60) }), "revoked", "revoked"),
        (
            issued(&Claims { realm: name("plant"), ..held(&folder, 0, 60) }),
            "unusable",
            "for the realm plant, but this is demo",
        ),
        (other.read("keys/clients/worker-1.jwt"), "unusable", "which is no issuer in the trust bundle"),
        ("\u{1b}[2J".to_owned(), "unusable", "not a JWT"),
    ];
    for (raw, state, reason) in cases {
        fs::write(folder.path("x.jwt"), raw).unwrap();
        let run = folder.run(&["credential", "show", "x.jwt", "-o", "json"]).expect(5);
        assert_eq!((&run.json()["state"], &run.json()["holds"]), (&json!(state), &json!(false)), "{run:#?}");
        assert!(run.stderr.starts_with("error: x.jwt does not hold: ") && run.stderr.contains(reason), "{run:#?}");
        assert_eq!(run.stderr.lines().count(), 3);
        folder.run(&["credential", "show", "x.jwt"]).expect(5);
    }
    let run = folder.run(&["credential", "show", "none.jwt"]).expect(5);
    assert!(run.stderr.starts_with("error: none.jwt does not exist\n"), "{run:#?}");
}

#[test]
fn the_list_marks_what_is_to_be_noticed() {
    let folder = Folder::with_keys(&["--client", "worker-1", "--client", "worker-2"]);
    let jti = Uuid::from_random([9; 16]);
    trust_ending_in(&folder, 300, vec![Revoked::Credential { jti, since: Millis::new(0) }]);
    let cases = [
        (held(&folder, -19, 11), "in_force", ""),
        (held(&folder, -21, 9), "ends_soon", "ends soon"),
        (held(&folder, -60, -1), "expired", "expired"),
        (Claims { jti, ..held(&folder, 0, 60) }, "revoked", "revoked"),
        (Claims { jti, ..held(&folder, -60, -1) }, "revoked", "revoked"),
        (Claims { sub: name("worker-2"), ..held(&folder, 0, 60) }, "unusable", "it is of client worker-2"),
    ];
    for (claims, state, mark) in cases {
        put(&folder, &claims);
        assert_eq!(listed(&folder, "worker-1")["state"], state);
        let row = row(&folder, "worker-1");
        assert!(if mark.is_empty() { row.ends_with("UTC") } else { row.ends_with(mark) }, "{row}");
    }
    // What cannot be read is a row as well.
    fs::remove_file(folder.path("keys/clients/worker-1.jwt")).unwrap();
    symlink("nowhere", folder.path("keys/clients/worker-1.jwt")).unwrap();
    assert_eq!(listed(&folder, "worker-1")["state"], "unusable");
    assert_eq!(listed(&folder, "worker-2")["state"], "in_force");
}

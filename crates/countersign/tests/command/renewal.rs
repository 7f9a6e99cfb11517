//! What `countersign init` renews, what it re-issues, and what it needs for that.

use std::fs;

use countersign_protocol::command::Version;
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Revoked, Trust, TrustBody};

use countersign_testkit::accounts;

use crate::folder::Folder;
use crate::init::{credential, tags};

const DAY: i64 = 86_400;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Replaces alice's credential by one of a narrow grant that was issued some days ago, for ten days.
fn narrow(folder: &Folder, days_ago: i64) {
    let grant = Grant {
        commands: Commands::Only(vec![name("ping")]),
        clients: vec![name("worker-1")],
        groups: Vec::new(),
        all: false,
        max_ttl_ms: 7_000,
    };
    let issued = now() - days_ago * DAY;
    let claims = Claims {
        iss: name("issuer"),
        sub: name("alice"),
        jti: Uuid::from_random([7; 16]),
        iat: issued,
        nbf: issued,
        exp: issued + 10 * DAY,
        realm: name("demo"),
        role: Role::Operator,
        cnf: Confirmation { jwk: folder.key("operators/alice.pem").public().jwk() },
        grant: Some(grant),
        groups: None,
    };
    fs::write(folder.path("keys/operators/alice.jwt"), Credential::issue(&claims, &folder.key("issuer.pem"))).unwrap();
}

/// Replaces the trust bundle by version 3, which ends in some days.
pub fn trust_ending_in(folder: &Folder, days: i64, revoked: Vec<Revoked>) {
    let root = folder.key("root.pem");
    let body = TrustBody {
        v: Version,
        realm: name("demo"),
        version: 3,
        expires_at: Millis::from_seconds(now() + days * DAY),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: folder.key("issuer.pem").public().jwk() }],
        revoked,
    };
    fs::write(folder.path("keys/trust.json"), Trust::sign(&body, &[&root])).unwrap();
}

#[test]
fn a_credential_in_the_first_half_of_its_life_is_left() {
    let folder = Folder::with_keys(&[]);
    narrow(&folder, 4);
    // It ends at another time than the one before, and with it what she logs in with.
    folder.run(&["init"]).expect(0);
    let before = folder.files();
    assert_eq!(folder.run(&["init", "-o", "json"]).expect(0).did("operators/alice.jwt").0, "left");
    assert_eq!(folder.files(), before);
}

#[test]
fn a_credential_past_half_its_life_or_expired_is_renewed_for_as_long_with_what_it_granted() {
    for days_ago in [6, 60] {
        let folder = Folder::with_keys(&[]);
        narrow(&folder, days_ago);
        let key = folder.read("keys/operators/alice.pem");
        let (did, note) = folder.run(&["init", "-o", "json"]).expect(0).did("operators/alice.jwt");
        assert!(did == "renewed" && note.starts_with("past half its life; until 20"), "{did} {note}");
        let renewed = credential(&folder, "operators/alice.jwt");
        assert_ne!(renewed.jti(), Uuid::from_random([7; 16]));
        assert_eq!(renewed.expires_at().since(renewed.issued_at()), 10 * DAY * 1_000);
        // It may not grant more than before by growing old.
        let grant = renewed.grant().unwrap();
        assert!(
            !grant.all && grant.permits("ping") && !grant.permits("stop") && grant.max_ttl_ms == 7_000,
            "{grant:?}"
        );
        assert_eq!(folder.read("keys/operators/alice.pem"), key);
    }
}

#[test]
fn a_credential_of_a_lost_key_is_issued_again_for_the_new_key() {
    let folder = Folder::with_keys(&[]);
    narrow(&folder, 1);
    fs::remove_file(folder.path("keys/operators/alice.pem")).unwrap();
    let (did, note) = folder.run(&["init", "-o", "json"]).expect(0).did("operators/alice.jwt");
    assert!(did == "renewed" && note.starts_with("for its new key; "), "{did} {note}");
    let renewed = credential(&folder, "operators/alice.jwt");
    assert_eq!(renewed.kid(), folder.key("operators/alice.pem").public().thumbprint());
    assert!(!renewed.grant().unwrap().all);
}

#[test]
fn a_member_on_another_machine_is_renewed_and_stays_a_user_of_the_broker() {
    let folder = Folder::with_keys(&["--client", "worker-1:web"]);
    narrow(&folder, 6);
    let [alice, worker] = ["operators/alice.jwt", "clients/worker-1.jwt"].map(|file| credential(&folder, file));
    let user = |of: &str| accounts::claims(folder.read(&format!("keys/nats/{of}.jwt")).trim());
    let users = [user("operator-alice"), user("client-worker-1")];
    let moved =
        ["operators/alice.pem", "nats/operator-alice.creds", "clients/worker-1.pem", "nats/client-worker-1.creds"];
    moved.iter().for_each(|file| fs::remove_file(folder.path("keys").join(file)).unwrap());

    let run = folder.run(&["init", "--client", "worker-1", "-o", "json"]).expect(0);
    assert!(moved.iter().all(|file| !folder.path("keys").join(file).exists()), "{run:#?}");
    assert_eq!(run.did("operators/alice.jwt").0, "renewed");
    let renewed = credential(&folder, "operators/alice.jwt");
    assert!(renewed.jti() != alice.jti() && renewed.kid() == alice.kid());
    assert_eq!(credential(&folder, "clients/worker-1.jwt"), worker);
    assert_eq!(user("operator-alice")["sub"], users[0]["sub"]);
    assert_eq!(user("operator-alice")["exp"], renewed.expires_at().seconds());
    assert_eq!(user("client-worker-1"), users[1]);
}

#[test]
fn other_groups_are_a_new_credential_and_other_permissions() {
    let folder = Folder::with_keys(&["--client", "worker-1:web"]);
    let (did, note) =
        folder.run(&["init", "--client", "worker-1:db", "-o", "json"]).expect(0).did("clients/worker-1.jwt");
    assert!(did == "renewed" && note.starts_with("with other groups; ") && note.ends_with("; in db"), "{did} {note}");
    assert_eq!(credential(&folder, "clients/worker-1.jwt").groups(), [name("db")]);
    assert_eq!(tags(&folder, "client-worker-1"), ["group:db"]);
    // Without groups it keeps those that it has; a colon with none after it takes them away.
    folder.run(&["init", "--client", "worker-1"]).expect(0);
    assert_eq!(credential(&folder, "clients/worker-1.jwt").groups(), [name("db")]);
    folder.run(&["init", "--client", "worker-1:"]).expect(0);
    assert!(credential(&folder, "clients/worker-1.jwt").groups().is_empty());
}

#[test]
fn a_revoked_credential_is_not_brought_back() {
    let folder = Folder::with_keys(&[]);
    narrow(&folder, 8);
    let before = folder.read("keys/operators/alice.jwt");
    let jti = Uuid::from_random([7; 16]);
    trust_ending_in(&folder, 300, vec![Revoked::Credential { jti, since: Millis::new(0) }]);
    let (did, note) = folder.run(&["init", "-o", "json"]).expect(0).did("operators/alice.jwt");
    assert!(did == "left" && note.contains("revoked"), "{did} {note}");
    assert_eq!(folder.read("keys/operators/alice.jwt"), before);
}

#[test]
fn a_credential_that_does_not_verify_is_left_and_reported_as_such() {
    let folder = Folder::with_keys(&[]);
    let other = Folder::with_keys(&[]);
    let forged = other.read("keys/operators/alice.jwt");
    fs::write(folder.path("keys/operators/alice.jwt"), &forged).unwrap();
    let (did, note) = folder.run(&["init", "-o", "json"]).expect(0).did("operators/alice.jwt");
    assert!(did == "left" && note.starts_with("not renewed: issued by the key "), "{did} {note}");
    assert_eq!(folder.read("keys/operators/alice.jwt"), forged);
}

#[test]
fn trust_past_half_its_life_is_renewed_under_the_next_version() {
    let folder = Folder::with_keys(&[]);
    let jti = Uuid::from_random([9; 16]);
    trust_ending_in(&folder, 180, vec![Revoked::Credential { jti, since: Millis::new(0) }]);
    let before = folder.trust();
    let (did, note) = folder.run(&["init", "-o", "json"]).expect(0).did("trust.json");
    assert!(did == "renewed" && note.starts_with("version 4, until 20"), "{did} {note}");
    let after = folder.trust();
    assert_eq!(after.version(), 4);
    assert!(after.expires_at().since(before.expires_at()) > 184 * DAY * 1_000);
    // What was revoked stays so.
    assert!(after.is_revoked(&jti, &folder.key("issuer.pem").public().thumbprint()));
    credential(&folder, "operators/alice.jwt");
}

#[test]
fn trust_in_the_first_half_of_its_life_is_left() {
    let folder = Folder::with_keys(&[]);
    trust_ending_in(&folder, 184, Vec::new());
    let before = folder.read("keys/trust.json");
    folder.run(&["init"]).expect(0);
    assert_eq!(folder.read("keys/trust.json"), before);
}

#[test]
fn the_root_may_be_offline_until_trust_has_expired() {
    let folder = Folder::with_keys(&[]);
    trust_ending_in(&folder, 180, Vec::new());
    let expiring = folder.read("keys/trust.json");
    trust_ending_in(&folder, 0, Vec::new());
    let expired = folder.read("keys/trust.json");
    fs::remove_file(folder.path("keys/root.pem")).unwrap();

    fs::write(folder.path("keys/trust.json"), expiring).unwrap();
    let run = folder.run(&["init", "--client", "worker-2", "-o", "json"]).expect(0);
    assert!(run.did("trust.json").1.starts_with("past half its life; bring root.pem back"), "{run:#?}");
    credential(&folder, "clients/worker-2.jwt");

    fs::write(folder.path("keys/trust.json"), expired).unwrap();
    let run = folder.run(&["init", "--client", "worker-3"]).expect(5);
    assert_eq!(
        run.stderr,
        "error: keys/trust.json has expired, and root.pem is not here to renew it\n\
         expected: root.pem, which signs trust.json\n\
         try: bring root.pem back for the time of `countersign init`\n"
    );
    assert!(!folder.path("keys/clients/worker-3.pem").exists() && !folder.path("keys/root.pem").exists());
}

#[test]
fn the_bundle_does_not_vouch_for_itself() {
    let folder = Folder::with_keys(&[]);
    fs::remove_file(folder.path("keys/root.thumbprint")).unwrap();
    let root = folder.read("keys/root.pem");
    fs::remove_file(folder.path("keys/root.pem")).unwrap();
    let run = folder.run(&["init"]).expect(5);
    assert!(run.stderr.starts_with("error: keys/root.thumbprint is missing, and root.pem is not here\n"), "{run:#?}");
    assert!(!folder.path("keys/root.thumbprint").exists());
    // The root's own key does.
    fs::write(folder.path("keys/root.pem"), root).unwrap();
    fs::set_permissions(folder.path("keys/root.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    folder.run(&["init"]).expect(0);
    folder.trust();
}

#[test]
fn the_issuer_may_be_elsewhere_until_something_is_to_be_issued() {
    let folder = Folder::with_keys(&[]);
    fs::remove_file(folder.path("keys/issuer.pem")).unwrap();
    folder.run(&["init"]).expect(0);
    let run = folder.run(&["init", "--client", "worker-2"]).expect(5);
    assert_eq!(
        run.stderr,
        "error: keys/issuer.pem is not here, and keys/clients/worker-2.pem is to be made\n\
         expected: the issuer's folder of keys; this one is of a realm whose issuer is elsewhere\n\
         try: run it on the machine that has issuer.pem, and fetch from there what is missing here\n"
    );
    assert!(!folder.path("keys/issuer.pem").exists());
}

#[test]
fn another_issuer_than_that_of_the_bundle_issues_nothing() {
    let folder = Folder::with_keys(&[]);
    let other = Folder::with_keys(&[]);
    fs::copy(other.path("keys/issuer.pem"), folder.path("keys/issuer.pem")).unwrap();
    let run = folder.run(&["init", "--client", "worker-2"]).expect(5);
    assert!(run.stderr.starts_with("error: keys/issuer.pem is not the key of an issuer in trust.json\n"), "{run:#?}");
    assert!(!folder.path("keys/clients/worker-2.jwt").exists());
}

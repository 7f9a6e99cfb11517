//! What a credential is made to say, and when it holds, without a folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use countersign_protocol::command::{Target, True, Version};
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::id::Uuid;
use countersign_protocol::key::SecretKey;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};

use crate::terms::Content;
use crate::{NewClient, Rights, Standing, Terms, examine, group};

/// The beginning of the credential that is looked at, in seconds.
const START: i64 = 1_795_485_600;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn trust() -> (Trust, SecretKey) {
    let (root, issuer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let body = TrustBody {
        v: Version,
        realm: name("demo"),
        version: 1,
        expires_at: Millis::from_seconds(START + 86_400),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: issuer.public().jwk() }],
        revoked: Vec::new(),
    };
    (Trust::verify(&Trust::sign(&body, &[&root]), root.public().thumbprint()).unwrap(), issuer)
}

/// A credential of bob that lives for 90 s.
fn issued(issuer: &SecretKey, grant: Grant) -> String {
    let claims = Claims {
        iss: name("issuer"),
        sub: name("bob"),
        jti: Uuid::from_random([3; 16]),
        iat: START,
        nbf: START,
        exp: START + 90,
        realm: name("demo"),
        role: Role::Operator,
        cnf: Confirmation { jwk: SecretKey::from_seed([4; 32]).public().jwk() },
        grant: Some(grant),
        groups: None,
    };
    Credential::issue(&claims, issuer)
}

fn narrow() -> Grant {
    Grant {
        commands: Commands::Only(vec![name("ping")]),
        clients: vec![name("worker-1")],
        groups: Vec::new(),
        all: false,
        max_ttl_ms: 7_000,
    }
}

fn operator(commands: Option<Commands>, targets: Option<Vec<Target>>, max_ttl_ms: Option<i64>) -> Terms {
    Terms { rights: Rights::Operator { commands, targets, max_ttl_ms }, life_ms: None }
}

#[test]
fn terms_change_of_a_grant_what_they_name_and_nothing_else() {
    let (trust, issuer) = trust();
    let old = Credential::verify(&issued(&issuer, narrow()), &trust, Millis::from_seconds(START), 0).unwrap();
    let content = |terms: Terms| terms.content(Some(&old));
    assert!(content(Terms::unchanged(Role::Operator)).is_of(&old));
    let stop = Commands::Only(vec![name("stop")]);
    assert_eq!(content(operator(Some(stop.clone()), None, None)), Content::Grant(Grant { commands: stop, ..narrow() }));
    let targets = vec![Target::Group(name("web")), Target::Group(name("db")), Target::Group(name("web"))];
    let reached = Grant { clients: Vec::new(), groups: vec![name("db"), name("web")], ..narrow() };
    assert_eq!(content(operator(None, Some(targets), None)), Content::Grant(reached), "in place of the old ones");
    let all = Grant { clients: Vec::new(), all: true, ..narrow() };
    assert_eq!(content(operator(None, Some(vec![Target::All(True)]), None)), Content::Grant(all));
    assert_eq!(content(operator(None, None, Some(1))), Content::Grant(Grant { max_ttl_ms: 1, ..narrow() }));
}

#[test]
fn a_credential_ends_soon_in_the_last_third_of_its_life_and_its_holder_has_no_skew_at_its_end() {
    let (trust, issuer) = trust();
    let raw = issued(&issuer, narrow());
    let standing = |seconds: i64| examine(raw.as_bytes(), &trust, Millis::from_seconds(START + seconds)).0;
    for (seconds, expected) in [
        (-6, Standing::NotYetValid),
        (-5, Standing::InForce),
        (59, Standing::InForce),
        (60, Standing::EndsSoon),
        (89, Standing::EndsSoon),
        (90, Standing::Expired),
    ] {
        assert_eq!(standing(seconds), expected, "{seconds}");
    }
}

#[test]
fn what_no_issuer_of_the_trust_bundle_signed_says_nothing() {
    let (trust, _) = trust();
    let forged = issued(&SecretKey::from_seed([9; 32]), narrow());
    for raw in [forged.as_bytes(), b"", b"a.b.c", b"\xff"] {
        let (standing, examined) = examine(raw, &trust, Millis::from_seconds(START));
        assert!(matches!(standing, Standing::Unusable(_)) && examined.is_none());
    }
}

#[test]
fn no_group_is_called_all() {
    assert!(group("all").is_err() && "worker-1:web,all".parse::<NewClient>().is_err());
    assert_eq!(group("web"), Ok(name("web")));
}

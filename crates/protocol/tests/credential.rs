//! Credentials (section 6): what is in one, and when it holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, CredentialError, Grant, Role};
use countersign_protocol::envelope::{HeaderError, MessageType, Reason};
use countersign_protocol::key::{Jwk, KeyError, SecretKey};
use countersign_protocol::limits::{MAX_CREDENTIAL, SKEW};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Revoked, Trust, TrustBody};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use common::*;

fn verify(raw: &str) -> Result<Credential, CredentialError> {
    Credential::verify(raw, &trust(), NOW, SKEW)
}

fn issue(claims: &Claims) -> String {
    Credential::issue(claims, &issuer())
}

/// A JWT of any header and claims that the issuer signed.
fn jwt(header: &str, claims: &str) -> String {
    let input = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
    format!("{input}.{}", BASE64URL_NOPAD.encode(&issuer().sign(input.as_bytes())))
}

fn header() -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"countersign-credential"}}"#, issuer().public().thumbprint())
}

/// Claims with some members replaced; null removes one.
fn claims_with(changes: Value) -> String {
    let mut claims = with(json!(alice_claims()), changes);
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims.to_string()
}

#[test]
fn a_credential_vouches_for_what_its_claims_say() {
    let alice = credential(&alice_claims());
    assert_eq!((alice.name(), alice.jti(), alice.role()), (&name("alice"), ALICE.parse().unwrap(), Role::Operator));
    assert_eq!((alice.key(), alice.kid()), (alice_key().public(), alice_key().public().thumbprint()));
    assert_eq!((alice.grant(), alice.groups()), (alice_claims().grant.as_ref(), &[][..]));
    assert_eq!((alice.issued_at(), alice.expires_at()), (NOW, NOW.plus(100_000)));

    let worker = credential(&worker_claims());
    assert_eq!((worker.name(), worker.role()), (&name("worker-1"), Role::Client));
    assert_eq!((worker.grant(), worker.groups()), (None, &[name("web")][..]));
    assert_ne!(alice, worker);
}

#[test]
fn the_claims_are_written_as_section_6_says() {
    let claims = json!({
        "iss": "issuer", "sub": "alice", "jti": ALICE, "iat": NOW_S, "nbf": NOW_S - 100, "exp": NOW_S + 100,
        "realm": "demo", "role": "operator",
        "cnf": { "jwk": { "kty": "OKP", "crv": "Ed25519", "x": alice_key().public().jwk().x } },
        "grant": { "commands": ["*"], "clients": [], "groups": [], "all": true, "max_ttl_ms": 60_000 },
    });
    assert_eq!(json!(alice_claims()), claims);
    assert_eq!(verify(&jwt(&header(), &claims.to_string())).unwrap().name(), &name("alice"));
    let raw = issue(&alice_claims());
    assert_eq!(raw.split('.').next().unwrap(), BASE64URL_NOPAD.encode(header().as_bytes()));
}

#[test]
fn a_credential_of_another_form_is_refused() {
    let raw = issue(&alice_claims());
    let [protected, payload, signature] = raw.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    assert_eq!(verify(""), Err(CredentialError::Form));
    assert_eq!(verify(protected), Err(CredentialError::Form));
    assert_eq!(verify(&format!("{protected}.{payload}")), Err(CredentialError::Form));
    let kid = issuer().public().thumbprint();
    for broken in [
        format!("{raw}="),
        format!("{raw}.{signature}"),
        format!("{protected}.{payload}."),
        format!("{protected}..{signature}"),
        format!("{raw}\n"),
    ] {
        assert_eq!(verify(&broken), Err(CredentialError::Signature { kid }), "{broken}");
    }
    let padded = format!("{protected}.{payload}=");
    let signed = format!("{padded}.{}", BASE64URL_NOPAD.encode(&issuer().sign(padded.as_bytes())));
    assert_eq!(verify(&signed), Err(CredentialError::Form));
    let long = "A".repeat(MAX_CREDENTIAL + 1);
    assert_eq!(verify(&long), Err(CredentialError::Size { got: MAX_CREDENTIAL + 1 }));
}

#[test]
fn a_header_that_is_not_exactly_that_of_section_6_is_refused() {
    let claims = claims_with(json!({}));
    let kid = issuer().public().thumbprint().to_string();
    let header = header();
    assert!(verify(&jwt(&header, &claims)).is_ok());
    let refused = |header: String| match verify(&jwt(&header, &claims)) {
        Err(CredentialError::Header(error)) => error,
        other => panic!("{header}: {other:?}"),
    };
    let got = |got: &str| got.to_owned();
    assert_eq!(refused(header.replace("EdDSA", "none")), HeaderError::Algorithm { got: got("none") });
    assert_eq!(refused(header.replace("EdDSA", "HS256")), HeaderError::Algorithm { got: got("HS256") });
    let expected = MessageType::Credential.typ();
    assert_eq!(refused(header.replace(expected, "JWT")), HeaderError::Type { expected, got: got("JWT") });
    assert_eq!(refused(header.replace(&kid, "../issuer.pem")), HeaderError::KeyId { got: got("../issuer.pem") });
    for member in [r#""jku":"https://example.org""#, r#""crit":[]"#, r#""alg":"EdDSA""#, r#""b64":false"#] {
        assert!(matches!(refused(header.replacen('{', &format!("{{{member},"), 1)), HeaderError::Json(_)), "{member}");
    }
}

#[test]
fn a_credential_of_another_issuer_is_refused() {
    let stranger = key(9);
    let got = stranger.public().thumbprint();
    assert_eq!(verify(&Credential::issue(&alice_claims(), &stranger)), Err(CredentialError::UnknownIssuer { got }));
    // One who holds a credential issues nothing, nor does a root.
    for other in [alice_key(), root()] {
        let got = other.public().thumbprint();
        assert_eq!(verify(&Credential::issue(&alice_claims(), &other)), Err(CredentialError::UnknownIssuer { got }));
    }
    let protected = BASE64URL_NOPAD.encode(header().as_bytes());
    let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(claims_with(json!({})).as_bytes()));
    let forged = format!("{input}.{}", BASE64URL_NOPAD.encode(&stranger.sign(input.as_bytes())));
    assert_eq!(verify(&forged), Err(CredentialError::Signature { kid: issuer().public().thumbprint() }));
}

#[test]
fn an_issuer_speaks_in_its_own_name_only() {
    let claims = Claims { iss: name("other"), ..alice_claims() };
    let error = CredentialError::Issuer { expected: name("issuer"), got: name("other") };
    assert_eq!(verify(&issue(&claims)), Err(error));
}

#[test]
fn a_credential_for_another_realm_is_refused() {
    let claims = Claims { realm: name("other"), ..alice_claims() };
    assert_eq!(verify(&issue(&claims)), Err(CredentialError::Realm { expected: name("demo"), got: name("other") }));
}

#[test]
fn claims_that_are_not_exactly_those_of_section_6_are_refused() {
    for changes in [
        json!({ "iss": null }),
        json!({ "sub": null }),
        json!({ "jti": null }),
        json!({ "iat": null }),
        json!({ "nbf": null }),
        json!({ "exp": null }),
        json!({ "realm": null }),
        json!({ "role": null }),
        json!({ "cnf": null }),
        json!({ "grant": null }),
        json!({ "groups": [] }),
        json!({ "aud": "demo" }),
        json!({ "role": "client" }),
        json!({ "role": "client", "grant": null }),
        json!({ "role": "root" }),
        json!({ "role": "Operator" }),
        json!({ "sub": "Alice" }),
        json!({ "sub": "a.b" }),
        json!({ "jti": "x" }),
        json!({ "exp": 1.5 }),
        json!({ "exp": 1.0 }),
        json!({ "exp": "1" }),
        json!({ "cnf": {} }),
        json!({ "cnf": { "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "" } } }),
        json!({ "cnf": { "jwk": alice_claims().cnf.jwk, "kid": "1" } }),
        json!({ "grant": { "commands": ["*"], "clients": [], "groups": [], "all": true } }),
        json!({ "grant": { "commands": ["*"], "clients": [], "groups": [], "all": true, "max_ttl_ms": 0 } }),
        json!({ "grant": { "commands": ["*"], "clients": [], "groups": [], "all": true, "max_ttl_ms": -1 } }),
        json!({ "grant": { "commands": ["*", "ping"], "clients": [], "groups": [], "all": true, "max_ttl_ms": 1 } }),
        json!({ "grant": { "commands": ["*", "*"], "clients": [], "groups": [], "all": true, "max_ttl_ms": 1 } }),
        json!({ "grant": { "commands": "*", "clients": [], "groups": [], "all": true, "max_ttl_ms": 1 } }),
        json!({ "grant": { "commands": [], "clients": ["*"], "groups": [], "all": true, "max_ttl_ms": 1 } }),
        json!({ "grant": { "commands": [], "clients": [], "groups": [], "all": 1, "max_ttl_ms": 1 } }),
        json!({ "grant": { "commands": [], "clients": [], "groups": [], "all": true, "max_ttl_ms": 1, "deny": [] } }),
    ] {
        let outcome = verify(&jwt(&header(), &claims_with(changes.clone())));
        assert!(matches!(outcome, Err(CredentialError::Claims(_))), "{changes}: {outcome:?}");
    }
    let null_groups = claims_with(json!({})).replacen('{', r#"{"groups":null,"#, 1);
    assert!(matches!(verify(&jwt(&header(), &null_groups)), Err(CredentialError::Claims(_))));
}

#[test]
fn claims_that_break_section_3_are_refused() {
    let claims = claims_with(json!({}));
    for broken in [
        claims.replacen('{', r#"{"sub":"bob","#, 1),
        format!("{claims}x"),
        format!("[{claims}]"),
        claims.replace(&(NOW_S + 100).to_string(), "9007199254740992"),
        claims.replace(&(NOW_S + 100).to_string(), "18446744073709551616"),
        String::new(),
    ] {
        let outcome = verify(&jwt(&header(), &broken));
        assert!(matches!(outcome, Err(CredentialError::Json(_))), "{broken}: {outcome:?}");
    }
}

#[test]
fn a_credential_for_a_key_that_section_2_refuses_is_refused() {
    let y = |first: u8, rest: u8, last: u8| {
        let mut bytes = [rest; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    for (bytes, error) in [
        (y(1, 0, 0), KeyError::SmallOrder),
        (y(0xee, 0xff, 0x7f), KeyError::NonCanonical),
        (y(2, 0, 0), KeyError::NotAPoint),
    ] {
        let jwk = Jwk { x: BASE64URL_NOPAD.encode(&bytes), ..alice_claims().cnf.jwk };
        let claims = Claims { cnf: Confirmation { jwk }, ..alice_claims() };
        assert_eq!(verify(&issue(&claims)), Err(CredentialError::Key(error)));
    }
}

#[test]
fn a_credential_holds_from_nbf_to_exp_give_or_take_the_skew() {
    let raw = issue(&alice_claims());
    let at = |now: Millis, skew| Credential::verify(&raw, &trust(), now, skew).map(drop);
    let nbf = Millis::from_seconds(NOW_S - 100);
    let exp = Millis::from_seconds(NOW_S + 100);
    for skew in [0, SKEW] {
        let early = nbf.plus(-skew - 1);
        let late = exp.plus(skew);
        assert_eq!(at(early, skew), Err(CredentialError::NotYetValid { nbf: NOW_S - 100, now: early }));
        assert_eq!(at(early.plus(1), skew), Ok(()));
        assert_eq!(at(late.plus(-1), skew), Ok(()));
        assert_eq!(at(late, skew), Err(CredentialError::Expired { exp: NOW_S + 100, now: late }));
    }
}

#[test]
fn extreme_times_and_skews_do_not_overflow() {
    const MAX: i64 = (1 << 53) - 1;
    let held = |nbf, exp, now, skew| {
        let claims = Claims { nbf, exp, iat: -MAX, ..alice_claims() };
        Credential::verify(&issue(&claims), &trust(), Millis::new(now), skew).is_ok()
    };
    assert!(held(-MAX, MAX, MAX, 0));
    assert!(held(-MAX, MAX, -MAX, 0));
    assert!(held(-MAX, MAX, MAX, i64::MAX));
    assert!(held(MAX, -MAX, 0, i64::MAX));
    assert!(!held(-MAX, MAX, 0, i64::MIN));
    assert!(!held(MAX, MAX, MAX, 0), "MAX seconds are later than MAX milliseconds");
    assert!(!held(-MAX, -MAX, 0, 0));
    assert!(!held(0, 0, 0, 0));
}

#[test]
fn what_is_revoked_is_refused_at_once() {
    let revoked = |revoked: Revoked| trust_of(&TrustBody { revoked: vec![revoked], ..trust_body() });
    let since = NOW;
    let jti = ALICE.parse().unwrap();
    let by = |key: &SecretKey| revoked(Revoked::Key { kid: key.public().thumbprint(), since });
    let held = credential(&alice_claims());
    for trust in [revoked(Revoked::Credential { jti, since }), by(&alice_key()), by(&issuer())] {
        let error = Err(CredentialError::Revoked { jti });
        assert_eq!(Credential::verify(held.raw(), &trust, NOW, SKEW).map(drop), error);
        assert_eq!(held.still_valid(NOW, SKEW, &trust), error);
    }
    let jti = WORKER.parse().unwrap();
    for trust in [revoked(Revoked::Credential { jti, since }), by(&worker_key())] {
        assert!(Credential::verify(held.raw(), &trust, NOW, SKEW).is_ok());
        assert!(held.still_valid(NOW, SKEW, &trust).is_ok());
    }
}

#[test]
fn a_grant_permits_the_commands_that_it_names() {
    let grant = |commands| Grant { commands, ..alice_claims().grant.unwrap() };
    assert!(grant(Commands::Any).permits("anything"));
    assert!(grant(Commands::Only(vec![name("ping")])).permits("ping"));
    assert!(!grant(Commands::Only(vec![name("ping")])).permits("pin"));
    assert!(!grant(Commands::Only(vec![])).permits("ping"));
}

#[test]
fn a_grant_reaches_the_clients_and_groups_that_it_names() {
    let none = Grant { commands: Commands::Any, clients: vec![], groups: vec![], all: false, max_ttl_ms: 1 };
    let (worker, web) = (name("worker-1"), [name("db"), name("web")]);
    assert!(!none.reaches(&worker, &web));
    assert!(Grant { all: true, ..none.clone() }.reaches(&worker, &[]));
    assert!(Grant { clients: vec![name("worker-1")], ..none.clone() }.reaches(&worker, &[]));
    assert!(!Grant { clients: vec![name("web")], ..none.clone() }.reaches(&worker, &web));
    assert!(Grant { groups: vec![name("web")], ..none.clone() }.reaches(&worker, &web));
    assert!(!Grant { groups: vec![name("web")], ..none.clone() }.reaches(&worker, &web[..1]));
    assert!(!Grant { groups: vec![name("worker-1")], ..none }.reaches(&worker, &web));
}

#[test]
fn a_remembered_credential_still_expires_and_is_still_revoked() {
    let mut verifier = verifier();
    let delivery = signed().delivery();
    let credential = verifier.open::<Command>(&delivery, NOW).unwrap().credential().clone();
    verifier.remember(&credential);
    assert!(verifier.open::<Command>(&delivery, NOW).is_ok());
    for now in [NOW.plus(100_000 + SKEW), NOW.plus(-100_001 - SKEW)] {
        let rejected = verifier.open::<Command>(&delivery, now).unwrap_err();
        assert_eq!((rejected.reason, rejected.signer), (Reason::Credential, None));
    }
    let revoked = vec![Revoked::Key { kid: alice_key().public().thumbprint(), since: NOW }];
    verifier.set_trust(trust_of(&TrustBody { revoked, ..trust_body() }));
    // Whoever verified under the old bundle may remember only now.
    verifier.remember(&credential);
    assert_eq!(verifier.open::<Command>(&delivery, NOW).unwrap_err().reason, Reason::Credential);
}

#[test]
fn a_remembered_credential_ends_with_its_issuer() {
    let mut verifier = verifier();
    let delivery = signed().delivery();
    let credential = credential(&alice_claims());
    verifier.remember(&credential);
    let others = vec![Issuer { name: name("issuer"), jwk: key(9).public().jwk() }];
    let renamed = vec![Issuer { name: name("renamed"), jwk: issuer().public().jwk() }];
    for issuers in [others, renamed] {
        verifier.set_trust(trust_of(&TrustBody { issuers, ..trust_body() }));
        verifier.remember(&credential);
        assert_eq!(verifier.open::<Command>(&delivery, NOW).unwrap_err().reason, Reason::Credential);
    }
    verifier.set_trust(trust());
    assert!(verifier.open::<Command>(&delivery, NOW).is_ok());
}

#[test]
fn remembering_one_credential_lets_no_other_in() {
    let verifier = verifier();
    verifier.remember(&credential(&alice_claims()));
    let forged = Credential::issue(&Claims { sub: name("bob"), ..alice_claims() }, &key(9));
    let signed = signed();
    let rejected = verifier.open::<Command>(&delivery(&signed.signature, &forged, signed.body), NOW).unwrap_err();
    assert_eq!(rejected.reason, Reason::Credential);
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_credential(raw in any::<String>(), parts in prop::collection::vec("[A-Za-z0-9_-]{0,90}", 0..5)) {
        prop_assert!(verify(&raw).is_err());
        prop_assert!(verify(&parts.join(".")).is_err());
    }

    #[test]
    fn arbitrary_claims_are_refused_even_when_the_issuer_signed_them(claims in any::<String>()) {
        let outcome = verify(&jwt(&header(), &claims));
        prop_assert!(matches!(outcome, Err(CredentialError::Json(_) | CredentialError::Claims(_))), "{:?}", outcome);
    }

    #[test]
    fn any_trust_that_verifies_a_credential_names_its_issuer(seed in any::<[u8; 32]>()) {
        let other = SecretKey::from_seed(seed);
        let issuers = vec![Issuer { name: name("issuer"), jwk: other.public().jwk() }];
        let bytes = Trust::sign(&TrustBody { issuers, ..trust_body() }, &[&root()]);
        let trust = Trust::verify(&bytes, pin()).unwrap();
        let raw = Credential::issue(&alice_claims(), &other);
        prop_assert!(Credential::verify(&raw, &trust, NOW, SKEW).is_ok());
        let got = other.public().thumbprint();
        prop_assert_eq!(verify(&raw), Err(CredentialError::UnknownIssuer { got }));
    }
}

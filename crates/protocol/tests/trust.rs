//! Trust bundles (section 7).

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::envelope::HeaderError;
use countersign_protocol::key::{Jwk, KeyError, SecretKey};
use countersign_protocol::trust::{Issuer, MAX_TRUST, Revoked, Trust, TrustBody, TrustError};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use common::*;

fn verify(bytes: &[u8]) -> Result<Trust, TrustError> {
    Trust::verify(bytes, pin())
}

/// Whatever JSON, signed by the root as a bundle.
fn signed_by_root(payload: &str) -> Vec<u8> {
    let protected = BASE64URL_NOPAD.encode(header(&root()).as_bytes());
    let payload = BASE64URL_NOPAD.encode(payload.as_bytes());
    let signature = BASE64URL_NOPAD.encode(&root().sign(format!("{protected}.{payload}").as_bytes()));
    json!({ "payload": payload, "signatures": [{ "protected": protected, "signature": signature }] })
        .to_string()
        .into_bytes()
}

fn header(key: &SecretKey) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"countersign-trust"}}"#, key.public().thumbprint())
}

fn body_with(changes: Value) -> String {
    with(json!(trust_body()), changes).to_string()
}

fn bundle_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn roots(keys: &[&SecretKey]) -> Vec<Jwk> {
    keys.iter().map(|key| key.public().jwk()).collect()
}

#[test]
fn a_bundle_says_what_its_roots_signed() {
    let body = TrustBody { version: 7, ..trust_body() };
    let bytes = Trust::sign(&body, &[&root()]);
    let trust = verify(&bytes).unwrap();
    assert_eq!((trust.realm(), trust.version(), trust.expires_at()), (&name("demo"), 7, body.expires_at));
    let kid = issuer().public().thumbprint();
    assert_eq!(trust.issuer(&kid), Some((&name("issuer"), issuer().public())));
    assert_eq!(trust.issuer(&pin()), None);
    assert_eq!(trust.digest(), countersign_protocol::digest::Digest::of(&bytes));
    assert_ne!(trust, verify(&Trust::sign(&trust_body(), &[&root()])).unwrap());
}

#[test]
fn a_bundle_is_written_as_section_7_says() {
    let revoked =
        vec![Revoked::Credential { jti: ALICE.parse().unwrap(), since: NOW }, Revoked::Key { kid: pin(), since: NOW }];
    let body = json!({
        "v": 1, "realm": "demo", "version": 1, "expires_at": NOW.get() + 1_000_000,
        "roots": [root().public().jwk()], "threshold": 1,
        "issuers": [{ "name": "issuer", "jwk": issuer().public().jwk() }],
        "revoked": [{ "jti": ALICE, "since": NOW.get() }, { "kid": pin(), "since": NOW.get() }],
    });
    let typed = TrustBody { revoked, ..trust_body() };
    assert_eq!(json!(typed), body);
    assert_eq!(serde_json::from_value::<TrustBody>(body.clone()).unwrap(), typed);

    let bundle = bundle_of(&Trust::sign(&typed, &[&root()]));
    let payload = BASE64URL_NOPAD.decode(bundle["payload"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), body);
    assert_eq!(bundle["signatures"][0]["protected"], BASE64URL_NOPAD.encode(header(&root()).as_bytes()));
    let trust = verify(&signed_by_root(&body.to_string())).unwrap();
    assert!(trust.is_revoked(&ALICE.parse().unwrap(), &issuer().public().thumbprint()));
    assert!(trust.is_revoked(&WORKER.parse().unwrap(), &pin()));
    assert!(!trust.is_revoked(&WORKER.parse().unwrap(), &issuer().public().thumbprint()));
}

#[test]
fn an_expired_bundle_still_verifies_and_says_that_it_is_expired() {
    let trust = trust_of(&TrustBody { expires_at: NOW, ..trust_body() });
    assert!(!trust.is_expired(NOW.plus(-1)));
    assert!(trust.is_expired(NOW));
}

#[test]
fn the_pinned_root_must_be_listed_and_have_signed() {
    let (pinned, other) = (root(), key(9));
    let alone = TrustBody { roots: roots(&[&other]), ..trust_body() };
    assert_eq!(verify(&Trust::sign(&alone, &[&other])), Err(TrustError::PinNotListed { pin: pin() }));
    assert_eq!(verify(&Trust::sign(&alone, &[&pinned, &other])), Err(TrustError::PinNotListed { pin: pin() }));
    let both = TrustBody { roots: roots(&[&pinned, &other]), ..trust_body() };
    assert_eq!(verify(&Trust::sign(&both, &[&other])), Err(TrustError::PinNotSigned { pin: pin() }));
    assert_eq!(verify(&Trust::sign(&both, &[])), Err(TrustError::PinNotSigned { pin: pin() }));
    assert!(verify(&Trust::sign(&both, &[&pinned])).is_ok());
    assert!(Trust::verify(&Trust::sign(&both, &[&other]), other.public().thumbprint()).is_ok());
}

#[test]
fn a_bundle_meets_its_own_threshold() {
    let (a, b, c, stranger) = (root(), key(7), key(8), key(9));
    let body = TrustBody { roots: roots(&[&a, &b, &c]), threshold: 2, ..trust_body() };
    let too_few = Err(TrustError::TooFewSignatures { threshold: 2, got: 1 });
    assert_eq!(verify(&Trust::sign(&body, &[&a])), too_few);
    assert_eq!(verify(&Trust::sign(&body, &[&a, &stranger])), too_few, "a stranger does not count");
    assert_eq!(verify(&Trust::sign(&body, &[&a, &issuer()])), too_few, "nor does an issuer");
    assert!(verify(&Trust::sign(&body, &[&a, &b])).is_ok());
    assert!(verify(&Trust::sign(&body, &[&c, &stranger, &a])).is_ok(), "a stranger does not harm");
    let kid = a.public().thumbprint();
    assert_eq!(verify(&Trust::sign(&body, &[&a, &a])), Err(TrustError::SignedTwice { kid }));
}

#[test]
fn a_threshold_that_the_roots_cannot_meet_is_refused() {
    let body = |threshold| TrustBody { threshold, ..trust_body() };
    let refused = |threshold| verify(&Trust::sign(&body(threshold), &[&root()])).unwrap_err();
    assert_eq!(refused(2), TrustError::Threshold { threshold: 2, roots: 1 });
    assert!(matches!(refused(0), TrustError::Body(_)));
    assert!(matches!(refused(u64::MAX), TrustError::Json(_)));
    let none = TrustBody { roots: vec![], ..body(1) };
    assert_eq!(verify(&Trust::sign(&none, &[&root()])), Err(TrustError::Threshold { threshold: 1, roots: 0 }));
}

#[test]
fn every_signature_by_a_root_must_hold() {
    let (a, b) = (root(), key(7));
    let body = TrustBody { roots: roots(&[&a, &b]), ..trust_body() };
    let honest = bundle_of(&Trust::sign(&body, &[&a, &b]));
    let others = bundle_of(&Trust::sign(&TrustBody { version: 2, ..body }, &[&a, &b]));
    for (index, key) in [&a, &b].into_iter().enumerate() {
        let mut mixed = honest.clone();
        mixed["signatures"][index] = others["signatures"][index].clone();
        let kid = key.public().thumbprint();
        assert_eq!(verify(mixed.to_string().as_bytes()), Err(TrustError::Signature { kid }));
        mixed["signatures"][index]["signature"] = json!("");
        assert_eq!(verify(mixed.to_string().as_bytes()), Err(TrustError::Signature { kid }));
    }
    let mut swapped = honest;
    swapped["payload"] = others["payload"].clone();
    assert_eq!(verify(swapped.to_string().as_bytes()), Err(TrustError::Signature { kid: pin() }));
}

#[test]
fn a_signature_under_another_header_is_refused() {
    for (protected, expected) in [
        (header(&root()).replace("EdDSA", "none"), "`alg` is `none`, but `EdDSA` was expected"),
        (
            header(&root()).replace("-trust", "-command"),
            "`typ` is `countersign-command`, but `countersign-trust` was expected",
        ),
        (header(&root()).replace(&pin().to_string(), "x"), "`kid` is `x`, but an RFC 7638 thumbprint was expected"),
    ] {
        let mut bundle = bundle_of(&Trust::sign(&trust_body(), &[&root()]));
        bundle["signatures"][0]["protected"] = json!(BASE64URL_NOPAD.encode(protected.as_bytes()));
        assert_eq!(verify(bundle.to_string().as_bytes()).unwrap_err().to_string(), expected);
    }
    let mut bundle = bundle_of(&Trust::sign(&trust_body(), &[&root()]));
    bundle["signatures"][0]["protected"] = json!("=");
    assert_eq!(verify(bundle.to_string().as_bytes()), Err(TrustError::Header(HeaderError::Encoding)));
}

#[test]
fn a_key_that_is_listed_twice_is_refused() {
    let kid = pin();
    let body = TrustBody { roots: roots(&[&root(), &root()]), threshold: 2, ..trust_body() };
    assert_eq!(verify(&Trust::sign(&body, &[&root()])), Err(TrustError::Duplicate { kid }));
    let kid = issuer().public().thumbprint();
    let twice = ["issuer", "other"].map(|text| Issuer { name: name(text), jwk: issuer().public().jwk() });
    let body = TrustBody { issuers: twice.to_vec(), ..trust_body() };
    assert_eq!(verify(&Trust::sign(&body, &[&root()])), Err(TrustError::Duplicate { kid }));
}

#[test]
fn a_bundle_with_a_key_that_section_2_refuses_is_refused() {
    let weak = Jwk { x: BASE64URL_NOPAD.encode(&[0; 32]), ..root().public().jwk() };
    let bodies = [
        TrustBody { roots: vec![root().public().jwk(), weak.clone()], ..trust_body() },
        TrustBody { issuers: vec![Issuer { name: name("issuer"), jwk: weak }], ..trust_body() },
    ];
    for body in bodies {
        assert_eq!(verify(&Trust::sign(&body, &[&root()])), Err(TrustError::Key(KeyError::SmallOrder)));
    }
}

#[test]
fn a_payload_that_is_not_exactly_that_of_section_7_is_refused() {
    assert!(verify(&signed_by_root(&body_with(json!({})))).is_ok());
    let both = json!([{ "jti": ALICE, "kid": pin(), "since": 1 }]);
    for changes in [
        json!({ "v": 2 }),
        json!({ "version": 0 }),
        json!({ "version": 1.0 }),
        json!({ "realm": "Demo" }),
        json!({ "expires_at": null }),
        json!({ "roots": null }),
        json!({ "note": "" }),
        json!({ "issuers": [{ "name": "issuer" }] }),
        json!({ "issuers": [{ "name": "issuer", "jwk": issuer().public().jwk(), "url": "" }] }),
        json!({ "revoked": both }),
        json!({ "revoked": [{ "since": 1 }] }),
        json!({ "revoked": [{ "jti": ALICE }] }),
        json!({ "revoked": [{ "jti": ALICE, "kid": null, "since": 1 }] }),
    ] {
        let outcome = verify(&signed_by_root(&body_with(changes.clone())));
        assert!(matches!(outcome, Err(TrustError::Body(_))), "{changes}: {outcome:?}");
    }
    let payload = body_with(json!({})).replacen('{', r#"{"v":1,"#, 1);
    assert!(matches!(verify(&signed_by_root(&payload)), Err(TrustError::Json(_))));
}

#[test]
fn a_bundle_of_another_form_is_refused() {
    let bytes = Trust::sign(&trust_body(), &[&root()]);
    let text = std::str::from_utf8(&bytes).unwrap();
    let bundle = bundle_of(&bytes);
    let signature = &bundle["signatures"][0];
    let flattened = with(json!({ "payload": bundle["payload"] }), signature.clone());
    let with_header = with(signature.clone(), json!({ "header": {} }));
    for form in [
        String::new(),
        "{}".to_owned(),
        format!("[{text}]"),
        format!("{text}{text}"),
        text.replacen('{', "{\"payload\":\"\",", 1),
        with(bundle.clone(), json!({ "more": 1 })).to_string(),
        with(bundle.clone(), json!({ "signatures": [with_header] })).to_string(),
        with(bundle.clone(), json!({ "signatures": signature })).to_string(),
        flattened.to_string(),
        format!("{}.{}.{}", signature["protected"], bundle["payload"], signature["signature"]),
    ] {
        let outcome = verify(form.as_bytes());
        assert!(matches!(outcome, Err(TrustError::Form(_))), "{form}: {outcome:?}");
    }
    let padded = with(bundle, json!({ "payload": "e30=" }));
    assert_eq!(verify(padded.to_string().as_bytes()), Err(TrustError::Encoding));
    assert!(verify(format!(" {text}\n").as_bytes()).is_ok(), "white space around the object is allowed");
}

#[test]
fn a_bundle_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() {
    let mut bytes = Trust::sign(&trust_body(), &[&root()]);
    bytes.resize(MAX_TRUST, b' ');
    assert!(verify(&bytes).is_ok());
    bytes.push(b' ');
    assert_eq!(verify(&bytes), Err(TrustError::Size { got: MAX_TRUST + 1 }));
}

#[test]
fn a_bundle_with_any_bit_flipped_is_refused() {
    let bytes = Trust::sign(&trust_body(), &[&root()]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&flipped).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_bundle(bytes in prop::collection::vec(any::<u8>(), 0..200), payload in any::<String>()) {
        prop_assert!(verify(&bytes).is_err());
        let outcome = verify(&signed_by_root(&payload));
        prop_assert!(matches!(outcome, Err(TrustError::Json(_) | TrustError::Body(_))), "{:?}", outcome);
    }
}

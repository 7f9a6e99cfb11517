//! The chain of versions of the trust bundle (section 7).

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::key::{Jwk, SecretKey};
use countersign_protocol::trust::{Issuer, Revoked, Trust, TrustBody, TrustError};

use common::*;

fn jwks(keys: &[&SecretKey]) -> Vec<Jwk> {
    keys.iter().map(|key| key.public().jwk()).collect()
}

fn version(version: u64) -> TrustBody {
    TrustBody { version, ..trust_body() }
}

fn first() -> Trust {
    Trust::clone(&trust())
}

#[test]
fn the_next_version_is_accepted_and_no_older_equal_or_later_one() {
    let trust = first();
    let next = trust.successor(&Trust::sign(&version(2), &[&root()])).unwrap();
    assert_eq!((next.version(), next.pin()), (2, pin()));
    for (got, of, accepted) in [(1, &next, 2), (2, &next, 2), (1, &trust, 1), (3, &trust, 1), (9, &next, 2)] {
        let error = of.successor(&Trust::sign(&version(got), &[&root()])).unwrap_err();
        assert_eq!(error, TrustError::NotNext { got, accepted });
    }
    let last = trust_of(&version(9_007_199_254_740_991));
    assert!(last.successor(&Trust::sign(&version(1), &[&root()])).is_err());
}

#[test]
fn a_version_that_only_one_side_signed_is_refused() {
    let (old, new) = (root(), key(7));
    let body = TrustBody { roots: jwks(&[&new]), ..version(2) };
    let refused = |signers: &[&SecretKey]| first().successor(&Trust::sign(&body, signers)).unwrap_err();
    assert_eq!(refused(&[&new]), TrustError::NotByPredecessor { accepted: 1, threshold: 1, got: 0 });
    assert_eq!(refused(&[&old]), TrustError::TooFewSignatures { threshold: 1, got: 0 });
    assert_eq!(refused(&[&issuer(), &new]), TrustError::NotByPredecessor { accepted: 1, threshold: 1, got: 0 });
    assert!(first().successor(&Trust::sign(&body, &[&old, &new])).is_ok());
}

#[test]
fn both_thresholds_of_two_of_three_must_be_met() {
    let (a, b, c, d) = (root(), key(7), key(8), key(9));
    let body = TrustBody { roots: jwks(&[&a, &b, &c]), threshold: 2, ..version(1) };
    let trust = Trust::verify(&Trust::sign(&body, &[&a, &b]), pin()).unwrap();
    // c gives way to d.
    let body = TrustBody { roots: jwks(&[&a, &b, &d]), threshold: 2, ..version(2) };
    let next = |signers: &[&SecretKey]| trust.successor(&Trust::sign(&body, signers));
    assert!(next(&[&a, &b]).is_ok(), "both are of both");
    assert!(next(&[&b, &c, &d]).is_ok(), "b and c of the old, b and d of the new");
    assert_eq!(next(&[&a, &d]).unwrap_err(), TrustError::NotByPredecessor { accepted: 1, threshold: 2, got: 1 });
    assert_eq!(next(&[&a, &c]).unwrap_err(), TrustError::TooFewSignatures { threshold: 2, got: 1 });
}

#[test]
fn a_signature_of_either_side_that_does_not_hold_spoils_the_bundle() {
    let (old, new) = (root(), key(7));
    let body = TrustBody { roots: jwks(&[&new]), ..version(2) };
    let honest: serde_json::Value = serde_json::from_slice(&Trust::sign(&body, &[&old, &new])).unwrap();
    for (index, key) in [&old, &new].into_iter().enumerate() {
        let mut forged = honest.clone();
        forged["signatures"][index]["signature"] = honest["signatures"][1 - index]["signature"].clone();
        let kid = key.public().thumbprint();
        assert_eq!(first().successor(forged.to_string().as_bytes()), Err(TrustError::Signature { kid }));
    }
}

#[test]
fn an_expired_version_proves_the_next_and_one_of_another_realm_follows_nothing() {
    let expired = trust_of(&TrustBody { expires_at: NOW.plus(-1), ..version(1) });
    assert!(expired.is_expired(NOW));
    assert!(!expired.successor(&Trust::sign(&version(2), &[&root()])).unwrap().is_expired(NOW));
    let other = TrustBody { realm: name("plant"), ..version(2) };
    let error = first().successor(&Trust::sign(&other, &[&root()])).unwrap_err();
    assert_eq!(error, TrustError::Realm { expected: name("demo"), got: name("plant") });
}

#[test]
fn after_the_root_was_replaced_the_old_one_proves_nothing_also_at_a_start() {
    let (old, new) = (root(), key(7));
    let rotated = TrustBody { roots: jwks(&[&new]), ..version(2) };
    let second = first().successor(&Trust::sign(&rotated, &[&old, &new])).unwrap();
    let by_old = Trust::sign(&version(3), &[&old]);
    assert!(second.successor(&by_old).is_err());
    let third = Trust::sign(&TrustBody { version: 3, ..rotated.clone() }, &[&new]);
    assert_eq!(second.successor(&third).unwrap().version(), 3);

    let start = |file: &[u8], remembered: Option<&[u8]>| Trust::at_start(file, remembered, pin());
    let file = first().bytes().to_vec();
    assert_eq!(start(&file, None).unwrap(), first());
    assert_eq!(start(&file, Some(second.bytes())).unwrap(), second, "what was accepted is remembered");
    let stolen = Trust::sign(&version(9), &[&old]);
    assert!(Trust::verify(&stolen, pin()).is_ok(), "the pin alone would take it");
    assert_eq!(
        start(&stolen, Some(second.bytes())),
        Err(TrustError::NotByPredecessor { accepted: 2, threshold: 1, got: 0 })
    );
    let later = Trust::sign(&TrustBody { version: 9, ..rotated }, &[&new]);
    assert_eq!(start(&later, Some(second.bytes())).unwrap().version(), 9, "a person may leave versions out");
    assert!(start(&later, None).is_err(), "without what was accepted, the pin decides");
}

#[test]
fn a_revoked_issuer_takes_all_that_it_issued_with_it() {
    let issued = credential(&worker_claims());
    assert!(issued.vouched_for(&first()).is_ok());
    let other = Issuer { name: name("issuer"), jwk: key(9).public().jwk() };
    let revoked = Revoked::Key { kid: issuer().public().thumbprint(), since: NOW };
    let body =
        TrustBody { issuers: [trust_body().issuers, vec![other]].concat(), revoked: vec![revoked], ..version(2) };
    let next = first().successor(&Trust::sign(&body, &[&root()])).unwrap();
    assert!(issued.vouched_for(&next).is_err());
}

#[test]
fn any_bit_flipped_in_the_next_version_is_refused() {
    let bytes = Trust::sign(&version(2), &[&root()]);
    let trust = first();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(trust.successor(&flipped).is_err(), "bit {bit}");
    }
}

//! Enrolment: what a token, a request and an answer must be, and that a hostile broker gets nothing from any of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Version;
use countersign_protocol::credential::{Claims, Confirmation, Credential, CredentialError, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::enrolment::{
    AnswerError, Answered, EnrolmentAnswer, EnrolmentCode, EnrolmentError, EnrolmentRequest, Expected, OpenedRequest,
    RequestError, Token, TokenClient, TokenError, open_answer,
};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{MAX_ENROLMENT_ANSWER, MAX_ENROLMENT_REQUEST, SKEW};
use countersign_protocol::name::{Name, TokenId};
use countersign_protocol::trust::{Issuer, Revoked, Trust, TrustBody};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use common::*;

const CONNECTION: &str = "UBZMK5A2W74HODXN3Z6ERAZ7X26TVXBK4AVK6W6T3CPGFYFCAHKPQLGS";

fn token_id() -> TokenId {
    "k3v9q2m8x7c1b5n0".parse().unwrap()
}

fn token_key() -> SecretKey {
    key(7)
}

fn token() -> Token {
    Token {
        id: token_id(),
        realm: name("demo"),
        root: pin(),
        expires_at: NOW.plus(3_600_000),
        client: Some(TokenClient { name: name("worker-1"), groups: vec![name("web")], secret: [7; 32].into() }),
        broker: "tls://broker.example:4222".to_owned(),
        ca: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        user_jwt: "a.b.c".to_owned(),
        seed: "SUAEXAMPLE".to_owned().into(),
    }
}

fn wanted() -> EnrolmentRequest {
    EnrolmentRequest {
        v: Version,
        realm: Some(name("demo")),
        token: Some(token_id()),
        name: name("worker-1"),
        groups: vec![name("web")],
        jwk: worker_key().public().jwk(),
        connection_key: CONNECTION.parse().unwrap(),
        issued_at: NOW,
    }
}

fn asked() -> Vec<u8> {
    wanted().sign(&worker_key(), Some(&token_key()))
}

fn enrolled(claims: &Claims) -> Result<(String, String), EnrolmentError> {
    Ok((Credential::issue(claims, &issuer()), "a.b.c".to_owned()))
}

fn answer(outcome: Result<(String, String), EnrolmentError>) -> Vec<u8> {
    EnrolmentAnswer::sign(Digest::of(&asked()), &trust(), (&name("issuer"), &issuer()), outcome, NOW)
}

fn open(bytes: &[u8]) -> Result<Answered, AnswerError> {
    open_as(bytes, &name("worker-1"), &[name("web")])
}

fn open_as(bytes: &[u8], name: &Name, groups: &[Name]) -> Result<Answered, AnswerError> {
    let (key, realm) = (worker_key(), common::name("demo"));
    let expected = Expected {
        pin: pin(),
        realm: Some(&realm),
        requests: &[Digest::of(b"an earlier one"), Digest::of(&asked())],
        name,
        groups: Some(groups),
        key: key.public(),
    };
    open_answer(bytes, &expected, NOW, SKEW)
}

/// A signed document with one member of its payload replaced.
fn changed(document: &[u8], member: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(document).unwrap();
    let payload = BASE64URL_NOPAD.decode(document["payload"].as_str().unwrap().as_bytes()).unwrap();
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    payload[member] = value;
    document["payload"] = BASE64URL_NOPAD.encode(payload.to_string().as_bytes()).into();
    document.to_string().into_bytes()
}

#[test]
fn a_token_is_read_as_it_was_made_whatever_a_terminal_or_an_editor_did_to_its_ends() {
    let text = token().to_text();
    let (head, tail) = text.split_at(100);
    for text in
        [text.to_string(), format!("{}\n", *text), format!("\u{feff}{}\r\n", *text), format!("  {head}\r\n  {tail} ")]
    {
        let read = Token::parse(&text).unwrap();
        assert_eq!(*read.to_text(), *token().to_text());
        assert_eq!(read.client.unwrap().key(), token_key());
    }
    let open = Token { client: None, ca: None, ..token() };
    assert!(Token::parse(&open.to_text()).unwrap().client.is_none());
}

#[test]
fn a_token_that_is_cut_or_changed_anywhere_is_refused_as_that() {
    let text = token().to_text();
    for length in 0..text.len() {
        let error = Token::parse(&text[..length]).unwrap_err();
        let expected = if length == 0 { TokenError::NotAToken } else { TokenError::CutShort };
        assert_eq!(error, expected, "{length}");
    }
    let prefix = text.find('.').unwrap();
    for at in prefix + 1..text.len() {
        for replacement in ["A", "b", "-"] {
            let mut changed = text.to_string();
            changed.replace_range(at..=at, replacement);
            if changed == *text {
                continue;
            }
            let error = Token::parse(&changed).unwrap_err();
            // Without its dot it has no end.
            let expected = if text[at..].starts_with('.') { TokenError::CutShort } else { TokenError::Changed };
            assert_eq!(error, expected, "{at}");
        }
    }
    assert_eq!(Token::parse(&format!("{}x", *text)).unwrap_err(), TokenError::Changed);
    assert_eq!(Token::parse("eyJhbGciOi").unwrap_err(), TokenError::NotAToken);
    let endless = format!("{}{}", *text, "A".repeat(1_000_000));
    assert_eq!(Token::parse(&endless).unwrap_err(), TokenError::TooLong);
}

#[test]
fn a_token_shows_none_of_its_secrets_to_whoever_debugs() {
    let shown = format!("{:?} {:?}", token(), token().client);
    for secret in [BASE64URL_NOPAD.encode(&[7; 32]), "SUAEXAMPLE".to_owned(), "a.b.c".to_owned(), "[7".to_owned()] {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

#[test]
fn a_request_is_opened_only_if_its_own_key_signed_it() {
    let opened = OpenedRequest::open(&asked()).unwrap();
    assert_eq!((opened.request(), opened.key()), (&wanted(), worker_key().public()));
    assert_eq!(opened.digest(), Digest::of(&asked()));
    assert!(opened.is_signed_by(token_key().public()) && !opened.is_signed_by(key(9).public()));
    assert!(!OpenedRequest::open(&wanted().sign(&worker_key(), None)).unwrap().is_signed_by(token_key().public()));
    // Somebody who has not the key that it is about.
    let kid = worker_key().public().thumbprint();
    assert_eq!(OpenedRequest::open(&wanted().sign(&key(9), None)).unwrap_err(), RequestError::Signatures);
    let mut forged: Value = serde_json::from_slice(&wanted().sign(&key(9), None)).unwrap();
    let own: Value = serde_json::from_slice(&asked()).unwrap();
    forged["signatures"][0]["protected"] = own["signatures"][0]["protected"].clone();
    assert_eq!(OpenedRequest::open(forged.to_string().as_bytes()).unwrap_err(), RequestError::Signature { kid });
    for (member, value) in [
        ("connection_key", json!("U".to_owned() + &"A".repeat(55))),
        ("name", json!("worker-2")),
        ("groups", json!(["db"])),
        ("token", json!("aaaaaaaaaaaaaaaa")),
        ("issued_at", json!(NOW.get() + 1)),
    ] {
        let error = OpenedRequest::open(&changed(&asked(), member, value)).unwrap_err();
        assert_eq!(error, RequestError::Signature { kid }, "{member}");
    }
}

#[test]
fn a_request_is_not_opened_with_a_name_that_is_a_pattern_or_a_member_that_is_not_described() {
    for (member, value) in [
        ("name", json!("*")),
        ("name", json!(">")),
        ("name", json!("a.b")),
        ("name", json!("")),
        ("name", json!("Worker-7")),
        ("name", json!("a".repeat(300))),
        ("groups", json!(["*"])),
        ("token", json!("*")),
        ("connection_key", json!("SUAEXAMPLE")),
        ("root", json!(true)),
    ] {
        let error = OpenedRequest::open(&changed(&asked(), member, value.clone())).unwrap_err();
        assert!(matches!(error, RequestError::Body(_)), "{member} {value}: {error}");
    }
    let long = vec![b' '; MAX_ENROLMENT_REQUEST + 1];
    assert!(matches!(OpenedRequest::open(&long), Err(RequestError::Size { .. })));
    for garbage in [&b""[..], b"{}", b"[]", b"\xff", br#"{"payload":"e30","signatures":[]}"#] {
        assert!(OpenedRequest::open(garbage).is_err());
    }
}

/// A broker has seen a request and wants the name for keys of its own.
#[test]
fn a_token_s_signature_holds_for_no_other_keys_than_those_that_it_was_made_for() {
    let own = EnrolmentRequest { jwk: key(9).public().jwk(), ..wanted() };
    let mut swapped: Value = serde_json::from_slice(&own.sign(&key(9), None)).unwrap();
    let seen: Value = serde_json::from_slice(&asked()).unwrap();
    swapped["signatures"].as_array_mut().unwrap().push(seen["signatures"][1].clone());
    let opened = OpenedRequest::open(swapped.to_string().as_bytes()).unwrap();
    assert!(!opened.is_signed_by(token_key().public()));
    // Nor does the token's key count as the one that signs messages too.
    let both = EnrolmentRequest { jwk: token_key().public().jwk(), ..wanted() };
    let opened = OpenedRequest::open(&both.sign(&token_key(), None)).unwrap();
    assert!(!opened.is_signed_by(token_key().public()));
    let twice = wanted().sign(&worker_key(), Some(&worker_key()));
    assert_eq!(OpenedRequest::open(&twice).unwrap_err(), RequestError::Signatures);
}

#[test]
fn an_answer_is_believed_from_the_pin_on() {
    let Answered::Enrolled(enrolment) = open(&answer(enrolled(&worker_claims()))).unwrap() else { panic!() };
    assert_eq!((enrolment.trust(), enrolment.user_jwt()), (&*trust(), "a.b.c"));
    assert_eq!(enrolment.credential().key(), worker_key().public());
    let error = EnrolmentError { code: EnrolmentCode::NameTaken, message: "taken".to_owned() };
    let Answered::Refused { error: refused, at, .. } = open(&answer(Err(error.clone()))).unwrap() else { panic!() };
    assert_eq!((refused, at), (error, NOW));
}

#[test]
fn an_answer_by_anybody_but_an_issuer_of_the_pinned_root_is_not_believed() {
    let digest = Digest::of(&asked());
    let by = |trust: &Trust, key: &SecretKey, from: &str| {
        open(&EnrolmentAnswer::sign(digest, trust, (&name(from), key), enrolled(&worker_claims()), NOW)).unwrap_err()
    };
    // The broker answers by itself, with a realm of its own.
    let theirs = TrustBody {
        roots: vec![key(8).public().jwk()],
        issuers: vec![Issuer { name: name("issuer"), jwk: key(9).public().jwk() }],
        ..trust_body()
    };
    let theirs = Trust::verify(&Trust::sign(&theirs, &[&key(8)]), key(8).public().thumbprint()).unwrap();
    assert!(matches!(by(&theirs, &key(9), "issuer"), AnswerError::Trust(_)));
    // Or with the true bundle, under a key that is no issuer's, or under another name.
    assert_eq!(by(&trust(), &key(9), "issuer"), AnswerError::Signature);
    assert_eq!(by(&trust(), &worker_key(), "issuer"), AnswerError::Signature);
    assert_eq!(by(&trust(), &issuer(), "other"), AnswerError::Signature);
    // An issuer that was revoked.
    let revoked = Revoked::Key { kid: issuer().public().thumbprint(), since: NOW };
    let revoked = trust_of(&TrustBody { revoked: vec![revoked], ..trust_body() });
    assert_eq!(by(&revoked, &issuer(), "issuer"), AnswerError::Signature);
    // Another realm of the same root.
    let other = trust_of(&TrustBody { realm: name("other"), ..trust_body() });
    assert!(matches!(by(&other, &issuer(), "issuer"), AnswerError::Realm { .. }));
}

#[test]
fn an_answer_that_was_seen_before_or_was_changed_is_not_believed() {
    let other = EnrolmentAnswer::sign(
        Digest::of(b"another"),
        &trust(),
        (&name("issuer"), &issuer()),
        enrolled(&worker_claims()),
        NOW,
    );
    assert_eq!(open(&other).unwrap_err(), AnswerError::Request);
    let own = answer(enrolled(&worker_claims()));
    for (member, value) in [
        ("user_jwt", json!("x.y.z")),
        ("credential", json!("x.y.z")),
        ("issued_at", json!(NOW.get() + 1)),
        ("request", json!(Digest::of(b"another"))),
        ("from", json!("other")),
    ] {
        assert_eq!(open(&changed(&own, member, value)).unwrap_err(), AnswerError::Signature, "{member}");
    }
    let mut twice: Value = serde_json::from_slice(&own).unwrap();
    let first = twice["signatures"][0].clone();
    twice["signatures"].as_array_mut().unwrap().push(first);
    assert_eq!(open(twice.to_string().as_bytes()).unwrap_err(), AnswerError::Signature);
    assert!(matches!(open(&vec![b' '; MAX_ENROLMENT_ANSWER + 1]), Err(AnswerError::Size { .. })));
}

#[test]
fn an_answer_brings_a_credential_for_what_was_asked_for_and_no_other() {
    let of = |claims: Claims| open(&answer(enrolled(&claims))).map(drop).unwrap_err();
    let other_key = Confirmation { jwk: key(9).public().jwk() };
    assert_eq!(of(Claims { cnf: other_key, ..worker_claims() }), AnswerError::Other("it is for another key"));
    assert!(matches!(of(Claims { sub: name("worker-2"), ..worker_claims() }), AnswerError::Other(_)));
    assert!(matches!(of(Claims { groups: Some(vec![]), ..worker_claims() }), AnswerError::Other(_)));
    let operator = Claims { role: Role::Operator, groups: None, grant: alice_claims().grant, ..worker_claims() };
    assert!(matches!(of(operator), AnswerError::Other(_)));
    let ahead = Claims { nbf: NOW_S + 600, exp: NOW_S + 700, ..worker_claims() };
    assert!(matches!(of(ahead), AnswerError::Credential(CredentialError::NotYetValid { .. })));
    let mut both: EnrolmentAnswer = serde_json::from_value(json!({
        "v": 1, "realm": "demo", "from": "issuer", "request": Digest::of(&asked()), "issued_at": 0, "trust": "e30",
        "credential": "a.b.c", "user_jwt": "a.b.c",
    }))
    .unwrap();
    assert!(both.clone().into_outcome().unwrap().is_ok());
    both.error = Some(EnrolmentError { code: EnrolmentCode::Clock, message: String::new() });
    assert!(both.into_outcome().is_err());
}

//! Renewal over the bus (section 7): which requests an issuer takes, and which answers a member.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::sync::Arc;

use countersign_protocol::command::Command;
use countersign_protocol::credential::{Claims, Credential};
use countersign_protocol::envelope::{
    Authentic, CREDENTIAL_HEADER, Delivery, Identity, MessageType, Reason, SIGNATURE_HEADER, Signed, Verifier,
};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{RENEWAL_AGE, RENEWAL_GRACE, SKEW};
use countersign_protocol::renewal::{Answered, RenewalAnswer, RenewalCode, RenewalError, RenewalRequest, open_answer};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Revoked, Trust};
use serde_json::{Value, json};

use common::*;

const REQUEST: &str = "cs.demo.renewal.request.client.worker-1";
const ANSWER: &str = "cs.demo.renewal.answer.client.worker-1";
const JWT: &str = "eyJ0eXAiOiJKV1QifQ.e30.c2ln";

fn request() -> Signed {
    RenewalRequest::sign(MessageId::new(NOW, [7; 10]), worker(), NOW)
}

fn taken_under(trust: Arc<Trust>, signed: &Signed, now: Millis) -> Result<Authentic<RenewalRequest>, Reason> {
    let verifier = Verifier::new(trust, RENEWAL_GRACE);
    RenewalRequest::open(&signed.delivery(), &verifier, now).map_err(|rejected| rejected.reason)
}

fn taken(signed: &Signed, now: Millis) -> Result<Authentic<RenewalRequest>, Reason> {
    taken_under(trust(), signed, now)
}

/// A request by worker-1 with something else in its body, or on its subject.
fn changed(change: Value, subject: &str) -> Signed {
    let body = serde_json::from_slice(&request().body).unwrap();
    worker().sign(MessageType::RenewalRequest, subject.to_owned(), with(body, change).to_string().into_bytes())
}

#[test]
fn a_member_of_either_role_asks_by_its_key_under_its_present_credential() {
    let request = taken(&request(), NOW).unwrap();
    assert_eq!((request.credential().name(), request.message().subject.as_str()), (&name("worker-1"), REQUEST));
    let by_alice = RenewalRequest::sign(MessageId::new(NOW, [7; 10]), alice(), NOW);
    let taken = taken(&by_alice, NOW).unwrap();
    assert_eq!(taken.message().subject, "cs.demo.renewal.request.operator.alice");
}

#[test]
fn an_old_request_and_one_from_the_future_are_passed_over() {
    for (age, expected) in
        [(RENEWAL_AGE, None), (RENEWAL_AGE + 1, Some(Reason::Late)), (-SKEW, None), (-SKEW - 1, Some(Reason::Ahead))]
    {
        assert_eq!(taken(&request(), NOW.plus(age)).err(), expected, "{age}");
    }
}

#[test]
fn a_credential_that_ended_more_than_a_minute_ago_or_has_not_begun_is_not_renewed() {
    let end = Millis::from_seconds(worker_claims().exp);
    let at = |now: Millis| taken(&RenewalRequest::sign(MessageId::new(now, [7; 10]), worker(), now), now).err();
    assert_eq!(at(end.plus(RENEWAL_GRACE - 1)), None);
    assert_eq!(at(end.plus(RENEWAL_GRACE)), Some(Reason::Credential));
    let begin = Millis::from_seconds(worker_claims().nbf);
    assert_eq!(at(begin.plus(-SKEW)), None);
    assert_eq!(at(begin.plus(-SKEW - 1)), Some(Reason::Credential), "the grace is for the end only");
}

#[test]
fn nobody_is_renewed_who_is_revoked_by_credential_by_key_or_by_issuer() {
    let [kid, issuer] = [worker_key(), issuer()].map(|key| key.public().thumbprint());
    let since = NOW;
    for revoked in [
        Revoked::Credential { jti: WORKER.parse().unwrap(), since },
        Revoked::Key { kid, since },
        Revoked::Key { kid: issuer, since },
    ] {
        let trust = trust_of(&countersign_protocol::trust::TrustBody { revoked: vec![revoked], ..trust_body() });
        assert_eq!(taken_under(trust, &request(), NOW).err(), Some(Reason::Credential));
    }
}

#[test]
fn nobody_asks_for_somebody_else() {
    let genuine = request();
    let by_thief = Signed { credential: alice().credential().raw().clone(), ..genuine.clone() };
    assert_eq!(taken(&by_thief, NOW).err(), Some(Reason::Signature), "another's credential beside it");
    let elsewhere = "cs.demo.renewal.request.client.worker-2";
    assert_eq!(taken(&Signed { subject: elsewhere.to_owned(), ..genuine }, NOW).err(), Some(Reason::Address), "moved");
    let signed = changed(json!({ "subject": elsewhere }), elsewhere);
    assert_eq!(taken(&signed, NOW).err(), Some(Reason::Address), "signed for another's subject");
    let signed =
        changed(json!({ "subject": REQUEST.replace("client", "operator") }), &REQUEST.replace("client", "operator"));
    assert_eq!(taken(&signed, NOW).err(), Some(Reason::Address), "for another role");
    assert_eq!(taken(&changed(json!({ "from": "worker-2" }), REQUEST), NOW).err(), Some(Reason::Credential));
    assert_eq!(taken(&changed(json!({ "credential": ALICE }), REQUEST), NOW).err(), Some(Reason::Credential));
    assert_eq!(taken(&changed(json!({ "realm": "plant" }), REQUEST), NOW).err(), Some(Reason::Realm));
    assert_eq!(taken(&changed(json!({ "groups": ["db"] }), REQUEST), NOW).err(), Some(Reason::Envelope));
}

#[test]
fn a_request_and_an_answer_are_never_another_message() {
    assert_eq!(open::<Command>(&request().delivery()).unwrap_err().reason, Reason::Type);
    let event = worker().sign(MessageType::Event, REQUEST.to_owned(), request().body.to_vec());
    assert_eq!(taken(&event, NOW).err(), Some(Reason::Type));
    let by_worker = worker().sign(MessageType::RenewalRequest, ANSWER.to_owned(), answer().body.to_vec());
    assert_eq!(opened(&by_worker).err(), Some(Reason::Type));
}

/// The claims of worker-1's next credential.
fn next_claims() -> Claims {
    Claims { jti: Uuid::from_random([9; 16]), exp: NOW_S + 300, ..worker_claims() }
}

fn answer_with(claims: &Claims, key: &SecretKey, outcome: Result<String, RenewalError>) -> Signed {
    let asked = taken(&request(), NOW).unwrap();
    RenewalAnswer::sign(&asked, (&name("issuer"), key), &credential(claims), outcome, NOW)
}

fn answer() -> Signed {
    answer_with(&next_claims(), &issuer(), Ok(JWT.to_owned()))
}

fn opened(signed: &Signed) -> Result<Answered, Reason> {
    let asked = taken(&request(), NOW).unwrap().digest();
    open_answer(&signed.delivery(), &asked, worker(), &trust(), NOW, SKEW).map_err(|rejected| rejected.reason)
}

/// The answer with something else in its body, signed by this key.
fn forged(change: Value, key: &SecretKey) -> Signed {
    let body = with(serde_json::from_slice(&answer().body).unwrap(), change).to_string().into_bytes();
    // A credential that nobody issued lets the test sign by any key.
    let claims =
        Claims { cnf: countersign_protocol::credential::Confirmation { jwk: key.public().jwk() }, ..worker_claims() };
    let signed = Identity::new(key.clone(), credential(&claims)).unwrap();
    let signed = signed.sign(MessageType::RenewalAnswer, ANSWER.to_owned(), body);
    Signed { credential: answer().credential, ..signed }
}

#[test]
fn a_member_takes_the_issuers_answer_to_its_own_request() {
    let Ok(Answered::Renewed(renewal)) = opened(&answer()) else { panic!("{:?}", opened(&answer())) };
    assert_eq!((renewal.credential().jti(), renewal.user_jwt()), (next_claims().jti, JWT));
    let error = RenewalError { code: RenewalCode::Unknown, message: "there is no client worker-1".to_owned() };
    let refused = answer_with(&worker_claims(), &issuer(), Err(error.clone()));
    assert_eq!(opened(&refused), Ok(Answered::Refused(error)));
    assert!(opened(&forged(json!({}), &issuer())).is_ok(), "what the forgeries below are made of");
}

#[test]
fn nobody_but_an_issuer_of_the_trust_bundle_answers() {
    for key in [alice_key(), worker_key(), root(), key(9)] {
        assert_eq!(opened(&forged(json!({}), &key)).err(), Some(Reason::Signature));
    }
    let revoked = vec![Revoked::Key { kid: issuer().public().thumbprint(), since: NOW }];
    let trust = trust_of(&countersign_protocol::trust::TrustBody { revoked, ..trust_body() });
    let asked = taken(&request(), NOW).unwrap().digest();
    let rejected = open_answer(&answer().delivery(), &asked, worker(), &trust, NOW, SKEW).unwrap_err();
    assert_eq!(rejected.reason, Reason::Signature);
}

#[test]
fn an_answer_to_another_request_or_for_another_member_changes_nothing() {
    let asked = taken(&RenewalRequest::sign(MessageId::new(NOW, [8; 10]), worker(), NOW), NOW).unwrap().digest();
    let rejected = open_answer(&answer().delivery(), &asked, worker(), &trust(), NOW, SKEW).unwrap_err();
    assert_eq!(rejected.reason, Reason::Address, "a replay");
    for (change, expected) in [
        (json!({ "subject": "cs.demo.renewal.answer.client.worker-2" }), Reason::Address),
        (json!({ "from": "other" }), Reason::Realm),
        (json!({ "realm": "plant" }), Reason::Realm),
        (json!({ "credential": WORKER }), Reason::Credential),
        (json!({ "error": { "code": "unknown", "message": "" } }), Reason::Envelope),
    ] {
        assert_eq!(opened(&forged(change.clone(), &issuer())).err(), Some(expected), "{change}");
    }
    let moved = Signed { subject: "cs.demo.renewal.answer.client.worker-2".to_owned(), ..answer() };
    assert_eq!(opened(&moved).err(), Some(Reason::Address));
}

#[test]
fn a_credential_that_is_not_the_next_one_of_the_same_key_is_not_taken() {
    let next = next_claims();
    for claims in [
        Claims { sub: name("worker-2"), ..next.clone() },
        Claims { cnf: alice_claims().cnf, ..next.clone() },
        Claims { jti: worker_claims().jti, ..next.clone() },
    ] {
        let signed = answer_with(&claims, &issuer(), Ok(JWT.to_owned()));
        assert_eq!(opened(&signed).err(), Some(Reason::Credential), "{claims:?}");
    }
    let ahead = Credential::issue(&Claims { nbf: NOW_S + 60, ..next }, &issuer());
    let signed = Signed { credential: ahead.into(), ..answer() };
    assert_eq!(opened(&signed).err(), Some(Reason::Credential), "one that does not hold yet");
}

#[test]
fn every_bit_of_an_answer_counts() {
    let answer = answer();
    let taken = |signature: &str, credential: &str, body: Vec<u8>| {
        let headers = [(SIGNATURE_HEADER, signature), (CREDENTIAL_HEADER, credential)];
        let delivery = Delivery::new(ANSWER, false, headers, body.into());
        let asked = self::taken(&request(), NOW).unwrap().digest();
        open_answer(&delivery, &asked, worker(), &trust(), NOW, SKEW).is_ok()
    };
    assert!(taken(&answer.signature, &answer.credential, answer.body.to_vec()));
    for index in 0..answer.body.len() {
        let mut body = answer.body.to_vec();
        body[index] ^= 1;
        assert!(!taken(&answer.signature, &answer.credential, body), "byte {index}");
    }
}

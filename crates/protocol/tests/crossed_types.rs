//! What is signed as one thing is never taken for another.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::credential::{Credential, CredentialError};
use countersign_protocol::envelope::{Delivery, HeaderError, Identity, MessageType, Payload, Reason};
use countersign_protocol::event::Event;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::Reply;
use countersign_protocol::trust::{Trust, TrustError};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use common::*;

fn dropped<M: Payload>(delivery: &Delivery) -> Reason {
    open::<M>(delivery).map(drop).unwrap_err().reason
}

/// The trust bundle of the realm around another signature.
fn bundle_under(protected: &str, signature: &str) -> Vec<u8> {
    let payload = BASE64URL_NOPAD.encode(&serde_json::to_vec(&trust_body()).unwrap());
    let signatures = [json!({ "protected": protected, "signature": signature })];
    json!({ "payload": payload, "signatures": signatures }).to_string().into_bytes()
}

#[test]
fn a_message_of_one_type_is_never_another() {
    let messages = [
        (MessageType::Command, signed()),
        (MessageType::Reply, worker().sign(MessageType::Reply, REPLY.to_owned(), reply().to_string().into_bytes())),
        (MessageType::Event, worker().sign(MessageType::Event, EVENT.to_owned(), event().to_string().into_bytes())),
    ];
    for (typ, signed) in &messages {
        let delivery = signed.delivery();
        let outcomes = [
            (MessageType::Command, open::<Command>(&delivery).map(drop)),
            (MessageType::Reply, open::<Reply>(&delivery).map(drop)),
            (MessageType::Event, open::<Event>(&delivery).map(drop)),
        ];
        for (opened_as, outcome) in outcomes {
            let reason = outcome.map_err(|rejected| rejected.reason);
            let expected = if opened_as == *typ { Ok(()) } else { Err(Reason::Type) };
            assert_eq!(reason, expected, "{typ:?} opened as {opened_as:?}");
        }

        let (protected, signature) = signed.signature.split_once("..").unwrap();
        let payload = BASE64URL_NOPAD.encode(&signed.body);
        let jwt = format!("{protected}.{payload}.{signature}");
        let error = Credential::verify(&jwt, &trust(), NOW, SKEW).unwrap_err();
        assert!(matches!(error, CredentialError::Header(HeaderError::Type { .. })), "{typ:?} as a credential: {error}");

        let error = Trust::verify(&bundle_under(protected, signature), pin()).unwrap_err();
        assert!(matches!(error, TrustError::Header(HeaderError::Type { .. })), "{typ:?} as a trust bundle: {error}");
    }
}

#[test]
fn a_credential_or_a_trust_bundle_is_never_a_message() {
    let credential = Credential::issue(&alice_claims(), &issuer());
    let (input, signature) = credential.rsplit_once('.').unwrap();
    let (protected, payload) = input.split_once('.').unwrap();
    let claims = BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();

    let bundle: Value = serde_json::from_slice(&Trust::sign(&trust_body(), &[&root()])).unwrap();
    let bundle_signature = &bundle["signatures"][0];
    let trusted = BASE64URL_NOPAD.decode(bundle["payload"].as_str().unwrap().as_bytes()).unwrap();
    let detached_bundle = format!(
        "{}..{}",
        bundle_signature["protected"].as_str().unwrap(),
        bundle_signature["signature"].as_str().unwrap()
    );

    for (signature, body) in [(format!("{protected}..{signature}"), claims), (detached_bundle, trusted)] {
        let delivery = delivery(&signature, &credential, body);
        assert_eq!(dropped::<Command>(&delivery), Reason::Type);
        assert_eq!(dropped::<Reply>(&delivery), Reason::Type);
        assert_eq!(dropped::<Event>(&delivery), Reason::Type);
    }
}

#[test]
fn a_credential_and_a_trust_bundle_are_never_each_other() {
    let credential = Credential::issue(&alice_claims(), &root());
    let (input, signature) = credential.rsplit_once('.').unwrap();
    let (protected, payload) = input.split_once('.').unwrap();
    let error = Trust::verify(&bundle_under(protected, signature), pin()).unwrap_err();
    assert!(matches!(error, TrustError::Header(HeaderError::Type { .. })), "{error}");

    let bundle: Value = serde_json::from_slice(&Trust::sign(&trust_body(), &[&issuer()])).unwrap();
    let protected = bundle["signatures"][0]["protected"].as_str().unwrap();
    let error = Credential::verify(&format!("{protected}.{payload}.{signature}"), &trust(), NOW, SKEW).unwrap_err();
    assert!(matches!(error, CredentialError::Header(HeaderError::Type { .. })), "{error}");
}

#[test]
fn nobody_signs_for_the_other_side() {
    let as_worker = json!({ "from": "worker-1", "credential": WORKER });
    let as_alice = json!({ "from": "alice", "credential": ALICE });
    let sign = |signer: &Identity, typ, subject: &str, body: Value| {
        signer.sign(typ, subject.to_owned(), body.to_string().into_bytes()).delivery()
    };
    let command = sign(worker(), MessageType::Command, COMMAND, with(command(), as_worker));
    let reply = sign(alice(), MessageType::Reply, REPLY, with(reply(), as_alice.clone()));
    let event = sign(alice(), MessageType::Event, EVENT, with(event(), as_alice));
    assert_eq!(dropped::<Command>(&command), Reason::Credential);
    assert_eq!(dropped::<Reply>(&reply), Reason::Credential);
    assert_eq!(dropped::<Event>(&event), Reason::Credential);
}

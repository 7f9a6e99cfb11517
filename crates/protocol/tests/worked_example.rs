//! The worked example of docs/protocol.md, section 11, is what this implementation makes and accepts.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use bytes::Bytes;
use countersign_protocol::command::Command;
use countersign_protocol::credential::{Claims, Credential};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, Delivery, Identity, MessageType, SIGNATURE_HEADER, Verifier};
use countersign_protocol::json;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Trust, TrustBody};
use std::sync::Arc;

const PAGE: &str = include_str!("../../../docs/protocol.md");
const NOW: Millis = Millis::new(1_795_485_600_200);

/// The first fenced block after a phrase of section 11.
fn block(phrase: &str) -> &'static str {
    let (_, section) = PAGE.split_once("\n## 11. ").unwrap();
    let (_, rest) = section.split_once(phrase).unwrap_or_else(|| panic!("section 11 does not say `{phrase}`"));
    let (_, rest) = rest.split_once("\n```").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split_once("\n```").unwrap().0
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn trust() -> Trust {
    Trust::verify(block("and `trust.json`").as_bytes(), key(1).public().thumbprint()).unwrap()
}

#[test]
fn the_keys_have_these_coordinates_and_thumbprints() {
    for (seed, who) in [(1, "root"), (2, "issuer"), (3, "alice")] {
        let public = *key(seed).public();
        let row = format!("| {who} | `{}` | `{}` |", public.jwk().x, public.thumbprint());
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn the_trust_bundle_is_made_of_this_payload() {
    let body: TrustBody = json::parse_as(block("The payload of the bundle").as_bytes()).unwrap();
    assert_eq!(String::from_utf8(Trust::sign(&body, &[&key(1)])).unwrap(), block("and `trust.json`"));
    assert_eq!((trust().version(), trust().realm().as_str()), (1, "demo"));
}

#[test]
fn the_credential_is_made_of_these_claims() {
    let claims: Claims = json::parse_as(block("The claims about alice").as_bytes()).unwrap();
    assert_eq!(Credential::issue(&claims, &key(2)), block("and the credential, signed by the issuer"));
}

#[test]
fn the_command_is_signed_so() {
    let credential = Credential::verify(block("and the credential, signed"), &trust(), NOW, SKEW).unwrap();
    let alice = Identity::new(key(3), credential).unwrap();
    let body = block("Alice pings worker-1");
    let signed = alice.sign(MessageType::Command, "cs.demo.cmd.client.worker-1".into(), body.into());

    let input = block("gives the first part of the signing input");
    let (protected, _) = input.split_once('.').unwrap();
    let signature = block("Its signature by alice");
    assert_eq!(signed.signature, format!("{protected}..{signature}"));
    assert_eq!(*alice.credential().key(), *key(3).public());
    assert!(PAGE.contains(&format!("The body, {} bytes", body.len())));
    let mut headers = block("Its headers are these").lines();
    assert_eq!(headers.next().unwrap(), format!("{SIGNATURE_HEADER}: {}", signed.signature));
    let (name, start) = headers.next().unwrap().split_once(": ").unwrap();
    assert!(name == CREDENTIAL_HEADER && signed.credential.starts_with(start.trim_end_matches('…')));
}

#[test]
fn the_message_on_the_wire_is_accepted() {
    let verifier = Verifier::new(Arc::new(trust()), SKEW);
    let (protected, _) = block("gives the first part").split_once('.').unwrap();
    let signature = format!("{protected}..{}", block("Its signature by alice"));
    let headers = [(SIGNATURE_HEADER, &*signature), (CREDENTIAL_HEADER, block("and the credential, signed"))];
    let body = Bytes::from_static(block("Alice pings worker-1").as_bytes());
    let delivery = Delivery::new("cs.demo.cmd.client.worker-1", false, headers, body);
    let opened = verifier.open::<Command>(&delivery, NOW).unwrap();

    let Command { command, reply_to, .. } = opened.message();
    assert_eq!(command.name.as_str(), "ping");
    assert!(PAGE.contains(&format!("`{}`", subject::reply(reply_to, &"worker-1".parse().unwrap()))));
    assert_eq!(opened.digest(), block("`command_digest` of its reply is").parse::<Digest>().unwrap());
}

#[test]
fn the_protected_header_is_the_first_part_of_the_signing_input() {
    let (protected, body) = block("gives the first part").split_once('.').unwrap();
    let encode = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    assert_eq!(
        (encode(block("The protected header")), encode(block("Alice pings worker-1"))),
        (protected.into(), body.into())
    );
}

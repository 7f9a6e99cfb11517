//! Enrolment (section 14). The first byte chooses: a made-up token, a token with a made-up content, a made-up request or answer, or such
//! with a made-up payload that the right key did sign.
#![no_main]

use std::sync::LazyLock;

use countersign_fuzz::{NOW, REALM, jws};
use countersign_protocol::digest::Digest;
use countersign_protocol::enrolment::{Answered, Expected, OpenedRequest, Token, open_answer};
use countersign_protocol::envelope::MessageType;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

/// That of the worker, which it has made itself.
static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::from_seed([4; 32]));

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match choice % 6 {
        0 => token(&String::from_utf8_lossy(rest)),
        1 => {
            let payload = BASE64URL_NOPAD.encode(rest);
            let check = BASE64URL_NOPAD.encode(&Sha256::digest(payload.as_bytes())[..6]);
            token(&format!("csenroll1.{payload}.{check}"));
        }
        2 => request(rest),
        3 => request(&signed(MessageType::EnrolmentRequest, &KEY, rest)),
        4 => assert!(answered(rest).is_none()),
        _ => {
            if let Some(Answered::Enrolled(enrolled)) =
                answered(&signed(MessageType::EnrolmentAnswer, &REALM.issuer, rest))
            {
                assert_eq!(enrolled.credential().key(), KEY.public());
                assert_eq!(enrolled.trust().pin(), REALM.pin);
            }
        }
    }
});

/// What is read as a token is the same when it is written and read again.
fn token(text: &str) {
    let Ok(token) = Token::parse(text) else { return };
    let again = token.to_text();
    assert_eq!(Token::parse(&again).unwrap().to_text(), again);
}

/// What is opened was signed by the key that it is about.
fn request(bytes: &[u8]) {
    let Ok(opened) = OpenedRequest::open(bytes) else { return };
    assert!(!opened.is_signed_by(opened.key()), "no key is a token's and the worker's");
    assert_eq!(opened.key(), KEY.public(), "nobody else's signature can be made up");
}

fn answered(bytes: &[u8]) -> Option<Answered> {
    let (realm, name) = (REALM.trust.realm(), REALM.client.name());
    let expected = Expected {
        pin: REALM.pin,
        realm: Some(realm),
        requests: &[Digest::of(b"asked")],
        name,
        groups: Some(&[]),
        key: KEY.public(),
    };
    open_answer(bytes, &expected, NOW, SKEW).ok()
}

fn signed(typ: MessageType, key: &SecretKey, payload: &[u8]) -> Vec<u8> {
    let [protected, payload, signature] = jws(typ, key, payload);
    format!(r#"{{"payload":"{payload}","signatures":[{{"protected":"{protected}","signature":"{signature}"}}]}}"#)
        .into_bytes()
}

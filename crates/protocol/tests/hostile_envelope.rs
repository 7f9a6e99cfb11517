//! What is thrown at an envelope: each is dropped, for the reason named.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use bytes::Bytes;
use countersign_protocol::command::Command;
use countersign_protocol::credential::{Claims, Commands, Credential, Grant};
use countersign_protocol::envelope::{
    CREDENTIAL_HEADER, Delivery, Identity, MessageType, Payload, Reason, Rejected, SIGNATURE_HEADER, Signed,
};
use countersign_protocol::limits::{MAX_BODY, MAX_CREDENTIAL, MAX_SIGNATURE};
use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use common::*;

/// Asserts that a delivery is dropped as a command for a reason, and whether the signer is known by then.
#[track_caller]
fn assert_dropped(delivery: &Delivery, reason: Reason, signer: Option<&str>) {
    let rejected = open::<Command>(delivery).unwrap_err();
    assert_eq!(rejected.reason, reason, "{rejected}");
    assert_eq!(rejected.signer.as_ref().map(|name| name.as_str()), signer, "{rejected}");
}

fn dropped<M: Payload>(delivery: &Delivery) -> Reason {
    match open::<M>(delivery) {
        Err(Rejected { reason, .. }) => reason,
        Ok(_) => panic!("accepted"),
    }
}

/// A command under some headers, whatever they are.
fn under(headers: &[(&str, &str)]) -> Delivery {
    Delivery::new(COMMAND, false, headers.iter().copied(), signed().body)
}

#[test]
fn an_honest_command_is_authentic() {
    let signed = signed();
    let authentic = open_command(&signed).unwrap();
    assert_eq!(authentic.message().from, name("alice"));
    assert_eq!(authentic.credential().raw(), &signed.credential);
    assert_eq!(authentic.digest(), countersign_protocol::digest::Digest::of(&signed.body));
}

// 1

#[test]
fn a_command_without_exactly_one_of_each_header_is_dropped() {
    let Signed { signature, credential, .. } = signed();
    let s = (SIGNATURE_HEADER, &*signature);
    let c = (CREDENTIAL_HEADER, &*credential);
    for headers in [
        &[][..],
        &[s],
        &[c],
        &[s, s, c],
        &[s, c, c],
        &[s, c, (SIGNATURE_HEADER, "")],
        &[("countersign-signature", &*signature), c],
        &[("COUNTERSIGN-SIGNATURE", &*signature), c],
        &[s, ("countersign-credential", &*credential)],
        &[("Countersign-Signature ", &*signature), c],
        &[(SIGNATURE_HEADER, ""), c],
        &[(SIGNATURE_HEADER, " \t "), c],
    ] {
        assert_dropped(&under(headers), Reason::Headers, None);
    }
    assert_dropped(&under(&[s, (CREDENTIAL_HEADER, "")]), Reason::Credential, None);
    assert!(open::<Command>(&under(&[s, c])).is_ok());
}

#[test]
fn other_headers_and_outer_white_space_are_passed_over() {
    let Signed { signature, credential, .. } = signed();
    let (signature, credential) = (format!("\t {signature}  "), format!(" {credential}\t"));
    let headers = [
        ("Nats-Msg-Id", "1"),
        (SIGNATURE_HEADER, &signature),
        ("countersign-signature", "x"),
        (CREDENTIAL_HEADER, &credential),
    ];
    assert!(open::<Command>(&under(&headers)).is_ok());
    for other in ["\u{a0}", "\n", "\r", "\u{b}"] {
        let signature = format!("{}{other}", signature.trim());
        assert_dropped(
            &under(&[(SIGNATURE_HEADER, &signature), (CREDENTIAL_HEADER, &credential)]),
            Reason::Signature,
            None,
        );
    }
}

#[test]
fn a_status_line_makes_a_message_none_of_ours() {
    let Signed { subject, signature, credential, body } = signed();
    let headers = [(SIGNATURE_HEADER, &*signature), (CREDENTIAL_HEADER, &*credential)];
    assert_dropped(&Delivery::new(&subject, true, headers, body), Reason::Headers, None);
}

#[test]
fn headers_over_their_limit_are_dropped_before_they_are_read() {
    let Signed { signature, credential, body, .. } = signed();
    let protected = "A".repeat(MAX_SIGNATURE - 2);
    assert_dropped(&delivery(&format!("{protected}.."), &credential, body.clone()), Reason::Type, None);
    assert_dropped(&delivery(&format!("{protected}A.."), &credential, body.clone()), Reason::Size, None);
    assert_dropped(&delivery(&signature, &"A".repeat(MAX_CREDENTIAL), body.clone()), Reason::Credential, None);
    assert_dropped(&delivery(&signature, &"A".repeat(MAX_CREDENTIAL + 1), body), Reason::Size, None);
}

#[test]
fn a_signature_that_is_not_detached_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    let attached = signature.replace("..", &format!(".{}.", BASE64URL_NOPAD.encode(&body)));
    assert_dropped(&delivery(&attached, &credential, body.clone()), Reason::Headers, None);
    assert_dropped(&delivery(&signature.replace("..", "."), &credential, body.clone()), Reason::Headers, None);
    assert_dropped(&delivery(&signature.replace("..", "..."), &credential, body.clone()), Reason::Signature, None);
    assert_dropped(&delivery(&format!("{signature}."), &credential, body), Reason::Signature, None);
}

// 2

/// Every way to flip one bit of some bytes.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

#[test]
fn a_command_with_any_bit_of_its_body_flipped_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    for body in flipped(&body) {
        assert_dropped(&delivery(&signature, &credential, body), Reason::Signature, None);
    }
}

#[test]
fn a_command_with_any_bit_of_its_signature_header_flipped_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    for signature in flipped(signature.as_bytes()) {
        let signature = String::from_utf8_lossy(&signature);
        let reason = dropped::<Command>(&delivery(&signature, &credential, body.clone()));
        assert!(matches!(reason, Reason::Headers | Reason::Type | Reason::Signature), "{signature}: {reason}");
    }
}

#[test]
fn a_command_with_any_bit_of_its_credential_flipped_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    for credential in flipped(credential.as_bytes()) {
        let credential = String::from_utf8_lossy(&credential);
        assert_dropped(&delivery(&signature, &credential, body.clone()), Reason::Credential, None);
    }
}

// 3

#[test]
fn a_protected_header_that_is_not_exactly_ours_is_dropped() {
    let kid = alice_key().public().thumbprint();
    let honest = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"countersign-command"}}"#);
    let reordered = format!(r#" {{"typ": "countersign-command", "kid": "{kid}", "alg": "EdDSA"}} "#);
    assert!(open_command(&signed_under(&honest)).is_ok());
    assert!(open_command(&signed_under(&reordered)).is_ok(), "any JSON of these members is theirs");

    let jwk = serde_json::to_string(&alice_key().public().jwk()).unwrap();
    let with = |member: &str| honest.replacen('{', &format!("{{{member},"), 1);
    for protected in [
        honest.replace("EdDSA", "none"),
        honest.replace("EdDSA", ""),
        honest.replace("EdDSA", "HS256"),
        honest.replace("EdDSA", "Ed25519"),
        honest.replace("EdDSA", "eddsa"),
        honest.replace("EdDSA", "EdDSA "),
        honest.replace(r#""EdDSA""#, "null"),
        honest.replace(r#""EdDSA""#, r#"["EdDSA"]"#),
        honest.replace(r#""alg":"EdDSA","#, ""),
        honest.replace(r#""alg""#, r#""ALG""#),
        with(&format!(r#""jwk":{jwk}"#)),
        with(r#""jku":"https://example.org/keys""#),
        with(r#""x5c":[]"#),
        with(r#""crit":["exp"],"exp":1"#),
        with(r#""crit":[]"#),
        with(r#""b64":false"#),
        with(r#""b64":true"#),
        with(r#""cty":"json""#),
        with(r#""alg":"EdDSA""#),
        with(r#""\u0061lg":"none""#),
        with(&format!(r#""kid":"{kid}""#)),
        with(r#""typ":"countersign-command""#),
        honest.replace("countersign-command", "JWT"),
        honest.replace("countersign-command", "Countersign-Command"),
        honest.replace(r#","typ":"countersign-command""#, ""),
        honest.replace(&format!(r#""kid":"{kid}","#), ""),
        honest.replace(&kid.to_string(), ""),
        honest.replace(&kid.to_string(), "../../etc/passwd"),
        honest.replace(&kid.to_string(), &format!("{kid}=")),
        honest.replace(&kid.to_string(), &format!("{kid}A")),
        format!("[{honest}]"),
        format!("{honest}{honest}"),
        format!("\u{feff}{honest}"),
        String::new(),
        "null".to_owned(),
        r#"["EdDSA"]"#.to_owned(),
    ] {
        let rejected = open_command(&signed_under(&protected)).unwrap_err();
        assert_eq!(rejected.reason, Reason::Type, "{protected}: {rejected}");
        assert_eq!(rejected.signer, None, "{protected}");
    }
}

#[test]
fn a_protected_header_in_another_base64_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    let (protected, signature) = signature.split_once("..").unwrap();
    let bytes = BASE64URL_NOPAD.decode(protected.as_bytes()).unwrap();
    let padded = BASE64URL.encode(&bytes);
    assert_ne!(padded, protected, "the header's length leaves bits over");
    let last = protected.chars().last().unwrap();
    let trailing = format!("{}{}", &protected[..protected.len() - 1], char::from(last as u8 + 1));
    for protected in [padded, trailing, format!("{protected}\n"), String::new()] {
        let delivery = delivery(&format!("{protected}..{signature}"), &credential, body.clone());
        assert_dropped(&delivery, Reason::Type, None);
    }
}

#[test]
fn an_hmac_keyed_with_the_public_key_is_dropped() {
    let kid = alice_key().public().thumbprint();
    let body = signed().body;
    for alg in ["HS256", "EdDSA"] {
        let protected = format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"countersign-command"}}"#);
        let protected = BASE64URL_NOPAD.encode(protected.as_bytes());
        let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(&body));
        let mac = BASE64URL_NOPAD.encode(&hmac_sha256(alice_key().public().as_bytes(), input.as_bytes()));
        let reason = if alg == "HS256" { Reason::Type } else { Reason::Signature };
        assert_dropped(&delivery(&format!("{protected}..{mac}"), &signed().credential, body.clone()), reason, None);
    }
}

fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).unwrap_or(&0) ^ byte).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).into()
}

// 4

#[test]
fn a_signature_of_another_form_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    let (protected, encoded) = signature.split_once("..").unwrap();
    let bytes: [u8; 64] = BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap().try_into().unwrap();
    let last = encoded.chars().last().unwrap();
    let trailing = char::from(last as u8 + 1);
    for signature in [
        String::new(),
        BASE64URL_NOPAD.encode(&plus_order(bytes)),
        BASE64URL_NOPAD.encode(&bytes[..63]),
        BASE64URL_NOPAD.encode(&[&bytes[..], &[0]].concat()),
        BASE64URL_NOPAD.encode(&[0; 64]),
        BASE64URL.encode(&bytes),
        format!("{encoded}="),
        format!("{}{trailing}", &encoded[..encoded.len() - 1]),
        format!("{encoded}A"),
        format!(" {encoded}"),
        encoded.to_uppercase(),
    ] {
        let delivery = delivery(&format!("{protected}..{signature}"), &credential, body.clone());
        assert_dropped(&delivery, Reason::Signature, None);
    }
}

/// The signature with the order of the group added to its S: it satisfies the equation just the same.
fn plus_order(mut signature: [u8; 64]) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    signature
}

// 6

#[test]
fn a_body_that_says_the_same_in_other_bytes_is_dropped() {
    let Signed { signature, credential, body, .. } = signed();
    let text = std::str::from_utf8(&body).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let mut members: Vec<_> =
        value.as_object().unwrap().iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    members.reverse();
    for body in [
        format!("{text} "),
        format!("{text}\n"),
        format!(" {text}"),
        serde_json::to_string_pretty(&value).unwrap(),
        format!("{{{}}}", members.join(",")),
        text.replace("ping", r"\u0070ing"),
    ] {
        assert_ne!(body, text);
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), value);
        assert_dropped(&delivery(&signature, &credential, body), Reason::Signature, None);
    }
}

// 8

#[test]
fn what_another_key_signed_is_dropped() {
    let connection_key = key(9);
    let Signed { signature, credential, body, .. } = signed();
    let (protected, _) = signature.split_once("..").unwrap();
    let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(&body));
    let nonce_signature = BASE64URL_NOPAD.encode(&connection_key.sign(input.as_bytes()));
    assert_dropped(
        &delivery(&format!("{protected}..{nonce_signature}"), &credential, body.clone()),
        Reason::Signature,
        None,
    );

    let kid = connection_key.public().thumbprint();
    let protected = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"countersign-command"}}"#);
    assert_dropped(&signed_under(&protected).delivery(), Reason::Signature, None);
}

// 9

#[test]
fn a_command_under_a_credential_that_does_not_hold_is_dropped() {
    let issued = |change: fn(&mut Claims)| {
        let mut claims = alice_claims();
        change(&mut claims);
        Credential::issue(&claims, &issuer())
    };
    let Signed { signature, body, .. } = signed();
    for credential in [
        Credential::issue(&alice_claims(), &key(9)),
        issued(|claims| claims.exp = NOW_S - 6),
        issued(|claims| claims.nbf = NOW_S + 6),
        issued(|claims| claims.realm = name("other")),
        issued(|claims| claims.iss = name("other")),
    ] {
        assert_dropped(&delivery(&signature, &credential, body.clone()), Reason::Credential, None);
    }
}

// 10

#[test]
fn another_credential_of_the_same_key_swapped_in_is_dropped() {
    let grant = Grant { commands: Commands::Only(vec![name("status")]), ..alice_claims().grant.unwrap() };
    let narrow = Claims { grant: Some(grant), ..alice_claims() };
    let narrow = Identity::new(alice_key(), credential(&narrow)).unwrap();
    let signed = narrow.sign(MessageType::Command, COMMAND.to_owned(), command().to_string().into_bytes());
    assert!(open_command(&signed).is_ok());
    let broader = Credential::issue(&Claims { jti: WORKER.parse().unwrap(), ..alice_claims() }, &issuer());
    let swapped = Signed { credential: broader.into(), ..signed };
    assert_dropped(&swapped.delivery(), Reason::Credential, Some("alice"));
}

#[test]
fn a_command_from_another_name_than_its_credential_vouches_for_is_dropped() {
    assert_dropped(
        &sign_command(&command_with(json!({ "from": "bob" }))).delivery(),
        Reason::Credential,
        Some("alice"),
    );
}

// The envelope, once the signature holds: the signer is known.

#[test]
fn a_signed_body_that_breaks_section_3_is_dropped_and_names_its_signer() {
    let text = command().to_string();
    for body in [
        String::new(),
        "null".to_owned(),
        format!("[{text}]"),
        format!("{text}{text}"),
        text.replacen('{', r#"{"v":1,"#, 1),
        text.replace("\"v\":1", "\"v\":1e400"),
    ] {
        let signed = alice().sign(MessageType::Command, COMMAND.to_owned(), body.into_bytes());
        assert_dropped(&signed.delivery(), Reason::Json, Some("alice"));
    }
    let signed = alice().sign(MessageType::Command, COMMAND.to_owned(), vec![0xff]);
    assert_dropped(&signed.delivery(), Reason::Json, Some("alice"));
}

#[test]
fn a_signed_body_that_is_no_command_is_dropped_and_names_its_signer() {
    let mut without_id = command();
    without_id.as_object_mut().unwrap().remove("id");
    for body in [
        json!({}),
        without_id,
        command_with(json!({ "v": 2 })),
        command_with(json!({ "v": 1.0 })),
        command_with(json!({ "also": 1 })),
        command_with(json!({ "to": { "client": "worker-1", "all": true } })),
        command_with(json!({ "dry_run": false })),
        command_with(json!({ "epoch": null })),
        command_with(json!({ "issued_at": 0.5 })),
        reply(),
    ] {
        assert_dropped(&sign_command(&body).delivery(), Reason::Envelope, Some("alice"));
    }
}

#[test]
fn a_command_for_another_realm_is_dropped() {
    assert_dropped(&sign_command(&command_with(json!({ "realm": "other" }))).delivery(), Reason::Realm, Some("alice"));
}

#[test]
fn a_command_that_arrives_on_another_subject_is_dropped() {
    for subject in ["cs.demo.cmd.client.worker-2", "cs.demo.cmd.all", "", "cs.demo.cmd.client.worker-1.x"] {
        let moved = Signed { subject: subject.to_owned(), ..signed() };
        assert_dropped(&moved.delivery(), Reason::Address, Some("alice"));
    }
}

#[test]
fn the_checks_come_in_the_order_of_section_9() {
    let Signed { signature, credential, body, .. } = signed();
    let oversize = vec![b' '; MAX_BODY + 1];
    let headers = [(SIGNATURE_HEADER, "x")];
    assert_dropped(&Delivery::new("", true, headers, Bytes::from(oversize)), Reason::Size, None);
    assert_dropped(&delivery("x", "x", ""), Reason::Headers, None);
    assert_dropped(&delivery("x..x", "x", ""), Reason::Type, None);
    assert_dropped(&delivery(&signature, "x", ""), Reason::Credential, None);
    assert_dropped(&delivery(&signature, &credential, ""), Reason::Signature, None);
    let all_wrong = json!({ "realm": "other", "from": "bob", "subject": "x" });
    let body = [
        (all_wrong.clone(), Reason::Envelope),
        (command_with(all_wrong), Reason::Realm),
        (command_with(json!({ "from": "bob", "subject": "x" })), Reason::Credential),
        (command_with(json!({ "subject": "x" })), Reason::Address),
    ]
    .into_iter()
    .chain([(serde_json::from_slice(&body).unwrap(), Reason::Address)]);
    for (body, reason) in body {
        let moved = Signed { subject: "cs.demo.cmd.all".to_owned(), ..sign_command(&body) };
        assert_dropped(&moved.delivery(), reason, Some("alice"));
    }
}

// 25

#[test]
fn a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() {
    let padded = |length: usize| {
        let bare = command_with(json!({ "command": { "name": "ping", "args": { "pad": "" } } })).to_string().len();
        let pad = "x".repeat(length - bare);
        sign_command(&command_with(json!({ "command": { "name": "ping", "args": { "pad": pad } } })))
    };
    let exactly = padded(MAX_BODY);
    assert_eq!(exactly.body.len(), MAX_BODY);
    assert!(open_command(&exactly).is_ok());
    assert_dropped(&padded(MAX_BODY + 1).delivery(), Reason::Size, None);
}

#[test]
fn an_identity_is_refused_whose_key_is_not_the_credentials() {
    let error = Identity::new(worker_key(), credential(&alice_claims())).unwrap_err();
    assert_eq!(error.expected, alice_key().public().thumbprint());
    assert_eq!(error.got, worker_key().public().thumbprint());
}

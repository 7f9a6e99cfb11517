//! Messages that are not authentic commands: each is dropped, counted under its reason, and changes nothing. What is thrown
//! would end the client if it were obeyed.

use countersign_protocol::envelope::{CREDENTIAL_HEADER, SIGNATURE_HEADER, Signed};
use countersign_testkit::hostile::{Message, Peer, header_block};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::{Forger, commands, is_end_of_job};

/// A genuine `calculate` as the observer saw it on its way, and everything until the end of its job.
fn captured(fleet: &Fleet, observer: &mut Peer) -> (Signed, Vec<Message>) {
    fleet.run(&["calculate", "worker-1", "0", "genuine"]).exits(0);
    let observed = observer.until("the end of the job", is_end_of_job);
    (commands(&observed, "worker-1", "calculate")[0].signed(), observed)
}

/// Nothing has happened: the client has dropped just that, is as ready as before, and obeys the next honest command.
fn nothing_happened(fleet: &Fleet, expected: &[(&str, u64)]) {
    let info = fleet.dropped("worker-1", expected);
    assert_eq!((&info["state"], &info["jobs"]["running"]), (&json!("ready"), &json!(0)));
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
}

#[test]
fn a_command_without_exactly_one_signature_and_one_credential_is_dropped() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let command = forger.command("terminate", json!({}));
    let (signature, credential) = ((SIGNATURE_HEADER, &*command.signature), (CREDENTIAL_HEADER, &*command.credential));
    let in_lower_case = ("countersign-signature", signature.1);
    let throw = |headers: Option<&[u8]>| forger.peer.borrow().publish(&command.subject, None, headers, &command.body);
    throw(None);
    for headers in [
        &[][..],
        &[credential],
        &[signature],
        &[(SIGNATURE_HEADER, ""), credential],
        &[signature, signature, credential],
        &[signature, credential, credential],
        &[in_lower_case, credential],
    ] {
        throw(Some(&header_block(headers)));
    }
    let with_status = [b"NATS/1.0 200 OK".as_slice(), &header_block(&[signature, credential])[8..]].concat();
    throw(Some(&with_status));
    let too_long = format!("{}{}", signature.1, "A".repeat(1_024));
    throw(Some(&header_block(&[(SIGNATURE_HEADER, &too_long), credential])));
    nothing_happened(&fleet, &[("headers", 9), ("size", 1)]);
}

#[test]
fn a_flipped_bit_anywhere_makes_a_captured_command_worthless() {
    let (fleet, worker) = Fleet::ready();
    let (genuine, _) = captured(&fleet, &mut fleet.observer());
    let forger = Forger::new(&fleet);
    let flip = |text: &[u8], at: usize| {
        let mut text = text.to_vec();
        // The lowest bit never makes a line end or a space of what is in a header.
        text[at] ^= 1;
        text
    };
    let flip_text = |text: &str, at| String::from_utf8(flip(text.as_bytes(), at)).unwrap();
    let mut counts = [0; 3];
    for at in (0..genuine.body.len()).step_by(29) {
        forger.send(&Signed { body: flip(&genuine.body, at).into(), ..genuine.clone() });
        counts[0] += 1;
    }
    let last = genuine.signature.len() - 1;
    let (protected, dots) = (0..genuine.signature.find("..").unwrap(), genuine.signature.find("..").unwrap());
    for at in (dots + 2..last).step_by(7).chain([last]) {
        forger.send(&Signed { signature: flip_text(&genuine.signature, at), ..genuine.clone() });
        counts[0] += 1;
    }
    for at in protected.step_by(11) {
        forger.send(&Signed { signature: flip_text(&genuine.signature, at), ..genuine.clone() });
        counts[1] += 1;
    }
    let last = genuine.credential.len() - 1;
    for at in (0..last).step_by(31).chain([last]) {
        forger.send(&Signed { credential: flip_text(&genuine.credential, at).into(), ..genuine.clone() });
        counts[2] += 1;
    }
    // A bit of the protected header may also leave a header that is well-formed: then the signature does not hold.
    let info = fleet.dropped_in_all("worker-1", counts.iter().sum());
    let dropped = |reason: &str| info["dropped"][reason].as_u64().unwrap_or(0);
    assert_eq!(dropped("credential"), counts[2], "{info}");
    assert!(dropped("signature") >= counts[0] && dropped("type") <= counts[1], "{info}");
    assert_eq!(dropped("signature") + dropped("type"), counts[0] + counts[1], "{info}");
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(worker.printed(), "genuine\n");
}

#[test]
fn a_protected_header_of_another_form_is_dropped_before_any_cryptography() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let body = forger.terminate().to_string();
    let honest = forger.protected();
    let with = |member: &str, value: Value| {
        let mut protected = honest.clone();
        protected[member] = value;
        protected.to_string()
    };
    let jwk = json!(forger.key.public().jwk());
    let kid = honest["kid"].as_str().unwrap();
    let mut thrown: Vec<String> =
        ["none", "HS256", "Ed25519", "eddsa", "EDDSA", ""].map(|alg| with("alg", json!(alg))).to_vec();
    thrown.extend([
        with("jwk", jwk),
        with("jku", json!("https://example.org/keys")),
        with("x5c", json!([])),
        with("crit", json!(["b64"])),
        with("b64", json!(false)),
        with("anything", json!(1)),
        with("typ", json!("countersign-reply")),
        with("typ", json!("countersign-event")),
        with("typ", json!("countersign-credential")),
        with("typ", json!("JWT")),
        with("kid", json!("../../keys/root")),
        with("kid", json!(null)),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","alg":"EdDSA","kid":"{kid}","typ":"countersign-command"}}"#),
        "[]".to_owned(),
        String::new(),
    ]);
    for protected in &thrown {
        forger.send(&forger.seal(protected, body.as_bytes()));
    }
    // Not base64url at all, padded, and with the bits of another spelling at its end.
    let genuine = forger.command("terminate", json!({}));
    for (from, to) in [("ey", "e*"), ("..", "=..")] {
        forger.send(&Signed { signature: genuine.signature.replacen(from, to, 1), ..genuine.clone() });
    }
    nothing_happened(&fleet, &[("type", thrown.len() as u64 + 2)]);
    assert_eq!(
        forger.request(&forger.seal(&honest.to_string(), body.as_bytes()))["status"],
        "succeeded",
        "without a change it is one"
    );
}

#[test]
fn a_signature_of_another_length_spelling_or_scalar_is_dropped() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let command = forger.command("terminate", json!({}));
    let (protected, signature) = command.signature.split_once("..").unwrap();
    let bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    let encoded = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let mut plus_order = bytes.clone();
    add_group_order(&mut plus_order[32..]);
    // The last character of 64 bytes has four bits that must be zero.
    let other_spelling = format!("{}{}", &signature[..85], char::from(signature.as_bytes()[85] + 1));
    let thrown = [
        encoded(&plus_order),
        encoded(&bytes[..63]),
        encoded(&[bytes.as_slice(), &[0]].concat()),
        encoded(&[0; 64]),
        format!("{signature}=="),
        signature.replacen(['-', '_'], "+", 1).replacen(|c: char| c.is_ascii_digit(), "/", 1),
        other_spelling,
        String::new(),
    ];
    for signature in &thrown {
        forger.send(&Signed { signature: format!("{protected}..{signature}"), ..command.clone() });
    }
    nothing_happened(&fleet, &[("signature", thrown.len() as u64)]);
}

/// S + L, where L is the order of the group: the same point equation, and another signature.
fn add_group_order(scalar: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in scalar.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
}

#[test]
fn a_body_that_is_written_another_way_no_longer_has_its_signature() {
    let (fleet, worker) = Fleet::ready();
    let (genuine, _) = captured(&fleet, &mut fleet.observer());
    let forger = Forger::new(&fleet);
    let value: Value = serde_json::from_slice(&genuine.body).unwrap();
    let text = String::from_utf8(genuine.body.to_vec()).unwrap();
    for body in [
        serde_json::to_string_pretty(&value).unwrap(),
        format!("{text} "),
        format!(" {text}"),
        text.replace("\"genuine\"", "\"\\u0067enuine\""),
        text.replacen("{\"v\":1,", "{", 1).replacen('}', ",\"v\":1}", 1),
        String::new(),
    ] {
        assert_ne!(body, text);
        forger.send(&Signed { body: body.into(), ..genuine.clone() });
    }
    nothing_happened(&fleet, &[("signature", 6)]);
    assert_eq!(worker.printed(), "genuine\n");
}

#[test]
fn a_genuine_reply_event_or_credential_is_never_taken_for_a_command() {
    let (fleet, _worker) = Fleet::ready();
    let mut observer = fleet.observer();
    let (_, observed) = captured(&fleet, &mut observer);
    let forger = Forger::new(&fleet);
    let of_the_client = observed.iter().filter(|it| it.subject.contains(".reply.") || it.subject.contains(".event."));
    let mut thrown = 0;
    for message in of_the_client {
        forger.peer.borrow().send_to("cs.demo.cmd.client.worker-1", &message.signed());
        thrown += 1;
    }
    assert!(thrown >= 4, "accepted, two of the job, the final reply: {thrown}");
    let raw = forger.identity.credential().raw();
    let parts: Vec<&str> = raw.split('.').collect();
    let mut as_command = forger.command("terminate", json!({}));
    as_command.signature = format!("{}..{}", parts[0], parts[2]);
    as_command.body = BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap().into();
    forger.send(&as_command);
    nothing_happened(&fleet, &[("type", thrown + 1)]);
}

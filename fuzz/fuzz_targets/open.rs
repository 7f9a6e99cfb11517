//! Opening a delivery (section 9). The first byte chooses: headers and body as they are made up, or a made-up body that
//! an operator or a client did sign, so that what lies behind the signature is reached.
#![no_main]

use bytes::Bytes;
use countersign_fuzz::{NOW, REALM};
use countersign_protocol::command::Command;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, Delivery, MessageType, Reason, SIGNATURE_HEADER};
use countersign_protocol::event::Event;
use countersign_protocol::reply::Reply;
use countersign_protocol::subject;
use libfuzzer_sys::fuzz_target;

const SUBJECT: &str = "cs.demo.cmd.client.worker-1";

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match choice % 4 {
        0 => unsigned(rest),
        1 => command(rest),
        2 => reply(rest),
        _ => event(rest),
    }
});

/// Lines of text are header values, beginning with the signature; what follows an empty one is the body.
fn unsigned(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let names = [SIGNATURE_HEADER, CREDENTIAL_HEADER].into_iter().cycle();
    let genuine = REALM.operator.credential().raw();
    let headers =
        names.zip(head.lines()).map(|(name, value)| (name, if value == "genuine" { &**genuine } else { value }));
    let delivery = Delivery::new(SUBJECT, false, headers, Bytes::copy_from_slice(body.as_bytes()));
    let rejected = REALM.verifier.open::<Command>(&delivery, NOW).expect_err("nobody signed it");
    assert!(rejected.reason <= Reason::Signature && rejected.signer.is_none());
}

fn command(body: &[u8]) {
    let signed = REALM.operator.sign(MessageType::Command, SUBJECT.into(), body.to_vec());
    let delivery = signed.delivery();
    if let Ok(authentic) = REALM.verifier.open::<Command>(&delivery, NOW) {
        let command = authentic.message();
        assert_eq!((command.realm.as_str(), command.from.as_str(), &*command.subject), ("demo", "alice", SUBJECT));
        assert_eq!(command.credential, REALM.operator.credential().jti());
    }
    assert!(REALM.verifier.open::<Reply>(&delivery, NOW).is_err_and(|rejected| rejected.reason == Reason::Type));
    assert!(REALM.verifier.open::<Event>(&delivery, NOW).is_err_and(|rejected| rejected.reason == Reason::Type));
}

fn reply(body: &[u8]) {
    let subject = "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1";
    let signed = REALM.client.sign(MessageType::Reply, subject.into(), body.to_vec());
    if let Ok(authentic) = REALM.verifier.open::<Reply>(&signed.delivery(), NOW) {
        assert!(subject::parse_reply(&authentic.message().subject).is_some());
        let _ = authentic.message().outcome();
    }
    assert!(REALM.verifier.open::<Command>(&signed.delivery(), NOW).is_err());
}

fn event(body: &[u8]) {
    let subject = "cs.demo.event.worker-1.presence".to_owned();
    let signed = REALM.client.sign(MessageType::Event, subject, body.to_vec());
    if let Ok(authentic) = REALM.verifier.open::<Event>(&signed.delivery(), NOW) {
        let _ = authentic.message().data();
    }
    assert!(REALM.verifier.open::<Command>(&signed.delivery(), NOW).is_err());
}

//! Made-up headers and bodies: whatever arrives is dropped.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::envelope::{MessageType, Reason};
use countersign_protocol::event::Event;
use countersign_protocol::reply::Reply;
use proptest::prelude::*;

use common::*;

proptest! {
    #[test]
    fn arbitrary_headers_and_bodies_are_dropped(
        signature in header(signed().signature),
        credential in header(signed().credential.to_string()),
        body in prop_oneof![Just(signed().body.to_vec()), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let honest = signed();
        prop_assume!((&*signature, &*credential, &body[..]) != (&*honest.signature, &*honest.credential, &honest.body[..]));
        let delivery = delivery(&signature, &credential, body);
        prop_assert!(open::<Command>(&delivery).is_err());
        prop_assert!(open::<Reply>(&delivery).is_err());
        prop_assert!(open::<Event>(&delivery).is_err());
    }

    #[test]
    fn arbitrary_bytes_under_a_genuine_signature_are_dropped(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let signed = alice().sign(MessageType::Command, COMMAND.to_owned(), body);
        let rejected = open_command(&signed).unwrap_err();
        prop_assert!(matches!(rejected.reason, Reason::Json | Reason::Envelope));
        prop_assert_eq!(rejected.signer, Some(name("alice")));
    }
}

/// The honest value, parts of it put together in another way, or anything.
fn header(honest: String) -> impl Strategy<Value = String> {
    let parts: Vec<String> = honest.split('.').map(str::to_owned).collect();
    prop_oneof![
        Just(honest),
        prop::collection::vec(prop::sample::select(parts), 0..5).prop_map(|parts| parts.join(".")),
        "[A-Za-z0-9_.-]{0,200}",
        any::<String>(),
    ]
}

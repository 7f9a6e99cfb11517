//! Copies of a message that was opened already (section 8): a few are opened, and no more is spent on the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::envelope::{MessageType, Reason, Signed, Verifier};
use countersign_protocol::event::Event;
use countersign_protocol::limits::SKEW;
use countersign_protocol::time::Millis;

use common::*;

fn sign(body: &[u8]) -> Signed {
    alice().sign(MessageType::Command, COMMAND.to_owned(), body.to_vec())
}

fn genuine() -> Signed {
    sign(command().to_string().as_bytes())
}

/// What became of a hundred copies: how many were opened, and the others by their reason.
fn deliver(verifier: &Verifier, message: &Signed, now: Millis) -> (usize, Vec<Reason>) {
    let results: Vec<_> = (0..100).map(|_| verifier.open::<Command>(&message.delivery(), now)).collect();
    let opened = results.iter().filter(|result| result.is_ok()).count();
    (opened, results.into_iter().filter_map(Result::err).map(|rejected| rejected.reason).collect())
}

#[test]
fn ten_copies_of_a_message_are_opened_in_a_second_and_the_others_are_repeats() {
    let verifier = verifier().sparing_copies();
    assert_eq!(deliver(&verifier, &genuine(), NOW), (10, vec![Reason::Repeat; 90]));
    assert_eq!(deliver(&verifier.clone(), &genuine(), NOW.plus(999)), (0, vec![Reason::Repeat; 100]), "clones share");
    assert_eq!(deliver(&verifier, &genuine(), NOW.plus(1_000)), (10, vec![Reason::Repeat; 90]));
    let rejected = verifier.open::<Command>(&genuine().delivery(), NOW.plus(1_000)).unwrap_err();
    assert_eq!(rejected.signer, Some(name("alice")));
}

#[test]
fn what_is_no_copy_is_opened_however_much_of_it_there_is() {
    let verifier = verifier().sparing_copies();
    for number in 0..1_000 {
        let mut body = command();
        body["issued_at"] = (NOW.get() - number).into();
        assert!(verifier.open::<Command>(&sign(body.to_string().as_bytes()).delivery(), NOW).is_ok(), "{number}");
    }
}

#[test]
fn a_copy_is_found_before_it_is_parsed() {
    let verifier = verifier().sparing_copies();
    let no_json = sign(b"no JSON");
    let expected: Vec<Reason> = [[Reason::Json; 10].as_slice(), &[Reason::Repeat; 90]].concat();
    assert_eq!(deliver(&verifier, &no_json, NOW), (0, expected));
}

#[test]
fn copies_under_an_expired_credential_are_counted_too() {
    let verifier = verifier().sparing_copies();
    let event = worker().sign(MessageType::Event, EVENT.to_owned(), event().to_string().into_bytes());
    let expired = NOW.plus(100_000 + SKEW);
    let open = || verifier.open::<Event>(&event.delivery(), expired).unwrap_err();
    let named = (0..100).filter(|_| open().expired.is_some()).count();
    assert_eq!(named, 10);
}

#[test]
fn who_has_no_key_takes_nothing_of_what_the_genuine_message_has() {
    let verifier = verifier().sparing_copies();
    let other = genuine();
    let forged = Signed { signature: sign(b"{}").signature, ..genuine() };
    assert_eq!(deliver(&verifier, &forged, NOW), (0, vec![Reason::Signature; 100]));
    let elsewhere = Signed { subject: "cs.demo.cmd.all".to_owned(), ..genuine() };
    assert_eq!(deliver(&verifier, &elsewhere, NOW).1[..10], [Reason::Address; 10]);
    assert_eq!(deliver(&verifier, &other, NOW).0, 10);
}

#[test]
fn a_verifier_that_does_not_spare_copies_opens_them_all() {
    assert_eq!(deliver(&Verifier::new(trust(), SKEW), &genuine(), NOW), (100, vec![]));
}

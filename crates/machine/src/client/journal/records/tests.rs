#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::mem::size_of;

use countersign_protocol::id::Uuid;
use countersign_protocol::reply::Outcome;
use countersign_testkit::realm::{Realm, START, message_id, name};
use serde_json::json;

use super::*;
use crate::client::message::Outbox;
use crate::client::state::State;

const REPLY_TO: &str = "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.";

fn started(n: u64) -> Started {
    let key = JobKey { id: message_id(n), operator: Thumbprint::MIN };
    let reply_to = format!("{REPLY_TO}{}", key.id);
    let reply_context = ReplyContext { key, operator: name("alice"), reply_to, digest: Digest::of(&n.to_be_bytes()) };
    Started { reply_context, command: name("ping"), long_running: false, at: START, until: START.plus(95_000) }
}

fn outbox() -> Outbox {
    let worker = Realm::new("demo").client("worker-1", &[]);
    Outbox::new(worker, Uuid::from_random([1; 16]), Uuid::from_random([2; 16]))
}

#[test]
fn the_oldest_replies_make_room_and_their_status_stays() {
    let mut records = Records::new(100, 250);
    for n in 0..4 {
        let started = started(n);
        let (key, at) = (started.reply_context.key, START.plus(i64::try_from(n).unwrap()));
        records.begin(started);
        let (subject, signature, credential) = ("s".to_owned(), "s".to_owned(), "c".into());
        let reply = Signed { subject, signature, credential, body: vec![b'b'; 98].into() };
        records.end(Finished { key, at, status: Status::Succeeded, reply: Some(reply) });
    }
    let retained = |n| records.find(started(n).reply_context.key).map(|record| record.answer().is_some());
    assert_eq!([0, 1, 2, 3].map(retained), [Some(false), Some(false), Some(true), Some(true)]);
    assert_eq!(records.retained_bytes, 200);
    records.purge(START.plus(95_000));
    assert_eq!((records.retained_bytes, records.records.len(), records.operators.len()), (0, 0, 0));
}

#[test]
fn a_retained_reply_is_short_and_put_together_again_byte_for_byte() {
    let mut outbox = outbox();
    let mut signers = Interner::default();
    let reply_context = started(7).reply_context;
    for (outcome, length) in [
        (Outcome::Succeeded(json!(1_795_485_600)), 120),
        (Outcome::Succeeded(json!({"x": 0.1, "msg": "\u{fc}\"\n"})), 140),
        (Outcome::Refused(crate::client::message::not_found()), 240),
    ] {
        let (reply, status) = outbox.fitting(&reply_context, 3, outcome, State::Ready, START);
        let retained = RetainedReply::new(reply.clone(), &reply_context, status, &mut signers);
        assert!(
            matches!(retained, RetainedReply::CompactReply(_)) && retained.weight() < length,
            "{} bytes",
            retained.weight()
        );
        assert_eq!(retained.signed(&reply_context, status), reply);
        let other = ReplyContext { reply_to: format!("{REPLY_TO}{}", message_id(8)), ..reply_context.clone() };
        let retained = RetainedReply::new(reply.clone(), &other, status, &mut signers);
        assert_eq!(
            (retained.signed(&other, status), retained.weight() > 500),
            (reply, true),
            "what does not fit is kept whole"
        );
    }
}

#[test]
fn a_record_and_its_reply_are_small_and_what_records_share_is_there_once() {
    assert!(size_of::<Record>() <= 192, "{}", size_of::<Record>());
    assert_eq!(size_of::<(Millis, RecordKey)>(), 32);
    let mut records = Records::new(100, 1_000);
    (0..3).for_each(|n| records.begin(started(n)));
    let [first, .., last] = &records.after(None, 9)[..] else { panic!() };
    assert!(Arc::ptr_eq(&first.reply_to, &last.reply_to) && Arc::ptr_eq(&first.command, &last.command));
    assert!(Arc::ptr_eq(&first.key.operator, &last.key.operator) && Arc::ptr_eq(&first.operator, &last.operator));
    assert_eq!(first.reply_context(), started(0).reply_context);
}

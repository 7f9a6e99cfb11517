//! Sections 5 and 10: what the broker takes of one message, at the server.

use countersign_machine::server::{Audience, Options, RequestError};
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use serde_json::json;

use super::common::{World, calculate, calculated, names, ping, request};

fn too_large() -> Outcome {
    Outcome::Failed(ErrorBody::new(ErrorCode::ResultTooLarge, "it does not fit"))
}

#[test]
fn a_request_of_exactly_what_the_broker_takes_is_sent_and_of_one_byte_more_not_to_anybody() {
    let world = World::new();
    let clients = Audience::Clients(names(&["worker-1", "worker-2"]));
    let text = |length: usize| request("press", json!({ "text": "x".repeat(length) }));
    let mut server = world.server();
    server.submit(text(1_000), &clients, Options::default()).unwrap();
    let size = server.sent[0].size();
    for (length, sent) in [(1_000, 2), (1_001, 0)] {
        let mut server = world.server();
        server.operator.broker_takes(size);
        let given = server.submit(text(length), &clients, Options::default());
        assert_eq!(
            (given.err(), server.sent.len()),
            match sent {
                0 => (Some(RequestError::OverLimit { size: size + 1, limit: size }), 0),
                sent => (None, sent),
            }
        );
        assert_eq!(server.operator.wake_at().is_some(), sent > 0, "what was not sent is not awaited");
    }
}

#[test]
fn a_wait_for_an_answer_to_what_could_not_be_sent_ends_at_once() {
    let world = World::new();
    let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.operator.broker_takes(100);
    let lost = server.sent[0].clone();
    let effects = server.operator.unsent(&lost, server.now);
    server.apply(effects);
    assert!(server.notices()[0].contains("the broker takes 100 at most (max_payload)"), "{:?}", server.notices());
    let command = server.sent[1].clone();
    server.take(&world.answer(&command, super::common::pong()));
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("no_reply", "succeeded"));
}

#[test]
fn a_reply_that_stands_in_for_one_that_does_not_fit_contradicts_nothing_before_or_after() {
    let world = World::new();
    for (first, second) in [(too_large(), calculated()), (calculated(), too_large())] {
        let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
        let command = server.sent[0].clone();
        let word = first.status().to_string();
        server.take(&world.answer(&command, first));
        server.take(&world.answer(&command, second));
        assert_eq!((server.alarms(), server.operator.ignored().len()), (0, 0));
        let other = server.sent[1].clone();
        server.take(&world.answer(&other, calculated()));
        assert_eq!(server.word("worker-1"), word, "the first stands");
    }
}

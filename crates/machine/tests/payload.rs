//! Sections 5 and 10: what the broker takes of one message, at the client.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use common::{Worker, refusal};
use countersign_machine::client::{Effect, ExecutionResult};
use countersign_protocol::envelope::Signed;
use countersign_protocol::reply::{ErrorCode, Outcome, Reply, Status};
use serde_json::{Value, json};

/// More than any small reply takes, and less than a large one.
const LIMIT: usize = 5_000;

fn status(reply: &Reply) -> (Status, Option<ErrorCode>) {
    (reply.status, reply.error.as_ref().map(|error| error.code))
}

const TOO_LARGE: (Status, Option<ErrorCode>) = (Status::Failed, Some(ErrorCode::ResultTooLarge));

/// A job that has ended with a text of so many bytes: its command, and its final reply.
fn finished(worker: &mut Worker, length: usize) -> (Signed, Signed) {
    let command = worker.calculate(1.0);
    let key = worker.running.remove(0).key();
    let result = json!({ "x": 1, "msg": "a".repeat(length) });
    let step = worker.client.finished(key, ExecutionResult::Done(result), worker.now);
    let published = worker.apply(step);
    (command, published.into_iter().find(|message| message.subject.contains(".reply.")).unwrap())
}

fn read(worker: &Worker, message: &Signed) -> Reply {
    worker.replies(std::slice::from_ref(message)).remove(0)
}

#[test]
fn a_result_larger_than_the_broker_takes_is_too_large_for_good_and_one_that_just_fits_is_not() {
    let mut worker = Worker::ready();
    let (_, whole) = finished(&mut worker, 4_000);
    worker.client.broker_takes(whole.size());
    let (_, fits) = finished(&mut worker, 4_000);
    assert_eq!((read(&worker, &fits).status, fits.size()), (Status::Succeeded, whole.size()));
    let (command, reply) = finished(&mut worker, 4_001);
    assert_eq!(status(&read(&worker, &reply)), TOO_LARGE);
    assert!(reply.size() <= whole.size());
    worker.client.broker_takes(usize::MAX);
    assert_eq!(worker.deliver(&command), [reply], "that is what is on record");
}

#[test]
fn a_recorded_reply_that_no_longer_fits_is_stood_in_for_and_sent_again_when_it_fits() {
    let mut worker = Worker::ready();
    let (command, whole) = finished(&mut worker, 4_000);
    let n = read(&worker, &whole).n;
    worker.client.broker_takes(LIMIT);
    let stand_in = worker.deliver(&command).remove(0);
    assert_eq!(status(&read(&worker, &stand_in)), TOO_LARGE);
    assert!(stand_in.size() <= LIMIT && read(&worker, &stand_in).n > n);
    worker.client.broker_takes(usize::MAX);
    assert_eq!(worker.deliver(&command), [whole]);
}

#[test]
fn a_reply_that_could_not_be_sent_is_stood_in_for_and_another_message_only_logged() {
    let mut worker = Worker::ready();
    let (command, whole) = finished(&mut worker, 4_000);
    worker.client.broker_takes(LIMIT);
    let step = worker.client.unsent(&whole, worker.now);
    let reported =
        step.effects.iter().any(|effect| matches!(effect, Effect::Log(note) if note.text.contains("max_payload")));
    let published = worker.apply(step);
    assert!(reported);
    assert_eq!(published.iter().map(|it| status(&read(&worker, it))).collect::<Vec<_>>(), [TOO_LARGE]);
    // Where not even that fits, it is not tried for ever.
    for message in [&published[0], &command] {
        let step = worker.client.unsent(message, worker.now);
        assert_eq!(worker.apply(step), []);
    }
    worker.client.broker_takes(100);
    let step = worker.client.unsent(&whole, worker.now);
    assert_eq!(worker.apply(step), []);
}

#[test]
fn a_queried_result_that_does_not_fit_shows_its_status_all_the_same() {
    let mut worker = Worker::ready();
    let (command, _) = finished(&mut worker, 4_000);
    let id = serde_json::from_slice::<Value>(&command.body).unwrap()["id"].clone();
    let Outcome::Succeeded(whole) = worker.run_command("result", json!({ "command_id": id })) else {
        panic!("it is known")
    };
    assert_eq!(whole["result"]["x"], 1);
    worker.client.broker_takes(LIMIT);
    let reported = worker.run_command("result", json!({ "command_id": id }));
    let Outcome::Succeeded(reported) = reported else { panic!("{reported:?}") };
    assert_eq!((&reported["status"], reported.get("result")), (&json!("succeeded"), None));
}

#[test]
fn an_answer_to_a_query_that_does_not_fit_is_remembered_as_failed() {
    let mut worker = Worker::ready();
    worker.client.broker_takes(2_500);
    let command = worker.draft("status", json!({})).sign(&worker.alice);
    assert_eq!(worker.send(&command).iter().map(status).collect::<Vec<_>>(), [TOO_LARGE]);
    let id = serde_json::from_slice::<Value>(&command.body).unwrap()["id"].clone();
    let Outcome::Succeeded(reported) = worker.run_command("result", json!({ "command_id": id })) else {
        panic!("it is known")
    };
    assert_eq!(reported["status"], "failed");
}

#[test]
fn a_refusal_that_does_not_fit_stays_a_refusal() {
    let mut worker = Worker::ready();
    let bad: serde_json::Map<String, Value> = (0..16).map(|n| (format!("unknown{n}"), json!(1))).collect();
    let whole = worker.draft("calculate", Value::Object(bad.clone())).sign(&worker.alice);
    let size = worker.deliver(&whole)[0].size();
    worker.client.broker_takes(size - 1);
    let command = worker.draft("calculate", Value::Object(bad)).sign(&worker.alice);
    let replies = worker.send(&command);
    assert_eq!(refusal(&replies), ErrorCode::InvalidArgs);
    assert_eq!(replies[0].error.as_ref().unwrap().details, None);
}

#[test]
fn a_presence_that_does_not_fit_is_not_sent_and_reported_once_until_it_fits() {
    let mut worker = Worker::ready();
    let mut beat = |limit: usize| {
        worker.client.broker_takes(limit);
        worker.pass(10_000);
        let step = worker.client.tick(worker.now);
        let logged = step.effects.iter().filter(|effect| matches!(effect, Effect::Log(_))).count();
        (worker.apply(step).len(), logged, worker.client.is_presentable())
    };
    assert_eq!(beat(1_000), (0, 1, false));
    assert_eq!(beat(1_000), (0, 0, false));
    assert_eq!(beat(100_000), (1, 0, true));
    assert_eq!(beat(1_000), (0, 1, false));
}

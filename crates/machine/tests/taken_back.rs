//! Section 8: what cannot be written has not happened, and nothing that is said tells otherwise.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use common::Worker;
use countersign_machine::client::{Effect, Step};
use countersign_protocol::event::Event;
use countersign_protocol::reply::State;
use countersign_protocol::time::Millis;
use serde_json::json;

/// The states that the presences among a step's messages tell of.
fn presences(worker: &Worker, step: &Step) -> Vec<State> {
    let told = step.effects.iter().filter_map(|effect| match effect {
        Effect::Publish(message) if message.subject.ends_with(".presence") => Some(message),
        _ => None,
    });
    let open = |at: Millis| move |message| worker.realm.open::<Event>(message, at).unwrap().into_message().state;
    told.map(open(worker.client.time(worker.now))).collect()
}

#[test]
fn a_presence_that_was_signed_after_a_start_which_could_not_be_written_is_not_said() {
    let mut worker = Worker::new();
    worker.pass(6_000);
    worker.tick();
    let [start, noise] = ["start", "stop"].map(|it| worker.draft(it, json!({})).sign(&worker.alice));
    let start = worker.open(&start).unwrap();
    let first = worker.client.receive(start, worker.now);
    assert_eq!((presences(&worker, &first), worker.state()), (vec![State::Ready], State::Ready));
    // The clock is set while the batch is taken: a new epoch begins, which is said by a presence of its own.
    worker.now.wall = worker.now.wall.plus(60_000);
    let rejected = worker.realm.open::<Event>(&noise, worker.now.wall).unwrap_err();
    let second = worker.client.rejected(&rejected, worker.now);
    assert_eq!(presences(&worker, &second), [State::Ready]);
    assert!(!second.entries.is_empty(), "a new epoch is recorded");

    let second = worker.client.roll_back(second, worker.now);
    let first = worker.client.roll_back(first, worker.now);
    assert_eq!(worker.state(), State::Unready);
    assert_eq!([&first, &second].map(|step| presences(&worker, step)), [vec![], vec![]]);
    assert!(!second.effects.is_empty(), "that the clock was set is said all the same");
    assert!(worker.client.wake_at() <= worker.now.since_boot, "the true state is said at once");
    let tick = worker.client.tick(worker.now);
    assert_eq!(presences(&worker, &tick), [State::Unready]);
}

#[test]
fn a_presence_beside_a_step_without_entries_is_said_anew_once_what_went_before_is_taken_back() {
    let mut worker = Worker::new();
    worker.pass(6_000);
    worker.tick();
    let start = worker.draft("start", json!({})).sign(&worker.alice);
    let start = worker.open(&start).unwrap();
    let first = worker.client.receive(start, worker.now);
    worker.now.since_boot += 10_000;
    worker.now.wall = worker.now.wall.plus(10_000);
    let mut second = worker.client.tick(worker.now);
    second.entries.clear();
    assert_eq!(presences(&worker, &second), [State::Ready]);
    let second = worker.client.retract(second);
    let first = worker.client.roll_back(first, worker.now);
    assert_eq!(presences(&worker, &first), []);
    assert_eq!(presences(&worker, &second), []);
    let tick = worker.client.tick(worker.now);
    assert_eq!(presences(&worker, &tick), [State::Unready]);
}

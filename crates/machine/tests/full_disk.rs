//! Section 8: what cannot be written has not happened, and nothing that is said tells otherwise.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes, refusal};
use countersign_machine::client::{Effect, Step};
use countersign_protocol::event::Event;
use countersign_protocol::reply::{ErrorCode, Outcome, Progress, State, Status};
use countersign_protocol::time::Millis;
use serde_json::json;

/// The states that the presences among a step's messages tell of.
fn presences(worker: &Worker, step: &Step) -> Vec<State> {
    let reported = step.effects.iter().filter_map(|effect| match effect {
        Effect::Publish(message) if message.subject.ends_with(".presence") => Some(message),
        _ => None,
    });
    let open = |at: Millis| move |message| worker.realm.open::<Event>(message, at).unwrap().into_message().state;
    reported.map(open(worker.client.time(worker.now))).collect()
}

#[test]
fn a_presence_that_was_signed_after_a_start_which_could_not_be_written_is_not_published() {
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
fn a_presence_beside_a_step_without_entries_is_published_again_once_what_went_before_is_taken_back() {
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

#[test]
fn while_an_end_cannot_be_written_nothing_new_begins() {
    let mut worker = Worker::ready();
    worker.calculate(1.0);
    worker.disk_full = true;
    assert!(worker.complete().is_empty());
    worker.disk_full = false;
    for command in ["ping", "nonesuch"] {
        let Outcome::Refused(error) = worker.run_command(command, json!({})) else { panic!() };
        assert_eq!(error.code, ErrorCode::NotRecorded, "{command}");
    }
    assert!(matches!(worker.run_command("status", json!({})), Outcome::Succeeded(_)));
    worker.pass(worker.client.wake_at() - worker.now.since_boot);
    let published = worker.tick();
    assert_eq!(worker.replies(&published)[0].status, Status::Succeeded);
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
}

#[test]
fn on_an_almost_full_disk_an_end_is_written_without_its_reply_and_reported() {
    let mut worker = Worker::ready();
    let job = worker.calculate(1.0);
    (worker.disk_full, worker.disk_has_reserve) = (true, true);
    let last = worker.complete();
    assert_eq!(last[0].status, Status::Succeeded);
    assert_eq!(worker.send(&job), last, "as long as the process lives");
    assert!(worker.kill().is_empty(), "it ended: nothing is interrupted");
    assert!(worker.send(&job).is_empty(), "how it ended is on record, its reply is not");
}

#[test]
fn a_command_that_cannot_be_recorded_has_no_effect_and_is_answered_not_recorded() {
    let mut worker = Worker::ready();
    worker.disk_full = true;
    for command in ["ping", "stop", "terminate"] {
        let Outcome::Refused(error) = worker.run_command(command, json!({})) else { panic!("{command}") };
        assert_eq!(error.code, ErrorCode::NotRecorded, "{command}");
        assert!(!error.code.is_recorded(), "a later delivery may run");
    }
    assert_eq!(worker.state(), State::Ready);
    assert!(worker.executed.is_empty() && !worker.exited);
    assert!(matches!(worker.run_command("status", json!({})), Outcome::Succeeded(_)));
    worker.disk_full = false;
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
}

#[test]
fn what_could_not_be_recorded_runs_when_it_comes_again_and_had_no_final_reply() {
    let mut worker = Worker::ready();
    let dry = worker.draft("stop", json!({})).dry_run();
    for message in [worker.draft("ping", json!({})).sign(&worker.alice), dry.sign(&worker.alice)] {
        worker.disk_full = true;
        assert_eq!(refusal(&worker.send(&message)), ErrorCode::NotRecorded);
        worker.disk_full = false;
        assert!(matches!(outcomes(&worker.send(&message))[..], [Outcome::Succeeded(_)]));
    }
}

#[test]
fn an_answer_that_spoke_of_what_is_taken_back_is_not_given_when_its_query_comes_again() {
    let mut worker = Worker::ready();
    let ping = worker.draft("stop", json!({})).sign(&worker.alice);
    let id = worker.open(&ping).unwrap().message().id;
    let query = worker.draft("result", json!({ "command_id": id })).sign(&worker.alice);
    // Both come in one batch, whose write fails.
    let first = worker.client.receive(worker.open(&ping).unwrap(), worker.now);
    let second = worker.client.receive(worker.open(&query).unwrap(), worker.now);
    let second = worker.client.retract(second);
    assert!(second.effects.is_empty());
    let first = worker.client.roll_back(first, worker.now);
    worker.apply(first);
    let [Outcome::Failed(error)] = &outcomes(&worker.send(&query))[..] else { panic!("nothing is on record") };
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[test]
fn a_result_that_cannot_be_recorded_is_answered_once_it_can() {
    let mut worker = Worker::ready();
    worker.calculate(1.0);
    worker.disk_full = true;
    assert!(worker.complete().is_empty());
    worker.disk_full = false;
    worker.pass(worker.client.wake_at() - worker.now.since_boot);
    let published = worker.tick();
    assert_eq!(worker.replies(&published)[0].status, Status::Succeeded);
}

#[test]
fn a_result_that_is_not_on_disk_is_reported_to_nobody() {
    let mut worker = Worker::ready();
    let job = worker.calculate(1.0);
    let id = worker.open(&job).unwrap().message().id;
    worker.disk_full = true;
    assert!(worker.complete().is_empty());
    assert!(worker.send(&job).is_empty(), "not to who sends the command again");
    let result = worker.run_command("result", json!({ "command_id": id }));
    let Outcome::Succeeded(result) = result else { panic!() };
    assert_eq!(result["status"], "accepted", "not to who asks for it");
    let Outcome::Succeeded(list) = worker.run_command("jobs", json!({})) else { panic!() };
    assert_eq!((&list["jobs"][0]["status"], list["jobs"][0].get("ended_at")), (&json!("accepted"), None));
    worker.pass(worker.client.wake_at() - worker.now.since_boot);
    assert!(worker.tick().is_empty(), "nor when the disk is full still");
    assert!(worker.send(&job).is_empty());
    let replies = worker.kill();
    assert_eq!(replies[0].status, Status::Interrupted, "and so this is the only final reply");
}

#[test]
fn progress_that_cannot_be_recorded_is_given_up() {
    let mut worker = Worker::ready();
    let job = worker.calculate(1.0);
    worker.disk_full = true;
    let progress = Progress { fraction: 0.5, message: None };
    let step = worker.client.progressed(worker.running[0].key(), progress, worker.now);
    assert!(worker.apply(step).is_empty());
    assert!(worker.send(&job).is_empty());
    worker.disk_full = false;
    assert_eq!(worker.complete()[0].status, Status::Succeeded);
}

//! Section 8: freshness, and at most once across crashes, restarts, lost records and clocks that jump.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes, refusal};
use countersign_machine::client::{Entry, ExecutionResult, Limits, State};
use countersign_protocol::envelope::Reason;
use countersign_protocol::id::Uuid;
use countersign_protocol::reply::{ErrorCode, Outcome, Status};
use countersign_protocol::time::Millis;
use countersign_testkit::realm::{Realm, START};
use serde_json::json;

#[test]
fn the_same_message_a_hundred_times_runs_once_and_is_answered_byte_for_byte() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    let first = worker.deliver(&ping);
    assert_eq!(first.len(), 1);
    for _ in 0..100 {
        worker.pass(101);
        assert_eq!(worker.deliver(&ping), first);
    }
    assert!(worker.executed.values().all(|times| *times == 1));
    assert_eq!(worker.executed.len(), 1);
}

#[test]
fn a_repeated_message_is_answered_ten_times_in_a_second() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    worker.deliver(&ping);
    let answers: usize = (0..100).map(|_| worker.deliver(&ping).len()).sum();
    assert_eq!(answers, 10);
    assert_eq!(worker.dropped(Reason::Repeat), 90);
    worker.pass(1_000);
    assert_eq!(worker.deliver(&ping).len(), 1);
}

#[test]
fn a_repeated_job_is_answered_with_its_latest_interim_reply_while_it_runs() {
    let mut worker = Worker::ready();
    let job = worker.calculate(5.0);
    assert_eq!(outcomes(&worker.send(&job)), [Outcome::Accepted]);
    worker.complete();
    assert_eq!(worker.send(&job)[0].status, Status::Succeeded);
    assert!(worker.executed.values().all(|times| *times == 1));
}

#[test]
fn the_same_id_with_another_body_is_a_conflict_and_a_security_event() {
    let mut worker = Worker::ready();
    let draft = worker.draft("ping", json!({}));
    worker.send(&draft.sign(&worker.alice));
    let other = draft.with(|command| command.expires_at = command.expires_at.plus(1)).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&other)), ErrorCode::IdConflict);
    assert_eq!(worker.security_events(), [("id_conflict".to_owned(), 1, Some("alice".to_owned()))]);
    assert_eq!(worker.executed.len(), 1);
}

#[test]
fn a_command_that_ran_when_the_process_was_killed_is_interrupted_and_never_runs_again() {
    let mut worker = Worker::ready();
    let job = worker.calculate(60.0);
    let replies = worker.kill();
    assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [Status::Interrupted]);
    assert_eq!(replies[0].seq, 1);
    worker.pass(200);
    assert_eq!(worker.send(&job)[0].status, Status::Interrupted);
    worker.start();
    worker.pass(200);
    assert_eq!(worker.send(&job)[0].status, Status::Interrupted);
    assert!(worker.running.is_empty());
    assert!(worker.executed.values().all(|times| *times == 1));
}

#[test]
fn a_kill_between_any_two_entries_of_the_log_runs_nothing_twice() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    worker.deliver(&ping);
    let job = worker.calculate(60.0);
    worker.complete();
    let whole = worker.log.clone();
    for length in 0..=whole.len() {
        worker.restart(|_| whole[..length].to_vec());
        for message in [&ping, &job] {
            let before = worker.executed.clone();
            let replies = worker.send(message);
            let known = whole[..length].iter().any(|entry| match entry {
                Entry::Started(started) => {
                    started.reply_context.digest == countersign_protocol::digest::Digest::of(&message.body)
                }
                _ => false,
            });
            assert_eq!(worker.executed, before, "cut at {length}: unready, and so nothing runs");
            if known {
                assert!(matches!(replies[0].status, Status::Interrupted | Status::Succeeded), "cut at {length}");
            }
            worker.pass(1_000);
        }
    }
}

#[test]
fn a_lost_record_makes_a_new_epoch_and_old_commands_are_starting() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    worker.deliver(&ping);
    let before = worker.client.epoch();
    worker.restart(|_| Vec::new());
    assert_ne!(worker.client.epoch(), before);
    let Outcome::Refused(error) = worker.send(&ping)[0].outcome().unwrap() else { panic!() };
    assert_eq!(error.code, ErrorCode::Starting);
    assert_eq!(error.details.unwrap()["epoch"], json!(worker.client.epoch()));
}

#[test]
fn a_command_that_names_another_epoch_is_refused_and_one_that_names_this_runs_at_once() {
    let mut worker = Worker::new();
    let stale = worker.draft("start", json!({})).epoch(Uuid::from_random([9; 16])).sign(&worker.alice);
    let Outcome::Refused(error) = worker.send(&stale)[0].outcome().unwrap() else { panic!() };
    assert_eq!(error.code, ErrorCode::WrongEpoch);
    assert_eq!(error.details.unwrap()["epoch"], json!(worker.client.epoch()));
    assert_eq!(worker.state(), State::Unready);
    let start = worker.draft("start", json!({})).epoch(worker.client.epoch()).sign(&worker.alice);
    assert_eq!(outcomes(&worker.send(&start)), [Outcome::Succeeded(json!({ "changed": true }))]);
}

#[test]
fn without_an_epoch_only_queries_pass_in_the_first_seconds() {
    let mut worker = Worker::new();
    let start = worker.draft("start", json!({})).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&start)), ErrorCode::Starting);
    assert!(matches!(worker.run_command("status", json!({})), Outcome::Succeeded(_)));
    worker.pass(5_000);
    let start = worker.draft("start", json!({})).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&start)), ErrorCode::Starting, "issued at the epoch's start and the skew");
    worker.pass(1);
    assert!(matches!(worker.run_command("start", json!({})), Outcome::Succeeded(_)));
}

#[test]
fn times_are_judged_in_the_order_of_the_protocol() {
    let max = (1 << 53) - 1;
    // Issue and expiry relative to now in ms; the refusal, or the reason of the silence.
    let table: &[(i64, i64, Result<ErrorCode, Reason>)] = &[
        (3_600_001, 3_630_000, Err(Reason::Ahead)),
        (max, max, Err(Reason::Ahead)),
        (0, 0, Ok(ErrorCode::Lifetime)),
        (0, -1, Ok(ErrorCode::Lifetime)),
        (0, 60_001, Ok(ErrorCode::Lifetime)),
        (-max, max, Ok(ErrorCode::Lifetime)),
        (0, max, Ok(ErrorCode::Lifetime)),
        (-max, -max + 1, Err(Reason::Late)),
        (-95_000, -65_000, Err(Reason::Late)),
        (-94_999, -64_999, Ok(ErrorCode::Expired)),
        (-35_000, -5_000, Ok(ErrorCode::Expired)),
        (5_001, 30_000, Ok(ErrorCode::NotYetValid)),
        (3_600_000, 3_630_000, Ok(ErrorCode::NotYetValid)),
    ];
    for (issued, expires, expected) in table {
        let mut worker = Worker::ready();
        worker.pass(1_000_000);
        let now = worker.now.wall;
        let at = |offset: &i64| if offset.abs() > 1 << 50 { Millis::new(*offset) } else { now.plus(*offset) };
        let epoch = worker.client.epoch();
        let draft = worker.draft("ping", json!({})).epoch(epoch).with(|command| {
            command.issued_at = at(issued);
            command.expires_at = at(expires);
        });
        let message = draft.sign(&worker.alice);
        let replies = worker.send(&message);
        match expected {
            Ok(code) => assert_eq!(refusal(&replies), *code, "{issued} {expires}"),
            Err(reason) => {
                assert!(replies.is_empty(), "{issued} {expires}: {replies:?}");
                assert_eq!(worker.dropped(*reason), 1, "{issued} {expires}");
            }
        }
        assert!(worker.executed.is_empty());
        assert!(
            matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)),
            "the next honest command works"
        );
    }
}

#[test]
fn within_the_skew_a_command_runs() {
    for (issued, expires) in [(5_000, 30_000), (-34_999, -4_999)] {
        let mut worker = Worker::ready();
        worker.pass(1_000_000);
        let draft = worker.draft("ping", json!({})).with(|command| {
            command.issued_at = command.issued_at.plus(issued);
            command.expires_at = command.issued_at.plus(expires - issued);
        });
        let message = draft.sign(&worker.alice);
        assert!(matches!(outcomes(&worker.send(&message))[..], [Outcome::Succeeded(_)]), "{issued} {expires}");
    }
}

#[test]
fn a_command_that_came_too_early_does_not_run_when_its_time_comes() {
    let mut worker = Worker::ready();
    let draft = worker.draft("ping", json!({})).with(|command| {
        command.issued_at = command.issued_at.plus(10_000);
        command.expires_at = command.issued_at.plus(30_000);
    });
    let message = draft.sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&message)), ErrorCode::NotYetValid);
    worker.pass(10_000);
    assert_eq!(refusal(&worker.send(&message)), ErrorCode::NotYetValid);
    worker.kill();
    worker.start();
    assert_eq!(refusal(&worker.send(&message)), ErrorCode::NotYetValid);
    assert!(worker.executed.is_empty());
}

#[test]
fn a_command_refused_as_not_ready_does_not_run_when_the_client_is_ready() {
    let mut worker = Worker::new();
    worker.pass(6_000);
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&ping)), ErrorCode::NotReady);
    worker.run_command("start", json!({}));
    assert_eq!(refusal(&worker.send(&ping)), ErrorCode::NotReady);
    assert!(worker.executed.is_empty());
}

#[test]
fn expired_is_never_the_answer_to_a_command_that_ran() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    worker.deliver(&ping);
    for _ in 0..200 {
        worker.pass(1_000);
        worker.tick();
        for reply in worker.send(&ping) {
            assert_eq!(reply.status, Status::Succeeded);
        }
    }
    assert!(worker.dropped(Reason::Late) > 0);
}

#[test]
fn under_expired_trust_only_queries_and_terminate_are_obeyed() {
    let mut worker = Worker::with(Realm::with_trust_until("demo", START.plus(10_000)), Limits::default());
    worker.pass(10_000);
    assert!(matches!(worker.run_command("status", json!({})), Outcome::Succeeded(_)));
    assert_eq!(worker.security_events(), [("trust".to_owned(), 1, None)], "said once");
    for command in ["start", "ping", "reboot"] {
        let Outcome::Refused(error) = worker.run_command(command, json!({})) else { panic!("{command}") };
        assert_eq!(error.code, ErrorCode::TrustExpired, "{command}");
    }
    assert!(matches!(worker.run_command("terminate", json!({})), Outcome::Succeeded(_)));
    assert!(worker.exited);
}

#[test]
fn a_record_that_is_full_is_busy_and_forgets_nothing_and_still_terminates() {
    let mut worker = Worker::with(Realm::new("demo"), Limits { records: 40, ..Limits::default() });
    worker.pass(6_000);
    worker.run_command("start", json!({}));
    let first = worker.draft("ping", json!({})).sign(&worker.alice);
    let answer = worker.deliver(&first);
    for _ in 0..8 {
        assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
    }
    for (command, args) in [("ping", json!({})), ("reboot", json!({})), ("calculate", json!({}))] {
        let Outcome::Refused(error) = worker.run_command(command, args) else { panic!("{command}") };
        assert_eq!(error.code, ErrorCode::Busy, "{command}: a quarter of the bound for one key");
    }
    assert_eq!(worker.deliver(&first), answer);
    assert!(matches!(worker.run_command("status", json!({})), Outcome::Succeeded(_)));
    assert!(
        matches!(worker.run_command("start", json!({})), Outcome::Succeeded(_)),
        "there is room for control commands"
    );
    worker.pass(200_000);
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)), "late records make room");
    assert!(matches!(worker.run_command("terminate", json!({})), Outcome::Succeeded(_)));
}

#[test]
fn queries_of_one_key_are_remembered_up_to_their_bound_and_answered_beyond_it() {
    let mut worker = Worker::ready();
    let mut sent = Vec::new();
    // A quarter of all that are remembered.
    for _ in 0..=4_096 {
        let status = worker.draft("status", json!({})).sign(&worker.alice);
        let answer = worker.deliver(&status);
        assert_eq!(answer.len(), 1);
        sent.push((status, answer));
    }
    let (beyond, answer_beyond) = sent.pop().unwrap();
    let (last, answer) = sent.pop().unwrap();
    assert_eq!(worker.deliver(&last), answer, "it is remembered");
    assert_ne!(worker.deliver(&beyond), answer_beyond, "it is answered afresh");
}

#[test]
fn every_refusal_of_another_command_is_sent_and_one_command_is_refused_ten_times_a_second() {
    let mut worker = Worker::ready();
    let stale =
        |worker: &mut Worker| worker.draft("ping", json!({})).epoch(Uuid::from_random([9; 16])).sign(&worker.alice);
    for _ in 0..2_000 {
        let stale = stale(&mut worker);
        assert_eq!(refusal(&worker.send(&stale)), ErrorCode::WrongEpoch);
    }
    let captured = stale(&mut worker);
    let answers: usize = (0..100).map(|_| worker.deliver(&captured).len()).sum();
    assert_eq!((answers, worker.dropped(Reason::Repeat)), (10, 90));
    worker.pass(1_000);
    assert_eq!(worker.deliver(&captured).len(), 1);
}

#[test]
fn a_question_that_is_not_remembered_is_answered_ten_times_a_second() {
    let mut worker = Worker::ready();
    for _ in 0..4_096 {
        worker.run_command("status", json!({}));
    }
    let status = worker.draft("status", json!({})).sign(&worker.alice);
    let answers: usize = (0..100).map(|_| worker.deliver(&status).len()).sum();
    assert_eq!(answers, 10);
}

#[test]
fn at_the_bound_every_command_is_refused_as_busy_and_counted() {
    let mut worker = Worker::with(Realm::new("demo"), Limits { records: 40, ..Limits::default() });
    worker.pass(6_000);
    worker.run_command("start", json!({}));
    for _ in 0..9 {
        worker.run_command("ping", json!({}));
    }
    for _ in 0..1_000 {
        let Outcome::Refused(error) = worker.run_command("ping", json!({})) else { panic!() };
        assert_eq!(error.code, ErrorCode::Busy);
    }
    assert_eq!((worker.dropped(Reason::Busy), worker.dropped(Reason::Repeat)), (1_000, 0));
}

#[test]
fn at_the_bound_jobs_that_have_ended_give_way_as_soon_as_their_command_is_late() {
    let mut worker = Worker::with(Realm::new("demo"), Limits { records: 40, ..Limits::default() });
    worker.pass(6_000);
    worker.run_command("start", json!({}));
    let mut jobs = Vec::new();
    for _ in 0..9 {
        jobs.push(worker.calculate(1.0));
        worker.complete();
    }
    let job = worker.draft("calculate", json!({ "x": 1, "msg": "" })).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&job)), ErrorCode::Busy, "their commands could be taken still");
    worker.pass(95_000);
    for _ in 0..20 {
        jobs.push(worker.calculate(1.0));
        worker.complete();
        worker.pass(95_000);
    }
    for job in &jobs {
        worker.deliver(job);
    }
    assert!(worker.executed.values().all(|times| *times == 1), "what gave way does not run again");
    let Outcome::Succeeded(list) = worker.run_command("jobs", json!({})) else { panic!() };
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(10), "no more give way than must");
}

#[test]
fn a_turn_forgets_a_few_of_the_records_that_became_due_together_and_knows_none_of_them() {
    let mut worker = Worker::ready();
    let pings: Vec<_> = (0..500).map(|_| worker.draft("ping", json!({})).sign(&worker.alice)).collect();
    for ping in &pings {
        worker.deliver(ping);
    }
    worker.pass(200_000);
    for ping in pings.iter().rev().take(5) {
        assert!(worker.deliver(ping).is_empty());
    }
    assert_eq!(worker.dropped(Reason::Late), 5);
    assert!(worker.client.part(None, usize::MAX).entries().count() > 100, "it does not do all at once");
    for _ in 0..20 {
        assert!(worker.client.wake_at() < worker.now.since_boot || worker.client.part(None, 1).last().is_none());
        worker.tick();
    }
    assert_eq!(worker.client.part(None, usize::MAX).entries().count(), 0);
}

#[test]
fn a_job_is_remembered_for_a_day_after_its_end_or_as_the_administrator_decides_also_across_starts() {
    assert_eq!(Limits::default().retain, 86_400_000);
    for retain in [86_400_000, 60_000, 200_000, 3 * 86_400_000] {
        let mut worker = Worker::with(Realm::new("demo"), Limits { retain, ..Limits::default() });
        worker.pass(6_000);
        worker.start();
        let job = worker.calculate(1.0);
        let last = worker.complete();
        // Its bytes may be delivered again until the command is late.
        let until = retain.max(95_000);
        for (pass, now) in [(until - 1, until - 1), (1, until)] {
            worker.pass(pass);
            worker.kill();
            assert_eq!(worker.send(&job), if now < until { last.clone() } else { Vec::new() });
            let Outcome::Succeeded(list) = worker.run_command("jobs", json!({})) else { panic!() };
            assert_eq!(list["jobs"].as_array().map(Vec::len), Some(usize::from(now < retain)), "{retain} at {now}");
        }
        assert_eq!(worker.dropped(Reason::Late), 1);
    }
}

#[test]
fn a_result_that_fits_no_message_is_too_large_and_one_that_just_fits_is_not() {
    let mut worker = Worker::ready();
    let long = |length| json!({ "x": 1, "msg": "a".repeat(length) });
    // Among the values are the array itself, and up to 32 of the reply.
    let many = |values: usize| json!(vec![0; values - 33]);
    let results = [
        (long(262_144), "failed"),
        (long(260_000), "succeeded"),
        (many(16_385), "failed"),
        (many(16_384), "succeeded"),
    ];
    for (result, expected) in results {
        worker.calculate(1.0);
        let key = worker.running.remove(0).key();
        let step = worker.client.finished(key, ExecutionResult::Done(result), worker.now);
        let published = worker.apply(step);
        let reply = &worker.replies(&published)[0];
        assert_eq!(reply.status.to_string(), expected);
        assert_eq!(reply.error.as_ref().map(|e| e.code), (expected == "failed").then_some(ErrorCode::ResultTooLarge));
    }
}

#[test]
fn a_snapshot_restores_to_what_the_log_does() {
    let mut worker = Worker::ready();
    worker.calculate(1.0);
    worker.calculate(2.0);
    worker.complete();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    let answer = worker.deliver(&ping);
    let snapshot = worker.snapshot(1);
    let replies = worker.restart(|_| snapshot);
    assert_eq!(replies.iter().map(|reply| (reply.status, reply.seq)).collect::<Vec<_>>(), [(Status::Interrupted, 1)]);
    assert_eq!(worker.deliver(&ping), answer);
}

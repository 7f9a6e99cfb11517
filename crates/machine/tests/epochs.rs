//! Section 8: every start begins a new epoch, and so does a clock that was set; nothing from before it runs.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes, refusal};
use countersign_machine::client::{Entry, Limits, State};
use countersign_protocol::envelope::{Reason, Signed};
use countersign_protocol::limits::{SKEW, UNSYNCED};
use countersign_protocol::reply::{ErrorCode, Outcome, Status};
use serde_json::json;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Two pings that have run: one names the epoch, and one does not.
fn two_pings(worker: &mut Worker) -> [Signed; 2] {
    let epoch = worker.client.epoch();
    let named = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
    let unnamed = worker.draft("ping", json!({})).sign(&worker.alice);
    for ping in [&named, &unnamed] {
        assert!(matches!(outcomes(&worker.send(ping))[..], [Outcome::Succeeded(_)]));
    }
    [named, unnamed]
}

/// What a command is refused with that names no epoch.
fn refused_without_epoch(worker: &mut Worker) -> ErrorCode {
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    refusal(&worker.send(&ping))
}

#[test]
fn every_start_begins_a_new_epoch_in_which_nothing_from_before_runs_whatever_the_folder_says() {
    type Change = fn(Vec<Entry>) -> Vec<Entry>;
    let whole: Change = |log| log;
    let removed: Change = |_| Vec::new();
    let older: Change = |mut log| {
        log.truncate(2);
        log
    };
    let journals = [(whole, SKEW), (removed, SKEW), (older, SKEW), (whole, 600_000), (older, 600_000)];
    for ((change, skew), start_ready) in journals.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let mut worker = Worker::ready();
        worker.start_ready = start_ready;
        let before = worker.client.epoch();
        let pings = two_pings(&mut worker);
        let ran = worker.executed.clone();
        worker.pass(1_000);
        worker.limits = Limits { skew, ..Limits::default() };
        worker.restart(change);
        assert_ne!(worker.client.epoch(), before);
        if !start_ready {
            worker.start();
        }
        for _ in 0..20 {
            for ping in &pings {
                worker.send(ping);
            }
            worker.pass(5_000);
        }
        assert_eq!(worker.executed, ran, "skew {skew}, start_ready {start_ready}");
        assert_eq!(worker.state(), State::Ready);
        assert!(matches!(
            worker.run_command("result", json!({ "command_id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90" })),
            Outcome::Failed(_)
        ));
    }
}

#[test]
fn what_an_earlier_run_answered_is_answered_byte_for_byte_and_names_the_epoch_of_then() {
    let mut worker = Worker::ready();
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    let answer = worker.deliver(&ping);
    worker.kill();
    worker.pass(200);
    assert_eq!(worker.deliver(&ping), answer);
}

#[test]
fn a_clock_that_was_ahead_at_the_start_and_is_corrected_heals_at_once() {
    for restarts in [false, true] {
        let mut worker = Worker::new();
        let right = worker.now.wall;
        worker.now.wall = right.plus(2 * HOUR);
        worker.restart(|_| Vec::new());
        worker.start();
        worker.pass(3_000);
        let before = worker.client.epoch();
        let reported = worker.security_events().len();
        worker.now.wall = right.plus(3_000);
        if restarts {
            worker.kill();
            worker.start();
        } else {
            worker.tick();
        }
        assert_ne!(worker.client.epoch(), before);
        assert_eq!(worker.client.time(worker.now), worker.now.wall);
        assert_eq!(worker.security_events()[reported..], [("clock".to_owned(), 1, None)]);
        assert!(
            worker.logged.iter().any(|line| line.contains("set back by 2 h") && line.contains("`starting`")),
            "{:?}",
            worker.logged
        );
        assert_eq!(refused_without_epoch(&mut worker), ErrorCode::Starting, "signed, and not in silence");
        let epoch = worker.client.epoch();
        let ping = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
        let replies = worker.send(&ping);
        assert!(matches!(outcomes(&replies)[..], [Outcome::Succeeded(_)]));
        assert_eq!((replies[0].epoch, replies[0].issued_at), (epoch, worker.now.wall));
        assert_eq!(worker.events.last().map(|event| event.epoch), Some(epoch));
    }
}

#[test]
fn a_jump_of_a_hundred_days_is_forgotten_when_the_clock_is_right_again() {
    let mut worker = Worker::ready();
    let pings = two_pings(&mut worker);
    worker.calculate(60.0);
    let right = worker.now.wall;
    worker.now.wall = right.plus(100 * DAY);
    worker.tick();
    worker.complete();
    worker.now.wall = right;
    worker.now.since_boot += 10_000;
    worker.kill();
    let ran = worker.executed.clone();
    worker.start();
    for ping in &pings {
        worker.send(ping);
    }
    assert_eq!(worker.executed, ran);
    let epoch = worker.client.epoch();
    let terminate = worker.draft("terminate", json!({})).epoch(epoch).sign(&worker.alice);
    assert!(matches!(outcomes(&worker.send(&terminate))[..], [Outcome::Succeeded(_)]));
    assert!(worker.exited);
}

#[test]
fn a_clock_that_is_far_behind_at_the_start_forgets_what_is_late_once_it_is_right() {
    let mut worker =
        Worker::with(countersign_testkit::realm::Realm::new("demo"), Limits { records: 40, ..Limits::default() });
    let right = worker.now.wall;
    worker.now.wall = right.plus(-1_000 * DAY);
    worker.kill();
    worker.now.wall = right;
    worker.now.since_boot += 10_000;
    worker.tick();
    worker.start();
    worker.pass(30_000);
    for _ in 0..30 {
        assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)), "never `busy`");
        worker.pass(20_000);
    }
}

#[test]
fn what_was_recorded_in_a_wrong_future_is_forgotten_within_an_hour() {
    let mut worker = Worker::ready();
    let right = worker.now.wall;
    worker.now.wall = right.plus(10 * DAY);
    worker.tick();
    worker.start();
    let epoch = worker.client.epoch();
    let ping = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
    let answer = worker.deliver(&ping);
    worker.now.wall = right;
    worker.now.since_boot += 10_000;
    worker.tick();
    assert_eq!(worker.deliver(&ping), answer);
    worker.pass(HOUR + 1);
    worker.tick();
    assert_ne!(worker.deliver(&ping), answer);
    assert_eq!(worker.executed.len(), 1);
}

#[test]
fn jobs_of_a_wrong_future_give_way_as_soon_as_the_clock_is_right() {
    let limits = Limits { records: 40, ..Limits::default() };
    let mut worker = Worker::with(countersign_testkit::realm::Realm::new("demo"), limits);
    let right = worker.now.wall;
    worker.now.wall = right.plus(10 * DAY);
    worker.tick();
    worker.start();
    for _ in 0..9 {
        let epoch = worker.client.epoch();
        let job = worker.draft("calculate", json!({ "x": 1, "msg": "" })).epoch(epoch).sign(&worker.alice);
        worker.send(&job);
        worker.complete();
    }
    worker.now.wall = right;
    worker.now.since_boot += 10_000;
    worker.tick();
    for _ in 0..9 {
        let epoch = worker.client.epoch();
        let ping = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
        assert!(matches!(outcomes(&worker.send(&ping))[..], [Outcome::Succeeded(_)]), "never `busy`");
    }
}

#[test]
fn a_clock_set_back_by_no_more_than_the_skew_stands_still_and_begins_no_epoch() {
    let mut worker = Worker::ready();
    let (epoch, mark) = (worker.client.epoch(), worker.client.time(worker.now));
    worker.now.wall = worker.now.wall.plus(-SKEW);
    worker.tick();
    assert_eq!((worker.client.epoch(), worker.client.time(worker.now)), (epoch, mark));
}

#[test]
fn a_clock_that_moves_back_and_forth_costs_one_epoch_in_ten_seconds() {
    let mut worker = Worker::ready();
    let entries = worker.log.len();
    for n in 0..1_000_i64 {
        worker.now.wall = worker.now.wall.plus(if n % 2 == 0 { HOUR } else { -HOUR } + 100);
        worker.now.since_boot += 100;
        worker.tick();
    }
    let started = worker.log[entries..].iter().filter(|entry| matches!(entry, Entry::EpochStarted(_))).count();
    assert!((9..=11).contains(&started), "{started}");
    assert!(worker.security_events().len() <= 11);
}

#[test]
fn a_machine_that_loses_its_power_and_its_clock_runs_nothing_twice() {
    for back in [0, 20_000, HOUR, 1_000 * DAY] {
        let mut worker = Worker::ready();
        worker.pass(HOUR);
        worker.syncs = false;
        worker.pass(UNSYNCED);
        let ping = worker.draft("ping", json!({})).sign(&worker.alice);
        assert!(matches!(outcomes(&worker.send(&ping))[..], [Outcome::Succeeded(_)]));
        let ran = worker.executed.clone();
        let right = worker.now.wall;
        worker.now.wall = right.plus(-back);
        worker.lose_power(0);
        worker.syncs = true;
        // Delivered again while the clock comes to the moment at which the command was given.
        for at in [0, 10_000] {
            worker.now.wall = right.plus(at);
            worker.now.since_boot += back + 60_000;
            worker.pass(1);
            if worker.state() == State::Unready {
                worker.start();
            }
            worker.send(&ping);
        }
        assert_eq!(worker.executed, ran, "{back}");
    }
}

#[test]
fn while_the_disk_does_not_take_the_time_only_commands_that_name_the_epoch_run() {
    let mut worker = Worker::ready();
    worker.syncs = false;
    worker.pass(UNSYNCED);
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
    worker.pass(1);
    worker.tick();
    assert_eq!(refused_without_epoch(&mut worker), ErrorCode::Starting);
    let epoch = worker.client.epoch();
    let ping = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
    assert!(matches!(outcomes(&worker.send(&ping))[..], [Outcome::Succeeded(_)]));
    worker.sync();
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
}

#[test]
fn a_job_that_runs_while_the_clock_is_set_ends_in_the_new_epoch() {
    let mut worker = Worker::ready();
    let job = worker.calculate(60.0);
    let id = worker.open(&job).unwrap().message().id;
    worker.pass(20_000);
    worker.now.wall = worker.now.wall.plus(-10_000);
    worker.tick();
    let Outcome::Succeeded(result) = worker.run_command("result", json!({ "command_id": id })) else { panic!() };
    assert_eq!(result["status"], "accepted");
    let finished = worker.complete();
    assert_eq!((finished[0].status, finished[0].epoch), (Status::Succeeded, worker.client.epoch()));
    assert_eq!(worker.dropped(Reason::Late), 0);
}

#[test]
fn a_client_that_starts_ready_takes_data_commands_at_once_and_nothing_from_before_its_start() {
    type Change = fn(Vec<Entry>) -> Vec<Entry>;
    for change in [(|log| log) as Change, |_| Vec::new()] {
        let mut worker = Worker::ready();
        worker.start_ready = true;
        let mut before = two_pings(&mut worker).to_vec();
        before.push(worker.calculate(60.0));
        before.push(worker.draft("stop", json!({})).sign(&worker.alice));
        before.push(worker.draft("terminate", json!({})).sign(&worker.alice));
        for command in &before[3..] {
            worker.send(command);
        }
        assert!(worker.exited);
        let ran = worker.executed.clone();
        worker.restart(change);
        assert_eq!(worker.state(), State::Ready);
        assert_eq!(worker.events.last().unwrap().state, State::Ready, "its first presence says so");
        for command in &before {
            worker.send(command);
        }
        assert_eq!((&worker.executed, worker.state(), worker.exited), (&ran, State::Ready, false));
        let epoch = worker.client.epoch();
        let ping = worker.draft("ping", json!({})).epoch(epoch).sign(&worker.alice);
        assert!(matches!(outcomes(&worker.send(&ping))[..], [Outcome::Succeeded(_)]));
    }
}

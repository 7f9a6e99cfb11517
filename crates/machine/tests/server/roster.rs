//! Section 5: which presence the roster takes.

use countersign_machine::server::{Roster, Taken};
use countersign_protocol::event::EventKind;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::State;
use countersign_testkit::realm::{START, name};
use serde_json::json;

use super::common::{World, at, epoch};

#[test]
fn only_a_later_presence_is_taken_by_time_and_then_by_number() {
    let world = World::new();
    let mut roster = Roster::default();
    let mut take = |millis: i64, n: u64, state: State| {
        let event = world.presence("worker-1", |event| {
            event.issued_at = at(millis);
            event.n = n;
            event.state = state;
        });
        let taken = roster.take(&event, START, SKEW);
        (taken, roster.entry(&name("worker-1")).unwrap().state())
    };
    assert_eq!(take(0, 5, State::Unready), (Taken::Later, State::Unready));
    assert_eq!(take(0, 5, State::Ready), (Taken::Stale, State::Unready));
    assert_eq!(take(-1, 6, State::Ready), (Taken::Stale, State::Unready));
    assert_eq!(take(0, 6, State::Ready), (Taken::Later, State::Ready));
    assert_eq!(take(1, 0, State::Terminated), (Taken::Later, State::Terminated));
}

#[test]
fn a_presence_ahead_of_the_clock_by_more_than_the_skew_is_not_taken() {
    let world = World::new();
    let mut roster = Roster::default();
    let ahead = |by: i64| world.presence("worker-1", |event| event.issued_at = at(by));
    assert_eq!(roster.take(&ahead(SKEW + 1), START, SKEW), Taken::Ahead);
    assert_eq!(roster.entry(&name("worker-1")), None);
    assert_eq!(roster.take(&ahead(SKEW), START, SKEW), Taken::Later);
}

#[test]
fn a_process_that_speaks_after_a_later_one_began_is_reported() {
    let world = World::new();
    let mut roster = Roster::default();
    let mut take = |boot: u8, started: i64, issued: i64| {
        let event = world.presence("worker-1", |event| {
            event.boot = epoch(boot);
            event.issued_at = at(issued);
            event.data.insert("started_at".to_owned(), json!(at(started)));
        });
        roster.take(&event, at(issued), SKEW)
    };
    assert_eq!(take(1, 0, 0), Taken::Later);
    assert_eq!(take(2, 5_000, 5_000), Taken::Later, "a restart is no second process");
    assert_eq!(take(2, 5_000, 9_000), Taken::Later);
    assert_eq!(take(1, 0, 10_000), Taken::TwoAlive);
    assert_eq!(take(2, 5_000, 15_000), Taken::Later);
}

#[test]
fn an_event_of_another_kind_or_on_the_subject_of_another_is_no_presence() {
    let world = World::new();
    let mut roster = Roster::default();
    let security = world.presence("worker-1", |event| {
        event.kind = EventKind::Security;
        event.subject = "cs.demo.event.worker-1.security".to_owned();
        event.data = serde_json::from_value(json!({ "reason": "clock", "count": 1 })).unwrap();
    });
    assert_eq!(roster.take(&security, START, SKEW), Taken::Unfit);
    let elsewhere = world.presence("worker-1", |event| event.subject = "cs.demo.event.worker-2.presence".to_owned());
    assert_eq!(roster.take(&elsewhere, START, SKEW), Taken::Unfit);
    assert_eq!(roster, Roster::default());
}

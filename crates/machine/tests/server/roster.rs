//! Section 5: which presence the roster takes.

use countersign_machine::server::{Ignored, News, Options, Roster, Taken, Update};
use countersign_protocol::event::EventKind;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Outcome, State};
use countersign_testkit::realm::{START, name};
use serde_json::json;

use super::common::{World, at, epoch, order};

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

#[test]
fn a_presence_that_is_not_taken_for_its_time_or_its_subject_is_counted_and_told_once() {
    let world = World::new();
    let mut server = world.server();
    let ahead = world.presence("worker-1", |event| event.issued_at = at(SKEW + 1));
    let misplaced = world.presence("worker-1", |event| event.subject = "cs.demo.event.worker-2.presence".to_owned());
    for event in [&ahead, &misplaced] {
        server.keep(std::slice::from_ref(event));
        server.hear(event);
    }
    let told = server.notices();
    assert!(told.len() == 2 && told[0].contains("ahead of this machine's clock by more than 5 s"), "{told:?}");
    assert!(told[1].contains("an event that does not belong to its subject"), "{told:?}");
    assert_eq!(server.operator.ignored(), [(Ignored::Ahead, 2), (Ignored::Misplaced, 2)].into());
    assert_eq!(server.operator.roster(), &Roster::default());
    // What comes twice, from the broker's store and as it is said, is no news.
    server.hear(&world.presence("worker-1", |_| ()));
    server.hear(&world.presence("worker-1", |_| ()));
    assert_eq!(server.notices().len(), 2);
}

#[test]
fn a_later_reply_of_the_same_process_tells_the_state_and_the_presence_after_it_is_no_news() {
    let world = World::new();
    let state = |boot: u8, n: u64, millis: i64| {
        let kept = world.presence("worker-1", |event| (event.state, event.n) = (State::Unready, 4));
        let start = order("start", json!({}));
        let mut server = world.order_to(start, &["worker-1"], &[kept], Options::default()).unwrap();
        let started = world.answer(&server.sent[0], Outcome::Succeeded(json!({ "changed": true })));
        server.take(&started.with(|reply| (reply.boot, reply.n, reply.issued_at) = (epoch(boot), n, at(millis))));
        assert!(server.report.is_some());
        server.hear(
            &world.presence("worker-1", |event| (event.state, event.n, event.issued_at) = (State::Ready, 9, at(2))),
        );
        let is_news = |it: &&Update| matches!(it, Update::News { news: News::State { .. }, .. });
        server.updates.iter().filter(is_news).count()
    };
    assert_eq!(state(2, 5, 0), 0, "told by the reply");
    assert_eq!(state(2, 3, 0), 1, "an earlier reply");
    assert_eq!(state(2, 5, -1), 1, "an earlier reply");
    assert_eq!(state(3, 5, 0), 1, "another process");
    assert_eq!(state(2, 5, SKEW + 1), 1, "ahead of the clock");
}

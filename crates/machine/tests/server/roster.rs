//! Section 5: which presence the roster takes.

use countersign_machine::server::{Audience, ClientEvent, Ignored, Options, Roster, Taken, Update};
use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Outcome, State};
use countersign_testkit::realm::{START, name};
use serde_json::json;

use super::common::{Server, World, at, epoch, ping, pong, request};

/// A presence of `worker-1`: the process, its number, and when it was signed by the client's clock.
fn presence_of(world: &World, boot: u8, n: u64, millis: i64) -> Authentic<Event> {
    world.presence("worker-1", |event| (event.boot, event.n, event.issued_at) = (epoch(boot), n, at(millis)))
}

const HOUR: i64 = 3_600_000;

#[test]
fn of_one_process_the_greater_number_is_later_whatever_the_clock_says() {
    let world = World::new();
    let mut roster = Roster::default();
    let mut take = |n: u64, millis: i64| roster.take(&presence_of(&world, 1, n, millis), START, SKEW, true);
    assert_eq!(take(5, 0), Taken::Later);
    assert_eq!(take(5, 1), Taken::Stale);
    assert_eq!(take(4, 1), Taken::Stale);
    assert_eq!(take(6, 2 * HOUR), Taken::Later, "the clock was set ahead");
    assert_eq!(take(7, 0), Taken::Later, "and right again");
    assert_eq!(take(6, 2 * HOUR), Taken::Stale, "a replay");
}

#[test]
fn of_two_processes_the_later_one_is_taken_and_a_replay_of_the_earlier_one_never() {
    let world = World::new();
    let mut roster = Roster::default();
    let mut take = |boot, n, millis, now| roster.take(&presence_of(&world, boot, n, millis), at(now), SKEW, true);
    assert_eq!(take(1, 50, 2 * HOUR, 0), Taken::Later, "its clock is ahead");
    assert_eq!(take(2, 0, 10, 10), Taken::Later, "another process, with a clock that was corrected");
    assert_eq!(take(1, 50, 2 * HOUR, 20), Taken::Stale, "a replay that is ahead still");
    assert_eq!(take(3, 9, -1, 20), Taken::Stale, "a replay of a process that was never heard");
    assert_eq!(take(1, 51, 2 * HOUR, 30), Taken::TwoAlive, "it says something new");
    assert_eq!(take(2, 11, 40, 40), Taken::TwoAlive);
    assert_eq!(take(4, 1, 4_000, 50), Taken::Later, "a restart is no second process");
    assert_eq!(take(5, 1, 60, 60), Taken::Later, "within the skew, too, nothing was signed later than it arrived");
}

#[test]
fn a_client_whose_clock_is_ahead_is_in_the_roster_and_expected_by_all() {
    let world = World::new();
    for live in [false, true] {
        let mut server = world.server();
        let ahead = presence_of(&world, 1, 1, 2 * HOUR);
        if live {
            server.receive(&ahead)
        } else {
            server.store(&[ahead])
        }
        let presence = server.operator.roster().entry(&name("worker-1")).unwrap();
        assert_eq!((presence.clock(), presence.last_seen_at(), presence.is_silent(START)), (2 * HOUR, START, false));
        assert_eq!((presence.is_dated(), presence.is_there(START)), (live, live), "what was kept may be old");
        server.submit(ping(), &Audience::All, Options::default()).unwrap();
        let answer = world.answer_of("worker-1", &server.sent[0], pong());
        server.take(&answer.with(|reply| (reply.boot, reply.n, reply.issued_at) = (epoch(1), 5, at(2 * HOUR))));
        assert_eq!(server.word("worker-1"), "succeeded");
        assert_eq!(server.notices(), [] as [&str; 0]);
    }
}

#[test]
fn a_client_whose_clock_is_far_behind_is_known_by_its_replies() {
    let world = World::new();
    let mut server = world.server();
    server.receive(&presence_of(&world, 1, 0, 0));
    let behind = -100 * HOUR;
    server.receive(&presence_of(&world, 2, 0, behind));
    let boot = |server: &Server| server.operator.roster().entry(&name("worker-1")).unwrap().boot();
    assert_eq!(boot(&server), epoch(1), "it may be an old one that is played again");
    server.pass(1);
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    let answer = world.answer_of("worker-1", &server.sent[0], pong());
    server.take(&answer.with(|reply| (reply.boot, reply.n, reply.issued_at) = (epoch(2), 1, at(behind))));
    server.receive(&presence_of(&world, 2, 2, behind + 10));
    let presence = server.operator.roster().entry(&name("worker-1")).unwrap();
    assert_eq!((presence.boot(), presence.clock()), (epoch(2), behind - 1));
    assert!(!presence.is_silent(at(20)), "by its clock it is not, {:?}", presence.last_seen_at());
    // What it said before is no younger for it.
    server.receive(&presence_of(&world, 1, 0, 0));
    assert_eq!(boot(&server), epoch(2));
}

#[test]
fn an_event_after_a_clock_was_corrected_is_news_and_one_from_before_is_not() {
    let world = World::new();
    let mut server = world.server();
    let security = |n: u64, millis: i64| {
        world.presence("worker-1", |event| {
            (event.n, event.issued_at, event.kind) = (n, at(millis), EventKind::Security);
            event.subject = "cs.demo.event.worker-1.security".to_owned();
            event.data = serde_json::from_value(json!({ "reason": "clock", "count": 1 })).unwrap();
        })
    };
    server.receive(&presence_of(&world, 2, 1, 2 * HOUR));
    let events = |server: &Server| {
        let is_it = |it: &&Update| matches!(it, Update::ClientEvent { event: ClientEvent::Security(_), .. });
        server.updates.iter().filter(is_it).count()
    };
    server.receive(&security(2, 2 * HOUR));
    assert_eq!(events(&server), 1, "its clock is known to be ahead");
    server.receive(&world.presence("worker-1", |event| (event.n, event.epoch) = (3, epoch(7))));
    server.receive(&security(2, 2 * HOUR));
    assert_eq!(events(&server), 1, "a replay");
    let corrected = world.presence("worker-1", |event| {
        (event.n, event.epoch, event.kind) = (4, epoch(7), EventKind::Security);
        event.subject = "cs.demo.event.worker-1.security".to_owned();
        event.data = serde_json::from_value(json!({ "reason": "clock", "count": 1 })).unwrap();
    });
    server.receive(&corrected);
    assert_eq!(events(&server), 2);
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
    assert_eq!(roster.take(&security, START, SKEW, true), Taken::Unfit);
    let elsewhere = world.presence("worker-1", |event| event.subject = "cs.demo.event.worker-2.presence".to_owned());
    assert_eq!(roster.take(&elsewhere, START, SKEW, true), Taken::Unfit);
    assert_eq!(roster, Roster::default());
}

#[test]
fn a_presence_that_is_not_taken_for_its_subject_is_counted_and_reported_once() {
    let world = World::new();
    let mut server = world.server();
    let misplaced = world.presence("worker-1", |event| event.subject = "cs.demo.event.worker-2.presence".to_owned());
    server.store(std::slice::from_ref(&misplaced));
    server.receive(&misplaced);
    let reported = server.notices();
    assert!(
        reported.len() == 1 && reported[0].contains("an event that does not belong to its subject"),
        "{reported:?}"
    );
    assert_eq!(server.operator.ignored(), [(Ignored::Misplaced, 2)].into());
    assert_eq!(server.operator.roster(), &Roster::default());
    // What comes twice, from the broker's store and as it is said, is no event.
    server.receive(&world.presence("worker-1", |_| ()));
    server.receive(&world.presence("worker-1", |_| ()));
    assert_eq!(server.notices().len(), 1);
}

#[test]
fn a_presence_with_another_state_is_news_whether_it_or_the_reply_with_the_same_comes_first() {
    let world = World::new();
    let state = |boot: u8, n: u64, millis: i64| {
        let stored = world.presence("worker-1", |event| (event.state, event.n) = (State::Unready, 4));
        let start = request("start", json!({}));
        let mut server = world.request_to(start, &["worker-1"], &[stored], Options::default()).unwrap();
        let started = world.answer(&server.sent[0], Outcome::Succeeded(json!({ "changed": true })));
        server.take(&started.with(|reply| (reply.boot, reply.n, reply.issued_at) = (epoch(boot), n, at(millis))));
        assert!(server.report.is_some());
        server.receive(
            &world.presence("worker-1", |event| (event.state, event.n, event.issued_at) = (State::Ready, 9, at(2))),
        );
        let is_event = |it: &&Update| matches!(it, Update::ClientEvent { event: ClientEvent::State { .. }, .. });
        server.updates.iter().filter(is_event).count()
    };
    assert_eq!(state(2, 5, 0), 1, "a reply that was signed before the presence");
    assert_eq!(state(2, 10, 3), 1, "a reply that was signed after the presence, and has overtaken it");
    assert_eq!(state(2, 3, 0), 1, "an earlier reply");
    assert_eq!(state(2, 5, -1), 1, "the number decides, and not the time");
    assert_eq!(state(3, 5, 0), 1, "another process");
    assert_eq!(state(2, 5, SKEW + 1), 1, "though its clock is ahead");
}

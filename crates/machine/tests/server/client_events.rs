//! What clients report by themselves becomes an event, once (section 5).

use std::collections::BTreeSet;

use countersign_machine::server::{ClientEvent, Options, Update};
use countersign_protocol::event::{Event, EventKind, Security, SecurityReason};
use countersign_protocol::reply::{Outcome, State};
use countersign_protocol::time::Millis;
use countersign_testkit::realm::name;
use serde_json::json;

use super::common::{Server, World, at, calculate, epoch, names};

fn events(server: &mut Server) -> Vec<ClientEvent> {
    let events = |update| match update {
        Update::ClientEvent { event, .. } => Some(event),
        _ => None,
    };
    server.updates.drain(..).filter_map(events).collect()
}

#[test]
fn the_comings_and_goings_of_a_client_are_reported_and_its_heartbeats_are_not() {
    let world = World::new();
    let mut server = world.server();
    let mut receive = |millis: i64, boot: u8, of: u8, state: State| {
        server.now.wall = at(millis);
        server.now.micros += 1;
        let event = world.presence("worker-1", |event| {
            (event.issued_at, event.boot, event.epoch, event.state) = (at(millis), epoch(boot), epoch(of), state);
            event.data.insert("started_at".to_owned(), json!(at(i64::from(boot))));
        });
        server.receive(&event);
        events(&mut server)
    };
    assert_eq!(receive(0, 1, 1, State::Unready), [ClientEvent::Joined { state: State::Unready }]);
    assert_eq!(receive(1, 1, 1, State::Unready), []);
    assert_eq!(receive(2, 1, 1, State::Ready), [ClientEvent::State { from: State::Unready, to: State::Ready }]);
    assert_eq!(receive(3, 2, 1, State::Unready), [ClientEvent::Restarted { state: State::Unready, new_epoch: false }]);
    assert_eq!(receive(4, 3, 2, State::Unready), [ClientEvent::Restarted { state: State::Unready, new_epoch: true }]);
    assert_eq!(
        receive(5, 3, 2, State::Terminated),
        [ClientEvent::State { from: State::Unready, to: State::Terminated }]
    );
    assert_eq!(receive(6, 4, 2, State::Unready), [ClientEvent::Joined { state: State::Unready }]);
}

#[test]
fn a_client_that_falls_silent_is_reported_once_and_again_when_it_is_back() {
    let world = World::new();
    let mut server = world.server();
    server.receive(&world.presence("worker-1", |_| ()));
    server.updates.clear();
    server.pass(29_999);
    assert_eq!(events(&mut server), []);
    server.pass(60_000);
    assert_eq!(events(&mut server), [ClientEvent::Silent]);
    let wall = server.now.wall;
    server.receive(&world.presence("worker-1", |event| event.issued_at = wall));
    assert_eq!(events(&mut server), [ClientEvent::Back { state: State::Ready }]);
}

#[test]
fn the_silence_of_a_client_that_has_ended_is_no_news() {
    let world = World::new();
    let mut server = world.server();
    server.receive(&world.presence("worker-1", |_| ()));
    server.receive(&world.presence("worker-1", |event| (event.n, event.state) = (1, State::Terminated)));
    server.updates.clear();
    assert_eq!(server.operator.wake_at(), None);
    server.pass(60_000);
    assert_eq!(events(&mut server), []);
}

#[test]
fn no_client_is_reported_silent_while_there_is_no_connection() {
    let world = World::new();
    let mut server = world.server();
    server.receive(&world.presence("worker-1", |_| ()));
    server.updates.clear();
    server.operator.disconnected(server.now);
    assert_eq!(server.operator.wake_at(), None);
    server.pass(60_000);
    assert_eq!(events(&mut server), []);
    let effects = server.operator.reconnected(server.now);
    server.apply(effects);
    server.pass(29_000);
    assert_eq!(events(&mut server), [], "it has the time to be heard again");
    server.pass(1_000);
    assert_eq!(events(&mut server), [ClientEvent::Silent]);
}

#[test]
fn two_processes_of_one_client_are_reported_once_and_are_no_restarts() {
    let world = World::new();
    let mut server = world.server();
    let mut receive = |millis: i64, boot: u8| {
        server.now.wall = at(millis);
        let event = world.presence("worker-1", |event| {
            (event.issued_at, event.boot) = (at(millis), epoch(boot));
            event.data.insert("started_at".to_owned(), json!(at(i64::from(boot))));
        });
        server.receive(&event);
        let alarms = server.alarms();
        (alarms, events(&mut server).len())
    };
    assert_eq!(receive(0, 1), (0, 1), "joined");
    assert_eq!(receive(1, 2), (0, 1), "started again");
    assert_eq!(receive(2, 1), (1, 0), "two are alive");
    for beat in 3..9 {
        assert_eq!(receive(beat, if beat % 2 == 1 { 2 } else { 1 }), (0, 0), "{beat}");
    }
}

#[test]
fn what_the_broker_keeps_is_no_news_at_first_and_is_when_it_has_changed() {
    let world = World::new();
    let mut server = world.server();
    server.store(&[world.presence("worker-1", |_| ())]);
    assert_eq!(events(&mut server), []);
    server.store(&[world.presence("worker-1", |event| (event.n, event.state) = (1, State::Unready))]);
    assert_eq!(events(&mut server), [ClientEvent::State { from: State::Ready, to: State::Unready }]);
    let old = world.presence("worker-2", |event| event.issued_at = at(-60_000));
    server.store(&[old]);
    server.pass(10_000);
    assert_eq!(events(&mut server), [], "it was silent before");
}

fn security(world: &World, change: impl FnOnce(&mut Event)) -> countersign_protocol::envelope::Authentic<Event> {
    world.presence("worker-1", |event| {
        event.kind = EventKind::Security;
        event.subject = "cs.demo.event.worker-1.security".to_owned();
        event.data = serde_json::from_value(json!({ "reason": "id_conflict", "count": 2, "signer": "bob" })).unwrap();
        change(event);
    })
}

#[test]
fn a_security_event_is_reported_once_and_neither_a_replay_nor_an_old_one_is() {
    let world = World::new();
    let mut server = world.server();
    let reported =
        ClientEvent::Security(Security { reason: SecurityReason::IdConflict, count: 2, signer: Some(name("bob")) });
    server.receive(&security(&world, |event| event.n = 7));
    assert_eq!(events(&mut server), std::slice::from_ref(&reported));
    for (n, millis) in [(7, 0), (6, 0), (6, 1), (8, -30_001), (8, 5_001)] {
        server.receive(&security(&world, |event| (event.n, event.issued_at) = (n, at(millis))));
        assert_eq!(events(&mut server), [], "{n} at {millis}");
    }
    server.receive(&security(&world, |event| {
        (event.n, event.subject) = (8, "cs.demo.event.worker-2.security".to_owned())
    }));
    assert_eq!(events(&mut server), [], "on the subject of another");
    server.receive(&security(&world, |event| event.n = 8));
    assert_eq!(events(&mut server), [reported]);
}

#[test]
fn a_job_of_another_session_is_news_and_one_of_this_is_reported_by_its_replies() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1"], Options::default()).unwrap();
    let own = world.command(&server.sent[0]).id;
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.updates.clear();
    for (n, id, count) in [(1, own.to_string(), 0), (2, "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90".to_owned(), 1)] {
        let job = json!({ "command_id": id, "command": "calculate", "operator": "alice", "status": "accepted", "started_at": 0 });
        server.receive(&world.presence("worker-1", |event| {
            (event.kind, event.n) = (EventKind::Job, n);
            event.subject = "cs.demo.event.worker-1.job".to_owned();
            event.data = serde_json::from_value(job).unwrap();
        }));
        assert_eq!(events(&mut server).len(), count, "{id}");
    }
}

#[test]
fn a_client_whose_presence_the_broker_stores_no_more_is_removed_unless_it_was_just_seen() {
    let world = World::new();
    let mut server = world.server();
    let old = world.presence("worker-1", |event| event.issued_at = at(-30_001));
    let ended = world.presence("worker-2", |event| event.state = State::Terminated);
    server.store(&[old, ended, world.presence("worker-3", |_| ())]);
    let listed =
        |server: &Server| -> Vec<_> { server.operator.roster().entries().map(|it| it.client().clone()).collect() };
    server.operator.keep_only(&BTreeSet::from_iter(names(&["worker-1", "worker-2"])));
    assert_eq!(listed(&server), names(&["worker-1", "worker-2", "worker-3"]));
    server.operator.keep_only(&BTreeSet::new());
    assert_eq!(listed(&server), names(&["worker-3"]), "its presence may be on its way to the broker");
}

#[test]
fn a_credential_that_enters_its_last_third_is_reported_once_and_one_that_was_in_it_before_is_not() {
    let world = World::new();
    let term = world.workers["worker-1"].credential().term();
    let receive = |server: &mut Server, n: u64, wall: Millis| {
        server.now.wall = wall;
        server.now.micros += 1;
        server.receive(&world.presence("worker-1", |event| (event.n, event.issued_at) = (n, wall)));
        events(server)
    };
    let mut server = world.server();
    let joined = [ClientEvent::Joined { state: State::Ready }];
    assert_eq!(receive(&mut server, 1, term.warns_at().plus(-10_000)), joined);
    assert_eq!(receive(&mut server, 2, term.warns_at().plus(-1)), []);
    assert_eq!(receive(&mut server, 3, term.warns_at()), [ClientEvent::Ending { term }]);
    assert_eq!(receive(&mut server, 4, term.warns_at().plus(10_000)), []);
    // A prompt that starts later does not begin with a line for each: the roster marks them.
    let mut later = world.server();
    assert_eq!(receive(&mut later, 5, term.warns_at().plus(20_000)), joined);
    assert_eq!(receive(&mut later, 6, term.warns_at().plus(30_000)), []);
}

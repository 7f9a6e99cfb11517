//! Section 6: a client whose credential has expired counts and is named, and an operator's own ends its requests.

use std::collections::BTreeSet;

use countersign_machine::server::{Audience, Options, RequestError, Roster, Verdict};
use countersign_protocol::envelope::Rejected;
use countersign_protocol::event::Event;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Outcome, State};
use countersign_testkit::realm::{full_grant, name};

use super::common::{Server, World, at, calculate, calculated, names, ping, pong};

/// When the credential of `worker-1` ends, in seconds.
const END: i64 = 60;
const DATE: &str = "expired on 2026-11-24 02:01:00 UTC";

fn world() -> World {
    let mut world = World::with_groups(&[("worker-1", &["web"]), ("worker-2", &["web"])]);
    world.workers.insert("worker-1", world.realm.client_until("worker-1", &["web"], END));
    world
}

/// What is made of a presence of `worker-1` when its credential has expired.
fn rejected(world: &World, change: impl FnOnce(&mut Event)) -> Rejected {
    let presence = world.signed_presence("worker-1", change);
    world.realm.open::<Event>(&presence, at(END * 1_000 + SKEW)).unwrap_err()
}

/// An operator's process after the end, which has found the old presence of `worker-1` at the broker.
fn server(world: &World, change: impl FnOnce(&mut Event)) -> Server {
    let mut server = world.server();
    server.jump(server.now.micros + 100_000_000);
    let effects = server.operator.rejected(&rejected(world, change));
    server.apply(effects);
    server
}

fn ends_unknown(server: &Server) {
    let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("{:?}", server.report) };
    assert!(text.contains(&format!("its credential {DATE}")) && text.contains("unknown"), "{text}");
    assert_eq!(server.report.as_ref().unwrap().exit_status(), 3);
}

#[test]
fn a_client_whose_credential_has_expired_counts_among_all_and_its_verdict_names_the_date() {
    let world = world();
    for audience in [Audience::All, Audience::Group(name("web")), Audience::Clients(names(&["worker-1", "worker-2"]))] {
        let mut server = server(&world, |_| ());
        let notices = server.notices();
        assert!(
            matches!(notices.as_slice(), [text] if text.contains("worker-1") && text.contains(DATE)),
            "{notices:?}"
        );
        let now = server.now.wall;
        server.store(&[world.presence("worker-2", |event| event.issued_at = now)]);
        server.submit(ping(), &audience, Options::default()).unwrap();
        let command = server.sent.last().unwrap().clone();
        server.take(&world.answer_of("worker-2", &command, pong()));
        assert!(server.report.is_none(), "worker-1 is waited for");
        server.pass(5_000);
        assert_eq!(server.word("worker-2"), "succeeded");
        ends_unknown(&server);
    }
}

#[test]
fn a_presence_that_was_verified_before_the_end_is_no_excuse_after_it() {
    let world = world();
    let mut server = world.server();
    server.jump(server.now.micros + 60_000_000);
    server.store(&[world.presence("worker-1", |event| event.issued_at = at(59_000))]);
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    server.pass(5_000);
    ends_unknown(&server);
}

#[test]
fn a_job_whose_end_cannot_be_proved_any_more_ends_unknown_and_says_why() {
    let world = world();
    let mut server = world.server();
    server.jump(server.now.micros + 59_000_000);
    server.submit(calculate(), &Audience::Clients(names(&["worker-1"])), Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.pass(40_000);
    ends_unknown(&server);
}

#[test]
fn one_that_reported_its_end_is_not_waited_for_after_its_credential_has_expired() {
    let world = world();
    let mut server = server(&world, |event| event.state = State::Terminated);
    let given = server.submit(ping(), &Audience::All, Options::default());
    assert_eq!(given, Err(RequestError::Nobody { audience: Audience::All, ended: 1, out_of_reach: 0 }));
}

#[test]
fn a_renewed_presence_takes_the_place_of_an_expired_one_and_never_the_other_way_round() {
    let mut world = world();
    let mut server = server(&world, |_| ());
    let old = rejected(&world, |event| event.n = 9);
    let worker = name("worker-1");
    let expired = server.operator.roster().expired(&worker).unwrap();
    assert_eq!((expired.expired_at(), expired.groups()), (at(END * 1_000), &[name("web")][..]));
    assert!(server.operator.roster().entry(&worker).is_none(), "it is no presence");
    assert!(server.operator.known().contains(&worker));

    world.workers.insert("worker-1", world.realm.client("worker-1", &["web"]));
    let now = server.now.wall;
    server.receive(&world.presence("worker-1", |event| event.issued_at = now));
    assert_eq!(server.operator.roster().expired(&worker), None);
    // Whoever has the old key can say what they like.
    let effects = server.operator.rejected(&old);
    server.apply(effects);
    assert_eq!(server.operator.roster().expired(&worker), None);
    assert!(server.operator.roster().entry(&worker).is_some());
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    server.take(&world.answer_of("worker-1", &server.sent[0], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn an_expired_client_that_the_broker_keeps_nothing_of_any_more_is_struck() {
    let world = world();
    let mut server = server(&world, |_| ());
    server.operator.keep_only(&BTreeSet::from([name("worker-1")]));
    assert!(server.operator.roster().expired(&name("worker-1")).is_some());
    server.operator.keep_only(&BTreeSet::new());
    assert_eq!(server.operator.roster(), &Roster::default());
}

#[test]
fn no_request_is_sent_under_a_credential_that_has_expired_and_what_is_under_way_is_waited_for() {
    let mut world = World::new();
    world.alice = world.realm.operator_until("alice", full_grant(), END);
    let mut server = world.calculate();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    let pass = |server: &mut Server, millis: u64| {
        server.pass(millis);
        let seen_at = server.now.wall;
        server.receive(&world.presence("worker-1", |event| event.issued_at = seen_at));
    };
    [9_999; 6].into_iter().for_each(|millis| pass(&mut server, millis));
    let sent_before = server.sent.len();
    assert!(sent_before > 1, "it asks what came of it");
    // For as long as the client is heard, and the end may come.
    [10_000; 12].into_iter().for_each(|millis| pass(&mut server, millis));
    assert_eq!((server.sent.len(), &server.report), (sent_before, &None), "nothing is signed under it");
    let mut other = server.operator.clone();
    let refused = other.submit(ping(), &Audience::Clients(names(&["worker-1"])), Options::default(), server.now);
    let Err(RequestError::NotInForce { operator, until, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!((operator, *until), (&name("alice"), at(END * 1_000)));
    assert_eq!(other, server.operator, "nothing has changed by it");
    server.take(&world.answer(&server.sent[0].clone(), calculated()).seq(1));
    assert_eq!(server.word("worker-1"), "succeeded", "the reply is the client's");
}

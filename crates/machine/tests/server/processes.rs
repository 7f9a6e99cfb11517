//! Section 5: two processes that answer as one client, and a restart, which is none of that.

use countersign_machine::server::{Audience, CommandRequest, Options, Roster, Taken};
use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::Event;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, State};
use countersign_testkit::realm::{START, name};
use serde_json::{Value, json};

use super::common::{
    Answer, Server, World, at, calculate, calculated, epoch, ping, pong, refused, request, wrong_epoch,
};

/// The process that the roster knows, and another one.
const ORIGINAL: u8 = 2;
const CLONE: u8 = 9;

/// A presence of one of the two, which has been there since a moment.
fn presence(world: &World, boot: u8, started: i64, issued: i64) -> Authentic<Event> {
    world.presence("worker-1", |event| {
        (event.boot, event.epoch, event.issued_at) = (epoch(boot), epoch(boot), at(issued));
        event.data.insert("started_at".to_owned(), json!(at(started)));
    })
}

/// A request to `worker-1`, whose original was heard a second ago.
fn submitted(world: &World, request: CommandRequest) -> Server {
    let stored = presence(world, ORIGINAL, -3_600_000, -1_000);
    world.request_to(request, &["worker-1"], &[stored], Options::default()).unwrap()
}

fn answer_of<'a>(world: &'a World, server: &Server, boot: u8, millis: i64, outcome: Outcome) -> Answer<'a> {
    let answer = world.answer_of("worker-1", &server.sent[0], outcome);
    answer.with(|reply| (reply.boot, reply.epoch, reply.issued_at) = (epoch(boot), epoch(boot), at(millis)))
}

fn not_ready() -> Outcome {
    refused(ErrorCode::NotReady, Value::Null)
}

fn processes(server: &Server) -> usize {
    server.report.as_ref().unwrap().replies[0].processes
}

#[test]
fn what_a_clone_refuses_is_not_the_verdict_while_the_original_may_answer() {
    let world = World::new();
    for refusal in [wrong_epoch(CLONE), not_ready(), refused(ErrorCode::Busy, Value::Null)] {
        for request in [calculate(), ping()] {
            let outcome = if request == ping() { pong() } else { calculated() };
            let mut server = submitted(&world, request);
            server.take(&answer_of(&world, &server, CLONE, 10, refusal.clone()));
            assert_eq!((server.report.is_none(), server.sent.len()), (true, 1), "{refusal:?}");
            server.take(&answer_of(&world, &server, ORIGINAL, 20, outcome));
            assert_eq!((server.word("worker-1"), processes(&server)), ("succeeded", 2));
            assert_eq!((server.alarms(), server.notices().len()), (1, 1), "{:?}", server.notices());
            assert!(server.notices()[0].contains("two processes answer as worker-1"), "{:?}", server.notices());
        }
    }
}

#[test]
fn what_a_clone_refuses_of_a_request_to_many_is_not_the_verdict_either() {
    let world = World::with_groups(&[("worker-1", &["web"])]);
    for audience in [Audience::All, Audience::Group(name("web"))] {
        for refusal in [wrong_epoch(CLONE), not_ready(), refused(ErrorCode::Starting, json!({ "epoch": epoch(CLONE) }))]
        {
            for request in [calculate(), ping()] {
                let outcome = if request == ping() { pong() } else { calculated() };
                let mut server = world.server();
                server.store(&[presence(&world, ORIGINAL, -3_600_000, -1_000)]);
                server.submit(request, &audience, Options::default()).unwrap();
                server.take(&answer_of(&world, &server, CLONE, 10, refusal.clone()));
                assert_eq!((server.report.is_none(), server.sent.len()), (true, 1), "{audience:?} {refusal:?}");
                server.take(&answer_of(&world, &server, ORIGINAL, 20, outcome));
                assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("succeeded", 2, 1));
            }
        }
    }
}

#[test]
fn what_a_clone_refuses_stands_at_the_time_out_and_says_who_was_expected() {
    let world = World::new();
    let mut server = submitted(&world, calculate());
    server.take(&answer_of(&world, &server, CLONE, 10, wrong_epoch(CLONE)));
    server.pass(5_000);
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("refused", 2, 0));
    let reported = server.notices().join(" ");
    assert!(reported.contains("answered from another process than the one that was heard 6 s ago"), "{reported}");
}

#[test]
fn a_process_that_started_after_the_last_word_of_the_other_is_a_restart_and_is_obeyed_at_once() {
    let world = World::new();
    for is_first in [true, false] {
        let mut server = submitted(&world, ping());
        let refusal = answer_of(&world, &server, CLONE, 10, wrong_epoch(CLONE));
        let start = presence(&world, CLONE, 5, 5);
        if is_first {
            server.receive(&start);
            server.take(&refusal);
        } else {
            server.take(&refusal);
            assert_eq!(server.sent.len(), 1);
            server.receive(&start);
        }
        assert_eq!(server.sent.len(), 2, "sent again in its epoch");
        let again = world.answer(&server.sent[1], pong());
        server.take(&again.with(|reply| (reply.boot, reply.issued_at) = (epoch(CLONE), at(20))));
        assert_eq!((server.word("worker-1"), processes(&server)), ("succeeded", 1));
        assert!(server.notices().iter().all(|text| !text.contains("process")), "{:?}", server.notices());
    }
    let mut server = submitted(&world, calculate());
    server.take(&answer_of(&world, &server, CLONE, 10, wrong_epoch(CLONE)));
    server.receive(&presence(&world, CLONE, 5, 5));
    assert_eq!(
        (server.word("worker-1"), processes(&server)),
        ("refused", 1),
        "without a wait for the one that is over"
    );
}

#[test]
fn what_ran_when_the_process_ended_is_interrupted_by_the_next_one_and_that_is_no_second_process() {
    let world = World::new();
    let mut server = submitted(&world, calculate());
    server.take(&answer_of(&world, &server, ORIGINAL, 10, Outcome::Accepted));
    let error = ErrorBody::new(ErrorCode::Interrupted, "ended");
    server.take(&answer_of(&world, &server, CLONE, 500, Outcome::Interrupted(error)).seq(1));
    assert_eq!((server.word("worker-1"), processes(&server)), ("interrupted", 1));
    assert!(server.notices().is_empty(), "{:?}", server.notices());
}

#[test]
fn what_one_process_accepted_is_not_refused_by_another() {
    let world = World::new();
    let mut server = world.calculate();
    server.take(&answer_of(&world, &server, ORIGINAL, 10, Outcome::Accepted));
    server.take(&answer_of(&world, &server, CLONE, 11, not_ready()));
    assert!(server.report.is_none(), "it runs");
    server.take(&answer_of(&world, &server, ORIGINAL, 60_000, calculated()).seq(1));
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("succeeded", 2, 1));
}

#[test]
fn that_another_process_has_no_record_of_what_one_accepted_is_no_news_of_it() {
    let world = World::new();
    for (is_successor, word) in [(false, "succeeded"), (true, "no_reply")] {
        let mut server = world.calculate();
        server.take(&answer_of(&world, &server, ORIGINAL, 10, Outcome::Accepted));
        server.pass(10_000);
        if is_successor {
            server.receive(&presence(&world, CLONE, 9_000, 9_000));
        }
        let question = server.sent[1].clone();
        let unknown = world.answer(&question, wrong_epoch(CLONE));
        server.take(&unknown.with(|reply| (reply.boot, reply.issued_at) = (epoch(CLONE), at(10_000))));
        assert_eq!(server.report.is_some(), is_successor);
        if !is_successor {
            server.take(&answer_of(&world, &server, ORIGINAL, 11_000, calculated()).seq(1));
        }
        assert_eq!(server.word("worker-1"), word);
    }
}

#[test]
fn the_end_of_one_process_by_that_very_request_does_not_make_the_other_its_successor() {
    let world = World::new();
    let mut server = submitted(&world, request("terminate", json!({})));
    server.take(&answer_of(&world, &server, CLONE, 10, wrong_epoch(CLONE)));
    let done = answer_of(&world, &server, ORIGINAL, 11, Outcome::Succeeded(json!({ "cancelled": 0 })));
    server.take(&done.with(|reply| reply.state = State::Terminated));
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("succeeded", 2, 1));
    assert_eq!(server.sent.len(), 1, "the other one is not sent it");
}

#[test]
fn what_one_process_refused_gives_way_to_what_another_does_until_the_report() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.take(&answer_of(&world, &server, CLONE, 10, not_ready()));
    server.take(&answer_of(&world, &server, ORIGINAL, 11, Outcome::Accepted));
    let other = world.answer_of("worker-2", &server.sent[1], calculated());
    server.take(&other);
    assert!(server.report.is_none(), "worker-1 runs it");
    server.take(&answer_of(&world, &server, ORIGINAL, 60_000, calculated()).seq(1));
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("succeeded", 2, 1));
}

#[test]
fn what_another_process_signs_after_the_report_is_reported_once() {
    let world = World::new();
    let mut server = world.calculate();
    server.take(&answer_of(&world, &server, CLONE, 10, not_ready()));
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("refused", 1, 0));
    for (seq, outcome) in [(0, Outcome::Accepted), (1, calculated())] {
        server.take(&answer_of(&world, &server, ORIGINAL, 11, outcome).seq(seq));
        assert_eq!(server.alarms(), 1, "{:?}", server.notices());
    }
    assert!(server.notices()[0].contains("the verdict is the word of one of them"));
}

#[test]
fn an_answer_from_another_process_than_the_roster_knows_is_the_verdict_and_says_so() {
    let world = World::new();
    let mut server = submitted(&world, ping());
    server.take(&answer_of(&world, &server, CLONE, 10, pong()));
    assert_eq!((server.word("worker-1"), processes(&server), server.alarms()), ("succeeded", 2, 0));
    assert!(server.notices()[0].contains("it was started again, or two processes"), "{:?}", server.notices());
}

#[test]
fn two_processes_that_both_did_it_are_no_conflict_of_one_and_the_first_stands() {
    let world = World::new();
    let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.take(&answer_of(&world, &server, ORIGINAL, 10, pong()));
    server.take(&answer_of(&world, &server, CLONE, 11, Outcome::Succeeded(json!(7))));
    assert!(server.operator.ignored().is_empty());
    server.take(&world.answer_of("worker-2", &server.sent[1], pong()));
    let report = server.report.as_ref().unwrap();
    assert_eq!((report.replies[0].verdict.result(), report.replies[0].processes), (Some(json!(1_795_485_600)), 2));
}

#[test]
fn a_process_that_had_started_well_before_the_last_message_of_another_is_reported_at_once() {
    let world = World::new();
    let take = |started: i64| {
        let mut roster = Roster::default();
        roster.take(&presence(&world, ORIGINAL, -60_000, 0), START, SKEW, true);
        roster.take(&presence(&world, CLONE, started, 1_000), at(1_000), SKEW, true)
    };
    assert_eq!(take(-SKEW - 1), Taken::TwoAlive);
    assert_eq!(take(-SKEW), Taken::Later, "two clocks may differ by that");
    assert_eq!(take(1), Taken::Later, "a restart");
}

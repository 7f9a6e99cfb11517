//! Section 5: silence is counted while there is a connection, an outage is waited out up to a bound, and what a client says of
//! another command is no answer.

use countersign_machine::server::{Audience, Options, RequestError, Verdict};
use countersign_protocol::digest::Digest;
use countersign_protocol::reply::{ErrorCode, Outcome, State};
use serde_json::{Value, json};

use super::common::{Server, World, at, calculate, ping, pong, recorded, refused};
use super::offline::gone;

const MINUTE: u64 = 60_000;

fn cut(server: &mut Server) {
    server.operator.disconnected(server.now);
}

fn restore(server: &mut Server) {
    let effects = server.operator.reconnected(server.now);
    server.apply(effects);
}

/// Answers the last question with what is on record of the first command.
fn answer(world: &World, server: &mut Server, value: Value) {
    let outcome = recorded(&server.sent[0], value);
    server.take(&world.answer(server.sent.last().unwrap(), outcome));
}

fn done() -> Value {
    json!({ "status": "succeeded", "result": { "x": 60.0, "msg": "done" } })
}

#[test]
fn an_outage_of_a_minute_ends_nothing_that_was_accepted() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    for index in 0..2 {
        server.take(&world.answer(&server.sent[index], Outcome::Accepted));
    }
    cut(&mut server);
    server.pass(MINUTE);
    assert_eq!((server.report.is_none(), server.sent.len()), (true, 2), "nothing is asked that nobody hears");
    restore(&mut server);
    for index in 0..2 {
        let outcome = recorded(&server.sent[index], done());
        server.take(&world.answer(&server.sent[2 + index], outcome));
    }
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("succeeded", "succeeded"));
}

#[test]
fn an_outage_before_the_first_reply_is_waited_out_and_then_the_result_is_queried_until_there_is_an_answer() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1"], Options::default()).unwrap();
    server.pass(4_900);
    cut(&mut server);
    server.pass(MINUTE);
    restore(&mut server);
    server.pass(9_999);
    assert!(server.report.is_none(), "the client, too, has to find the broker");
    assert_eq!(server.sent.len(), 5, "and is asked again meanwhile");
    answer(&world, &mut server, done());
    assert_eq!(server.word("worker-1"), "succeeded");

    let mut silent = world.ping();
    cut(&mut silent);
    silent.pass(MINUTE);
    restore(&mut silent);
    silent.pass(10_000);
    assert_eq!(silent.word("worker-1"), "no_reply", "silence counts again");
}

#[test]
fn no_outage_is_waited_out_for_ever_and_a_person_can_end_the_wait() {
    let world = World::new();
    let mut waiting = world.ping();
    cut(&mut waiting);
    waiting.pass(5_000 + 2 * MINUTE - 1);
    assert!(waiting.report.is_none());
    waiting.pass(1);
    let Verdict::NoReply { text } = waiting.verdict("worker-1") else { panic!("no reply") };
    assert!(text.contains("there is no connection to the broker") && text.contains("unknown"), "{text}");

    let mut running = world.calculate();
    running.take(&world.answer(&running.sent[0], Outcome::Accepted));
    cut(&mut running);
    running.pass(4 * MINUTE);
    assert_eq!(running.word("worker-1"), "no_reply");

    let mut person = world.ping();
    cut(&mut person);
    person.interrupt();
    assert_eq!(person.word("worker-1"), "no_reply");
}

#[test]
fn a_connection_that_comes_and_goes_makes_no_wait_endless() {
    let world = World::new();
    for request in [ping(), calculate()] {
        let mut server = world.request(request, &["worker-1"], Options::default()).unwrap();
        if server.operator.running(server.request_id.unwrap()).is_empty() {
            server.take(&world.answer(&server.sent[0], refused(ErrorCode::Busy, json!(null))).with(|it| {
                let accepted = Outcome::Accepted.into_members();
                (it.status, it.progress, it.result, it.error) = accepted;
            }));
        }
        for _ in 0..100 {
            cut(&mut server);
            server.pass(4_000);
            restore(&mut server);
            let wall = server.now.wall;
            server.receive(&world.presence("worker-1", |event| event.issued_at = wall));
            server.pass(4_000);
        }
        assert_eq!(server.word("worker-1"), "no_reply");
    }
}

#[test]
fn questions_that_were_lost_with_the_connection_are_not_counted_against_the_client() {
    let world = World::new();
    let mut server = world.calculate();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    for _ in 0..9 {
        server.pass(10_000);
        cut(&mut server);
        server.pass(20_000);
        restore(&mut server);
        answer(&world, &mut server, json!({ "status": "accepted" }));
    }
    assert!(server.report.is_none());
}

#[test]
fn what_could_not_arrive_makes_no_client_offline() {
    let world = World::new();
    let mut server = gone(&world, ping(), Options::default(), 1_000, State::Ready);
    cut(&mut server);
    server.pass(MINUTE);
    restore(&mut server);
    server.pass(10_000);
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn a_retry_is_not_sent_while_there_is_no_connection_and_goes_on_when_there_is_one() {
    let world = World::new();
    let mut server = world.request(ping(), &["worker-1"], Options { retry: true, ..Options::default() }).unwrap();
    cut(&mut server);
    server.pass(10_000);
    assert_eq!(server.sent.len(), 1);
    restore(&mut server);
    server.pass(1);
    assert_eq!(server.sent.iter().filter(|it| **it == server.sent[0]).count(), 2, "the same bytes again");
    server.take(&world.answer(&server.sent[0], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");

    let mut expired = world.request(ping(), &["worker-1"], Options { retry: true, ..Options::default() }).unwrap();
    cut(&mut expired);
    expired.pass(40_000);
    restore(&mut expired);
    expired.pass(5_000);
    assert_eq!(expired.sent.iter().filter(|it| **it == expired.sent[0]).count(), 1, "not after its expiry");
}

#[test]
fn nothing_is_submitted_during_an_outage_and_everything_after_it() {
    let world = World::new();
    let mut server = world.server();
    let worker = Audience::Clients(super::common::names(&["worker-1"]));
    cut(&mut server);
    for audience in [&worker, &Audience::All] {
        let refused = server.submit(ping(), audience, Options::default());
        assert!(matches!(refused, Err(RequestError::Disconnected)), "{refused:?}");
    }
    server.pass(MINUTE);
    restore(&mut server);
    assert!(server.sent.is_empty());
    server.submit(ping(), &worker, Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn a_client_is_silent_after_half_a_minute_of_connected_time_only() {
    let world = World::new();
    let mut server = world.server();
    let client = countersign_testkit::realm::name("worker-1");
    server.receive(&world.presence("worker-1", |_| ()));
    cut(&mut server);
    server.pass(MINUTE);
    restore(&mut server);
    assert!(!server.operator.is_silent(&client));
    server.operator.keep_only(&[].into());
    assert!(server.operator.roster().entry(&client).is_some(), "nor is it struck");
    server.pass(30_000);
    assert!(server.operator.is_silent(&client));
}

#[test]
fn what_is_on_record_of_another_command_is_no_answer_to_a_question() {
    let world = World::new();
    let mut server = world.ping();
    restore(&mut server);
    let question = server.sent[1].clone();
    let args = world.command(&question).command.args;
    assert_eq!(args["command_digest"], json!(Digest::of(&server.sent[0].body)), "the very command is asked about");
    let bobs = json!({
        "command_digest": Digest::of(b"bob's ping of the same id"), "operator": "bob",
        "status": "succeeded", "result": 1,
    });
    server.take(&world.answer(&question, Outcome::Succeeded(bobs)));
    let nobodys = json!({ "status": "succeeded", "result": 1 });
    server.take(&world.answer(&question, Outcome::Succeeded(nobodys)));
    assert!(server.report.is_none());
    server.pass(10_000);
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn what_runs_is_named_by_its_bytes_at_each_client() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    for index in 0..2 {
        server.take(&world.answer(&server.sent[index], Outcome::Accepted));
    }
    let running = server.operator.running(server.request_id.unwrap());
    let digests: Vec<_> = running.keys().map(|command| command.command_digest.unwrap()).collect();
    let sent = |index: usize| Digest::of(&server.sent[index].body);
    assert_eq!(running.len(), 2, "one id, and other bytes at each");
    assert!(digests.contains(&sent(0)) && digests.contains(&sent(1)));
}

#[test]
fn a_refusal_that_is_not_on_record_is_no_final_verdict() {
    let world = World::new();
    for code in ErrorCode::ALL {
        let mut server = world.ping();
        server.take(&world.answer(&server.sent[0], refused(*code, json!(null))));
        let report = server.report.as_ref().unwrap();
        assert_eq!(report.replies[0].is_final, code.is_recorded(), "{code}");
        let says_so = server.verdict("worker-1").remark() == Some(countersign_machine::server::NOT_RUN);
        assert_eq!(says_so, !code.is_recorded(), "{code}");
    }
    let mut silent = world.ping();
    silent.pass(5_000);
    assert!(!silent.report.unwrap().replies[0].is_final);
}

#[test]
fn terminate_is_reissued_once_and_only_to_a_client_that_cannot_have_run_it() {
    let world = World::new();
    let refusal = |code, n| refused(code, json!({ "epoch": super::common::epoch(n) }));
    let terminate = || super::common::request("terminate", json!({}));
    for retry in [false, true] {
        let options = Options { retry, ..Options::default() };
        for code in [ErrorCode::Starting, ErrorCode::WrongEpoch] {
            let mut server = world.request(terminate(), &["worker-1"], options).unwrap();
            server.take(&world.answer(&server.sent[0], refusal(code, 9)));
            assert_eq!(
                (server.sent.len(), server.word("worker-1")),
                (1, "refused"),
                "its process may have ended by it"
            );
            assert!(server.notices()[0].contains("not run by this delivery"), "{:?}", server.notices());
        }
        let mut server = world.server();
        server.store(&[world.presence("worker-1", |_| ())]);
        server.submit(terminate(), &countersign_machine::server::Audience::All, options).unwrap();
        server.take(&world.answer_of("worker-1", &server.sent[0], refusal(ErrorCode::Starting, 1)));
        assert_eq!(server.sent.len(), 2, "the client was in that epoch before: it has run nothing");
        server.take(&world.answer(&server.sent[1], refusal(ErrorCode::WrongEpoch, 2)));
        assert_eq!((server.sent.len(), server.word("worker-1")), (2, "refused"), "once at most");
    }
}

#[test]
fn a_job_of_another_operator_under_an_id_of_ours_is_news() {
    let world = World::new();
    let mut server = world.calculate();
    let id = world.command(&server.sent[0]).id;
    for (n, operator) in [(1, "alice"), (2, "bob")] {
        let job = json!({
            "command_id": id, "command": "calculate", "operator": operator, "status": "accepted", "started_at": at(0),
        });
        server.receive(&world.presence("worker-1", |event| {
            event.n = n;
            event.kind = countersign_protocol::event::EventKind::Job;
            event.subject = event.subject.replace("presence", "job");
            event.data = serde_json::from_value(job).unwrap();
        }));
        let events =
            server.updates.iter().filter(|it| matches!(it, countersign_machine::server::Update::ClientEvent { .. }));
        assert_eq!(events.count(), usize::from(operator == "bob"), "{operator}");
    }
}

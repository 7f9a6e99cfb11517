//! The wait for a command that was sent before, and the limit on a whole wait.

use countersign_machine::server::{CommandRequest, Options, Update, Verdict};
use countersign_protocol::id::MessageId;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use countersign_testkit::realm::message_id;
use serde_json::{Value, json};

use super::common::{Server, World, calculate, epoch, ping, pong, recorded, refused};

fn awaited() -> MessageId {
    message_id(77)
}

/// A wait for the command [`awaited`] at `worker-1`.
fn wait(world: &World, options: Options) -> Server {
    world.request(CommandRequest::wait(awaited()), &["worker-1"], options).unwrap()
}

#[test]
fn a_wait_asks_until_the_command_has_ended_and_its_verdict_is_that_of_the_command() {
    let world = World::new();
    // The bytes of the command that was sent before.
    let before = world.calculate().sent[0].clone();
    let mut server = wait(&world, Options::default());
    let running = json!({ "status": "progress", "progress": { "fraction": 0.25 } });
    server.take(&world.answer(&server.sent[0], recorded(&before, running)));
    assert!(server.report.is_none());
    let [Update::Reply { command_id, outcome: Outcome::Progress(progress), .. }] = &server.updates[..] else {
        panic!("{:?}", server.updates)
    };
    assert_eq!((*command_id, progress.fraction), (awaited(), 0.25));
    server.pass(1_000);
    assert_eq!(server.sent.len(), 2, "soon at first");
    let ended = json!({ "status": "succeeded", "result": { "x": 60.0, "msg": "done" } });
    server.take(&world.answer(&server.sent[1], recorded(&before, ended)));
    assert_eq!(server.word("worker-1"), "succeeded");
    let report = server.report.unwrap();
    assert_eq!((report.command.as_str(), report.command_id, report.exit_status()), ("wait", awaited(), 0));
    assert_eq!((report.replies[0].command_id, report.replies[0].is_final), (awaited(), true));
    for sent in &server.sent {
        let command = world.command(sent).command;
        assert_eq!(command.name.as_str(), "result");
        assert_eq!(Value::Object(command.args), json!({ "command_id": awaited() }), "anybody's command can be awaited");
    }
}

#[test]
fn of_an_operators_own_command_another_operators_of_the_same_id_says_nothing() {
    let world = World::new();
    let before = world.calculate().sent[0].clone();
    let ended = |operator: &str| {
        let Outcome::Succeeded(mut found) = recorded(&before, json!({ "status": "succeeded", "result": 1 })) else {
            panic!("it is an answer")
        };
        found["operator"] = json!(operator);
        Outcome::Succeeded(found)
    };
    let mut server =
        world.request(CommandRequest::wait(awaited()).of_own(), &["worker-1"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], ended("mallory")));
    let verdict = server.report.unwrap().replies.remove(0);
    let Verdict::NoReply { text } = &verdict.verdict else { panic!("{verdict:?}") };
    assert!(text.starts_with("it has a command of mallory under this id, and none of this operator: "), "{text}");
    assert!(!verdict.is_final);
    let mut server =
        world.request(CommandRequest::wait(awaited()).of_own(), &["worker-1"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], ended("alice")));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn a_wait_for_what_has_ended_already_ends_at_once_with_that_verdict() {
    let world = World::new();
    let before = world.calculate().sent[0].clone();
    for (ended, word, status) in [
        (json!({ "status": "succeeded", "result": 1 }), "succeeded", 0),
        (json!({ "status": "cancelled" }), "cancelled", 1),
        (json!({ "status": "interrupted" }), "interrupted", 1),
    ] {
        let mut server = wait(&world, Options::default());
        server.take(&world.answer(&server.sent[0], recorded(&before, ended)));
        assert_eq!(server.word("worker-1"), word);
        assert_eq!(server.report.unwrap().exit_status(), status);
    }
    let mut server = wait(&world, Options::default());
    let not_found = Outcome::Failed(ErrorBody::new(ErrorCode::NotFound, "no"));
    server.take(&world.answer(&server.sent[0], not_found));
    assert_eq!(server.word("worker-1"), "failed");
}

#[test]
fn what_is_on_record_of_other_bytes_than_the_first_answer_named_does_not_end_a_wait() {
    let world = World::new();
    let before = world.calculate().sent[0].clone();
    let other = world.ping().sent[0].clone();
    let mut server = wait(&world, Options::default());
    server.take(&world.answer(&server.sent[0], recorded(&before, json!({ "status": "accepted" }))));
    server.pass(1_000);
    server.take(&world.answer(&server.sent[1], recorded(&other, json!({ "status": "succeeded", "result": 1 }))));
    assert!(server.report.is_none());
    server.take(&world.answer(&server.sent[1], recorded(&before, json!({ "status": "failed" }))));
    assert_eq!(server.word("worker-1"), "failed");
}

#[test]
fn a_long_wait_asks_every_ten_seconds_and_a_client_that_falls_silent_ends_it() {
    let world = World::new();
    let before = world.calculate().sent[0].clone();
    let mut server = wait(&world, Options::default());
    let mut answered = 0;
    for _ in 0..120 {
        while answered < server.sent.len() {
            let running = recorded(&before, json!({ "status": "accepted" }));
            server.take(&world.answer(&server.sent[answered], running));
            answered += 1;
        }
        server.pass(1_000);
    }
    assert!(server.report.is_none());
    assert!((10..30).contains(&server.sent.len()), "{}", server.sent.len());
    assert_eq!(server.replies(), 1, "that it runs is reported once");
    server.pass(40_000);
    let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("no reply") };
    assert!(text.contains("silent for 30 s"), "{text}");
}

#[test]
fn at_the_deadline_what_runs_is_accepted_and_not_cancelled_and_what_is_silent_is_no_reply() {
    let world = World::new();
    let options = Options { deadline: Some(2_000), ..Options::default() };
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], options).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.pass(1_999);
    assert!(server.report.is_none());
    server.pass(1);
    assert_eq!(server.word("worker-1"), "accepted");
    let Verdict::NoReply { text } = server.verdict("worker-2") else { panic!("no reply") };
    assert!(text.starts_with("no reply before the deadline of 2 s") && text.contains("unknown"), "{text}");
    assert!(server.sent.iter().all(|sent| world.command(sent).command.name.as_str() != "cancel"));
    let report = server.report.unwrap();
    assert_eq!(report.exit_status(), 3, "the one that is unknown is worse");
    assert!(report.replies.iter().all(|reply| !reply.is_final));
    assert_eq!(server.operator.wake_at(), None);
}

#[test]
fn the_exit_status_says_that_something_runs_on_unless_it_was_not_to_be_awaited() {
    let world = World::new();
    for (detach, status) in [(false, 6), (true, 0)] {
        let options = Options { deadline: Some(2_000), detach, ..Options::default() };
        let mut server = world.request(calculate(), &["worker-1"], options).unwrap();
        server.take(&world.answer(&server.sent[0], Outcome::Accepted));
        server.pass(2_000);
        assert_eq!((server.word("worker-1"), server.report.unwrap().exit_status()), ("accepted", status));
    }
    let options = Options { deadline: Some(2_000), ..Options::default() };
    let mut server = world.request(ping(), &["worker-1"], options).unwrap();
    server.take(&world.answer(&server.sent[0], pong()));
    assert_eq!(server.report.unwrap().exit_status(), 0);
}

#[test]
fn a_deadline_bounds_a_wait_without_a_connection_and_one_for_a_retry_too() {
    let world = World::new();
    let options = Options { deadline: Some(2_000), retry: true, ..Options::default() };
    let mut server = world.request(calculate(), &["worker-1"], options).unwrap();
    server.operator.disconnected(server.now);
    server.pass(2_000);
    assert_eq!(server.word("worker-1"), "no_reply");
    let refused_once = refused(ErrorCode::WrongEpoch, json!({ "epoch": epoch(9) }));
    let mut server = world.request(calculate(), &["worker-1"], options).unwrap();
    server.take(&world.answer(&server.sent[0], refused_once));
    server.pass(2_000);
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn a_process_that_was_held_past_its_deadline_reads_what_came_meanwhile() {
    let world = World::new();
    let options = Options { deadline: Some(2_000), ..Options::default() };
    let mut server = world.request(ping(), &["worker-1"], options).unwrap();
    let answer = world.answer(&server.sent[0], pong());
    server.jump(server.now.micros + 60_000_000);
    assert!(server.report.is_none());
    assert!(server.operator.wake_at().is_some_and(|at| at > server.now.micros), "it is not woken over and over");
    server.take(&answer);
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn a_wait_for_the_command_of_another_operator_says_whose_it_is() {
    let world = World::new();
    let before = world.calculate().sent[0].clone();
    for (operator, notices) in [("alice", 0), ("bob", 1)] {
        let mut server = wait(&world, Options::default());
        let Outcome::Succeeded(mut value) = recorded(&before, json!({ "status": "accepted" })) else { panic!() };
        value["operator"] = json!(operator);
        server.take(&world.answer(&server.sent[0], Outcome::Succeeded(value)));
        assert_eq!(server.notices().len(), notices, "{operator}");
    }
}

//! Section 4: the state machine, exhaustively, and what each command answers in each state.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes, refusal};
use countersign_machine::client::State;
use countersign_protocol::command::{Builtin, CommandKind};
use countersign_protocol::digest::Digest;
use countersign_protocol::reply::{ErrorCode, Outcome, Status};
use serde_json::{Value, json};

fn in_state(state: State) -> Worker {
    let mut worker = Worker::ready();
    match state {
        State::Ready => {}
        State::Unready => drop(worker.run_command("stop", json!({}))),
        State::Terminated => {
            worker.calculate(60.0);
            let message = worker.draft("terminate", json!({})).sign(&worker.alice);
            let command = worker.open(&message).unwrap();
            // The job has not ended yet: its cancellation is asked for, and not said to have happened.
            let _ = worker.client.receive(command, worker.now);
        }
    }
    assert_eq!(worker.state(), state);
    worker
}

#[test]
fn every_command_in_every_state_has_the_effect_of_the_diagram_and_no_other() {
    use State::{Ready, Terminated, Unready};
    let done = |value: Value| (Status::Succeeded, Some(value), None);
    let refused = |code| (Status::Refused, None, Some(code));
    let not_ready = || refused(ErrorCode::NotReady);
    let terminating = || refused(ErrorCode::Terminating);
    let unix_time = || done(json!(Worker::ready().now.wall.seconds()));
    let not_found = || (Status::Failed, None, Some(ErrorCode::NotFound));
    let accepted = || (Status::Accepted, None, None);
    let none = || json!({});
    let calculate = || json!({ "x": 1, "msg": "" });
    let unknown = || json!({ "command_id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90" });
    let table = [
        (Unready, "start", none(), done(json!({ "changed": true })), Ready),
        (Ready, "start", none(), done(json!({ "changed": false })), Ready),
        (Terminated, "start", none(), terminating(), Terminated),
        (Unready, "stop", none(), done(json!({ "changed": false, "running": 0 })), Unready),
        (Ready, "stop", none(), done(json!({ "changed": true, "running": 0 })), Unready),
        (Terminated, "stop", none(), terminating(), Terminated),
        (Unready, "terminate", none(), done(json!({ "cancelled": 0 })), Terminated),
        (Ready, "terminate", none(), done(json!({ "cancelled": 0 })), Terminated),
        (Terminated, "terminate", none(), terminating(), Terminated),
        (Unready, "cancel", unknown(), not_found(), Unready),
        (Ready, "cancel", unknown(), not_found(), Ready),
        (Terminated, "cancel", unknown(), terminating(), Terminated),
        (Unready, "ping", none(), not_ready(), Unready),
        (Ready, "ping", none(), unix_time(), Ready),
        (Terminated, "ping", none(), terminating(), Terminated),
        (Unready, "calculate", calculate(), not_ready(), Unready),
        (Ready, "calculate", calculate(), accepted(), Ready),
        (Terminated, "calculate", calculate(), terminating(), Terminated),
    ];
    let covered: Vec<(State, &str)> = table.iter().map(|(state, command, ..)| (*state, *command)).collect();
    let others = Builtin::ALL.iter().filter(|builtin| builtin.kind() != CommandKind::Query);
    let expected = others.flat_map(|builtin| State::ALL.iter().map(|state| (*state, builtin.name())));
    assert_eq!(expected.filter(|pair| !covered.contains(pair)).collect::<Vec<_>>(), [], "not in the table");
    for (before, command, args, expected, after) in table {
        let mut worker = in_state(before);
        let (status, _, result, error) = worker.run_command(command, args).into_members();
        assert_eq!((status, result, error.map(|error| error.code)), expected, "{command} in {before}");
        assert_eq!(worker.state(), after, "{command} in {before}");
        assert_eq!(worker.exited, command == "terminate" && before != Terminated, "{command} in {before}");
    }
}

#[test]
fn queries_are_answered_in_every_state() {
    for state in State::ALL.iter().copied() {
        let mut worker = in_state(state);
        let Outcome::Succeeded(info) = worker.run_command("status", json!({})) else { panic!("status in {state}") };
        assert_eq!(info["state"], json!(state));
        assert!(matches!(worker.run_command("jobs", json!({})), Outcome::Succeeded(_)), "jobs in {state}");
        let unknown = json!({ "command_id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90" });
        let described = worker.run_command("describe", json!({ "command": "ping" }));
        assert!(matches!(described, Outcome::Succeeded(_)), "describe in {state}");
        let piece = json!({ "command_id": unknown["command_id"], "stream": "stderr", "offset": 0 });
        let Outcome::Failed(error) = worker.run_command("output", piece) else { panic!("output in {state}") };
        assert_eq!(error.code, ErrorCode::NotFound);
        let Outcome::Failed(error) = worker.run_command("result", unknown) else { panic!("result in {state}") };
        assert_eq!(error.code, ErrorCode::NotFound);
    }
}

#[test]
fn ping_answers_the_unix_timestamp() {
    let mut worker = Worker::ready();
    assert_eq!(worker.run_command("ping", json!({})), Outcome::Succeeded(json!(worker.now.wall.seconds())));
}

#[test]
fn calculate_is_accepted_at_once_and_succeeds_at_its_end() {
    let mut worker = Worker::ready();
    worker.calculate(2.5);
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)), "a job delays no other message");
    let replies = worker.complete();
    assert_eq!(outcomes(&replies), [Outcome::Succeeded(json!({ "x": 2.5, "msg": "done" }))]);
    assert_eq!(replies[0].seq, 1);
}

#[test]
fn jobs_go_on_after_stop() {
    let mut worker = Worker::ready();
    worker.calculate(2.5);
    assert_eq!(worker.run_command("stop", json!({})), Outcome::Succeeded(json!({ "changed": true, "running": 1 })));
    assert_eq!(outcomes(&worker.complete()).len(), 1);
}

#[test]
fn terminate_cancels_every_job_with_its_own_reply_before_it_is_answered_itself() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    worker.calculate(60.0);
    let message = worker.draft("terminate", json!({})).sign(&worker.alice);
    let replies = worker.send(&message);
    let statuses: Vec<Status> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [Status::Cancelled, Status::Cancelled, Status::Succeeded]);
    assert_eq!(replies[2].result, Some(json!({ "cancelled": 2 })));
    assert_eq!(replies[2].state, State::Terminated);
    assert!(worker.exited);
    assert!(worker.running.is_empty());
}

#[test]
fn terminate_does_not_wait_for_ever_for_a_job_that_does_not_end() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let message = worker.draft("terminate", json!({})).sign(&worker.alice);
    let command = worker.open(&message).unwrap();
    let _never_cancelled = worker.client.receive(command, worker.now);
    worker.pass(worker.client.wake_at() - worker.now.since_boot);
    let published = worker.tick();
    let statuses: Vec<Status> = worker.replies(&published).iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [Status::Cancelled, Status::Succeeded]);
    assert!(worker.exited);
}

#[test]
fn a_signal_ends_the_client_as_terminate_does() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let step = worker.client.terminate(worker.now);
    let published = worker.apply(step);
    assert_eq!(worker.replies(&published)[0].status, Status::Cancelled);
    assert!(worker.exited);
    assert_eq!(worker.events.last().unwrap().state, State::Terminated);
}

#[test]
fn cancel_ends_a_running_job_and_says_so_twice() {
    let mut worker = Worker::ready();
    let job = worker.calculate(60.0);
    let id = worker.open(&job).unwrap().message().id;
    let message = worker.draft("cancel", json!({ "command_id": id })).sign(&worker.alice);
    let replies = worker.send(&message);
    let mut got: Vec<(Status, Option<Value>)> = replies.into_iter().map(|reply| (reply.status, reply.result)).collect();
    got.sort_by_key(|(status, _)| *status != Status::Cancelled);
    assert_eq!(got, [(Status::Cancelled, None), (Status::Succeeded, Some(json!({ "cancelled": true })))]);
    assert_eq!(
        worker.run_command("cancel", json!({ "command_id": id })),
        Outcome::Succeeded(json!({ "cancelled": false }))
    );
}

#[test]
fn the_sixty_fifth_job_is_busy_and_a_control_command_is_not() {
    let mut worker = Worker::ready();
    for _ in 0..64 {
        worker.calculate(60.0);
    }
    let message = worker.draft("calculate", json!({ "x": 1, "msg": "" })).sign(&worker.alice);
    let replies = worker.send(&message);
    assert_eq!(refusal(&replies), ErrorCode::Busy);
    assert!(matches!(worker.run_command("stop", json!({})), Outcome::Succeeded(_)));
    assert!(matches!(worker.run_command("start", json!({})), Outcome::Succeeded(_)));
    worker.complete();
    assert_eq!(outcomes(&worker.send(&message)), [Outcome::Accepted], "busy spoke of one delivery only");
}

#[test]
fn a_dry_run_makes_every_check_and_has_no_effect() {
    let mut worker = Worker::new();
    worker.pass(6_000);
    let dry = worker.draft("start", json!({})).dry_run().sign(&worker.alice);
    assert_eq!(outcomes(&worker.send(&dry)), [Outcome::Succeeded(json!({ "dry_run": true }))]);
    assert_eq!(worker.state(), State::Unready);
    let dry = worker.draft("ping", json!({})).dry_run().sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&dry)), ErrorCode::NotReady);
    worker.run_command("start", json!({}));
    let dry = worker.draft("calculate", json!({ "x": 1, "msg": "" })).dry_run().sign(&worker.alice);
    assert_eq!(outcomes(&worker.send(&dry)), [Outcome::Succeeded(json!({ "dry_run": true }))]);
    let dry = worker.draft("terminate", json!({})).dry_run().sign(&worker.alice);
    worker.send(&dry);
    assert!(worker.running.is_empty() && !worker.exited);
    assert!(worker.executed.is_empty());
    assert_eq!(worker.run_command("jobs", json!({})), Outcome::Succeeded(json!({ "jobs": [], "more": false })));
}

#[test]
fn bad_arguments_are_refused_with_their_pointers() {
    let mut worker = Worker::ready();
    let not_a_number = || "the value is not of type \"number\"".to_owned();
    let missing = |name: &str| format!("\"{name}\" is a required property");
    let surplus = |name: &str| format!("the unknown member `{name}`");
    let too_small = "the value is less than the minimum of 0.0".to_owned();
    let too_large = "the value is greater than the maximum of 86400.0".to_owned();
    for (args, expected) in [
        (json!({ "x": -1, "msg": "" }), vec![("/x", too_small)]),
        (json!({ "x": 86_400.5, "msg": "" }), vec![("/x", too_large)]),
        (json!({ "x": "1", "msg": "" }), vec![("/x", not_a_number())]),
        (json!({ "x": 1 }), vec![("", missing("msg"))]),
        (json!({ "x": 1, "msg": "", "more": 1 }), vec![("", surplus("more"))]),
        (
            json!({ "x": 1, "msg": "a".repeat(4_097) }),
            vec![("/msg", "the value is longer than 4096 characters".to_owned())],
        ),
        (json!({ "x": null, "msg": "" }), vec![("/x", not_a_number())]),
        (json!({ "X": 1, "msg": "" }), vec![("", missing("x")), ("", surplus("X"))]),
    ] {
        let Outcome::Refused(error) = worker.run_command("calculate", args.clone()) else { panic!("{args}") };
        assert_eq!(error.code, ErrorCode::InvalidArgs, "{args}");
        let errors = &error.details.unwrap()["errors"];
        let listed: Vec<(&str, &str)> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (error["path"].as_str().unwrap(), error["message"].as_str().unwrap()))
            .collect();
        let expected: Vec<(&str, &str)> = expected.iter().map(|(path, message)| (*path, message.as_str())).collect();
        assert_eq!(listed, expected, "{args}");
        assert!(serde_json::to_string(errors).unwrap().len() < 1_000, "what is echoed is cut");
    }
    assert!(worker.executed.is_empty());
    assert!(matches!(
        worker.run_command("calculate", json!({ "x": 86_400, "msg": "é".repeat(4_096) })),
        Outcome::Accepted
    ));
}

#[test]
fn a_refusal_with_fourteen_thousand_bad_arguments_is_small() {
    let mut worker = Worker::ready();
    let args: serde_json::Map<String, Value> = (0..14_000).map(|i| (format!("\u{1b}{i}"), json!(1))).collect();
    let message = worker.draft("calculate", Value::Object(args)).sign(&worker.alice);
    let published = worker.deliver(&message);
    assert_eq!(refusal(&worker.replies(&published)), ErrorCode::InvalidArgs);
    assert!(published[0].body.len() <= 4_096, "{}", published[0].body.len());
}

#[test]
fn unknown_commands_are_refused() {
    let mut worker = Worker::ready();
    let Outcome::Refused(error) = worker.run_command("reboot", json!({})) else { panic!() };
    assert_eq!(error.code, ErrorCode::UnknownCommand);
}

#[test]
fn result_returns_what_is_on_record() {
    let mut worker = Worker::ready();
    let job = worker.calculate(1.0);
    let id = worker.open(&job).unwrap().message().id;
    let run_command = json!({ "command_id": id });
    let digest = Digest::of(&job.body);
    let expected = json!({ "command_digest": digest, "operator": "alice", "status": "accepted" });
    assert_eq!(worker.run_command("result", run_command.clone()), Outcome::Succeeded(expected));
    worker.complete();
    let expected = json!({
        "command_digest": digest, "operator": "alice", "status": "succeeded", "result": { "x": 1.0, "msg": "done" },
    });
    assert_eq!(worker.run_command("result", run_command), Outcome::Succeeded(expected));
}

#[test]
fn jobs_lists_running_jobs_before_ended_ones_newest_first() {
    let mut worker = Worker::ready();
    worker.calculate(1.0);
    worker.pass(10);
    worker.calculate(2.0);
    worker.pass(10);
    worker.calculate(3.0);
    worker.pass(10);
    worker.complete();
    let Outcome::Succeeded(list) = worker.run_command("jobs", json!({})) else { panic!() };
    let statuses: Vec<&Value> = list["jobs"].as_array().unwrap().iter().map(|job| &job["status"]).collect();
    assert_eq!(statuses, ["accepted", "accepted", "succeeded"]);
    assert!(list["jobs"][0]["started_at"].as_i64() > list["jobs"][1]["started_at"].as_i64());
    assert_eq!(list["more"], json!(false));
}

#[test]
fn presence_is_published_at_start_on_every_change_of_state_on_every_heartbeat_and_at_the_end() {
    let mut worker = Worker::new();
    let presences = |worker: &Worker| worker.events.iter().filter(|e| e.kind.to_string() == "presence").count();
    assert_eq!(presences(&worker), 1);
    worker.pass(6_000);
    worker.run_command("start", json!({}));
    assert_eq!(presences(&worker), 2);
    worker.run_command("start", json!({}));
    assert_eq!(presences(&worker), 2, "no change");
    worker.pass(9_999);
    worker.tick();
    assert_eq!(presences(&worker), 2);
    worker.pass(1);
    worker.tick();
    assert_eq!(presences(&worker), 3);
    worker.run_command("terminate", json!({}));
    assert_eq!(presences(&worker), 4);
}

#[test]
fn messages_are_numbered_without_a_gap() {
    let mut worker = Worker::ready();
    worker.calculate(1.0);
    let mut numbers: Vec<u64> = worker.events.iter().map(|event| event.n).collect();
    numbers.extend(worker.complete().iter().map(|reply| reply.n));
    let info = worker.run_command("status", json!({}));
    let Outcome::Succeeded(info) = info else { panic!() };
    // Two presences, one reply to `start`, `accepted`, the job's two events and its final reply.
    assert_eq!(info["n"], json!(7));
}

#[test]
fn the_log_says_who_gave_each_command_and_its_verdict_and_nothing_of_its_arguments() {
    let mut worker = Worker::ready();
    worker.logged.clear();
    let mut ids = Vec::new();
    let mut send = |worker: &mut Worker, command: &str, args: Value| {
        let message = worker.draft(command, args).sign(&worker.alice);
        ids.push(worker.open(&message).unwrap().message().id);
        worker.send(&message);
    };
    send(&mut worker, "calculate", json!({ "x": 60, "msg": "a secret" }));
    send(&mut worker, "ping", json!({}));
    send(&mut worker, "calculate", json!({ "x": "a secret" }));
    send(&mut worker, "status", json!({}));
    worker.complete();
    send(&mut worker, "stop", json!({}));
    send(&mut worker, "calculate", json!({ "x": 1, "msg": "a secret" }));
    let ended = |id: usize, what: &str| format!("{what} ({})", ids[id]);
    assert_eq!(
        worker.logged,
        [
            ended(0, "calculate of alice: started"),
            ended(1, "ping of alice: succeeded"),
            ended(2, "calculate of alice: refused, invalid_args"),
            ended(3, "status of alice: succeeded"),
            ended(0, "calculate of alice: succeeded"),
            ended(4, "stop of alice: succeeded"),
            ended(5, "calculate of alice: refused, not_ready"),
        ]
    );
    worker.logged.clear();
    worker.restart(|_| Vec::new());
    let message = worker.draft("start", json!({})).sign(&worker.alice);
    let id = worker.open(&message).unwrap().message().id;
    worker.send(&message);
    assert_eq!(worker.logged, [format!("start of alice: refused, starting ({id})")]);
}

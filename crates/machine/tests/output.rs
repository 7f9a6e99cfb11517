//! Sections 4 and 13: who gets which piece of a job's output, and what a client says of its commands.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes};
use countersign_machine::client::{JobKey, Limits};
use countersign_protocol::command::{Builtin, Description};
use countersign_protocol::digest::Digest;
use countersign_protocol::json;
use countersign_protocol::output::{Data, OutputPiece};
use countersign_protocol::reply::{ErrorCode, Outcome};
use countersign_protocol::schema;
use countersign_testkit::realm::{Draft, Realm, to};
use serde_json::{Value, json};

fn query(id: impl serde::Serialize, offset: u64) -> Value {
    json!({ "command_id": id, "stream": "stdout", "offset": offset })
}

fn piece(outcome: Outcome) -> OutputPiece {
    let Outcome::Succeeded(result) = outcome else { panic!("{outcome:?}") };
    assert!(schema::result(Builtin::Output).accepts(&result));
    json::read(&result).unwrap()
}

fn code(outcome: &Outcome) -> ErrorCode {
    match outcome {
        Outcome::Failed(error) | Outcome::Refused(error) => error.code,
        other => panic!("{other:?}"),
    }
}

/// A worker whose only job has written something.
fn worker_with_output(bytes: &[u8]) -> (Worker, Value) {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let key = worker.running[0].key();
    worker.outputs.insert(key, bytes.to_vec());
    (worker, json!(key.id))
}

#[test]
fn output_is_answered_piece_by_piece_and_has_its_digest_once_the_job_has_ended() {
    let bytes = vec![7; 200_000];
    let (mut worker, id) = worker_with_output(&bytes);
    let first = piece(worker.run_command("output", query(&id, 0)));
    assert_eq!(
        (first.offset, first.data.0.len(), first.bytes, first.ended, first.sha256),
        (0, 131_072, 200_000, false, None)
    );
    worker.complete();
    let second = piece(worker.run_command("output", query(&id, 131_072)));
    let expected = OutputPiece {
        offset: 131_072,
        data: Data(bytes[131_072..].to_vec()),
        bytes: 200_000,
        ended: true,
        sha256: Some(Digest::of(&bytes)),
    };
    assert_eq!(second, expected);
}

#[test]
fn an_answer_fits_in_what_the_broker_takes() {
    let (mut worker, id) = worker_with_output(&[7; 200_000]);
    worker.client.broker_takes(65_536);
    let data = piece(worker.run_command("output", query(&id, 0))).data.0;
    assert!((40_000..49_152).contains(&data.len()), "{}", data.len());
}

#[test]
fn an_end_that_is_not_on_disk_is_not_said() {
    let (mut worker, id) = worker_with_output(b"done");
    worker.disk_full = true;
    worker.disk_has_reserve = false;
    worker.complete();
    assert!(!piece(worker.run_command("output", query(&id, 0))).ended);
    worker.disk_full = false;
    worker.pass(2_000);
    worker.tick();
    assert!(piece(worker.run_command("output", query(&id, 0))).ended);
}

#[test]
fn what_is_no_job_or_kept_nowhere_is_not_found() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let id = json!(worker.running[0].key().id);
    assert_eq!(code(&worker.run_command("output", query(&id, 0))), ErrorCode::NotFound, "nothing is kept");
    let ping = worker.draft("ping", json!({}));
    let ping_id = ping.command.id;
    worker.send(&ping.sign(&worker.alice));
    let key = JobKey { id: ping_id, operator: worker.alice.kid() };
    worker.outputs.insert(key, b"not a job's".to_vec());
    assert_eq!(code(&worker.run_command("output", query(ping_id, 0))), ErrorCode::NotFound, "it is no job");
    let unknown = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
    assert_eq!(code(&worker.run_command("output", query(unknown, 0))), ErrorCode::NotFound);
}

#[test]
fn output_needs_a_grant_as_every_command_does() {
    let (mut worker, id) = worker_with_output(b"secret");
    let mut grant = countersign_testkit::realm::full_grant();
    grant.commands = countersign_protocol::credential::Commands::Only(vec!["ping".parse().unwrap()]);
    let bob = worker.realm.operator("bob", grant);
    let message = Draft::new(&bob, to("worker-1"), "output", query(&id, 0), 900, worker.now.wall).sign(&bob);
    let replies = outcomes(&worker.send(&message));
    assert_eq!(replies.iter().map(code).collect::<Vec<_>>(), [ErrorCode::Forbidden]);
}

#[test]
fn a_digest_names_only_the_operators_own_command() {
    let (mut worker, id) = worker_with_output(b"done");
    let mut wanted = query(&id, 0);
    wanted["command_digest"] = json!(Digest::of(b"another body"));
    assert_eq!(code(&worker.run_command("output", wanted)), ErrorCode::NotFound);
}

#[test]
fn reading_on_and_on_uses_up_no_memory_of_queries_and_a_copy_is_answered_from_the_disk() {
    let (mut worker, id) = worker_with_output(b"one");
    let message = worker.draft("output", query(&id, 0)).sign(&worker.alice);
    assert_eq!(piece(outcomes(&worker.send(&message)).remove(0)).data.0, b"one");
    let key = worker.running[0].key();
    worker.outputs.insert(key, b"one two".to_vec());
    assert_eq!(piece(outcomes(&worker.send(&message)).remove(0)).data.0, b"one two", "it was not remembered");
    let copies: usize = (0..20).map(|_| worker.send(&message).len()).sum();
    assert_eq!(copies, 8, "ten answers in a second to one query");
}

#[test]
fn a_command_is_described_by_the_very_schemas_that_the_client_info_has_the_digests_of() {
    let mut worker = Worker::with(Realm::new("demo"), Limits::default());
    let Outcome::Succeeded(info) = worker.run_command("status", json!({})) else { panic!("no status") };
    for listed in info["commands"].as_array().unwrap() {
        let Outcome::Succeeded(result) = worker.run_command("describe", json!({ "command": listed["name"] })) else {
            panic!("{listed}")
        };
        assert!(schema::result(Builtin::Describe).accepts(&result));
        let Description { kind, args, result, .. } = json::read(&result).unwrap();
        assert_eq!(json!(kind), listed["kind"]);
        assert_eq!(json!(Digest::of(args.as_bytes())), listed["args"], "{listed}");
        assert_eq!(json!(Digest::of(result.as_bytes())), listed["result"], "{listed}");
    }
    assert_eq!(code(&worker.run_command("describe", json!({ "command": "pnig" }))), ErrorCode::NotFound);
}

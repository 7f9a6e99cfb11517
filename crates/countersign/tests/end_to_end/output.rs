//! What jobs write: read while they run and afterwards, exact, and checked against what their client signed.

use countersign_protocol::command::Command;
use countersign_protocol::digest::Digest;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::fake::{FakeWorker, HOSTILE, harmless};
use crate::fleet::Fleet;
use crate::groups::settled;
use crate::process::{Process, Ran};
use crate::pty::Pty;

/// Runs a job to its end, and gives its id.
fn job(fleet: &Fleet, targets: &[&str], msg: &str) -> String {
    let ran = fleet.run(&[&["calculate"], targets, &["0", msg, "-o", "json"]].concat()).exits(0);
    ran.json()["command_id"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_job_wrote_is_read_afterwards_byte_by_byte_also_by_the_next_process_of_its_client() {
    let (fleet, worker) = Fleet::ready();
    let id = job(&fleet, &["worker-1"], HOSTILE);
    let exact = format!("{HOSTILE}\n");
    assert_eq!(fleet.run(&["output", "worker-1", &id]).exits(0).stdout, exact);
    assert_eq!(fleet.run(&["output", "worker-1", &id, "--stderr"]).exits(0).stdout, "");
    worker.kill();
    let _worker = fleet.client("worker-1");
    let ran = fleet.run(&["output", "worker-1", &id, "--follow"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (exact.as_str(), ""));
}

#[test]
fn a_job_is_followed_to_its_end_by_whoever_sent_it_and_by_whoever_asks() {
    let (fleet, _worker) = Fleet::ready();
    let mut sender = fleet.spawn(&["calculate", "worker-1", "3", "all done", "--follow"]);
    let started = fleet.event("worker-1", "job");
    let id = started["data"]["command_id"].as_str().unwrap();
    let reader = fleet.spawn(&["output", "worker-1", id, "--follow"]);
    let early = fleet.run(&["output", "worker-1", id]).exits(0);
    assert!(early.stderr.contains("it runs, and has written 0 bytes to stdout; --follow waits"), "{early:#?}");
    sender.stdout.wait_for("all done");
    let sent = sender.wait().exits(0);
    assert!(sent.stdout.starts_with("all done\nworker-1: printed \"all done\" after 3 s, in "), "{sent:#?}");
    assert_eq!(reader.wait().exits(0).stdout, "all done\n");
}

#[test]
fn at_the_prompt_output_is_read_by_the_same_words() {
    let (fleet, _worker) = Fleet::ready();
    let id = job(&fleet, &["worker-1"], "done before\u{1b}[2J");
    let script = format!("calculate 1 \"all done\" --follow\noutput {id}\noutput {}\n", id.replace('-', "_"));
    let ran = Process::spawn_with(fleet.command(&["server"]), &script).wait().exits(2);
    let expected = "all done\nworker-1: printed \"all done\" after 1 s, in ";
    assert!(ran.stdout.contains(expected) && ran.stdout.ends_with("done before\u{1b}[2J\n"), "{ran:#?}");
}

#[test]
fn on_a_terminal_what_a_job_wrote_moves_no_cursor() {
    let (fleet, _worker) = Fleet::ready();
    let id = job(&fleet, &["worker-1"], "red\u{1b}[31m\r\u{202e}over");
    let mut terminal = Pty::spawn(&fleet.command(&["output", "worker-1", &id]));
    terminal.wait_for("red\\u{1b}[31m\\r\\u{202e}over");
    let raw = terminal.raw();
    assert!(!raw.windows(4).any(|bytes| bytes == b"\x1b[31"), "{raw:?}");
    assert_eq!(terminal.wait().0, Some(0));
}

#[test]
fn lines_of_several_clients_begin_with_the_client_and_whoever_has_none_is_left_out() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "worker-3"]);
    let _workers = ["worker-1", "worker-2", "worker-3"].map(|client| settled(&fleet, client));
    fleet.run(&["start", "@all"]).exits(0);
    let id = job(&fleet, &["worker-1", "worker-2"], "all done");
    let ran = fleet.run(&["output", "@all", &id]).exits(0);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["worker-1: all done", "worker-2: all done"]);
    let none = fleet.run(&["output", "worker-3", &id]).exits(1);
    assert!(none.stderr.contains("worker-3: ") && none.stderr.contains("no output of this command"), "{none:#?}");
}

#[test]
fn an_operator_without_the_grant_reads_nothing() {
    let fleet = Fleet::of(&["worker-1"]);
    fleet.run(&["credential", "issue", "operator", "bob", "--command", "ping", "--target", "@all"]).exits(0);
    fleet.broker.reload();
    let _worker = settled(&fleet, "worker-1");
    fleet.run(&["start", "worker-1", "--as", "alice"]).exits(0);
    let ran = fleet.run(&["calculate", "worker-1", "0", "secret", "-o", "json", "--as", "alice"]).exits(0);
    let id = ran.json()["command_id"].as_str().unwrap().to_owned();
    let read = fleet.run(&["output", "worker-1", &id, "--as", "bob"]).exits(1);
    assert!(read.stdout.is_empty() && read.stderr.contains("does not permit `output`"), "{read:#?}");
}

#[test]
fn output_is_bytes_and_no_json_document() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let id = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
    for words in [
        &["output", "worker-1", id, "-o", "json"][..],
        &["calculate", "worker-1", "0", "x", "--follow", "-o", "ndjson"],
    ] {
        let ran = fleet.run(words).exits(2);
        assert!(ran.stderr.contains("bytes, and not JSON"), "{ran:#?}");
    }
}

/// Answers an operator's process until it ends: every `output` by a piece of `written` from where it was asked for, as
/// `piece` makes it, and `result` by `recorded`.
fn answer(fleet: &Fleet, piece: impl Fn(u64) -> Value, recorded: Value) -> Ran {
    let mut worker = FakeWorker::new(fleet, "worker-1");
    let operator: Process = fleet.spawn(&["output", "worker-1", "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90", "--follow"]);
    loop {
        let message = worker.peer.message();
        let command: Command = serde_json::from_slice(&message.body).unwrap();
        match command.command.name.as_str() {
            "output" => {
                let offset = command.command.args["offset"].as_u64().unwrap();
                worker.answer(&message, 0, Outcome::Succeeded(piece(offset)));
            }
            _ => {
                worker.answer(&message, 0, Outcome::Succeeded(recorded));
                return operator.wait();
            }
        }
    }
}

fn piece(offset: u64, data: &[u8], bytes: u64, all: &[u8]) -> Value {
    let data = BASE64URL_NOPAD.encode(data);
    json!({ "offset": offset, "data": data, "bytes": bytes, "ended": true, "sha256": Digest::of(all) })
}

fn recorded(result: Value) -> Value {
    json!({ "command_digest": Digest::of(b"it"), "operator": "alice", "status": "succeeded", "result": result })
}

fn report(all: &[u8]) -> Value {
    json!({ "bytes": all.len(), "sha256": Digest::of(all), "text": "", "exact": false })
}

/// A stream of seven bytes, two pieces of it.
fn honest(offset: u64) -> Value {
    match offset {
        0 => piece(0, b"one ", 7, b"one two"),
        1..7 => piece(4, b"two", 7, b"one two"),
        offset => piece(offset, b"", 7, b"one two"),
    }
}

#[test]
fn a_client_that_lies_about_output_is_told_with_what_it_signed() {
    let fleet = Fleet::of(&["worker-1"]);
    let done = json!({ "exit_code": 0, "stdout": report(b"one two"), "stderr": report(b"") });
    let ran = answer(&fleet, honest, recorded(done.clone())).exits(0);
    assert_eq!(ran.stdout, "one two");

    let forged = |offset: u64| match offset {
        1..7 => piece(4, b"TWO", 7, b"one two"),
        offset => honest(offset),
    };
    let ran = answer(&fleet, forged, recorded(done)).exits(1);
    assert!(
        ran.stderr.contains("warning: worker-1: stdout is not what the client signed: what was read has "),
        "{ran:#?}"
    );

    let other = json!({ "stdout": report(b"one and two") });
    let ran = answer(&fleet, honest, recorded(other)).exits(1);
    assert!(ran.stderr.contains("not what the client signed: its final reply signed 11 bytes"), "{ran:#?}");
}

#[test]
fn what_is_not_kept_is_named_and_the_command_does_not_succeed() {
    let fleet = Fleet::of(&["worker-1"]);
    let gap = |offset: u64| match offset {
        0 => piece(0, b"one ", 1_000_007, b"all of it"),
        offset if offset < 1_000_004 => piece(1_000_004, b"two", 1_000_007, b"all of it"),
        offset => piece(offset, b"", 1_000_007, b"all of it"),
    };
    let ran = answer(&fleet, gap, recorded(json!(1))).exits(1);
    assert_eq!(ran.stdout, "one two");
    assert!(ran.stderr.contains("bytes 4 to 1000004 of stdout are not kept"), "{ran:#?}");
    assert!(ran.stderr.contains("stdout is not complete: 1000000 of 1000007 bytes are not kept\n"), "{ran:#?}");
}

#[test]
fn of_many_ranges_that_are_not_kept_the_first_are_named_and_the_rest_counted() {
    let fleet = Fleet::of(&["worker-1"]);
    let every_other =
        |offset: u64| piece((offset | 1).min(40), b"x".get(..usize::from(offset < 40)).unwrap(), 40, b"all of it");
    let ran = answer(&fleet, every_other, recorded(json!(1))).exits(1);
    assert_eq!(ran.stdout, "x".repeat(20));
    assert_eq!(ran.stderr.matches("are not kept").count(), 5, "{ran:#?}");
    assert!(ran.stderr.contains("bytes 6 to 7 of stdout are not kept; further ranges are only counted\n"), "{ran:#?}");
    assert!(ran.stderr.contains("stdout is not complete: 20 of 40 bytes are not kept\n"), "{ran:#?}");
}

#[test]
fn what_a_client_says_instead_of_output_moves_no_cursor() {
    let fleet = Fleet::of(&["worker-1"]);
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let id = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
    let (operator, command) = worker.receive_command(&fleet, &["output", "worker-1", id]);
    worker.answer(&command, 0, Outcome::Failed(ErrorBody::new(ErrorCode::NotFound, HOSTILE)));
    let ran = operator.wait().exits(1);
    harmless(&ran.stderr);
}

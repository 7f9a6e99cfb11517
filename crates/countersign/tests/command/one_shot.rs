//! The one-shot commands against real clients on a real broker.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::client::Worker;
use crate::folder::{Folder, Run};
use crate::permissions::User;

/// A realm with a broker whose streams are made.
struct Realm {
    folder: Folder,
    broker: Broker,
}

impl Realm {
    fn new(args: &[&str]) -> Self {
        let folder = Folder::with_keys(args);
        let broker = Broker::start(&folder);
        let realm = Self { folder, broker };
        let run = realm.run(&["setup"]).expect(0);
        let made = |stream| format!("note: the stream {stream} is as it should be, kept on 1 server\n");
        assert_eq!(run.stderr, ["cs-demo-presence", "cs-demo-trust"].map(made).concat());
        realm
    }

    /// A realm with one client, which is ready.
    fn ready() -> (Self, Worker) {
        let realm = Self::new(&[]);
        let worker = Worker::start(&realm.folder, &realm.broker, "worker-1");
        assert!(realm.run(&["start", "worker-1"]).expect(0).stdout.starts_with("worker-1: ready, in "));
        (realm, worker)
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.folder.command(args);
        command.env("NATS_URL", self.broker.url());
        command
    }
}

/// The lines of `-o ndjson`.
fn lines(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A document without what differs from one run to the next.
fn without_figures(mut document: Value) -> Value {
    for member in ["command_id", "latency_ms"] {
        if let Some(value) = document.get_mut(member) {
            *value = Value::Null;
        }
    }
    if let Some(Value::Array(replies)) = document.get_mut("replies") {
        replies.iter_mut().for_each(|reply| *reply = without_figures(reply.take()));
    }
    document
}

#[test]
fn setup_may_be_run_again() {
    let realm = Realm::new(&[]);
    realm.run(&["setup"]).expect(0);
}

#[test]
fn a_client_pings_only_when_it_was_started() {
    let realm = Realm::new(&[]);
    let _worker = Worker::start(&realm.folder, &realm.broker, "worker-1");
    let run = realm.run(&["ping", "worker-1"]).expect(1);
    assert!(run.stdout.starts_with("worker-1: refused: ") && run.stdout.contains("(not_ready), in "), "{run:#?}");
    assert!(realm.run(&["start", "worker-1"]).expect(0).stdout.starts_with("worker-1: ready, in "));
    assert!(realm.run(&["start", "worker-1"]).expect(0).stdout.starts_with("worker-1: ready already, in "));
    let run = realm.run(&["ping", "worker-1"]).expect(0);
    assert!(run.stdout.starts_with("worker-1: it is 2"), "{run:#?}");
    assert!(realm.run(&["stop", "worker-1"]).expect(0).stdout.starts_with("worker-1: unready, in "));
    realm.run(&["ping", "worker-1"]).expect(1);
}

#[test]
fn json_is_one_document_with_exactly_the_members_that_scripts_rely_on() {
    let (realm, _worker) = Realm::ready();
    let run = realm.run(&["ping", "worker-1", "-o", "json"]).expect(0);
    assert_eq!(run.stderr, "");
    let members = ["\"command_id\"", "\"command\"", "\"targets\"", "\"replies\"", "\"summary\""];
    let places: Vec<usize> = members.iter().map(|member| run.stdout.find(member).unwrap()).collect();
    assert!(places.is_sorted(), "{run:#?}");
    let document = run.json();
    let reply = &document["replies"][0];
    assert!(reply["result"].is_u64() && reply["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0), "{run:#?}");
    let expected = json!({
        "command_id": null,
        "command": "ping",
        "targets": 1,
        "replies": [{
            "client": "worker-1", "verdict": "succeeded", "final": true, "state": "ready",
            "result": reply["result"], "latency_ms": null,
        }],
        "summary": {"succeeded": 1},
    });
    assert_eq!(without_figures(document), expected);
}

#[test]
fn ndjson_is_a_line_for_each_reply_and_one_summary() {
    let (realm, _worker) = Realm::ready();
    let run = realm.run(&["calculate", "worker-1", "0.1", "done", "-o", "ndjson"]).expect(0);
    assert_eq!(run.stderr, "");
    let lines: Vec<Value> = lines(&run).into_iter().map(without_figures).collect();
    let result = json!({"x": 0.1, "msg": "done"});
    let expected = [
        json!({"command_id": null, "client": "worker-1", "status": "accepted", "state": "ready", "latency_ms": null}),
        json!({
            "command_id": null, "client": "worker-1", "verdict": "succeeded", "final": true, "state": "ready", "result": result,
            "latency_ms": null,
        }),
        json!({"command_id": null, "command": "calculate", "targets": 1, "summary": {"succeeded": 1}}),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_a_calculation_prints_is_escaped_and_alone_on_the_clients_standard_output() {
    let (realm, worker) = Realm::ready();
    let hostile = "all\u{1b}[2J \u{202e}done\n";
    let run = realm.run(&["calculate", "worker-1", "0.05", hostile]).expect(0);
    let shown = "all\\u{1b}[2J \\u{202e}done\\n";
    assert!(run.stdout.starts_with(&format!("worker-1: printed \"{shown}\" after 0.05 s, in ")), "{run:#?}");
    // To a program it is the same text; to a terminal it is harmless here too.
    let run = realm.run(&["calculate", "worker-1", "0.05", hostile, "-o", "json"]).expect(0);
    assert_eq!(run.json()["replies"][0]["result"]["msg"], hostile);
    assert!(!run.stdout.contains(['\u{1b}', '\u{202e}']), "{run:#?}");
    realm.run(&["terminate", "worker-1"]).expect(0);
    assert_eq!(worker.wait().expect(0).stdout, format!("{shown}\n{shown}\n"));
}

#[test]
fn each_of_several_targets_gets_one_verdict_and_a_name_given_twice_one_command() {
    let realm = Realm::new(&["--client", "worker-1", "--client", "worker-2"]);
    let _worker = Worker::start(&realm.folder, &realm.broker, "worker-1");
    let args = ["start", "worker-2", "worker-1", "worker-2", "--timeout", "2s", "-o", "json"];
    let run = realm.run(&args).expect(3);
    let document = run.json();
    assert_eq!(document["targets"], 2);
    assert_eq!(document["summary"], json!({"succeeded": 1, "no_reply": 1}));
    assert_eq!(document["replies"][1], json!({"client": "worker-2", "verdict": "no_reply", "final": false}));

    let run = realm.run(&["ping", "worker-1", "worker-2", "--timeout", "2s"]).expect(3);
    let words = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
    let table: Vec<Vec<String>> = run.stdout.lines().map(words).collect();
    assert_eq!(table[0], ["CLIENT", "VERDICT", "STATE"]);
    assert_eq!(table[1], ["worker-1", "succeeded", "ready"]);
    assert_eq!(table[2], ["worker-2", "no_reply", "-"]);
    assert!(
        run.stdout.contains("is unknown") && run.stdout.ends_with("\n2 targets: 1 no_reply, 1 succeeded\n"),
        "{run:#?}"
    );

    let run = realm.run(&["ping", "worker-1", "worker-2", "--timeout", "2s", "-o", "ndjson"]).expect(3);
    let got: Vec<Value> = lines(&run).iter().map(|line| json!([line["client"], line["verdict"]])).collect();
    assert_eq!(got, [json!(["worker-1", "succeeded"]), json!(["worker-2", "no_reply"]), json!([null, null])]);
}

#[test]
fn an_unknown_target_is_answered_with_the_nearest_and_nothing_is_sent() {
    let realm = Realm::new(&[]);
    let mut observer = User::connect(&realm.folder, &realm.broker, "observer");
    observer.subscribe("cs.demo.cmd.>");
    let run = realm.run(&["ping", "worker-1", "wroker-1"]).expect(2);
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        "error: wroker-1 is no client that the roster or the folder of keys knows; nothing was sent\n\
         expected: a client that is known: worker-1\n\
         try: countersign ping worker-1 worker-1\n"
    );
    assert_eq!(observer.received(), 0);
    // It would have received it.
    realm.run(&["ping", "worker-1", "--timeout", "100ms"]).expect(3);
    assert_eq!(observer.received(), 1);
}

#[test]
fn a_client_that_only_the_roster_knows_is_known() {
    let realm = Realm::new(&["--client", "worker-1", "--client", "worker-2"]);
    let mut worker = Worker::start(&realm.folder, &realm.broker, "worker-2");
    realm.run(&["start", "worker-2"]).expect(0);
    for file in ["clients/worker-2.pem", "clients/worker-2.jwt"] {
        fs::rename(realm.folder.path("keys").join(file), realm.folder.path("moved")).unwrap();
    }
    realm.run(&["ping", "worker-2"]).expect(0);
    realm.run(&["terminate", "worker-2"]).expect(0);
    worker.wait_for("ended");
}

#[test]
fn a_detached_job_is_listed_cancelled_and_remembered() {
    let (realm, _worker) = Realm::ready();
    let run = realm.run(&["calculate", "worker-1", "600", "done", "--detach", "-o", "json"]).expect(0);
    assert_eq!(run.json()["replies"][0]["verdict"], "accepted");
    let id = run.json()["command_id"].as_str().unwrap().to_owned();

    let run = realm.run(&["jobs", "worker-1"]).expect(0);
    let job: Vec<&str> = run.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    let arguments = ["msg=done", "x=600.0"];
    let expected = [&["worker-1", &id[id.len() - 6..], "calculate"], &arguments[..], &["alice", "accepted"]].concat();
    assert_eq!(job[..7], expected);
    let run = realm.run(&["result", "worker-1", &id]).expect(6);
    assert!(run.stdout.starts_with("worker-1: runs (alice's command)"), "{run:#?}");
    let run = realm.run(&["stop", "worker-1"]).expect(0);
    assert!(run.stdout.starts_with("worker-1: unready; 1 job running on, in "), "{run:#?}");

    assert!(realm.run(&["cancel", "worker-1", &id]).expect(0).stdout.starts_with("worker-1: cancelled, in "));
    let run = realm.run(&["result", "worker-1", &id]).expect(0);
    assert!(run.stdout.starts_with("worker-1: cancelled (alice's command): the job was cancelled, in "), "{run:#?}");
    // In a table, and so for a person, a note shows how to query the result.
    realm.run(&["start", "worker-1"]).expect(0);
    let run = realm.run(&["calculate", "worker-1", "600", "done", "--detach"]).expect(0);
    assert_eq!(run.stdout, "worker-1: accepted; it runs on\n");
    assert!(run.stderr.starts_with("note: `countersign wait worker-1 "), "{run:#?}");
}

#[test]
fn a_client_may_call_any_registered_command() {
    let (realm, _worker) = Realm::ready();
    let args = r#"{"x": 0, "msg": "done"}"#;
    fs::write(realm.folder.path("args.json"), args).unwrap();
    let answer = "worker-1: printed \"done\" after 0 s, in ";
    for from in [["--args", args], ["--args-file", "args.json"]] {
        let run = realm.run(&[&["call", "worker-1", "calculate"][..], &from].concat()).expect(0);
        assert!(run.stdout.starts_with(answer), "{run:#?}");
    }
    let mut command = realm.command(&["call", "worker-1", "calculate", "-"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(args.as_bytes()).unwrap();
    assert!(Run::of(process.wait_with_output().unwrap()).expect(0).stdout.starts_with(answer));

    // What a built-in command does not take is found here, and what nobody registered by the client.
    let run = realm.run(&["call", "worker-1", "calculate", "--args", "{\"x\": 1}"]).expect(2);
    assert!(run.stderr.starts_with("error: invalid arguments for calculate: "), "{run:#?}");
    let run = realm.run(&["call", "worker-1", "defragment", "-o", "json"]).expect(1);
    assert_eq!(run.json()["replies"][0]["error"]["code"], "unknown_command");
}

#[test]
fn a_dry_run_runs_nothing() {
    let (realm, worker) = Realm::ready();
    let run = realm.run(&["calculate", "worker-1", "0", "done", "--dry-run"]).expect(0);
    assert!(run.stdout.starts_with("worker-1: would run, in "), "{run:#?}");
    let run = realm.run(&["stop", "worker-1", "--dry-run"]).expect(0);
    assert!(run.stdout.starts_with("worker-1: would run, in "), "{run:#?}");
    realm.run(&["ping", "worker-1"]).expect(0);
    realm.run(&["terminate", "worker-1"]).expect(0);
    assert_eq!(worker.wait().expect(0).stdout, "");
}

#[test]
fn status_is_a_block_for_one_and_a_table_for_several() {
    let realm = Realm::new(&["--client", "worker-1:web,db", "--client", "worker-2"]);
    let _workers = ["worker-1", "worker-2"].map(|name| Worker::start(&realm.folder, &realm.broker, name));
    let run = realm.run(&["status", "worker-1"]).expect(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[..3], ["worker-1", "  state      unready", "  jobs       0 of 64"]);
    assert!(lines.contains(&"  groups     db, web") && lines.contains(&"  commands   calculate, ping"), "{run:#?}");
    let run = realm.run(&["status", "worker-1", "worker-2"]).expect(0);
    assert!(run.stdout.contains("unready; 0 of 64 jobs; version "), "{run:#?}");
}

#[test]
fn ctrl_c_stops_waiting_and_not_the_job() {
    let (realm, _worker) = Realm::ready();
    let mut command = realm.command(&["calculate", "worker-1", "600", "done", "-o", "ndjson"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("\"accepted\""), "{first}");
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert!(rest.ends_with("\"summary\":{\"accepted\":1}}\n"), "{rest}");
    assert!(realm.run(&["status", "worker-1", "-o", "json"]).expect(0).stdout.contains("\"running\":1"));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let folder = Folder::new();
    let mut process =
        folder.command(&["schema", "reply"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    let run = Run::of(process.wait_with_output().unwrap());
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
}

#[test]
fn without_jetstream_setup_reports_what_was_expected() {
    let folder = Folder::with_keys(&[]);
    let broker = Broker::start_without_jetstream(&folder);
    let run = folder.run(&["setup", "--nats-url", &broker.url()]).expect(4);
    assert!(run.stderr.starts_with("error: the broker does not make the stream cs-demo-presence: "), "{run:#?}");
    assert_eq!(run.stderr.lines().count(), 3);
    assert!(run.stderr.contains("add `jetstream {}`"), "{run:#?}");
}

//! What clients say of their commands, and arguments as `key=value`.

use countersign_protocol::command::{Builtin, Command};
use countersign_protocol::reply::Outcome;
use countersign_protocol::schema;
use serde_json::{Value, json};

use crate::fake::{FakeWorker, HOSTILE, harmless};
use crate::fleet::Fleet;
use crate::groups::settled;
use crate::process::Process;

const SCHEMA: &str = r#"{"$id": "urn:countersign:schema:1:report.args", "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object", "additionalProperties": false, "required": ["name"],
    "properties": {"name": {"type": "string"}, "pages": {"type": "integer", "minimum": 1}}}"#;

fn description(command: &str, args: &str) -> Outcome {
    let described = json!({
        "command": command, "kind": "data", "long_running": false, "description": HOSTILE, "args": args, "result": "{}",
    });
    Outcome::Succeeded(described)
}

/// The arguments of the next command, which it answers; they follow the question for the schema.
fn call(fleet: &Fleet, words: &[&str], args: &str) -> (Process, FakeWorker, Value) {
    let mut worker = FakeWorker::new(fleet, "worker-1");
    let operator = fleet.spawn(words);
    let question = worker.peer.message();
    let asked: Command = serde_json::from_slice(&question.body).unwrap();
    assert_eq!((asked.command.name.as_str(), &asked.command.args["command"]), ("describe", &json!("report")));
    worker.answer(&question, 0, description("report", args));
    let message = worker.peer.message();
    let command: Command = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(command.command.name.as_str(), "report");
    worker.answer(&message, 0, Outcome::Succeeded(json!("done")));
    (operator, worker, Value::Object(command.command.args))
}

#[test]
fn arguments_become_json_by_the_schema_that_the_client_signs() {
    let fleet = Fleet::of(&["worker-1"]);
    let words = ["call", "worker-1", "report", "name=3", "pages=3"];
    let (operator, _worker, args) = call(&fleet, &words, SCHEMA);
    operator.wait().exits(0);
    assert_eq!(args, json!({ "name": "3", "pages": 3 }));
}

#[test]
fn wrong_arguments_are_told_with_path_and_rule_before_anything_is_sent() {
    let fleet = Fleet::of(&["worker-1"]);
    for (pair, error) in [("pages=0", "/pages: "), ("pages=many", "/pages: "), ("page=3", "the unknown member `page`")]
    {
        let mut worker = FakeWorker::new(&fleet, "worker-1");
        let (operator, question) = worker.receive_command(&fleet, &["call", "worker-1", "report", "name=q3", pair]);
        worker.answer(&question, 0, description("report", SCHEMA));
        let ran = operator.wait().exits(2);
        assert!(ran.stderr.contains(error) && ran.stderr.contains("nothing was sent"), "{ran:#?}");
        harmless(&ran.stderr);
    }
    // What the built-in commands take is known without asking.
    let ran = fleet.run(&["call", "worker-1", "calculate", "x=-1", "msg=a"]).exits(2);
    assert!(ran.stderr.contains("/x: ") && ran.stderr.contains("(minimum)"), "{ran:#?}");
}

#[test]
fn a_schema_that_cannot_be_used_here_is_left_to_its_client() {
    let fleet = Fleet::of(&["worker-1"]);
    let circle = r##"{"properties": {"name": {"$ref": "#/properties/name"}}, "allOf": [{"$ref": "#"}]}"##;
    let (operator, _worker, args) = call(&fleet, &["call", "worker-1", "report", "name=q3"], circle);
    operator.wait().exits(0);
    assert_eq!(args, json!({ "name": "q3" }));
}

#[test]
fn a_command_is_described_by_its_client_and_hostile_texts_move_no_cursor() {
    let fleet = Fleet::of(&["worker-1"]);
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    let (operator, question) = worker.receive_command(&fleet, &["describe", "worker-1", "report"]);
    let hostile = SCHEMA.replace("\"minimum\": 1", "\"description\": \"\\u001b[2J\"");
    worker.answer(&question, 0, description("report", &hostile));
    let ran = operator.wait().exits(0);
    harmless(&ran.stdout);
    assert!(ran.stdout.contains("pages  integer, optional") && ran.stdout.contains("\\u{1b}[2J"), "{ran:#?}");
}

#[test]
fn commands_lists_what_there_is_and_where_and_describe_shows_one() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _workers = ["worker-1", "worker-2"].map(|client| settled(&fleet, client));
    let ran = fleet.run(&["commands"]).exits(0);
    let line =
        |command: &str| ran.stdout.lines().find(|line| line.starts_with(&format!("{command} "))).unwrap_or_default();
    assert!(line("calculate").contains("data") && line("calculate").contains("all 2"), "{ran:#?}");
    assert!(line("start").contains("control"), "{ran:#?}");
    let listed = fleet.run(&["commands", "worker-2", "-o", "json"]).exits(0).json();
    assert_eq!(listed["commands"][0]["command"], "calculate");
    assert_eq!(listed["commands"][0]["definitions"][0]["args"], json!(schema::arguments(Builtin::Calculate).digest()));
    assert_eq!(listed["commands"][0]["definitions"][0]["clients"], json!(["worker-2"]));

    let described = fleet.run(&["describe", "worker-1", "calculate"]).exits(0);
    for text in ["calculate at worker-1 (data, runs as a job)", "Computes for x seconds", "number from 0.0 to 86400.0"]
    {
        assert!(described.stdout.contains(text), "{described:#?}");
    }
    let ran = fleet.run(&["call", "worker-1", "report", "name=q3"]).exits(2);
    assert!(ran.stderr.contains("no schema of `report` is known"), "{ran:#?}");
}

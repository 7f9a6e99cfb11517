#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use std::collections::BTreeMap;

use countersign_machine::server::{Report, TargetReport, Verdict};
use countersign_protocol::command::{Job, JobList};
use countersign_protocol::digest::Digest;
use countersign_protocol::json::JsonText;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, State, Status};
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use serde_json::{Value, json};

use super::client_event::late_line;
use super::report::{Document, for_people};

const NOW: Millis = Millis::new(1_795_485_600_000);
const ID: &str = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{202e}evil\r\nworker-9: succeeded";

fn report(command: &str, verdicts: Vec<Verdict>) -> Report {
    let replies = verdicts.into_iter().enumerate().map(|(index, verdict)| {
        let silent = matches!(verdict, Verdict::NoReply { .. } | Verdict::Offline { .. });
        TargetReport {
            credential: None,
            client: format!("worker-{}", index + 1).parse().unwrap(),
            command_id: ID.parse().unwrap(),
            verdict,
            is_final: !silent,
            state: (!silent).then_some(State::Ready),
            latency_ms: (!silent).then_some(0.41),
            processes: usize::from(!silent),
        }
    });
    Report {
        command_id: ID.parse().unwrap(),
        command: command.parse().unwrap(),
        replies: replies.collect(),
        gaps: 0,
        detached: true,
    }
}

fn succeeded(result: Value) -> Verdict {
    Verdict::Succeeded { result: Some(JsonText::from(&result)) }
}

fn refused(code: ErrorCode, message: &str) -> Verdict {
    Verdict::Refused { error: ErrorBody::new(code, message) }
}

/// What a client has on record of a command of bob's.
fn on_record(mut of: Value) -> Value {
    of["command_digest"] = json!(Digest::of(b"bob's"));
    of["operator"] = json!("bob");
    of
}

fn unknown() -> Verdict {
    Verdict::NoReply { text: "no reply within 5 s: whether it ran, and how it ended, is unknown".to_owned() }
}

#[test]
fn the_document_is_the_one_that_scripts_rely_on() {
    let report = report("ping", vec![succeeded(json!(1_795_485_600)), unknown()]);
    let expected = format!(
        "{{\"command_id\":\"{ID}\",\"command\":\"ping\",\"targets\":2,\
          \"replies\":[{{\"client\":\"worker-1\",\"verdict\":\"succeeded\",\"final\":true,\"state\":\"ready\",\
          \"result\":1795485600,\"latency_ms\":0.41}},{{\"client\":\"worker-2\",\"verdict\":\"no_reply\",\"final\":false}}],\
          \"summary\":{{\"no_reply\":1,\"succeeded\":1}}}}"
    );
    assert_eq!(super::json::line(&Document::of(&report, true, None)).unwrap(), expected);
}

#[test]
fn a_failed_target_carries_its_error() {
    let report = report("ping", vec![refused(ErrorCode::NotReady, "no")]);
    let document = serde_json::to_value(Document::of(&report, true, None)).unwrap();
    assert_eq!(document["replies"][0]["error"], json!({"code": "not_ready", "message": "no"}));
}

#[test]
fn every_verdict_has_its_line_for_one_target() {
    let error = || ErrorBody::new(ErrorCode::Failed, "no disk");
    for (command, verdict, line) in [
        ("ping", succeeded(json!(1_795_485_600)), "it is 2026-11-24 02:00:00 UTC there, in 0.4 ms"),
        ("start", succeeded(json!({"changed": true})), "ready, in 0.4 ms"),
        ("stop", succeeded(json!({"changed": false, "running": 2})), "unready already; 2 jobs running on, in 0.4 ms"),
        ("terminate", succeeded(json!({"cancelled": 1})), "terminated; 1 job cancelled, in 0.4 ms"),
        ("cancel", succeeded(json!({"cancelled": false})), "not cancelled: it had ended, in 0.4 ms"),
        (
            "result",
            succeeded(on_record(json!({"status": "succeeded", "result": [1]}))),
            "succeeded (bob's command): [1], in 0.4 ms",
        ),
        (
            "result",
            succeeded(on_record(json!({"status": "progress", "progress": {"fraction": 0.25, "message": "at it"}}))),
            "runs (bob's command): 25 %, at it, in 0.4 ms",
        ),
        ("defragment", succeeded(json!({"blocks": 7})), "{\"blocks\":7}, in 0.4 ms"),
        ("defragment", succeeded(json!({"dry_run": true})), "would run, in 0.4 ms"),
        (
            "ping",
            Verdict::Succeeded { result: None },
            "succeeded: the client remembers only that it succeeded, in 0.4 ms",
        ),
        ("ping", Verdict::Failed { error: error() }, "failed: no disk, in 0.4 ms"),
        ("ping", Verdict::Cancelled { error: error() }, "cancelled: no disk (failed), in 0.4 ms"),
        ("ping", Verdict::Interrupted { error: error() }, "interrupted: no disk (failed), in 0.4 ms"),
        ("ping", refused(ErrorCode::NotReady, "no"), "refused: no (not_ready), in 0.4 ms"),
        ("ping", Verdict::Accepted, "accepted; it runs on"),
        ("ping", unknown(), "no reply within 5 s: whether it ran, and how it ended, is unknown"),
        ("ping", Verdict::Offline { text: "gone: a guess".to_owned() }, "offline: gone: a guess"),
    ] {
        assert_eq!(
            for_people(&report(command, vec![verdict]), None, &BTreeMap::new(), false, NOW),
            format!("worker-1: {line}")
        );
    }
}

#[test]
fn of_a_program_people_see_what_it_wrote_and_how_it_ended_and_json_has_the_whole() {
    let stream = |text: &str| json!({"bytes": text.len(), "sha256": Digest::of(b""), "text": text, "exact": true});
    let output = |out: &str, err: &str| json!({"stdout": stream(out), "stderr": stream(err)});
    let mut result = output("up 3 days\nmore\n", "");
    (result["exit_code"], result["value"]) = (json!(0), json!({"days": 3}));
    let Value::Object(details) = output("", "Traceback\nValueError: 1\n") else { unreachable!() };
    let error = ErrorBody { details: Some(details), ..ErrorBody::new(ErrorCode::Failed, "exit status 1") };
    let both = || vec![succeeded(result.clone()), Verdict::Failed { error: error.clone() }];
    let shown = |of: &Report, is_followed| for_people(of, None, &BTreeMap::new(), is_followed, NOW);

    let [one, other] = [0, 1].map(|index| report("uptime", vec![both().swap_remove(index)]));
    let succeeded_in = "worker-1: succeeded: exit status 0, in 0.4 ms";
    assert_eq!(
        shown(&one, false),
        format!("{succeeded_in}\n  stdout  up 3 days\n          more\n  result  {{\"days\":3}}")
    );
    // What was shown while it ran is not shown again.
    assert_eq!(shown(&one, true), format!("{succeeded_in}\n  result  {{\"days\":3}}"));
    let failed = "worker-1: failed: exit status 1, in 0.4 ms";
    assert_eq!(shown(&other, false), format!("{failed}\n  stderr  Traceback\n          ValueError: 1"));

    let many = shown(&report("uptime", both()), false);
    assert!(many.contains("  up 3 days (and 1 more line); result {\"days\":3}  "), "{many}");
    assert!(many.contains("  exit status 1; stderr: ValueError: 1  "), "{many}");

    for recorded in [json!({"status": "succeeded", "result": result}), json!({"status": "failed", "error": error})] {
        let told = shown(&report("result", vec![succeeded(on_record(recorded))]), false);
        assert!(told.contains("(bob's command): exit status ") && told.contains("\n  std"), "{told}");
    }
    let document = serde_json::to_value(Document::of(&report("uptime", both()), true, None)).unwrap();
    assert_eq!(document["replies"][0]["result"], result);
    assert_eq!(document["replies"][1]["error"], json!(error));
}

#[test]
fn a_code_that_is_the_verdict_is_not_said_twice() {
    let error = |code| ErrorBody::new(code, "why");
    for (code, verdict) in [
        (ErrorCode::Failed, Verdict::Failed { error: error(ErrorCode::Failed) }),
        (ErrorCode::Cancelled, Verdict::Cancelled { error: error(ErrorCode::Cancelled) }),
        (ErrorCode::Interrupted, Verdict::Interrupted { error: error(ErrorCode::Interrupted) }),
    ] {
        let word = verdict.word();
        assert_eq!(code.to_string(), word);
        assert_eq!(
            for_people(&report("ping", vec![verdict]), None, &BTreeMap::new(), false, NOW),
            format!("worker-1: {word}: why, in 0.4 ms")
        );
        let result = succeeded(on_record(json!({"status": word, "error": {"code": word, "message": "why"}})));
        let line = for_people(&report("result", vec![result]), None, &BTreeMap::new(), false, NOW);
        assert_eq!(line, format!("worker-1: {word} (bob's command): why, in 0.4 ms"));
    }
    let outcome = Outcome::Cancelled(error(ErrorCode::Cancelled));
    let late = late_line(&"worker-1".parse().unwrap(), ID.parse().unwrap(), &outcome);
    assert!(late.starts_with("worker-1: cancelled, why ("), "{late}");
}

#[test]
fn what_speaks_of_one_delivery_only_is_said_not_to_have_run_by_it() {
    for code in ErrorCode::ALL.iter().copied().filter(|code| !code.is_recorded()) {
        let line = for_people(&report("ping", vec![refused(code, "no")]), None, &BTreeMap::new(), false, NOW);
        assert_eq!(line, format!("worker-1: not run by this delivery: no ({code}), in 0.4 ms"));
        let late =
            late_line(&"worker-1".parse().unwrap(), ID.parse().unwrap(), &Outcome::Refused(ErrorBody::new(code, "no")));
        assert!(late.starts_with(&format!("worker-1: not run by this delivery, no ({code})")), "{late}");
    }
}

#[test]
fn invalid_arguments_are_listed_three_at_most() {
    let errors: Vec<Value> = (0..16).map(|index| json!({"path": format!("/{index}"), "message": "wrong"})).collect();
    let Value::Object(details) = json!({"errors": errors}) else { unreachable!() };
    let mut error = ErrorBody::new(ErrorCode::InvalidArgs, "invalid arguments");
    error.details = Some(details);
    let line = for_people(&report("ping", vec![Verdict::Refused { error }]), None, &BTreeMap::new(), false, NOW);
    let list = "; at /0: wrong; at /1: wrong; at /2: wrong";
    assert_eq!(line, format!("worker-1: refused: invalid arguments (invalid_args){list}, in 0.4 ms"));
}

#[test]
fn whatever_a_client_says_moves_no_cursor_and_makes_no_line() {
    let replies = || {
        vec![
            succeeded(json!({"x": 1.0, "msg": HOSTILE})),
            succeeded(json!({HOSTILE: HOSTILE})),
            succeeded(on_record(json!({"status": "succeeded", "result": HOSTILE}))),
            refused(ErrorCode::Forbidden, HOSTILE),
        ]
    };
    let harmless = |text: &str| text.lines().all(|line| escape(line) == line);
    for command in ["calculate", "status", "jobs", "result", "defragment"] {
        for one in replies() {
            let line = for_people(&report(command, vec![one]), None, &BTreeMap::new(), false, NOW);
            assert!(harmless(&line) && line.lines().count() == 1, "{line}");
        }
        let table = for_people(&report(command, replies()), None, &BTreeMap::new(), false, NOW);
        assert!(harmless(&table) && table.contains("\\u{202e}evil"), "{table}");
        assert!(!table.lines().any(|line| line.starts_with("worker-9")), "{table}");
    }
}

#[test]
fn a_table_is_aligned_and_summed_up() {
    let report = report("start", vec![succeeded(json!({"changed": true})), unknown()]);
    let expected = [
        "CLIENT    VERDICT    STATE  ANSWER                                                             TIME",
        "worker-1  succeeded  ready  ready                                                              0.4 ms",
        "worker-2  no_reply   -      no reply within 5 s: whether it ran, and how it ended, is unknown  -",
        "",
        "2 targets: 1 no_reply, 1 succeeded",
    ];
    assert_eq!(for_people(&report, None, &BTreeMap::new(), false, NOW).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn jobs_of_several_clients_are_one_table_and_who_lists_none_has_a_line() {
    let job = Job {
        command_id: ID.parse().unwrap(),
        command: "calculate".parse().unwrap(),
        operator: "alice".parse().unwrap(),
        status: Status::Succeeded,
        started_at: NOW.plus(-200_000),
        ended_at: Some(NOW.plus(-197_500)),
        progress: None,
    };
    let list = serde_json::to_value(JobList { jobs: vec![job], more: true }).unwrap();
    let text = for_people(
        &report("jobs", vec![succeeded(list), refused(ErrorCode::Forbidden, "no")]),
        None,
        &BTreeMap::new(),
        false,
        NOW,
    );
    let expected = "CLIENT    ID      COMMAND    BY     STATUS     TIME\n\
         worker-1  8a2b90  calculate  alice  succeeded  2.5 s, 3 min ago\n\
         worker-1: more than these\n\
         worker-2: not run by this delivery: no (forbidden)\n\n\
         2 targets: 1 refused, 1 succeeded";
    assert_eq!(text, expected);
}

#[test]
fn where_no_client_lists_its_jobs_none_is_said_to_have_none() {
    let text = for_people(&report("jobs", vec![unknown(), unknown()]), None, &BTreeMap::new(), false, NOW);
    let silence = "no reply within 5 s: whether it ran, and how it ended, is unknown";
    assert_eq!(text, format!("worker-1: {silence}\nworker-2: {silence}\n\n2 targets: 2 no_reply"));
}

#[test]
fn a_message_of_any_length_leaves_room_for_others_on_the_screen() {
    for (length, shown) in [(512, "ä".repeat(512)), (513, format!("{}…", "ä".repeat(512)))] {
        let error = ErrorBody::new(ErrorCode::Failed, "ä".repeat(length));
        let text = for_people(&report("ping", vec![Verdict::Failed { error }]), None, &BTreeMap::new(), false, NOW);
        assert_eq!(text, format!("worker-1: failed: {shown}, in 0.4 ms"));
    }
}

//! The prompt without a terminal: a script on standard input.

use crate::fleet::Fleet;
use crate::process::{Process, Signal};

#[test]
fn a_script_with_a_byte_order_mark_and_crlf_line_ends_runs_as_written() {
    let (fleet, mut worker) = Fleet::ready();
    let ran = script_of(&fleet, &[], "\u{feff}ping\r\ncalculate 0 done\r\nquit\r\n").exits(0);
    assert!(ran.stdout.contains("printed \"done\""), "{}", ran.stdout);
    worker.stdout.wait_for("done\n");
}

#[test]
fn a_script_continues_after_an_error_reports_its_line_and_exits_with_the_worst_status() {
    let (fleet, _worker) = Fleet::ready();
    let script = "# a comment\n\nping worker-1\npnig worker-1\nstop\nping\nstatus\nquit\nping\n";
    let ran = script_of(&fleet, &["-o", "ndjson"], script).exits(2);
    let lines = ran.lines();
    let summaries: Vec<&serde_json::Value> = lines.iter().filter(|line| line["summary"].is_object()).collect();
    let commands: Vec<&str> = summaries.iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["ping", "stop", "ping", "status"], "what comes after quit is not done");
    assert!(ran.stderr.contains("error: line 4: there is no command `pnig`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("event:") && !ran.stdout.contains('>'), "{ran:?}");
}

#[test]
fn a_script_ends_with_the_status_of_the_worst_verdict() {
    let (fleet, worker) = Fleet::ready();
    assert_eq!(script_of(&fleet, &[], "ping\nstop\nstart\n").code, Some(0));
    let ran = script_of(&fleet, &["-q"], "stop\nping\nstart\n").exits(1);
    assert_eq!(ran.stderr, "warning: line 2 ended with the status 1\n");
    assert_eq!(script_of(&fleet, &[], "").code, Some(0));
    worker.signal(Signal::STOP);
    let ran = script_of(&fleet, &["--timeout", "300ms"], "ping worker-1\nping worker-1\n");
    assert_eq!((ran.code, ran.stdout.matches("unknown").count()), (Some(3), 2), "{ran:?}");
}

#[test]
fn a_script_waits_for_the_end_of_what_takes_long_and_an_interrupt_ends_it_with_what_is_known() {
    let (fleet, _worker) = Fleet::ready();
    let ran = script_of(&fleet, &[], "calculate 0.4 first\ncalculate 0 second\n").exits(0);
    let (first, second) = (ran.stdout.find("first").unwrap(), ran.stdout.find("second").unwrap());
    assert!(first < second, "{}", ran.stdout);

    let script = fleet.command(&["server", "-o", "ndjson"]);
    let mut running = Process::spawn_with(script, "calculate 60 never\nping\n");
    running.stdout.wait_for("\"status\":\"accepted\"");
    running.signal(Signal::INT);
    running.stdout.wait_for("\"verdict\":\"accepted\"");
    let ran = running.wait().exits(130);
    assert!(!ran.stdout.contains("\"command\":\"ping\""), "the next line is not done: {}", ran.stdout);
}

fn script_of(fleet: &Fleet, arguments: &[&str], script: &str) -> crate::process::Ran {
    let mut command = fleet.command(&["server"]);
    command.args(arguments);
    Process::spawn_with(command, script).wait()
}

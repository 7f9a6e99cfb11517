//! How programs end, and that nothing of them is left.

use std::fs;
use std::path::Path;

use countersign_protocol::digest::Digest;
use serde_json::{Value, json};

use super::{Workshop, client, ended, eventually, of_job, running, shell};
use crate::forge::{Forger, id_of};
use crate::process::{Process, Signal};

#[test]
fn an_exit_status_and_a_signal_are_told_apart() {
    let scripts = [
        ("zero", "exit 0"),
        ("kill", "kill -9 $$"),
        ("s137", "exit 137"),
        ("s255", "exit 255"),
        ("s126", "exit 126"),
        ("s127", "exit 127"),
    ];
    let definitions = scripts.map(|(name, script)| (name, shell(script, "")));
    let definitions: Vec<_> = definitions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let shop = Workshop::of(&definitions);
    let zero = shop.call("zero", &json!({}));
    assert_eq!((&zero["verdict"], &zero["result"]["exit_code"]), (&json!("succeeded"), &json!(0)));
    let killed = shop.call("kill", &json!({}));
    let details = &killed["error"]["details"];
    assert_eq!((ended(&killed), &details["signal"]), (("failed".to_owned(), &json!("signal")), &json!("KILL")));
    assert_eq!(details.get("exit_code"), None);
    for (name, code) in [("s137", 137), ("s255", 255), ("s126", 126), ("s127", 127)] {
        let failed = shop.call(name, &json!({}));
        let details = &failed["error"]["details"];
        assert_eq!((ended(&failed), &details["exit_code"]), (("failed".to_owned(), &json!("exit_code")), &json!(code)));
        assert_eq!(details.get("signal"), None);
    }
}

#[test]
fn at_its_timeout_and_when_it_is_cancelled_a_program_and_its_children_are_gone() {
    let pipeline = "sleep 4001.1 | cat; true";
    let (slow, short) = (shell(pipeline, "grace = \"1s\""), shell(pipeline, "timeout = \"1s\"\ngrace = \"1s\""));
    let shop = Workshop::of(&[("run", &slow), ("short", &short)]);
    let waiting = shop.fleet.spawn(&["call", "worker-1", "short", "-o", "json", "--timeout", "60s"]);
    eventually("the pipeline runs", || (!running("4001.1").is_empty()).then_some(()));
    let ran = waiting.wait().exits(1);
    let timed_out = ran.of("worker-1");
    assert_eq!(ended(&timed_out), ("failed".to_owned(), &json!("timed_out")), "{timed_out}");
    assert!(timed_out["error"]["message"].as_str().unwrap().contains("timed out after 1s"));
    assert_eq!(of_job(ran.json()["command_id"].as_str().unwrap()), [0; 0]);

    let id = shop.detached();
    eventually("the shell, sleep and cat run", || (of_job(&id).len() == 3).then_some(()));
    shop.fleet.run(&["cancel", "worker-1", &id]).exits(0);
    assert_eq!(shop.result(&id)["status"], "cancelled");
    assert_eq!(of_job(&id), [0; 0]);
}

#[test]
fn a_flood_of_output_delays_neither_the_timeout_nor_the_end_of_what_ignores_sigterm() {
    let shop = Workshop::script("trap '' TERM; yes & yes >&2 & wait; wait", "timeout = \"1s\"\ngrace = \"200ms\"");
    let ran = shop.fleet.run(&["call", "worker-1", "run", "-o", "json", "--timeout", "60s"]).exits(1);
    let timed_out = ran.of("worker-1");
    assert_eq!(ended(&timed_out), ("failed".to_owned(), &json!("timed_out")), "{timed_out}");
    assert!(timed_out["error"]["details"]["stderr"]["bytes"].as_u64() > Some(0), "{timed_out}");
    assert_eq!(of_job(ran.json()["command_id"].as_str().unwrap()), [0; 0]);
}

#[test]
fn cancelled_it_gets_sigterm_and_the_verdict_says_what_became_of_it() {
    let script = "trap 'echo cleaned up; kill $!; exit 7' TERM; echo ready; sleep 4002.1 & wait";
    let shop = Workshop::script(script, "");
    let id = shop.detached();
    eventually("it runs", || (!running("4002.1").is_empty()).then_some(()));
    let cancelled =
        shop.fleet.run(&["cancel", "worker-1", &id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
    assert_eq!(cancelled, json!({ "cancelled": true }));
    let result = shop.result(&id);
    let details = &result["error"]["details"];
    assert_eq!((&result["status"], &details["exit_code"]), (&json!("cancelled"), &json!(7)), "{result}");
    assert_eq!(details["stdout"]["text"], "ready\ncleaned up\n");
    assert_eq!(running("4002.1"), [""; 0]);
}

#[test]
fn what_ignores_sigterm_or_stops_itself_is_killed_after_its_grace() {
    for script in ["trap '' TERM; sleep 4003.1; sleep 4003.1", "kill -STOP $$; sleep 4003.1"] {
        let shop = Workshop::script(script, "timeout = \"1s\"\ngrace = \"500ms\"");
        let timed_out = shop.run();
        assert_eq!(ended(&timed_out), ("failed".to_owned(), &json!("timed_out")), "{timed_out}");
        assert_eq!(running("4003.1"), [""; 0], "{script}");
    }
}

#[test]
fn a_child_that_holds_the_output_open_delays_nothing_and_loses_no_line() {
    let shop = Workshop::script("sleep 4004.1 & echo done", "grace = \"1s\"");
    let done = shop.run();
    assert_eq!(
        (&done["result"]["exit_code"], &done["result"]["stdout"]["text"]),
        (&json!(0), &json!("done\n")),
        "{done}"
    );
    assert_eq!(running("4004.1"), [""; 0]);
}

#[test]
fn a_child_that_ends_soon_after_the_program_is_heard_to_its_last_line() {
    let shop = Workshop::script("(sleep 0.2; echo last) & echo first", "");
    assert_eq!(shop.run()["result"]["stdout"]["text"], "first\nlast\n");
}

#[test]
fn a_daemon_in_a_session_of_its_own_is_ended_with_its_job() {
    let shop = Workshop::script(
        "setsid sh -c 'trap \"\" TERM; exec sleep 4005.1' >/dev/null 2>&1 & exit 0",
        "grace = \"200ms\"",
    );
    assert_eq!(shop.run()["verdict"], "succeeded");
    assert_eq!(running("4005.1"), [""; 0]);
}

#[test]
fn closed_streams_are_no_end() {
    let shop = Workshop::script("exec >&- 2>&- <&-; sleep 0.3; exit 4", "");
    assert_eq!(shop.run()["error"]["details"]["exit_code"], 4);
}

#[test]
fn a_program_that_is_replaced_while_it_runs_goes_on_as_it_was() {
    let shop = Workshop::script("true", "");
    let path = shop.fleet.path().join("slow.sh");
    super::write(&path, "#!/bin/sh\n: >\"$0.runs\"\nwhile [ ! -e \"$0.go\" ]; do sleep 0.02; done\necho old\n", 0o755);
    super::define(&super::folder(&shop.fleet), &[("slow", &format!("program = [\"{}\"]\n", path.display()))]);
    reload(&shop, "slow");
    let waiting = shop.spawn("slow", &json!({}));
    // The shell has its command line before it has opened the script.
    eventually("it runs", || shop.fleet.path().join("slow.sh.runs").exists().then_some(()));
    let new = shop.fleet.path().join("new.sh");
    super::write(&new, "#!/bin/sh\necho new\n", 0o755);
    fs::rename(&new, &path).unwrap();
    fs::write(shop.fleet.path().join("slow.sh.go"), "").unwrap();
    assert_eq!(waiting.wait().of("worker-1")["result"]["stdout"]["text"], "old\n");
    assert_eq!(shop.call("slow", &json!({}))["result"]["stdout"]["text"], "new\n");
}

/// Has the definitions read again, and waits until `name` is as its file has it.
fn reload(shop: &Workshop, name: &str) {
    shop.worker.signal(Signal::HUP);
    let text = fs::read(super::folder(&shop.fleet).join(format!("{name}.toml"))).unwrap();
    let definition = json!(Digest::of(&text));
    eventually("the definitions are read again", || {
        let commands = shop.fleet.status("worker-1")["commands"].clone();
        let mut found = commands.as_array().unwrap().iter();
        found.any(|command| command["name"] == name && command["definition"] == definition).then_some(())
    });
}

#[test]
fn two_hundred_programs_leave_no_zombies_no_helpers_and_no_growing_number_of_processes() {
    let shop = Workshop::script("(sleep 0.05 &) ; exit 0", "");
    let client = shop.worker.pid().as_raw_nonzero().get();
    let script = "call worker-1 run\n".repeat(200);
    let mut calling = Process::spawn_with(shop.fleet.command(&["server", "-o", "ndjson"]), &script);
    let mut most = 0;
    while calling.is_running() {
        most = most.max(below(client).len());
    }
    let succeeded = calling.wait().exits(0).lines().iter().filter(|line| line["verdict"] == "succeeded").count();
    assert_eq!(succeeded, 200);
    assert!(most <= 8, "one program, its helper and what they leave for a moment, and not {most} processes");
    eventually("nothing is left below the client", || below(client).is_empty().then_some(()));
}

/// The processes that descend from one, zombies included.
fn below(parent: i32) -> Vec<i32> {
    // Any thread of its parent may have started it.
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let children = children.collect::<Vec<_>>().join(" ");
    let found: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let deeper: Vec<i32> = found.iter().flat_map(|pid| below(*pid)).collect();
    [found, deeper].concat()
}

#[test]
fn a_stuck_command_takes_its_own_slots_and_nobody_elses() {
    let shop = Workshop::script("sleep 4006.1", "concurrency = 2");
    let ids = [shop.detached(), shop.detached()];
    let third = shop.run();
    assert_eq!((&third["verdict"], &third["error"]["code"]), (&json!("refused"), &json!("busy")), "{third}");
    assert_eq!(third["error"]["message"], "`run` runs 2 times already, which is its limit");
    shop.fleet.run(&["ping", "worker-1"]).exits(0);
    for id in ids {
        shop.fleet.run(&["cancel", "worker-1", &id]).exits(0);
        assert_eq!(shop.result(&id)["status"], "cancelled");
    }
    assert_eq!(shop.fleet.status("worker-1")["jobs"]["running"], 0);
}

#[test]
fn terminate_gives_programs_their_grace_and_answers_for_each() {
    // More than the two seconds that other jobs have.
    let script = "trap 'kill $!; sleep 2.5; echo saved; exit 0' TERM; sleep 4007.1 & wait";
    let shop = Workshop::script(script, "grace = \"20s\"");
    let waiting = shop.spawn("run", &json!({}));
    eventually("it runs", || (!running("4007.1").is_empty()).then_some(()));
    shop.worker.signal(Signal::TERM);
    let cancelled = waiting.wait().exits(1).of("worker-1");
    let details = &cancelled["error"]["details"];
    assert_eq!(
        (&cancelled["verdict"], &details["stdout"]["text"]),
        (&json!("cancelled"), &json!("saved\n")),
        "{cancelled}"
    );
    shop.worker.wait().exits(0);
}

#[test]
fn when_the_client_is_killed_nothing_survives_and_nothing_runs_again() {
    let shop = Workshop::script("true", "");
    let runs = shop.fleet.path().join("runs");
    let script = format!("echo once >> {}; trap '' TERM; setsid sleep 4008.1 & sleep 4008.2", runs.display());
    super::define(&super::folder(&shop.fleet), &[("run", &shell(&script, ""))]);
    reload(&shop, "run");
    let mut observer = shop.fleet.observer();
    let waiting = shop.spawn("run", &json!({}));
    let genuine = observer.wait_for("the command", |it| it.json()["command"]["name"] == "run").signed();
    eventually("it runs", || (running("4008.1").len() + running("4008.2").len() == 2).then_some(()));
    let Workshop { fleet, worker } = shop;
    worker.kill();
    eventually("nothing survives", || (running("4008.1").len() + running("4008.2").len() == 0).then_some(()));
    let _worker = client(&fleet);
    let ran = waiting.wait().exits(1);
    assert_eq!(ran.verdict("worker-1"), "interrupted interrupted");
    fleet.run(&["start", "worker-1"]).exits(0);
    Forger::new(&fleet).send(&genuine);
    let id = id_of(&genuine).to_string();
    let again = observer
        .wait_for("the recorded reply", |it| it.json()["command_id"] == *id && it.json()["status"] == "interrupted");
    assert_eq!(again.json()["status"], "interrupted");
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(fs::read_to_string(runs).unwrap(), "once\n", "no second run");
}

#[test]
fn a_helper_that_is_killed_is_said_in_the_verdict_and_its_folder_is_removed() {
    let shop = Workshop::script("echo $PWD; kill -9 $PPID; sleep 0.2", "");
    let lost = shop.run();
    assert_eq!(ended(&lost), ("failed".to_owned(), &json!("helper_lost")), "{lost}");
    let work = lost["error"]["details"]["stdout"]["text"].as_str().unwrap().trim();
    assert!(work.contains("/countersign-") && !Path::new(work).parent().unwrap().exists(), "{lost}");
    shop.fleet.run(&["ping", "worker-1"]).exits(0);
}

#[test]
fn what_cannot_be_ended_is_named_with_its_process_id() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can make a program of another user's.
    }
    let shop = Workshop::script("true", "");
    let python = shop.fleet.path().join("python");
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), &python).unwrap();
    super::write(&python, fs::read(&python).unwrap(), 0o4755);
    fs::set_permissions(shop.fleet.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let code = "import os, sys, time; os.setuid(0); print(os.getpid(), flush=True); time.sleep(20)";
    let words = json!([python, "-E", "-c", code]);
    let definition = format!(
        "program = {words}\nuser = \"nobody\"\ntimeout = \"2s\"\ngrace = \"100ms\"\nenvironment = {{ PYTHONHOME = \"/usr\" }}\n"
    );
    super::define(&super::folder(&shop.fleet), &[("run", &definition)]);
    shop.worker.signal(Signal::HUP);
    let reply: Value = eventually("the program is another", || {
        let reply = shop.run();
        (reply["verdict"] == "failed").then_some(reply)
    });
    let details = &reply["error"]["details"];
    let pid: i64 = details["stdout"]["text"].as_str().unwrap().trim().parse().unwrap_or_else(|_| panic!("{reply}"));
    assert_eq!((&details["reason"], &details["remaining"]), (&json!("timed_out"), &json!([pid])), "{reply}");
    assert!(reply["error"]["message"].as_str().unwrap().contains(&format!("could not be ended: process {pid}")));
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

//! Processes whose output nobody reads, and how every process exits.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::thread;

use countersign_testkit::broker;
use countersign_testkit::hostile::FakeBroker;
use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::Fleet;
use crate::process::Process;

/// A full pipe, which nobody reads while the reader is held.
fn unread() -> (PipeWriter, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let mut filling = writer.try_clone().unwrap();
    // It blocks for as long as there is a reader.
    thread::spawn(move || while filling.write_all(&[b'x'; 4096]).is_ok() {});
    (writer, reader)
}

/// worker-1, ready, with this done to its command.
fn client(fleet: &Fleet, change: impl FnOnce(&mut Command)) -> Child {
    fleet.forget_events();
    let mut command = fleet.command(&["client", "--name", "worker-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    change(&mut command);
    let client = command.spawn().unwrap();
    fleet.presence("worker-1", "unready");
    fleet.run(&["start", "worker-1"]).exits(0);
    client
}

#[test]
fn a_client_whose_log_nobody_reads_answers_after_a_thousand_unsigned_messages_and_exits_cleanly() {
    let fleet = Fleet::new();
    let (stderr, _reader) = unread();
    let mut worker = client(&fleet, |command| {
        command.stderr(stderr);
    });
    let peer =
        fleet.peer(&fleet.keys().creds(countersign_protocol::credential::Role::Operator, &"alice".parse().unwrap()));
    for number in 0..1_000 {
        peer.publish("cs.demo.cmd.client.worker-1", None, None, format!("unsigned {number}").as_bytes());
    }
    fleet.dropped_in_all("worker-1", 1_000);
    fleet.run(&["ping", "worker-1"]).exits(0);
    broker::signal(&worker, Signal::TERM);
    assert_eq!(worker.wait().unwrap().code(), Some(0));
}

#[test]
fn jobs_whose_output_nobody_reads_finish_and_so_does_the_client_which_reports_that_output_was_lost() {
    let fleet = Fleet::new();
    let (stdout, _reader) = unread();
    let log = fleet.path().join("log");
    let mut worker = client(&fleet, |command| {
        command.stdout(stdout).stderr(fs::File::create(&log).unwrap());
    });
    let jobs = [(); 4].map(|()| fleet.spawn(&["calculate", "worker-1", "0", "unread"]));
    for job in jobs {
        job.wait().exits(0);
    }
    fleet.run(&["ping", "worker-1"]).exits(0);
    broker::signal(&worker, Signal::TERM);
    assert_eq!(worker.wait().unwrap().code(), Some(0));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("what jobs printed could not all be written"), "{log}");
}

/// Signals until it has ended.
#[track_caller]
fn end(mut process: Child, signal: Signal) -> Option<i32> {
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        broker::signal(&process, signal);
        thread::yield_now();
    }
}

#[test]
fn a_process_that_is_blocked_ends_at_the_second_signal_and_within_five_seconds_of_the_first() {
    let fleet = Fleet::new();
    let blocked = |arguments: &[&str]| {
        let (stdout, reader) = unread();
        let mut command = fleet.command(arguments);
        let process = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        while !handles_signals(&process) {
            thread::yield_now();
        }
        (process, reader)
    };
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (process, _reader) = blocked(&["schema", "reply"]);
        assert_eq!(end(process, signal), Some(code));
    }
    let (mut process, _reader) = blocked(&["schema", "reply"]);
    broker::signal(&process, Signal::TERM);
    assert_eq!(process.wait().unwrap().code(), Some(143));
}

/// Whether a process has handlers for SIGTERM and SIGINT: without them, process 1 of a container does not get them.
fn handles_signals(process: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    [Signal::TERM, Signal::INT].iter().all(|signal| caught & (1 << (signal.as_raw() - 1)) != 0)
}

#[test]
fn sigterm_ends_watch_a_one_shot_and_a_script_with_143_and_they_report_what_is_known() {
    let (fleet, worker) = Fleet::ready();
    let mut watch = fleet.spawn(&["watch"]);
    watch.stderr.wait_for("watching");
    watch.signal(Signal::TERM);
    watch.wait().exits(143);

    worker.signal(Signal::STOP);
    let mut observer = fleet.observer();
    let one_shot = fleet.spawn(&["ping", "worker-1", "--timeout", "10m", "-o", "json"]);
    observer.wait_for("the ping", |message| message.json()["command"]["name"] == "ping");
    one_shot.signal(Signal::TERM);
    assert_eq!(one_shot.wait().exits(143).verdict("worker-1"), "no_reply");

    let script = Process::spawn_with(fleet.command(&["server"]), "ping worker-1 --timeout 10m\nstart worker-1\n");
    observer.wait_for("the ping", |message| message.json()["command"]["name"] == "ping");
    script.signal(Signal::TERM);
    let ran = script.wait().exits(143);
    assert!(ran.stdout.contains("interrupted before a reply"), "{ran:#?}");
    worker.signal(Signal::CONT);
}

#[test]
fn as_process_1_watch_and_a_client_end_on_sigterm() {
    let possible = Command::new("unshare").args(["--pid", "--fork", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        // Then it is enough that they handle the signals, which is tested above.
        return;
    }
    let fleet = Fleet::new();
    for (arguments, code) in [(&["watch"][..], 143), (&["client", "--name", "worker-1"], 0)] {
        let inner = fleet.command(arguments);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
        unshare.current_dir(fleet.path()).env_clear();
        unshare.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut outer = Process::spawn(unshare);
        outer.stderr.wait_for(if code == 0 { "connected\n" } else { "watching" });
        let id = outer.pid().as_raw_nonzero();
        let first = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        kill_process(Pid::from_raw(first.trim().parse().unwrap()).unwrap(), Signal::TERM).unwrap();
        outer.wait().exits(code);
    }
}

#[test]
fn what_a_broker_sends_as_fast_as_it_can_fills_no_log_and_is_counted() {
    let fleet = Fleet::new();
    for arguments in [&["client", "--name", "worker-1"][..], &["watch"]] {
        let fake = FakeBroker::start("nonce");
        let mut command = fleet.command(arguments);
        command.env("NATS_URL", fake.url());
        let mut process = Process::spawn(command);
        let mut session = fake.accept();
        session.subscription(if arguments == ["watch"] { "cs.demo.>" } else { "cs.demo.cmd.all" });
        for batch in 0..100 {
            let errors: Vec<u8> =
                (0..200).flat_map(|number| format!("-ERR 'no {batch} {number}'\r\n").into_bytes()).collect();
            session.send(&errors);
        }
        process.stderr.wait_for("does not allow it");
        drop((session, fake));
        process.stderr.wait_for("connection");
        process.signal(Signal::TERM);
        let ran = process.wait();
        let reported = ran.stderr.lines().filter(|line| line.contains("does not allow it")).count();
        assert!((1..500).contains(&reported), "{reported} lines for 20,000 errors");
    }
}

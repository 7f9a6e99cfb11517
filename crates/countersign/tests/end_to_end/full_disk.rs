//! A disk with no room left: a limit on the size of files, and a small file system that is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::enrolment::{Worker, token};
use crate::fleet::Fleet;
use crate::issuer::issuer;
use crate::process::Process;

/// Lets the files of a client grow no larger than its journal and some more bytes; or without a limit.
fn limit(fleet: &Fleet, worker: &Process, more: Option<u64>) {
    let journal = fleet.state_folder("worker-1").join("journal");
    let size = more.map(|more| fs::metadata(&journal).unwrap().len() + more);
    prlimit(Some(worker.pid()), Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

/// The verdict on a command to worker-1, which must have one.
#[track_caller]
fn verdict(fleet: &Fleet, command: &[&str]) -> String {
    fleet.run(&[&command[..1], &["worker-1"], &command[1..], &["-o", "json"]].concat()).verdict("worker-1")
}

const NOT_RECORDED: &str = "refused not_recorded";

#[test]
fn what_cannot_be_recorded_is_answered_with_not_recorded_and_not_executed() {
    let (fleet, worker) = Fleet::ready();
    assert_eq!(verdict(&fleet, &["calculate", "0", "before"]), "succeeded");

    limit(&fleet, &worker, Some(0));
    for command in [&["calculate", "0", "never"][..], &["ping"], &["stop"]] {
        assert_eq!(verdict(&fleet, command), NOT_RECORDED);
    }
    let info = fleet.status("worker-1");
    assert_eq!(
        (&info["state"], &info["jobs"]["running"]),
        (&"ready".into(), &0.into()),
        "queries go on; nothing changed"
    );
    assert_eq!(verdict(&fleet, &["terminate"]), NOT_RECORDED);

    limit(&fleet, &worker, None);
    assert_eq!(verdict(&fleet, &["calculate", "0", "after"]), "succeeded");
    fleet.run(&["terminate", "worker-1"]).exits(0);
    assert_eq!(worker.wait().exits(0).stdout, "before\nafter\n");
    let again = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    drop(again);
}

#[test]
fn a_job_that_finishes_while_the_disk_is_full_is_answered_when_it_no_longer_is() {
    let (fleet, mut worker) = Fleet::ready();
    let operator = fleet.spawn(&["calculate", "worker-1", "5", "once", "-o", "json"]);
    fleet.event("worker-1", "job");
    limit(&fleet, &worker, Some(0));
    worker.stdout.wait_for("once");
    worker.stderr.wait_for("the journal cannot be written");
    limit(&fleet, &worker, None);
    assert_eq!(operator.wait().exits(0).verdict("worker-1"), "succeeded");
    let jobs = fleet.run(&["jobs", "worker-1", "-o", "json"]).exits(0).of("worker-1")["result"]["jobs"].clone();
    assert_eq!(jobs[0]["status"], "succeeded");
    assert_eq!(worker.printed(), "once\n");
}

#[test]
fn on_a_full_disk_nobody_is_enrolled_half_and_the_file_is_named_on_each_side() {
    let fleet = Fleet::new();
    let mut issuer = issuer(&fleet);
    let token = token(&fleet, &["worker-7"]);
    let worker = Worker::new(&fleet, "worker");
    let limit = |process: &Process, size| {
        prlimit(Some(process.pid()), Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
    };
    let full = worker.shell(&fleet, "ulimit -f 0; exec countersign enroll", &token).exits(5);
    assert!(full.stderr.contains("key.pem: File too large") && full.stderr.lines().count() == 3, "{full:#?}");

    limit(&issuer, Some(64));
    let refused = worker.run(&fleet, &["enroll"], &token).exits(5);
    assert!(refused.stderr.contains("the token is not lost"), "{refused:#?}");
    let why = issuer.stderr.wait_for("worker-7 is not enrolled");
    assert!(why.contains("tokens/worker-7.json: File too large"), "{why}");
    assert!(!fleet.keys().credential(Role::Client, &name("worker-7")).exists());
    limit(&issuer, None);
    worker.run(&fleet, &["enroll"], &token).exits(0);
    worker.client(&fleet, "worker-7").printed();
}

/// A job is under way, the disk becomes full, and then has room again: each command is run to its end and answered, or
/// refused with a reply.
fn through_a_full_disk(fleet: &Fleet, worker: Process, fill: impl FnOnce(&Process), empty: impl FnOnce(&Process)) {
    fleet.run(&["start", "worker-1"]).exits(0);
    // As long as it may be, and longer in bytes.
    let long = "€".repeat(4_000);
    let running = fleet.spawn(&["calculate", "worker-1", "4", &format!("started {long}"), "-o", "json"]);
    fleet.event("worker-1", "job");
    fill(&worker);
    let mut expected = vec![format!("started {long}")];
    // There may be room that was taken before.
    for number in 0.. {
        assert!(number < 60, "the disk is never full");
        let text = format!("{number} {long}");
        match &*verdict(fleet, &["calculate", "0", &text]) {
            "succeeded" => expected.push(text),
            verdict => {
                assert_eq!(verdict, NOT_RECORDED);
                break;
            }
        }
    }
    // The verdict must not depend on the size of the command.
    for _ in 0..3 {
        for command in [&["ping"][..], &["calculate", "0", "never"], &["stop"]] {
            assert_eq!(verdict(fleet, command), NOT_RECORDED);
        }
    }
    assert_eq!(fleet.status("worker-1")["state"], "ready");
    assert_eq!(running.wait().exits(0).verdict("worker-1"), "succeeded", "what has started can finish");

    empty(&worker);
    assert_eq!(verdict(fleet, &["calculate", "0", "after"]), "succeeded");
    expected.push("after".to_owned());
    fleet.run(&["terminate", "worker-1"]).exits(0);
    let ran = worker.wait().exits(0);
    let mut printed: Vec<&str> = ran.stdout.lines().collect();
    printed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(printed, expected, "each once");
    let reported = ran.stderr.matches("the journal cannot be written; nothing begins until it can").count();
    assert_eq!((reported, ran.stderr.matches("the journal can be written again").count()), (1, 1), "{}", ran.stderr);
}

#[test]
fn at_a_limit_on_the_size_of_files_what_has_started_finishes_and_what_is_new_is_refused_as_not_recorded() {
    let fleet = Fleet::new();
    let worker = fleet.client("worker-1");
    through_a_full_disk(
        &fleet,
        worker,
        |worker| limit(&fleet, worker, Some(100_000)),
        |worker| limit(&fleet, worker, None),
    );
}

#[test]
fn on_a_full_file_system_what_has_started_finishes_and_what_is_new_is_refused_as_not_recorded() {
    let fleet = Fleet::new();
    let mount = "mount -t tmpfs -o size=1m,mode=700 tmpfs state";
    fs::create_dir(fleet.path().join("state")).unwrap();
    let in_its_own = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).current_dir(fleet.path());
        command
    };
    let possible = in_its_own(mount).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        // Only root can mount one. Then the limit on the size of files is proof enough.
        return;
    }
    let client = fleet.command(&["client", "--name", "worker-1"]);
    let mut command = in_its_own(&format!("{mount} && exec \"$@\""));
    command.arg(client.get_program()).args(client.get_args());
    command.env_clear().envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let worker = fleet.client_as("worker-1", command);
    // The process has a mount of its own there, which only it sees.
    let filler = |worker: &Process| {
        let root = format!("/proc/{}/root", worker.pid().as_raw_nonzero());
        PathBuf::from(root).join(fleet.path().strip_prefix("/").unwrap()).join("state/filler")
    };
    let fill = |worker: &Process| {
        let mut file = File::create(filler(worker)).unwrap();
        while file.write_all(&[b'x'; 4_096]).is_ok() {}
    };
    through_a_full_disk(&fleet, worker, fill, |worker| fs::remove_file(filler(worker)).unwrap());
}

#[test]
fn a_client_under_a_limit_from_its_start_answers_every_command_and_survives_it() {
    let fleet = Fleet::new();
    let client = fleet.command(&["client", "--name", "worker-1"]);
    let mut shell = Command::new("sh");
    // In blocks of 512 or 1,024 bytes, depending on the shell.
    shell.args(["-c", "ulimit -f 8 && exec \"$@\"", "sh"]).arg(client.get_program()).args(client.get_args());
    shell.current_dir(fleet.path());
    shell.env_clear().envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let worker = fleet.client_as("worker-1", shell);
    let verdicts: Vec<String> = (0..40).map(|_| verdict(&fleet, &["start"])).collect();
    let full = verdicts.iter().position(|verdict| verdict == NOT_RECORDED).expect("the limit is reached");
    assert!(verdicts[..full].iter().all(|it| it == "succeeded") && full > 0, "{verdicts:?}");
    assert!(verdicts[full..].iter().all(|it| it == NOT_RECORDED), "{verdicts:?}");
    worker.printed();
}

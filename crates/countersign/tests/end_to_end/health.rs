//! `countersign health`, as the health check of a container runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use countersign_client::health::HEALTHY;
use countersign_host::clock;

use crate::fleet::Fleet;
use crate::process::{Process, Ran, Signal};

fn health(fleet: &Fleet) -> Ran {
    fleet.run(&["health", "--health", "health"])
}

fn client(fleet: &Fleet) -> Process {
    fleet.spawn(&["client", "--name", "worker-1", "--health", "health"])
}

#[track_caller]
fn unhealthy(fleet: &Fleet, why: &str) -> Ran {
    let ran = health(fleet).exits(1);
    assert!(ran.stderr.starts_with(&format!("error: {why}")), "{why}: {ran:#?}");
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 3), "{ran:#?}");
    ran
}

#[test]
fn a_client_is_healthy_while_it_is_connected_to_its_broker_and_at_no_other_time() {
    let mut fleet = Fleet::new();
    unhealthy(&fleet, "no client reports in health");
    let mut worker = client(&fleet);
    worker.stderr.wait_for("connected\n");
    let healthy = health(&fleet).exits(0);
    assert!(healthy.stdout.starts_with("well: it was connected ") && healthy.stderr.is_empty(), "{healthy:#?}");
    let file = fleet.path().join("health");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);

    fleet.broker.stop();
    worker.stderr.wait_for("not connected");
    unhealthy(&fleet, "no client reports in health");
    fleet.broker.restart();
    fleet.run(&["status", "worker-1", "--retry"]).exits(0);
    health(&fleet).exits(0);

    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    assert!(!file.exists(), "it is removed with the client");
}

#[test]
fn the_health_report_of_a_killed_client_does_not_count_for_the_next_one() {
    let mut fleet = Fleet::new();
    let mut worker = client(&fleet);
    worker.stderr.wait_for("connected\n");
    worker.kill();
    health(&fleet).exits(0);
    fleet.broker.stop();
    let mut next = client(&fleet);
    next.stderr.wait_for("not connected");
    unhealthy(&fleet, "no client reports in health");
}

#[test]
fn a_second_client_that_may_not_start_leaves_the_health_report_of_the_first() {
    let fleet = Fleet::new();
    let mut worker = client(&fleet);
    worker.stderr.wait_for("connected\n");
    client(&fleet).wait().exits(1);
    health(&fleet).exits(0);
}

#[test]
fn a_health_report_that_is_old_or_invalid_is_unhealthy() {
    let fleet = Fleet::new();
    let file = fleet.path().join("health");
    // On a machine that has just started there is no old one yet.
    while clock::since_boot() < HEALTHY {
        thread::sleep(Duration::from_millis(100));
    }
    let written = clock::since_boot() - HEALTHY;
    fs::write(&file, written.to_string()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let stderr = unhealthy(&fleet, "the last report in health is ").stderr;
    let latest = (clock::since_boot() - written) / 1_000;
    let has_age = |age| stderr.contains(&format!(" is {age} s old\n"));
    assert!((HEALTHY / 1_000..=latest).any(has_age), "{stderr}");

    for (text, why) in [
        ((clock::since_boot() + 3_600_000).to_string(), "what is in health was not written since this machine started"),
        (String::new(), "what is in health was not written since this machine started"),
        ("soon\n".to_owned(), "what is in health was not written since this machine started"),
        ("1".repeat(33), "health is longer than 32 bytes"),
    ] {
        fs::write(&file, text).unwrap();
        unhealthy(&fleet, why);
    }
    fs::write(&file, format!("{}\n", clock::since_boot())).unwrap();
    health(&fleet).exits(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    unhealthy(&fleet, "health can be written by others");
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    unhealthy(&fleet, "health is not a regular file");
}

#[test]
fn the_file_is_named_by_the_environment_too_and_must_be_named() {
    let fleet = Fleet::new();
    let mut command = fleet.command(&["health"]);
    command.env("COUNTERSIGN_HEALTH", "there");
    let ran = Process::spawn(command).wait().exits(1);
    assert!(ran.stderr.contains("in there\n"), "{ran:#?}");
    fleet.run(&["health"]).exits(2);
    let ran = fleet.run(&["health", "--health", "there", "--nats-url", "nats://127.0.0.1:1"]).exits(2);
    assert!(ran.stderr.contains("means nothing to `countersign health`"), "{ran:#?}");
}

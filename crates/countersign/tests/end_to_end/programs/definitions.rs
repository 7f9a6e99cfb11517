//! The folder of definitions, at the start of a client and while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Workshop, define, eventually, folder, shell};
use crate::fleet::Fleet;
use crate::process::Signal;

#[test]
fn a_wrong_set_keeps_the_client_from_starting_and_names_file_line_and_rule() {
    let fleet = Fleet::new();
    define(
        &folder(&fleet),
        &[("good", &shell("true", "")), ("wrong", "program = [\"/bin/sh\"]\ntimeout = \"soon\"\n")],
    );
    let refused = fleet.run(&["client", "--name", "worker-1", "--commands", "commands.d"]).exits(1);
    assert!(refused.stderr.starts_with("error: commands.d/wrong.toml:2: `timeout` is `soon`\n"), "{}", refused.stderr);
    let checked = fleet.run(&["commands", "check", "commands.d"]).exits(1);
    assert_eq!(checked.stderr.lines().next(), refused.stderr.lines().next());
    assert_eq!(refused.stderr.lines().count(), 3);
}

#[test]
fn on_sighup_the_whole_set_is_replaced_and_announced_and_a_wrong_one_changes_nothing() {
    let Workshop { fleet, mut worker } = Workshop::script("echo old", "");
    let names = || {
        let commands = fleet.status("worker-1")["commands"].clone();
        let data = commands.as_array().unwrap().iter().filter(|command| command["kind"] == "data");
        data.map(|command| command["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["calculate", "ping", "run"]);
    define(&folder(&fleet), &[("run", "program = []\n")]);
    worker.signal(Signal::HUP);
    let line = worker.stderr.wait_for("the commands stay as they were");
    assert!(line.contains("commands.d/run.toml:1: `program` is empty"), "{line}");
    assert_eq!(names(), ["calculate", "ping", "run"]);

    let args =
        "args = { type = \"object\", additionalProperties = false, properties = { n = { type = \"integer\" } } }";
    define(&folder(&fleet), &[("run", &shell("cat", args)), ("other", &shell("echo other", ""))]);
    fleet.forget_events();
    worker.signal(Signal::HUP);
    let presence = fleet.presence("worker-1", "ready");
    let announced = presence["data"]["commands"].as_array().unwrap().iter().any(|command| command["name"] == "other");
    assert!(announced, "{presence}");
    let shop = Workshop { fleet, worker };
    assert_eq!(shop.call("run", &json!({ "n": 5 }))["result"]["stdout"]["text"], "{\"n\":5}");
    assert_eq!(shop.call("run", &json!({ "n": "5" }))["error"]["code"], "invalid_args");
    fs::remove_file(folder(&shop.fleet).join("other.toml")).unwrap();
    shop.worker.signal(Signal::HUP);
    eventually("the command is gone", || {
        (shop.call("other", &json!({}))["error"]["code"] == "unknown_command").then_some(())
    });
}

#[test]
fn a_folder_or_a_file_that_others_may_write_to_is_refused_with_what_helps() {
    let fleet = Fleet::new();
    define(&folder(&fleet), &[("run", &shell("true", ""))]);
    for (path, back) in [(folder(&fleet), 0o755), (folder(&fleet).join("run.toml"), 0o644)] {
        fs::set_permissions(&path, Permissions::from_mode(back | 0o020)).unwrap();
        let name = path.strip_prefix(fleet.path()).unwrap().display();
        for words in
            [&["commands", "check", "commands.d"][..], &["client", "--name", "worker-1", "--commands", "commands.d"]]
        {
            let refused = fleet.run(words).exits(1).stderr;
            assert!(
                refused.starts_with(&format!("error: {name}: it can be written by others than its owner")),
                "{refused}"
            );
            assert!(refused.contains("that only its owner may change (`chmod go-w`)\n"), "{refused}");
            assert!(refused.ends_with("try: countersign commands check commands.d\n"), "{refused}");
        }
        fs::set_permissions(&path, Permissions::from_mode(back)).unwrap();
    }
    fleet.run(&["commands", "check", "commands.d"]).exits(0);
}

#[test]
fn a_check_lists_what_is_a_command_and_what_is_ignored() {
    let fleet = Fleet::new();
    define(&folder(&fleet), &[("report", &shell("true", ""))]);
    fs::write(folder(&fleet).join("report.toml~"), "nonsense").unwrap();
    let checked = fleet.run(&["commands", "check", "commands.d"]).exits(0);
    assert_eq!(checked.stdout, "report\n");
    assert!(checked.stderr.contains("report.toml~ is ignored"), "{}", checked.stderr);
}

#[test]
fn wrong_arguments_of_a_program_are_told_with_what_may_have_been_meant_and_never_with_the_same_line() {
    let args = "args = { type = \"object\", additionalProperties = false, required = [\"area\"], \
                properties = { area = { enum = [\"etc\", \"usr\"] } } }";
    let shop = Workshop::of(&[("inventory", &shell("cat", args))]);
    for (words, hint) in [
        (["inventory", "area=tmp"], "`countersign describe TARGET inventory` shows it"),
        (["inventory", "ara=etc"], "countersign call worker-1 inventory area=etc"),
        (["inventry", "area=etc"], "countersign call worker-1 inventory area=etc"),
    ] {
        let ran = shop.fleet.run(&["call", "worker-1", words[0], words[1]]).exits(2);
        assert_eq!(ran.stderr.lines().last(), Some(format!("try: {hint}").as_str()), "{ran:#?}");
    }
}

#[test]
fn clients_that_run_another_program_under_the_same_schemas_are_told_apart() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _workers =
        [("worker-1", "one.d", "echo one"), ("worker-2", "two.d", "echo two")].map(|(name, folder, script)| {
            define(&fleet.path().join(folder), &[("run", &shell(script, "")), ("same", &shell("true", ""))]);
            fleet.client_as(name, fleet.command(&["client", "--name", name, "--commands", folder]))
        });
    let listed = fleet.run(&["commands"]).exits(0).stdout;
    let note = |command: &str| listed.lines().find(|line| line.starts_with(command)).unwrap().to_owned();
    assert!(note("run ").contains("another definition at worker-"), "{listed}");
    assert!(!note("same ").contains("another definition"), "{listed}");
}

//! What programs find around them, whatever the client and the sender have.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::{Value, json};

use super::{ANY_X, Workshop, define, folder, shell};
use crate::fleet::Fleet;

/// Everything that a program can see of what it was started with.
const SHOW: &str = "tr '\\0' '\\n' </proc/$$/cmdline; echo --; tr '\\0' '\\n' </proc/$$/environ; echo --; \
                    ls /proc/self/fd; echo --; pwd; echo --; \
                    grep SigIgn /proc/$$/status; umask; cat /proc/$$/stat | cut -d' ' -f7";

fn shown(reply: &Value) -> Vec<Vec<String>> {
    let text = reply["result"]["stdout"]["text"].as_str().unwrap_or_else(|| panic!("{reply}"));
    text.split("--\n").map(|part| part.lines().map(str::to_owned).collect()).collect()
}

#[test]
fn nothing_of_the_clients_environment_and_descriptors_reaches_a_program() {
    let fleet = Fleet::new();
    define(&folder(&fleet), &[("run", &shell(SHOW, "environment = { LANG = \"C.UTF-8\" }"))]);
    let like = fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]);
    // Left open, ignored and set by whoever starts the client.
    let script = "trap '' HUP QUIT USR1 PIPE; umask 000; exec 7</etc/passwd 8</etc/passwd; exec \"$0\" \"$@\"";
    let mut client = Command::new("/bin/sh");
    client.arg("-c").arg(script).arg(like.get_program()).args(like.get_args()).current_dir(fleet.path());
    client.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    client.envs([("NATS_TOKEN", "x"), ("NOTIFY_SOCKET", "/run/x"), ("AWS_SECRET_ACCESS_KEY", "y")]).arg0("sh");
    let worker = fleet.client_as("worker-1", client);
    fleet.run(&["start", "worker-1"]).exits(0);
    let shop = Workshop { fleet, worker };
    let parts = shown(&shop.run());
    let names: BTreeSet<&str> = parts[1].iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = [
        "COUNTERSIGN_CLIENT",
        "COUNTERSIGN_COMMAND_ID",
        "COUNTERSIGN_OPERATOR",
        "COUNTERSIGN_PROGRESS",
        "COUNTERSIGN_RESULT",
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "USER",
    ];
    assert_eq!(names, expected.into(), "{parts:#?}");
    // 3 is the folder that `ls` reads.
    assert_eq!(parts[2], ["0", "1", "2", "3"]);
    assert!(parts[3][0].contains("/countersign-") && !std::path::Path::new(&parts[3][0]).exists(), "{parts:#?}");
    let ignored = u64::from_str_radix(parts[4][0].trim_start_matches("SigIgn:\t"), 16).unwrap();
    // 32 and 33 belong to the C library, which lets nobody change them.
    assert_eq!(ignored & 0x7fff_ffff, 0, "no signal is ignored: {parts:#?}");
    assert_eq!(parts[4][1..], ["0077", "0"], "the umask, and no terminal");
}

#[test]
fn a_program_runs_as_its_user_with_what_fits_it() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can change the user.
    }
    let shop = Workshop::script(
        "id -un; id -G; echo $HOME $USER $LOGNAME; echo x > $COUNTERSIGN_PROGRESS; \
         echo '{\"a\":1}' > $COUNTERSIGN_RESULT; cat /proc/$PPID/status | grep ^Uid; ls keys 2>&1; true",
        "user = \"nobody\"",
    );
    let reply = shop.run();
    assert_eq!(reply["result"]["value"], json!({ "a": 1 }), "{reply}");
    let text = reply["result"]["stdout"]["text"].as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "nobody");
    assert!(!lines[1].split(' ').any(|group| group == "0"), "{text}");
    assert!(lines[2].ends_with(" nobody nobody"), "{text}");
    assert!(lines[3].starts_with("Uid:\t65534\t65534\t65534"), "the helper, too: {text}");
}

#[test]
fn the_bounds_of_a_definition_are_those_of_the_program_and_the_verdict_says_which_signal_keeps_them() {
    let bounds = shell("ulimit -n; ulimit -d", "open_files = 64\nmemory = \"64MiB\"");
    let shop = Workshop::of(&[("bounds", &bounds), ("spin", &shell("while :; do :; done", "cpu = \"1s\""))]);
    assert_eq!(shop.call("bounds", &json!({}))["result"]["stdout"]["text"], "64\n65536\n");
    let ended = shop.call("spin", &json!({}));
    assert_eq!(ended["error"]["details"]["signal"], "XCPU", "{ended}");
    assert_eq!(ended["error"]["message"], "ended by signal XCPU");
}

/// Texts that have been a shell's, a path's, an option's or a format's before.
const HOSTILE: [&str; 12] = [
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "--help",
    "-c",
    "../../../../etc/passwd",
    "%s%n",
    "a\nLD_PRELOAD=x",
    "\u{0}",
    "'\"\\",
    "\u{feff}#!/bin/sh",
    "*",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 1, ..Default::default() })]

    #[test]
    fn nothing_that_is_sent_becomes_a_word_a_name_a_path_or_part_of_a_script(
        texts in proptest::collection::vec((0..HOSTILE.len(), "\\PC{0,40}"), 12),
    ) {
        let shop = Workshop::of(&[("run", &shell(SHOW, ANY_X)), ("echo", &shell("cat", ANY_X))]);
        let usual = steady(&shop.call("run", &json!({ "x": 1 })));
        for (hostile, any) in texts {
            let args = json!({ "x": { HOSTILE[hostile]: any, any.clone(): HOSTILE[hostile] } });
            proptest::prop_assert_eq!(steady(&shop.call("run", &args)), usual.clone());
            let echoed = shop.call("echo", &args);
            let text = echoed["result"]["stdout"]["text"].as_str().unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Value>(text).unwrap(), args);
        }
    }
}

/// What a program was started with, without what is drawn or counted for each job.
fn steady(reply: &Value) -> Vec<Vec<String>> {
    let drawn = |line: &String| match line.split_once("/countersign-") {
        Some((before, after)) => format!("{before}/countersign-ID{}", &after[36..]),
        None if line.starts_with("COUNTERSIGN_COMMAND_ID=") => "COUNTERSIGN_COMMAND_ID=".to_owned(),
        None => line.clone(),
    };
    shown(reply).iter().map(|part| part.iter().map(drawn).collect()).collect()
}

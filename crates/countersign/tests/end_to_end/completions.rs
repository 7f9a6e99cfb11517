//! Tab in a shell.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fleet::Fleet;
use crate::programs::copy_examples;
use crate::pty::Pty;

/// Where whatever completes in a shell is started from.
fn path() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    format!("{}:{}", folder.display(), env::var("PATH").unwrap_or_default())
}

#[test]
fn in_bash_tab_completes_the_clients_groups_commands_and_arguments_that_the_operator_saw_last() {
    if Command::new("bash").arg("--version").output().is_err() {
        // What the scripts ask for is tested without a shell too.
        return;
    }
    let fleet = Fleet::of(&["worker-1:web"]);
    let commands = fleet.path().join("commands.d");
    fs::create_dir(&commands).unwrap();
    copy_examples(&commands);
    let _worker =
        fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]));
    fleet.run(&["clients"]).exits(0);
    fleet.run(&["describe", "worker-1", "report"]).exits(0);

    let history = fleet.path().join(".local/state/countersign/history.d");
    let realm = fs::read_dir(history).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(realm.join("alice.words.json")).unwrap().permissions().mode() & 0o777, 0o600);

    let start = "PS1='> '\nsource <(countersign completions bash)\n";
    fs::write(fleet.path().join("bashrc"), start).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--rcfile", "bashrc", "-i"]).current_dir(fleet.path()).env("PATH", path());
    bash.env("HOME", fleet.path()).env("COUNTERSIGN_KEYS", "keys");
    let mut bash = Pty::spawn(&bash);
    bash.wait_for("> ");
    for (begun, completed) in [
        ("countersign stat", "countersign status "),
        ("countersign ping wor", "countersign ping worker-1 "),
        ("countersign ping @w", "countersign ping @web "),
        ("countersign call worker-1 rep", "countersign call worker-1 report "),
        ("countersign call @web report pa", "countersign call @web report pages="),
        ("countersign call worker-1 report --args-file bash", "countersign call worker-1 report --args-file bashrc "),
    ] {
        bash.keys(&format!("{begun}\t"));
        bash.wait_for(completed);
        // The line is given up.
        bash.keys("\u{15}");
    }
}

//! NATS's own tool with the credentials of the observer and of setup, as docs/operations.md shows it.

use std::process::{Command, Stdio};

use crate::broker::Broker;
use crate::folder::{Folder, Run};

/// The tool with these arguments; `None` where it is not on PATH.
fn nats(folder: &Folder, broker: &Broker, user: &str, arguments: &[&str]) -> Option<Run> {
    let mut command = Command::new("nats");
    command.current_dir(folder.path("")).env("HOME", folder.path("")).env("NATS_URL", broker.url());
    command.args(["--creds", &format!("keys/nats/{user}.creds"), "--inbox-prefix", &format!("_INBOX.{user}")]);
    command.args(arguments).stdin(Stdio::null()).output().ok().map(Run::of)
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that checks nothing says so")]
fn the_observer_checks_the_connection_and_setup_reads_the_stream_by_natss_own_tool() {
    let folder = Folder::with_keys(&[]);
    let broker = Broker::start(&folder);
    folder.run(&["setup", "--nats-url", &broker.url()]).expect(0);
    let page = include_str!("../../../../docs/operations.md");
    for (user, arguments) in [
        ("observer", &["server", "check", "connection"][..]),
        ("observer", &["rtt"]),
        ("setup", &["stream", "ls"]),
        ("setup", &["stream", "report"]),
        ("setup", &["stream", "info", "cs-demo-presence"]),
        ("setup", &["stream", "subjects", "cs-demo-presence"]),
    ] {
        assert!(page.contains(&format!("nats ${user} {}", arguments.join(" "))), "{arguments:?}");
        let Some(run) = nats(&folder, &broker, user, arguments) else {
            eprintln!("SKIPPED: there is no `nats` on PATH");
            return;
        };
        run.expect(0);
    }
}

//! The scripts behind `./just`, in a folder of their own: which broker they use, and what they say where they cannot work.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, Ran};

/// A clone in which the release binary is built already, namely the one under test. What was started ends with it.
struct Clone(TempDir);

impl Clone {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for name in ["scripts", "tools", "just", "justfile", "nats.conf", "Cargo.toml"] {
            let copied = Command::new("cp").arg("-r").arg(root.join(name)).arg(folder.path()).status().unwrap();
            assert!(copied.success(), "{name}");
        }
        fs::create_dir_all(folder.path().join("target/release")).unwrap();
        symlink(env!("CARGO_BIN_EXE_countersign"), folder.path().join("target/release/countersign")).unwrap();
        let clone = Self(folder);
        // It has nothing to build.
        let cargo = format!("#!/bin/sh\n[ \"$1\" = build ] || exec {} \"$@\"\n", env!("CARGO"));
        clone.executable("bin/cargo", &cargo);
        clone
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn executable(&self, below: &str, text: &str) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), text).unwrap();
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.0.path()).env_clear();
        command.env("PATH", format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap()));
        command.env("HOME", self.0.path());
        command.envs(["NATS_SERVER", "LD_LIBRARY_PATH"].into_iter().filter_map(|it| Some((it, std::env::var_os(it)?))));
        command
    }

    /// Runs a script with these variables until it exits.
    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        Process::spawn(command).wait()
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = self.command(&["scripts/down"]).output();
    }
}

/// A port that nobody listens on, and that the system gives to no outgoing connection.
fn free_port() -> u16 {
    let first = u16::try_from(20_000 + std::process::id() % 10_000).unwrap();
    (first..u16::MAX).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

#[test]
fn every_recipe_uses_the_broker_of_its_folder_wherever_that_listens() {
    let clone = Clone::new();
    let url = format!("nats://127.0.0.1:{}", free_port());
    let up = clone.run(&["scripts/up"], &[("NATS_URL", &url)]).exits(0);
    assert!(up.stdout.contains(&format!("Started the broker at {url}.")), "{up:#?}");

    // Another terminal, whose environment names no broker.
    let client = clone.run(&["scripts/client", "worker-2:web"], &[]).exits(0);
    assert!(client.stdout.contains("made ") && !client.stdout.contains("left "), "{client:#?}");
    assert!(client.stdout.contains("signed and verified. Next:\n\n    ./just server start worker-2\n"), "{client:#?}");
    let client = clone.run(&["scripts/client", "worker-2:web"], &[]).exits(0);
    assert!(client.stdout.starts_with("worker-2 is already running.\nworker-2\n"), "{client:#?}");
    let offline = clone.run(&["scripts/client", "worker-4"], &[]).exits(0);
    assert!(offline.stdout.contains("worker-4 is up"), "{offline:#?}");
    clone.run(&["scripts/server", "terminate", "worker-4"], &[]).exits(0);
    let offline = clone.run(&["scripts/server", "ping", "worker-4"], &[]).exits(3);
    let again = "`./just client worker-4` if it ran here, else `countersign client --name worker-4` on the machine";
    assert!(offline.stderr.contains(again), "{offline:#?}");
    let status = clone.run(&["scripts/server", "status", "@web"], &[]).exits(0);
    assert!(status.stdout.contains("worker-2"), "{status:#?}");
    let again = clone.run(&["scripts/up"], &[]).exits(0);
    assert!(again.stdout.contains(&format!("The broker is already running at {url}.")), "{again:#?}");
    assert!(again.stdout.contains(&format!("export NATS_URL={url}\n")), "{again:#?}");
    let same = url.replace("127.0.0.1", "localhost");
    clone.run(&["scripts/server", "status", "worker-1"], &[("NATS_URL", &same)]).exits(0);

    // One whose environment names another.
    for words in [&["scripts/up"][..], &["scripts/client", "worker-3"], &["scripts/server", "clients"]] {
        let ran = clone.run(words, &[("NATS_URL", "nats://127.0.0.1:1")]).exits(1);
        let expected = format!("NATS_URL is nats://127.0.0.1:1, but the broker of this folder runs at {url}.\n");
        assert!(ran.stderr.starts_with(&expected), "{ran:#?}");
        assert!(ran.stderr.contains("unset NATS_URL"), "{ran:#?}");
    }
    assert!(!clone.path(".run/client-worker-3.pid").exists());

    // What cannot be verified does not go on unseen.
    let nobody = [("COUNTERSIGN_OPERATOR", "nobody")];
    let ran = clone.run(&["scripts/client", "worker-3"], &nobody).exits(1);
    assert!(ran.stderr.contains("the folder keys has no operator nobody"), "{ran:#?}");
    assert!(ran.stderr.contains("Stopped worker-3.\nIts log: .run/client-worker-3.log\n"), "{ran:#?}");
    assert!(!clone.path(".run/client-worker-3.pid").exists());
    let running = fs::read_to_string(clone.path(".run/client-worker-2.pid")).unwrap();
    let ran = clone.run(&["scripts/client", "worker-2"], &nobody).exits(1);
    let left = format!("worker-2 ran before, and is left running: process {}.", running.trim());
    assert!(ran.stderr.contains(&left), "{ran:#?}");
    assert!(Path::new("/proc").join(running.trim()).exists());

    clone.run(&["scripts/server", "start", "worker-2"], &[]).exits(0);
    clone.run(&["scripts/server", "calculate", "worker-2", "600", "never", "--detach"], &[]).exits(0);
    let down = clone.run(&["scripts/down"], &[]).exits(0);
    assert!(down.stdout.contains("Stopped worker-2.\nThat cancelled 1 job.\n"), "{down:#?}");
    assert_eq!(down.stdout.matches("cancelled").count(), 1, "{down:#?}");
    let ran = clone.run(&["scripts/server", "clients"], &[]).exits(1);
    assert!(
        ran.stderr.starts_with("The broker of this folder is not running. Start it first: ./just up\n"),
        "{ran:#?}"
    );
}

#[test]
fn without_logs_it_is_said_that_there_are_none() {
    let ran = Clone::new().run(&["scripts/logs"], &[]).exits(1);
    assert!(ran.stderr.starts_with("There are no logs yet: nothing was started in this folder."), "{ran:#?}");
}

#[test]
fn a_user_who_may_not_write_here_is_told_so_by_every_recipe() {
    let clone = Clone::new();
    for (below, mode) in [(".run", 0o700), ("keys/operators", 0o700), (".tools", 0o755), ("", 0o755)] {
        fs::create_dir_all(clone.path(below)).unwrap();
        fs::set_permissions(clone.path(below), fs::Permissions::from_mode(mode)).unwrap();
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        // Root is stopped by no mode, and anybody by these.
        for (below, mode) in [(".run", 0o000), ("keys/operators", 0o000), (".tools", 0o500), ("", 0o500)] {
            fs::set_permissions(clone.path(below), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let run = |script: &[&str], path: &str| {
        let nobody: &[&str] = &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let mut command = clone.command(&[if is_root { nobody } else { &[] }, script].concat());
        command.env("PATH", path);
        Process::spawn(command).wait().exits(1)
    };
    let path = std::env::var("PATH").unwrap();
    for (script, kind) in [
        (&["scripts/up"][..], "writable"),
        (&["scripts/client", "worker-2"], "writable"),
        (&["scripts/down"], "writable"),
        (&["scripts/server", "clients"], "readable"),
        (&["scripts/logs"], "readable"),
    ] {
        let ran = run(script, &path);
        let whose =
            if is_root { format!(" is not {kind} for ") } else { format!(" is not {kind}, although it is yours") };
        assert!(ran.stderr.lines().next().unwrap_or_default().contains(&whose), "{script:?}: {ran:#?}");
        assert!(ran.stderr.lines().count() <= 2 && !ran.stderr.contains("mkdir:"), "{script:?}: {ran:#?}");
    }
    // Where `just` is to be installed first.
    let ran = run(&["./just", "up"], "/usr/sbin:/usr/bin:/sbin:/bin");
    if ran.stderr.contains("There is no suitable just") {
        assert!(ran.stderr.contains(" cannot write to ") && !ran.stderr.contains("mkdir:"), "{ran:#?}");
    }
    fs::set_permissions(clone.path(""), fs::Permissions::from_mode(0o700)).unwrap();
}

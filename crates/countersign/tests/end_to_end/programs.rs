//! Programs as commands: what is defined in a folder, what runs, and what becomes of it.

mod confined;
mod definitions;
mod ends;
mod examples;
mod output;
mod starts;
mod surroundings;

pub use self::examples::copy_examples;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign_testkit::broker::TIMEOUT;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::process::Process;

/// A fleet whose `worker-1` is ready, with programs.
struct Workshop {
    fleet: Fleet,
    worker: Process,
}

impl Workshop {
    /// With a definition for each name.
    fn of(definitions: &[(&str, &str)]) -> Self {
        let fleet = Fleet::new();
        define(&folder(&fleet), definitions);
        let worker = client(&fleet);
        fleet.run(&["start", "worker-1"]).exits(0);
        Self { fleet, worker }
    }

    /// With one command, `run`, which is a script of the shell and may end slowly.
    fn script(script: &str, rest: &str) -> Self {
        Self::of(&[("run", &shell(script, rest))])
    }

    /// Calls a command, and waits for its verdict.
    fn call(&self, name: &str, args: &Value) -> Value {
        self.spawn(name, args).wait().of("worker-1")
    }

    fn spawn(&self, name: &str, args: &Value) -> Process {
        let (file, whole) = (self.fleet.path().join("args.json"), self.fleet.path().join("args.json.new"));
        fs::write(&whole, args.to_string()).unwrap();
        // The process before may be about to read it.
        fs::rename(&whole, &file).unwrap();
        self.fleet.spawn(&["call", "worker-1", name, "--args-file", text(&file), "-o", "json", "--timeout", "60s"])
    }

    /// Calls `run` without arguments.
    fn run(&self) -> Value {
        self.call("run", &json!({}))
    }

    /// Starts `run`; its id.
    fn detached(&self) -> String {
        let run = self.fleet.run(&["call", "worker-1", "run", "--detach", "-o", "json"]).exits(0);
        run.json()["command_id"].as_str().unwrap().to_owned()
    }

    /// What became of a job, when it has ended.
    fn result(&self, id: &str) -> Value {
        eventually("the job has ended", || {
            let result =
                self.fleet.run(&["result", "worker-1", id, "-o", "json"]).exits(0).of("worker-1")["result"].clone();
            (!["accepted", "progress"].contains(&result["status"].as_str().unwrap())).then_some(result)
        })
    }
}

fn folder(fleet: &Fleet) -> PathBuf {
    fleet.path().join("commands.d")
}

/// Starts `worker-1` with the folder's programs.
fn client(fleet: &Fleet) -> Process {
    fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--commands", "commands.d"]))
}

fn define(folder: &Path, definitions: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    for (name, definition) in definitions {
        write(&folder.join(format!("{name}.toml")), definition, 0o644);
    }
}

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The definition of a program that is a script of the shell.
fn shell(script: &str, rest: &str) -> String {
    format!("program = {}\n{rest}\n", json!(["/bin/sh", "-c", script]))
}

/// Arguments that may be anything below `x`.
const ANY_X: &str =
    "trust = \"same-user\"\nargs = { type = \"object\", additionalProperties = false, properties = { x = {} } }";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until there is something.
#[track_caller]
fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// The processes in whose command line a word occurs.
fn running(word: &str) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        words.iter().any(|it| it == word).then(|| format!("{pid}: {}", words.join(" ")))
    });
    lines.collect()
}

/// The processes of a job, by the variable that all of them inherit.
fn of_job(id: &str) -> Vec<u32> {
    let variable = format!("COUNTERSIGN_COMMAND_ID={id}");
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()).then_some(pid)
    });
    processes.collect()
}

/// The verdict with its error's code and the reason that a program's failure states.
fn ended(reply: &Value) -> (String, &Value) {
    (reply["verdict"].as_str().unwrap().to_owned(), &reply["error"]["details"]["reason"])
}

//! A peer in Python that was written from docs/protocol.md alone takes each role in turn: operator, worker, observer.
//!
//! Two sides of one code base can misread the protocol alike; this peer is an independent reading of it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot make what it needs is to fail there")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use countersign_testkit::broker::{Broker, TIMEOUT};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn an_operator_in_python_gets_replies_that_it_can_verify() {
    let realm = Realm::new();
    let _client = realm.client();

    let start = realm.send_in_python("start", "{}");
    assert_eq!(start["result"], json!({"changed": true}), "{start}");

    let ping = realm.send_in_python("ping", "{}");
    assert_eq!((&ping["status"], &ping["state"]), (&json!("succeeded"), &json!("ready")), "{ping}");
    assert!(ping["result"].is_i64(), "{ping}");

    let calculate = realm.send_in_python("calculate", r#"{"x": 0.01, "msg": "grüezi"}"#);
    assert_eq!((&calculate["result"]["msg"], &calculate["seq"]), (&json!("grüezi"), &json!(1)), "{calculate}");

    let refused = realm.send_in_python("calculate", r#"{"x": -1, "msg": ""}"#);
    assert_eq!(refused["error"]["code"], "invalid_args", "{refused}");
}

#[test]
fn a_worker_in_python_answers_our_operator() {
    let realm = Realm::new();
    let mut worker = realm.peer(&["worker", "keys", &realm.broker.url(), "worker-1"]);
    worker.wait_for(|line| line.contains(r#""unready""#));

    assert_eq!(verdict(&realm.run(&["ping", "worker-1", "-o", "json"], 1))["error"]["code"], "not_ready");
    assert_eq!(verdict(&realm.run(&["start", "worker-1", "-o", "json"], 0))["result"], json!({"changed": true}));
    let ping = verdict(&realm.run(&["ping", "worker-1", "-o", "json"], 0));
    assert_eq!((&ping["verdict"], &ping["state"]), (&json!("succeeded"), &json!("ready")), "{ping}");
    assert!(ping["result"].is_i64(), "{ping}");
    let status = verdict(&realm.run(&["status", "worker-1", "-o", "json"], 0));
    assert_eq!(status["result"]["version"], "a peer in Python", "{status}");

    assert_eq!(verdict(&realm.run(&["terminate", "worker-1", "-o", "json"], 0))["state"], "terminated");
    assert!(worker.child.wait().unwrap().success());
}

#[test]
fn an_observer_in_python_reads_all_traffic_as_plain_json() {
    let realm = Realm::new();
    let mut observer = realm.peer(&["observer", "keys", &realm.broker.url()]);
    observer.wait_for(|line| line.contains("watching"));
    let _client = realm.client();
    realm.run(&["start", "worker-1"], 0);
    realm.run(&["ping", "worker-1"], 0);

    let command = observer.message(|message| message["command"]["name"] == "ping");
    assert_eq!(command["subject"], "cs.demo.cmd.client.worker-1");
    assert_eq!((&command["message"]["from"], &command["message"]["realm"]), (&json!("alice"), &json!("demo")));
    let reply = observer.message(|message| message["command_id"] == command["message"]["id"]);
    assert_eq!((&reply["message"]["status"], &reply["message"]["from"]), (&json!("succeeded"), &json!("worker-1")));
    assert_eq!(reply["subject"], format!("{}.worker-1", command["message"]["reply_to"].as_str().unwrap()));
    let presence = observer.message(|message| message["kind"] == "presence" && message["state"] == "ready");
    assert_eq!(presence["subject"], "cs.demo.event.worker-1.presence");
}

/// A folder of keys with one operator and one client, and the broker that lets them in.
struct Realm {
    folder: TempDir,
    broker: Broker,
}

impl Realm {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let init =
            countersign(folder.path()).args(["init", "--realm", "demo", "--operator", "alice"]).output().unwrap();
        exits(&init, 0);
        let configuration = folder.path().join("nats.conf");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats.conf"), &configuration).unwrap();
        let realm = Self { broker: Broker::with_file(&configuration), folder };
        realm.run(&["setup"], 0);
        realm
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = countersign(self.folder.path());
        command.args(arguments).args(["--nats-url", &self.broker.url()]);
        command
    }

    /// Runs `countersign`, which must exit with this status, and returns its standard output.
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().unwrap();
        exits(&output, code);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Our client, connected.
    fn client(&self) -> Running {
        let mut client = Running::stderr_of(self.command(&["client", "--name", "worker-1", "--state", "state"]));
        client.wait_for(|line| line.contains("connected"));
        client
    }

    /// The peer in Python, in one of its roles.
    fn peer(&self, arguments: &[&str]) -> Running {
        Running::stdout_of(self.python(arguments))
    }

    /// Has the operator in Python send a command, and returns the final reply that it verified.
    fn send_in_python(&self, command: &str, args: &str) -> Value {
        let url = self.broker.url();
        let output = self.python(&["operator", "keys", &url, "alice", "worker-1", command, args]).output().unwrap();
        exits(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn python(&self, arguments: &[&str]) -> Command {
        let packages = env::var_os("COUNTERSIGN_TEST_PYTHONPATH");
        let packages = packages.unwrap_or_else(|| {
            panic!(
                "COUNTERSIGN_TEST_PYTHONPATH does not name the Python packages that this test needs: run it through \
                 `./just test`, which brings them"
            )
        });
        let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peer.py");
        let mut command = Command::new("python3");
        command.current_dir(self.folder.path()).env("PYTHONPATH", packages).arg("-B").arg(peer).args(arguments);
        command
    }
}

/// A process that runs until the value goes, and the lines of one of its streams.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn stdout_of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stream = child.stdout.take().unwrap();
        Self::new(child, stream)
    }

    fn stderr_of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stream = child.stderr.take().unwrap();
        Self::new(child, stream)
    }

    fn new(child: Child, stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of which this is true, the lines that have come before included.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut at = 0;
        loop {
            if at == self.seen.len() {
                let next = self.lines.recv_timeout(TIMEOUT);
                self.seen.push(next.unwrap_or_else(|error| panic!("{error}, after {:#?}", self.seen)));
            }
            if self.seen.get(at).is_some_and(|line| wanted(line)) {
                return self.seen.swap_remove(at);
            }
            at += 1;
        }
    }

    /// Waits until the observer prints a message like this.
    fn message(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        read(&self.wait_for(|line| wanted(&read(line)["message"])))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command in a folder, with nothing set by the surroundings.
fn countersign(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.current_dir(folder);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:#?}");
}

/// The reply of the only client, in a document of `-o json`.
fn verdict(document: &str) -> Value {
    serde_json::from_str::<Value>(document).unwrap()["replies"][0].clone()
}

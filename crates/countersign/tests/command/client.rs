//! `countersign client` as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use countersign_testkit::accounts;

use crate::broker::Broker;
use crate::folder::{Folder, Run};

/// A client that runs; it is killed with the test unless it ended before.
pub struct Worker {
    process: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Worker {
    /// A client that has connected, its state beside the folder of keys.
    pub fn start(folder: &Folder, broker: &Broker, name: &str) -> Self {
        Self::start_with(folder, &["client", "--name", name, "--state", "state", "--nats-url", &broker.url()])
    }

    fn start_with(folder: &Folder, args: &[&str]) -> Self {
        let mut command = folder.command(args);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut worker = Self { process, log, seen: Vec::new() };
        worker.wait_for("connected");
        worker
    }

    /// Waits for a line of the log that ends so.
    #[track_caller]
    pub fn wait_for(&mut self, end: &str) {
        while let Ok(line) = self.log.recv() {
            self.seen.push(line);
            if self.seen.last().unwrap().ends_with(end) {
                return;
            }
        }
        panic!("the client ended before it logged `{end}`: {:#?}", self.seen);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the end; what was printed on standard output, and the whole log.
    pub fn wait(mut self) -> Run {
        let stdout = std::io::read_to_string(self.process.stdout.take().unwrap()).unwrap();
        let status = self.process.wait().unwrap().code().unwrap_or(-1);
        self.seen.extend(self.log.iter());
        Run { status, stdout, stderr: self.seen.join("\n") }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn realm() -> (Folder, Broker) {
    let folder = Folder::with_keys(&[]);
    let broker = Broker::start(&folder);
    (folder, broker)
}

#[test]
fn a_signal_ends_a_client_as_terminate_does() {
    let (folder, broker) = realm();
    for signal in [Signal::TERM, Signal::INT] {
        let worker = Worker::start(&folder, &broker, "worker-1");
        worker.signal(signal);
        let run = worker.wait().expect(0);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.ends_with("ended"), "{run:#?}");
    }
}

#[test]
fn a_second_client_of_the_same_name_refuses_to_start() {
    let (folder, broker) = realm();
    let _first = Worker::start(&folder, &broker, "worker-1");
    let args = ["client", "--name", "worker-1", "--state", "state", "--nats-url", &broker.url()];
    let run = folder.run(&args).expect(1);
    assert_eq!(
        run.stderr,
        "error: another client holds state/worker-1\n\
         expected: one client for one folder: two would not know what the other has run\n\
         try: stop the other client, or give this one another name or `--state`\n"
    );
}

#[test]
fn the_state_folder_is_the_one_that_the_environment_names() {
    let (folder, broker) = realm();
    for (variable, value, expected) in [
        ("COUNTERSIGN_STATE", "a", "a/worker-1"),
        ("XDG_STATE_HOME", folder.path("b").to_str().unwrap(), "b/countersign/worker-1"),
        // Not absolute, and so to be ignored: HOME is next.
        ("XDG_STATE_HOME", "c", ".local/state/countersign/worker-1"),
    ] {
        let mut command = folder.command(&["client", "--name", "worker-1", "--nats-url", &broker.url()]);
        command.env(variable, value).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().ends_with("connected")));
        assert!(folder.path(expected).join("journal").is_file(), "{expected}");
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn quiet_prints_nothing_where_nothing_is_wrong() {
    let (folder, broker) = realm();
    let args = ["client", "--name", "worker-1", "--state", "state", "-q", "--nats-url", &broker.url()];
    let mut command = folder.command(&args);
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A client announces itself by its presence; for this test it is enough that the journal exists.
    while !folder.path("state/worker-1/journal").is_file() && process_runs(&process) {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    let run = Run::of(process.wait_with_output().unwrap());
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

fn process_runs(process: &Child) -> bool {
    rustix::process::test_kill_process(Pid::from_child(process)).is_ok()
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = Folder::with_keys(&[]);
    for file in ["clients/worker-1.pem", "nats/client-worker-1.creds"] {
        let path = folder.path("keys").join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let run = folder.run(&["client", "--name", "worker-1", "--state", "state"]).expect(5);
        assert!(
            run.stderr.starts_with(&format!("error: keys/{file} is open to others: its mode is 0640\n")),
            "{run:#?}"
        );
        assert_eq!(run.stderr.lines().count(), 3);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_connection_key_that_signs_messages_is_refused() {
    let folder = Folder::with_keys(&[]);
    // The broker would let it in: only the client can detect it.
    let seed = fs::read_to_string(folder.path("keys/clients/worker-1.pem")).unwrap();
    let key = data_encoding::BASE64.decode(seed.lines().nth(1).unwrap().as_bytes()).unwrap();
    let raw: [u8; 32] = key[key.len() - 32..].try_into().unwrap();
    let seed = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, raw).unwrap().seed().unwrap();
    let account = accounts::key(&folder.read("keys/authority.nk"), "realm");
    fs::write(folder.path("keys/nats/client-worker-1.creds"), accounts::user(&account, "worker-1", &seed, &[], &[]))
        .unwrap();
    let run = folder.run(&["client", "--name", "worker-1", "--state", "state"]).expect(5);
    let first = run.stderr.lines().next().unwrap();
    let expected =
        "error: keys/nats/client-worker-1.creds: the same key as keys/clients/worker-1.pem, which signs messages";
    assert_eq!(first, expected);
}

#[test]
fn an_older_trust_bundle_than_was_accepted_is_refused() {
    let (folder, broker) = realm();
    let first = fs::read(folder.path("keys/trust.json")).unwrap();
    crate::renewal::trust_ending_in(&folder, 300, Vec::new());
    let worker = Worker::start(&folder, &broker, "worker-1");
    worker.signal(Signal::TERM);
    worker.wait().expect(0);
    fs::write(folder.path("keys/trust.json"), first).unwrap();
    let args = ["client", "--name", "worker-1", "--state", "state", "--nats-url", &broker.url()];
    let run = folder.run(&args).expect(5);
    let expected = "error: the trust bundle has version 1; version 3 was accepted before, and an older one never is";
    assert_eq!(run.stderr.lines().next().unwrap(), expected);
}

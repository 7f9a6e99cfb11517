//! A process whose output is read line by line as it comes.

use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use countersign_testkit::broker::{self, TIMEOUT};
use rustix::process::Pid;
use serde_json::Value;

pub use rustix::process::Signal;

/// A running `countersign`; it is killed with the value.
pub struct Process {
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

/// The exit status and the output of a process that has exited.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; nothing where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The lines of one of its streams.
pub struct Lines {
    arriving: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub fn spawn(command: Command) -> Self {
        Self::spawn_with(command, "")
    }

    /// Starts it with this on standard input.
    pub fn spawn_with(mut command: Command, input: &str) -> Self {
        let mut stdin = tempfile::tempfile().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        stdin.rewind().unwrap();
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        broker::signal(&self.child, signal);
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has not exited yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it exits by itself.
    pub fn wait(mut self) -> Ran {
        let (stdout, stderr) = (self.stdout.until_closed(), self.stderr.until_closed());
        // Both streams are closed: it has exited, or is about to.
        Ran { code: self.child.wait().unwrap().code(), stdout, stderr }
    }

    /// Stops a client cleanly. Returns all that it ever printed on standard output.
    #[track_caller]
    pub fn printed(self) -> String {
        self.signal(Signal::TERM);
        self.wait().exits(0).stdout
    }

    /// Ends it by SIGTERM. Returns all that it ever printed on standard error.
    pub fn printed_errors(mut self) -> String {
        self.signal(Signal::TERM);
        self.stderr.until_closed()
    }

    /// The most memory that it has held so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, arriving) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Self { arriving, seen: Vec::new() }
    }

    /// Waits for a line that contains a text, the lines that were seen before included.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        let mut at = 0;
        loop {
            while let Some(line) = self.seen.get(at) {
                if line.contains(text) {
                    return line.clone();
                }
                at += 1;
            }
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no {text:?} ({error}) in {:#?}", self.seen),
            }
        }
    }

    /// What has come so far.
    pub fn so_far(&mut self) -> String {
        self.seen.extend(self.arriving.try_iter());
        self.seen.concat()
    }

    fn until_closed(&mut self) -> String {
        let deadline = Instant::now() + TIMEOUT * 2;
        loop {
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.seen.concat(),
                Err(RecvTimeoutError::Timeout) => panic!("the process does not exit: {:#?}", self.seen),
            }
        }
    }
}

impl Ran {
    /// Asserts the exit status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The one document that `-o json` prints.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The lines that `-o ndjson` prints.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The reply of one client in the document.
    #[track_caller]
    pub fn of(&self, client: &str) -> Value {
        let document = self.json();
        let replies = document["replies"].as_array().unwrap();
        let mut found = replies.iter().filter(|reply| reply["client"] == client);
        let reply = found.next().unwrap_or_else(|| panic!("no reply of {client}: {self:#?}"));
        assert!(found.next().is_none(), "two verdicts: {self:#?}");
        reply.clone()
    }

    /// The verdict on one client, with its error's code where it has one.
    #[track_caller]
    pub fn verdict(&self, client: &str) -> String {
        let reply = self.of(client);
        let verdict = reply["verdict"].as_str().unwrap();
        match reply["error"]["code"].as_str() {
            Some(code) => format!("{verdict} {code}"),
            None => verdict.to_owned(),
        }
    }
}

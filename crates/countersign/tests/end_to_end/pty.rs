//! A terminal that the test makes, and a process in it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anstream::adapter::strip_str;
use countersign_testkit::broker::TIMEOUT;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

pub const CTRL_C: &str = "\u{3}";
pub const CTRL_D: &str = "\u{4}";
pub const UP: &str = "\u{1b}[A";

/// A process whose terminal is the test's, 80 columns wide; it is killed with the value.
pub struct Pty {
    child: Child,
    keyboard: File,
    arriving: Receiver<Vec<u8>>,
    raw: Vec<u8>,
    /// How much of the text was waited for already.
    at: usize,
}

impl Pty {
    pub fn spawn(command: &Command) -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
            Stdio::from(OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).unwrap())
        };
        // `setsid --ctty` makes it the controlling terminal of the process, so that Ctrl-C is an interrupt.
        let mut in_terminal = Command::new("setsid");
        in_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        in_terminal.current_dir(command.get_current_dir().unwrap());
        in_terminal.env_clear().env("TERM", "xterm");
        in_terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = in_terminal.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        drop(in_terminal);
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, arriving) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal that nobody has open any more is an error.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, arriving, raw: Vec::new(), at: 0 }
    }

    /// Types a text.
    pub fn keys(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Types what need not be a text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).unwrap();
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.keys(&format!("{text}\r"));
    }

    /// Waits for a text after the one that was waited for last. Returns what came before it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let screen = self.screen();
            if let Some(found) = screen[self.at..].find(text) {
                let before = screen[self.at..self.at + found].to_owned();
                self.at += found + text.len();
                return before;
            }
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.raw.extend(bytes),
                Err(error) => panic!("no {text:?} ({error}) after:\n{}", &screen[self.at..]),
            }
        }
    }

    /// Waits until what was shown after the text that was waited for last is as it should be.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let screen = self.screen();
            if fits(&screen[self.at..]) {
                return;
            }
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.raw.extend(bytes),
                Err(error) => panic!("no {what} ({error}) after:\n{}", &screen[self.at..]),
            }
        }
    }

    /// All that was shown, without what moves the cursor or colours.
    pub fn screen(&self) -> String {
        // What is cut in mid-character is complete the next time.
        let text = String::from_utf8_lossy(&self.raw);
        strip_str(text.trim_end_matches('\u{fffd}')).to_string()
    }

    /// All that was shown, byte by byte.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it exits by itself. Returns its exit status, and all that it showed.
    #[track_caller]
    pub fn wait(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.arriving.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.raw.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not exit:\n{}", self.screen()),
            }
        }
        (self.child.wait().unwrap().code(), self.screen())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

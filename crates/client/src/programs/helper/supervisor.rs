//! From the start of a program until nothing of its job is left.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, wait};

use super::private_folder::PrivateFolder;
use super::tree;
use crate::programs::launch::{CANCEL, Cause, Ended, How, Launch, Progress, Report, ResultFile, write_frame};

/// How long after the program itself what it started may go on by itself.
const LINGER: Duration = Duration::from_millis(500);
/// How long after SIGKILL a process counts as one that cannot be ended.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How often a job that is ending is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often the processes that a running program has lost are reaped.
const REAP: Duration = Duration::from_secs(1);
/// How often progress is passed on.
const REPORT: Duration = Duration::from_millis(100);
/// The longest line of progress, in bytes.
const MAX_LINE: usize = 2_048;

/// A running job.
pub(super) struct Supervisor {
    main: Pid,
    pidfd: OwnedFd,
    control: UnixStream,
    progress: File,
    line: Vec<u8>,
    /// When progress may be passed on again.
    report_at: Instant,
    timeout: Instant,
    grace: Duration,
    phase: Phase,
    status: Option<WaitStatus>,
    cause: Cause,
    is_client_gone: bool,
}

/// What a job is waited for to do, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Lingering(Instant),
    Terminating(Instant),
    Killing(Instant),
}

impl Supervisor {
    pub(super) fn new(main: Pid, control: UnixStream, folder: &PrivateFolder, launch: &Launch) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            main,
            pidfd: pidfd_open(main, PidfdFlags::empty())?,
            control,
            progress: folder.progress()?,
            line: Vec::new(),
            report_at: now,
            timeout: now + launch.timeout(),
            grace: launch.grace(),
            phase: Phase::Running,
            status: None,
            cause: Cause::Itself,
            is_client_gone: false,
        })
    }

    pub(super) fn run(mut self) -> Ended {
        let mut remaining = Vec::new();
        while self.reap() {
            let now = Instant::now();
            if matches!(self.phase, Phase::Killing(until) if now >= until) {
                remaining = tree::remaining();
                break;
            }
            self.advance(now);
            self.wait(now);
        }
        let how = match self.status {
            None => How::Running(self.main.as_raw_nonzero().get()),
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => How::Exit(code),
                (None, signal) => How::Signal(signal.unwrap_or_default()),
            },
        };
        Ended { how, cause: self.cause, remaining, result: ResultFile::Missing }
    }

    /// Takes what has ended; whether anything is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.status = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running if self.status.is_some() => self.phase = Phase::Lingering(now + LINGER),
            Phase::Running if now >= self.timeout => {
                self.cause = Cause::TimedOut;
                self.terminate(now);
            }
            Phase::Lingering(until) if now >= until => self.terminate(now),
            Phase::Terminating(until) if now >= until => self.phase = Phase::Killing(now + GIVE_UP),
            Phase::Running | Phase::Lingering(_) | Phase::Terminating(_) | Phase::Killing(_) => {}
        }
        if matches!(self.phase, Phase::Killing(_)) {
            tree::signal_all(&[Signal::KILL]);
        }
    }

    fn terminate(&mut self, now: Instant) {
        // One that is stopped would not get it before it continues.
        tree::signal_all(&[Signal::TERM, Signal::CONT]);
        self.phase = Phase::Terminating(now + self.grace);
    }

    /// Waits until something happens or is due.
    fn wait(&mut self, now: Instant) {
        let limit = match self.phase {
            Phase::Running => self.timeout.saturating_duration_since(now).min(REAP),
            Phase::Lingering(_) | Phase::Terminating(_) | Phase::Killing(_) => TICK,
        };
        let limit = Timespec::try_from(limit).unwrap_or_default();
        let flags = |is_wanted| if is_wanted { PollFlags::IN } else { PollFlags::empty() };
        let mut polled = Vec::with_capacity(3);
        polled.push(PollFd::from_borrowed_fd(self.progress.as_fd(), flags(now >= self.report_at)));
        if !self.is_client_gone {
            polled.push(PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN));
        }
        if self.status.is_none() {
            polled.push(PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN));
        }
        let limit =
            if now < self.report_at { limit.min(Timespec::try_from(REPORT).unwrap_or_default()) } else { limit };
        if poll(&mut polled, Some(&limit)).is_err() {
            return;
        }
        let (progressed, told) = (!polled[0].revents().is_empty(), polled.get(1).map(PollFd::revents));
        let told = !self.is_client_gone && told.is_some_and(|events| !events.is_empty());
        if progressed {
            self.pass_on_progress(now);
        }
        if told {
            self.obey(now);
        }
    }

    /// What the client says; that it is gone ends everything at once, since its next start answers for the job.
    fn obey(&mut self, now: Instant) {
        let mut byte = [0];
        match self.control.read(&mut byte) {
            Ok(1) if byte == [CANCEL] => match self.phase {
                Phase::Running => {
                    self.cause = Cause::Cancelled;
                    self.terminate(now);
                }
                Phase::Lingering(_) => self.terminate(now),
                Phase::Terminating(_) | Phase::Killing(_) => {}
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                self.is_client_gone = true;
                self.phase = Phase::Killing(now + GIVE_UP);
            }
        }
    }

    /// Reads what there is, and passes on its last line.
    fn pass_on_progress(&mut self, now: Instant) {
        let mut bytes = [0; 4_096];
        let Ok(read) = self.progress.read(&mut bytes) else { return };
        let mut latest = None;
        for byte in &bytes[..read] {
            match byte {
                b'\n' => {
                    latest = progress(&self.line).or(latest);
                    self.line.clear();
                }
                _ if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
        let Some(report) = latest else { return };
        self.report_at = now + REPORT;
        // A client that is stopped must not hold up the end of its job.
        let mut writable = [PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::OUT)];
        if !self.is_client_gone && poll(&mut writable, Some(&Timespec::default())).is_ok_and(|ready| ready == 1) {
            let _ = write_frame(&mut self.control, &Report::Progress(report));
        }
    }
}

/// `0.5 half done`, as a program writes it.
fn progress(line: &[u8]) -> Option<Progress> {
    let line = String::from_utf8_lossy(line);
    let (fraction, message) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let fraction = fraction.parse::<f64>().ok().filter(|fraction| fraction.is_finite())?;
    let message = message.trim();
    Some(Progress { fraction, message: (!message.is_empty()).then(|| message.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_a_fraction_and_perhaps_a_message() {
        let is = |line: &str, fraction: f64, message: Option<&str>| {
            let expected = Progress { fraction, message: message.map(str::to_owned) };
            assert_eq!(progress(line.as_bytes()), Some(expected), "{line}");
        };
        is("0.5 half done", 0.5, Some("half done"));
        is("1", 1.0, None);
        is(" .25\r", 0.25, None);
        for line in ["", "half", "NaN", "inf of it", "50% done"] {
            assert_eq!(progress(line.as_bytes()), None, "{line}");
        }
    }
}

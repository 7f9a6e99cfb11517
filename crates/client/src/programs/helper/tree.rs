//! The processes of a job: all that descend from its helper, which is the parent of those that have lost theirs.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// A process, told apart from a later one of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    started: u64,
    is_zombie: bool,
}

/// Sends a signal to every process of the job.
pub(super) fn signal_all(signals: &[Signal]) {
    for process in descendants() {
        let Some(pid) = Pid::from_raw(process.pid) else { continue };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Opened by number, and only then known to be the one that was found.
        if read(process.pid).is_some_and(|now| now.started == process.started) {
            for signal in signals {
                // One that may not be ended is found at the end.
                let _ = pidfd_send_signal(&handle, *signal);
            }
        }
    }
}

/// The processes of the job that have not ended.
pub(super) fn remaining() -> Vec<i32> {
    descendants().into_iter().filter(|process| !process.is_zombie).map(|process| process.pid).collect()
}

fn descendants() -> Vec<Process> {
    let mut children = HashMap::<i32, Vec<Process>>::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(read) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut next = children.remove(&getpid().as_raw_nonzero().get()).unwrap_or_default();
    while let Some(process) = next.pop() {
        next.extend(children.remove(&process.pid).unwrap_or_default());
        found.push(process);
    }
    found
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name in brackets may hold anything, brackets included.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, parent, started, is_zombie: matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_with_its_parent_and_its_start() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = read(pid).unwrap();
        assert_eq!((process.parent, process.is_zombie), (getpid().as_raw_nonzero().get(), false));
        assert!(process.started >= read(process.parent).unwrap().started);
        assert!(remaining().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read(pid), None);
    }
}

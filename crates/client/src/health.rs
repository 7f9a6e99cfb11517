//! Liveness: a small file by which something on the same machine, such as a container's health check, can see that
//! a client goes round its loop, has its broker, and has a credential that is in force.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use countersign_host::clock;
use countersign_keys::{KeyFileError, read_own};

/// How old a report may be, in milliseconds, while its client counts as healthy: three heartbeats.
pub const HEALTHY: i64 = 30_000;

/// The longest such file, in bytes: a number of milliseconds.
const MAX_SIGN: usize = 32;
/// When nothing is due.
const NEVER: i64 = i64::MAX;

/// How old the last report in a file is, in milliseconds; `None` where the file holds no time since this boot of the
/// machine. The clock counts from boot, so that nobody's setting of the wall clock makes a client healthy or not.
pub fn age(path: &Path) -> Result<Option<i64>, KeyFileError> {
    let bytes = read_own(path, MAX_SIGN)?;
    let written: Option<i64> = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
    Ok(written.map(|written| clock::since_boot().saturating_sub(written)).filter(|age| *age >= 0))
}

/// The file of one process, which is there while the process is connected and all its subscriptions stand, and gone
/// otherwise. Times are milliseconds since boot.
#[derive(Debug)]
pub struct Liveness {
    path: Option<PathBuf>,
    every: i64,
    due: i64,
    is_failing: bool,
}

impl Liveness {
    /// A sign that is not given yet; one that another process left in the file is taken back. Without a file there is none.
    pub fn new(path: Option<PathBuf>, every: i64) -> Self {
        let sign = Self { path, every, due: NEVER, is_failing: false };
        sign.remove();
        sign
    }

    /// When it is to be given next.
    pub fn due(&self) -> i64 {
        self.due
    }

    /// Gives it whenever it is due while the process is well, and takes it back when it is not.
    pub fn follow(&mut self, is_well: bool, now: i64) {
        match (is_well, self.due == NEVER) {
            (true, true) => self.begin(now),
            (true, false) => self.give(now),
            (false, false) => self.end(),
            (false, true) => {}
        }
    }

    /// Gives it, now that there is a connection, and from now on whenever it is due.
    fn begin(&mut self, now: i64) {
        if self.path.is_some() {
            self.due = now;
            self.give(now);
        }
    }

    /// Gives it again if it is due.
    fn give(&mut self, now: i64) {
        let Some(path) = self.path.as_deref().filter(|_| now >= self.due) else { return };
        self.due = now.saturating_add(self.every);
        let written = write(path, now);
        if let Err(error) = &written
            && !self.is_failing
        {
            let path = path.display();
            tracing::warn!("{path}: {error}; without this file this process is taken for unhealthy");
        }
        self.is_failing = written.is_err();
    }

    /// Takes it back, and gives none until there is a connection again.
    fn end(&mut self) {
        self.due = NEVER;
        self.remove();
    }

    fn remove(&self) {
        if let Some(path) = &self.path {
            // What cannot be removed is too old before long.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.remove();
    }
}

/// At once and as a whole, through a new file: nothing that somebody put in its place, such as a link, is followed.
fn write(path: &Path, now: i64) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{now}")?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use tempfile::TempDir;

    use super::*;

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn it_is_given_at_once_and_then_at_every_heartbeat_while_there_is_a_connection() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("health");
        fs::write(&path, "1\n").unwrap();
        let mut sign = Liveness::new(Some(path.clone()), 10);
        assert_eq!(text(&path), None, "what was left there is not ours");
        sign.give(5);
        assert_eq!((text(&path), sign.due()), (None, NEVER), "there is no connection yet");
        sign.begin(100);
        assert_eq!((text(&path).as_deref(), sign.due()), (Some("100\n"), 110));
        sign.give(109);
        assert_eq!((text(&path).as_deref(), sign.due()), (Some("100\n"), 110));
        sign.give(113);
        assert_eq!((text(&path).as_deref(), sign.due()), (Some("113\n"), 123));
        sign.end();
        sign.give(200);
        assert_eq!((text(&path), sign.due()), (None, NEVER));
        sign.begin(300);
        assert!(path.is_file());
        drop(sign);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");
    }

    #[test]
    fn a_link_in_the_place_of_either_file_is_replaced_and_not_followed() {
        let folder = TempDir::new().unwrap();
        let (path, other) = (folder.path().join("health"), folder.path().join("other"));
        fs::write(&other, "precious").unwrap();
        let mut sign = Liveness::new(Some(path.clone()), 10);
        for link in [&path, &folder.path().join("health.new")] {
            std::os::unix::fs::symlink(&other, link).unwrap();
        }
        sign.begin(7);
        assert_eq!((text(&path).as_deref(), text(&other).as_deref()), (Some("7\n"), Some("precious")));
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn without_a_file_nothing_is_ever_due() {
        let mut sign = Liveness::new(None, 10);
        sign.begin(100);
        assert_eq!(sign.due(), NEVER);
    }
}

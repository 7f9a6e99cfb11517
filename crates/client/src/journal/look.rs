//! A look at a client's folder from outside, also while its client runs: whether a client can write there, and whether one has
//! it. Nothing that is in it is changed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign_keys::{KeyFileError, accepted_after};
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;
use rustix::fs::{fstatvfs, major, minor};

use super::space::CHUNK;
use super::{JournalError, accepted_trust, open_private};
use crate::output::RESERVE;

/// The folder of a client, as it was found.
#[derive(Debug)]
pub struct StateReport {
    /// Where it is.
    pub path: PathBuf,
    /// Whether a process has it: its client runs.
    pub is_held: bool,
    /// How much room its disk has for this user, in bytes.
    pub free: u64,
    /// How much it needs so that output is kept, too.
    pub ample: u64,
}

impl StateReport {
    /// The trust bundle in force for its client: the one that the keys came with, or what the client has accepted after it.
    pub fn trust(&self, given: &Trust) -> Result<Trust, KeyFileError> {
        accepted_after(given, &accepted_trust(&self.path, given))
    }
}

/// Looks at the folder of a client below the folder of all states; `None` where there is none yet. What a journal needs to go
/// on is written there, and removed again.
pub fn look_at_state(state: &Path, client: &Name) -> Result<Option<StateReport>, JournalError> {
    let path = state.join(client.as_str());
    if !path.exists() {
        return Ok(None);
    }
    let folder = open_private(&path)?;
    write_probe(&path)?;
    let there = fstatvfs(&folder).map_err(|error| JournalError::io(&path, &error.into()))?;
    let free = there.f_bavail.saturating_mul(there.f_frsize);
    let is_held = is_locked(&folder);
    Ok(Some(StateReport { path, is_held, free, ample: RESERVE.saturating_add(CHUNK) }))
}

fn write_probe(folder: &Path) -> Result<(), JournalError> {
    let path = folder.join("doctor.probe");
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).and_then(|mut file| {
            let room = vec![0; usize::try_from(CHUNK).unwrap_or_default()];
            file.write_all(&room).and_then(|()| file.sync_all())
        });
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(|error| JournalError::io(folder, &error))
}

/// Whether some process has a folder locked. To try the lock would keep a client out that starts at that moment.
fn is_locked(folder: &File) -> bool {
    let (Ok(about), Ok(locks)) = (folder.metadata(), fs::read_to_string("/proc/locks")) else { return false };
    let device = about.dev();
    let place = format!("{:02x}:{:02x}:{}", major(device), minor(device), about.ino());
    locks.lines().any(|line| line.contains(" FLOCK ") && line.split(' ').any(|word| word == place))
}

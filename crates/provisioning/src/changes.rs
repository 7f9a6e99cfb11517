//! What `init` did and what it left, file by file; and the writing itself.

use std::path::Path;

use countersign_keys::KeyFolder;
use countersign_protocol::time::Millis;
use serde::Serialize;

use crate::error::ProvisionError;

/// The folder that is worked on, and what was done to it so far.
#[derive(Debug)]
pub(super) struct ChangeReport {
    folder: KeyFolder,
    now: Millis,
    done: Vec<FileChange>,
}

/// What became of one file.
#[derive(Debug, Serialize)]
pub struct FileChange {
    /// Below the folder of keys.
    pub file: String,
    /// What was done.
    pub did: Action,
    /// What a person may want to know of it; may be empty.
    pub note: String,
}

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was not there.
    Made,
    /// There is a new one in its place.
    Renewed,
    /// It is as it was.
    Left,
}

impl Action {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Renewed => "renewed",
            Self::Left => "left",
        }
    }
}

impl ChangeReport {
    pub(super) fn new(folder: KeyFolder, now: Millis) -> Self {
        Self { folder, now, done: Vec::new() }
    }

    pub(super) fn folder(&self) -> &KeyFolder {
        &self.folder
    }

    pub(super) fn now(&self) -> Millis {
        self.now
    }

    pub(super) fn into_done(self) -> Vec<FileChange> {
        self.done
    }

    pub(super) fn note(&mut self, did: Action, path: &Path, note: impl Into<String>) {
        let file = path.strip_prefix(self.folder.path()).unwrap_or(path).display().to_string();
        self.done.push(FileChange { file, did, note: note.into() });
    }

    /// Makes a secret file where there is none.
    pub(super) fn create(&mut self, path: &Path, secret: &[u8], note: impl Into<String>) -> Result<(), ProvisionError> {
        countersign_keys::create_secret(path, secret)?;
        self.note(Action::Made, path, note);
        Ok(())
    }

    /// Writes a file that is no secret, at once and as a whole.
    pub(super) fn write(
        &mut self,
        did: Action,
        path: &Path,
        bytes: &[u8],
        note: impl Into<String>,
    ) -> Result<(), ProvisionError> {
        countersign_keys::replace_public(path, bytes)?;
        self.note(did, path, note);
        Ok(())
    }
}

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
    /// Whether no key may be made: the issuer's is elsewhere, and would have to issue its credential.
    makes_no_keys: bool,
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
    /// It is not needed any more.
    Removed,
}

impl Action {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Renewed => "renewed",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }
}

impl ChangeReport {
    pub(super) fn new(folder: KeyFolder, now: Millis) -> Self {
        Self { folder, now, done: Vec::new(), makes_no_keys: false }
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

    /// From now on no key is made if the issuer's key is elsewhere: nothing would know the new one.
    pub(super) fn expect_issuer_for_keys(&mut self) {
        self.makes_no_keys = !self.folder.issuer_key().exists();
    }

    /// Makes a secret file where there is none.
    pub(super) fn create(&mut self, path: &Path, secret: &[u8], note: impl Into<String>) -> Result<(), ProvisionError> {
        if self.makes_no_keys {
            let (issuer, path) = (self.folder.issuer_key(), path.display());
            return Err(ProvisionError::keys(format!("{} is not here, and {path} is to be made", issuer.display()))
                .expecting("the issuer's folder of keys; this one is of a realm whose issuer is elsewhere")
                .hinting("run it on the machine that has issuer.pem, and fetch from there what is missing here"));
        }
        countersign_keys::create_secret(path, secret)?;
        self.note(Action::Made, path, note);
        Ok(())
    }

    /// Removes what an earlier version made.
    pub(super) fn remove(&mut self, path: &Path, note: &str) -> Result<(), ProvisionError> {
        std::fs::remove_file(path).map_err(|error| {
            ProvisionError::keys(format!("{} cannot be removed: {error}", path.display()))
                .expecting("a folder in which this process may remove a file")
                .hinting("check the folder's permissions")
        })?;
        self.note(Action::Removed, path, note);
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

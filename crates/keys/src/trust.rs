//! The trust bundle of a folder of keys: what a person put there, and what was accepted since (section 7).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use countersign_protocol::key::Thumbprint;
use countersign_protocol::trust::{MAX_TRUST, Trust};
use rustix::fs::{FlockOperation, flock};

use super::file::{Fault, KeyFileError, folder_of, read_public, sync_folder};
use super::folder::KeyFolder;

/// The longest pin file, in bytes; a thumbprint has 43.
const MAX_PIN: usize = 1024;

/// The trust bundle in force of a keys folder: `trust.json`, verified against the pin, or what was accepted after it.
pub fn load_trust(folder: &KeyFolder) -> Result<Trust, KeyFileError> {
    let pin = load_pin(folder)?;
    at_start(&folder.trust(), &folder.accepted_trust(&pin), pin)
}

/// The bundle that a receiver starts with, which has a place of its own for what it accepts: a client, in its state.
pub fn accepted_after(trust: &Trust, accepted: &Path) -> Result<Trust, KeyFileError> {
    let Some(remembered) = remembered(accepted)? else { return Ok(trust.clone()) };
    Trust::at_start(trust.bytes(), Some(&remembered), trust.pin())
        .map_err(|error| unusable(accepted, &error.to_string()))
}

/// The pin of a keys folder: the thumbprint of the root that a trust bundle is verified against (section 7).
pub fn load_pin(folder: &KeyFolder) -> Result<Thumbprint, KeyFileError> {
    let path = folder.pin();
    let text = read_public(&path, MAX_PIN)?;
    let pin = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<Thumbprint>().ok());
    pin.ok_or_else(|| {
        let what = "not the thumbprint of a key".to_owned();
        let expected = "43 characters of base64url: the thumbprint of the root key, as whoever runs the realm gives it";
        let hint = "ask for it again, by a way that nobody else can write to";
        KeyFileError::new(&path, Fault::Content { what, expected, hint })
    })
}

/// Remembers the bundle that was accepted last: written as a whole, and on disk when this returns. Several processes may share
/// the file; none of them puts an older one in the place of a newer.
pub fn keep_trust(accepted: &Path, trust: &Trust) -> Result<(), KeyFileError> {
    let folder = folder_of(accepted);
    let failed = |error: io::Error| KeyFileError::io(accepted, &error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut fresh = accepted.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    let mut file = lock(fresh).map_err(failed)?;
    if let Ok(Some(present)) = remembered(accepted)
        && Trust::at_start(trust.bytes(), Some(&present), trust.pin()).is_ok_and(|newest| newest != *trust)
    {
        return Ok(());
    }
    let written = file.set_len(0).and_then(|()| file.write_all(trust.bytes())).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(fresh, accepted)).and_then(|()| sync_folder(folder)).map_err(failed)
}

/// A file that this process alone writes until it is renamed or closed.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        // A link that somebody put there is not followed.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o644).custom_flags(flags);
        let file = options.open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let ours = file.metadata()?;
        // Whoever had it has perhaps renamed it.
        if std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

fn remembered(accepted: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    match read_public(accepted, MAX_TRUST) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(KeyFileError { fault: Fault::Missing, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn at_start(path: &Path, accepted: &Path, pin: Thumbprint) -> Result<Trust, KeyFileError> {
    let (file, remembered) = (read_public(path, MAX_TRUST)?, remembered(accepted)?);
    Trust::at_start(&file, remembered.as_deref(), pin).map_err(|error| match remembered {
        Some(_) => unusable(path, &format!("{error} (accepted before: {})", accepted.display())),
        None => unusable(path, &error.to_string()),
    })
}

fn unusable(path: &Path, why: &str) -> KeyFileError {
    let expected =
        "a trust bundle that lists the pinned root and carries its signature, or that follows the accepted one";
    let hint = "fetch trust.json again; if the root was replaced, root.thumbprint must be given again by a person";
    KeyFileError::new(path, Fault::Content { what: why.to_owned(), expected, hint })
}

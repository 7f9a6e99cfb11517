//! What earlier versions made: a list of the broker's users, and files of connection keys alone. `init` takes both over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign_keys::{Fault, KeyFileError, KeyFolder, read_public};

use crate::changes::ChangeReport;
use crate::error::ProvisionError;

/// The longest list, in bytes.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// The public connection keys in the list, by whose they are (`client worker-1`); none where there is no list.
pub(super) fn users(folder: &KeyFolder) -> Result<BTreeMap<String, String>, ProvisionError> {
    let list = match read_public(&list(folder), MAX_LIST) {
        Ok(list) => String::from_utf8_lossy(&list).into_owned(),
        Err(KeyFileError { fault: Fault::Missing, .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut keys = BTreeMap::new();
    let mut lines = list.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let (Some(title), Some(nkey)) =
            (line.strip_prefix("{ # "), lines.clone().next().and_then(|next| next.strip_prefix("nkey: ")))
        {
            keys.insert(title.to_owned(), nkey.to_owned());
        }
    }
    Ok(keys)
}

/// Removes the list when everybody in it has a JWT.
pub(super) fn remove(changes: &mut ChangeReport) -> Result<(), ProvisionError> {
    let list = list(changes.folder());
    if list.exists() {
        changes.remove(&list, "accounts.conf is in its place: restart the broker with the present nats.conf")
    } else {
        Ok(())
    }
}

fn list(folder: &KeyFolder) -> PathBuf {
    folder.path().join("nats").join("users.conf")
}

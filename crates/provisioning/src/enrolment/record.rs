//! What the issuer's folder remembers of tokens and requests: public keys and no secrets.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_keys::{Fault, KeyFileError, KeyFolder, read_public, replace_public};
use countersign_protocol::enrolment::OpenedRequest;
use countersign_protocol::json::{self, present};
use countersign_protocol::key::{Jwk, Thumbprint};
use countersign_protocol::name::{ConnectionKey, Name, TokenId};
use countersign_protocol::time::Millis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ProvisionError;

/// The longest record, in bytes: a credential's groups fill 4 KiB.
const MAX_RECORD: usize = 16 * 1_024;

/// A token for a client: one for each name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRecord {
    pub(super) id: TokenId,
    pub(super) name: Name,
    pub(super) groups: Vec<Name>,
    /// The public part of what it is signed with.
    pub(super) key: Jwk,
    pub(super) expires_at: Millis,
    /// How long the credential will hold, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(super) life_ms: Option<i64>,
    /// The keys that it was spent for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(super) spent: Option<Keys>,
}

/// A token by which whoever has it may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenRecord {
    pub(super) id: TokenId,
    pub(super) expires_at: Millis,
}

/// The keys of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) signing: Thumbprint,
    pub(super) connection: ConnectionKey,
}

impl Keys {
    pub(super) fn of(request: &OpenedRequest) -> Self {
        let connection = request.request().connection_key.clone();
        Self { signing: request.key().thumbprint(), connection }
    }
}

/// Where the records are: beside the keys.
pub(super) struct Records(PathBuf);

impl Records {
    pub(super) fn of(folder: &KeyFolder) -> Self {
        Self(folder.enrolment())
    }

    pub(super) fn token(&self, name: &Name) -> PathBuf {
        self.tokens_folder().join(format!("{name}.json"))
    }

    pub(super) fn open(&self, id: &TokenId) -> PathBuf {
        self.open_folder().join(format!("{id}.json"))
    }

    pub(super) fn asked(&self, key: &Thumbprint) -> PathBuf {
        self.asked_folder().join(format!("{key}.json"))
    }

    pub(super) fn tokens_folder(&self) -> PathBuf {
        self.0.join("tokens")
    }

    pub(super) fn open_folder(&self) -> PathBuf {
        self.0.join("open")
    }

    pub(super) fn asked_folder(&self) -> PathBuf {
        self.0.join("requests")
    }
}

/// A record; `None` where there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ProvisionError> {
    let bytes = match read_public(path, MAX_RECORD) {
        Ok(bytes) => bytes,
        Err(KeyFileError { fault: Fault::Missing, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    json::parse_as(&bytes).map(Some).map_err(|error| {
        ProvisionError::keys(format!("{}: {error}", path.display()))
            .expecting("what `countersign enroll` wrote there")
            .hinting("bring it back from a copy, or remove it: then nobody is enrolled by it")
    })
}

/// Every record in a folder that can be read, with its file.
pub(super) fn all<T: DeserializeOwned>(folder: &Path) -> Vec<(PathBuf, T)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "json"));
    files.filter_map(|path| Some((path.clone(), read(&path).ok()??))).collect()
}

/// Writes a record: at once, as a whole, and on disk when this returns.
pub(super) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), ProvisionError> {
    let text = serde_json::to_vec(record).map_err(ProvisionError::system)?;
    Ok(replace_public(path, &text)?)
}

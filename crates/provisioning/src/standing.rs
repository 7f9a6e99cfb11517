//! What a credential says, and whether it holds: of a file, and of every member of a folder.

use std::path::PathBuf;

use countersign_host::clock;
use countersign_keys::{KeyFileError, KeyFolder, read_public};
use countersign_protocol::credential::{Credential, CredentialError, Examined, Role};
use countersign_protocol::ending::Term;
use countersign_protocol::limits::{MAX_CREDENTIAL, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

/// A member of a folder, as its credential there describes it.
#[derive(Debug)]
pub struct Listed {
    /// Operator or client.
    pub role: Role,
    /// Its name.
    pub name: Name,
    /// The file of its credential.
    pub file: PathBuf,
    /// Whether it holds.
    pub standing: Standing,
    /// What it says, where an issuer of the trust bundle signed it.
    pub credential: Option<Examined>,
    /// Whether neither of its keys is in the folder.
    pub key_elsewhere: bool,
}

/// Whether a credential holds for its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    InForce,
    /// It does, and is in the last third of its life.
    EndsSoon,
    /// It begins later.
    NotYetValid,
    /// It has ended.
    Expired,
    /// The trust bundle revokes it, its key or its issuer's.
    Revoked,
    /// It is not this realm's, does not verify, or cannot be read; why, and not escaped.
    Unusable(String),
}

/// The members of a folder: operators, then clients, each by name.
pub fn list(folder: &KeyFolder, trust: &Trust) -> Result<Vec<Listed>, KeyFileError> {
    let now = clock::wall();
    let (operators, clients) = (folder.names(Role::Operator)?, folder.names(Role::Client)?);
    let of = |role, names: Vec<Name>| names.into_iter().map(move |name| listed(folder, trust, role, name, now));
    Ok(of(Role::Operator, operators).chain(of(Role::Client, clients)).collect())
}

/// One member of a folder, at a moment.
pub(super) fn listed(folder: &KeyFolder, trust: &Trust, role: Role, name: Name, now: Millis) -> Listed {
    let file = folder.credential(role, &name);
    let (standing, credential) = match read_public(&file, MAX_CREDENTIAL + 2) {
        Err(error) => (Standing::Unusable(error.what()), None),
        Ok(raw) => match examine(&raw, trust, now) {
            (_, Some(Examined { claims, .. })) if claims.role != role || claims.sub != name => {
                (Standing::Unusable(format!("it is of {} {}", claims.role, claims.sub)), None)
            }
            examined => examined,
        },
    };
    let key_elsewhere = !folder.key(role, &name).exists() && !folder.creds(role, &name).exists();
    Listed { role, name, file, standing, credential, key_elsewhere }
}

/// What the bytes of a credential say, and whether it holds at a moment (section 6); the clocks of who issued it and this one
/// may differ by the skew.
pub fn examine(raw: &[u8], trust: &Trust, now: Millis) -> (Standing, Option<Examined>) {
    let Ok(text) = std::str::from_utf8(raw) else {
        return (Standing::Unusable("not text".to_owned()), None);
    };
    match Credential::examine(text.trim(), trust, now, SKEW) {
        Err(error) => (Standing::Unusable(error.to_string()), None),
        Ok(examined) => (standing(&examined, now), Some(examined)),
    }
}

fn standing(Examined { claims, holds, .. }: &Examined, now: Millis) -> Standing {
    match holds {
        Err(CredentialError::Expired { .. }) => Standing::Expired,
        Err(CredentialError::NotYetValid { .. }) => Standing::NotYetValid,
        Err(CredentialError::Revoked { .. }) => Standing::Revoked,
        Err(error) => Standing::Unusable(error.to_string()),
        Ok(()) => {
            let [begin, end] = [claims.nbf, claims.exp].map(Millis::from_seconds);
            if now >= Term::between(begin, end).warns_at() { Standing::EndsSoon } else { Standing::InForce }
        }
    }
}

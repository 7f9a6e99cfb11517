//! Every public key of a realm, as one that signs or one that logs in: none of them is enrolled again.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use countersign_keys::{KeyFileError, KeyFolder, Login, claims_in, read_public};
use countersign_protocol::credential::Role;
use countersign_protocol::key::{Jwk, PublicKey};
use countersign_protocol::limits::MAX_CREDENTIAL;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;

use crate::nats::read_jwt;

/// The keys that the files of a folder name. A file that has not changed is not read again: an issuer answers many requests, and has
/// as many files as members.
#[derive(Debug, Default)]
pub struct KnownKeys {
    files: HashMap<PathBuf, (Stamp, Option<[u8; 32]>)>,
}

/// What tells a file from the one that was there before: its inode, its length, and when it changed, in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl KnownKeys {
    /// Whether either key is one of the realm, or of a member other than this client, as the one or as the other.
    pub(super) fn knows(
        &mut self,
        folder: &KeyFolder,
        trust: &Trust,
        (key, connection): (&PublicKey, [u8; 32]),
        client: &Name,
    ) -> Result<bool, KeyFileError> {
        let is_asked_for = |known: [u8; 32]| known == *key.as_bytes() || known == connection;
        let body = trust.body();
        let mut realm = body.roots.iter().chain(body.issuers.iter().map(|issuer| &issuer.jwk));
        if realm.any(|jwk| PublicKey::try_from(jwk).is_ok_and(|key| is_asked_for(*key.as_bytes()))) {
            return Ok(true);
        }
        let all = files(folder, client)?;
        let mut before = std::mem::take(&mut self.files);
        for path in all {
            let Some(stamp) = stamp(&path) else { continue };
            let found = match before.remove(&path) {
                Some((then, key)) if then == stamp => key,
                _ => key_in(&path),
            };
            self.files.insert(path, (stamp, found));
        }
        Ok(self.files.values().any(|(_, known)| known.is_some_and(is_asked_for)))
    }
}

/// The files that name a key, but for those of one client.
fn files(folder: &KeyFolder, client: &Name) -> Result<Vec<PathBuf>, KeyFileError> {
    let mut found = Vec::new();
    for role in [Role::Operator, Role::Client] {
        let others = folder.names(role)?.into_iter().filter(|member| (role, member) != (Role::Client, client));
        found.extend(others.map(|member| folder.credential(role, &member)));
    }
    let own = folder.user_jwt(Role::Client, client);
    let logins = fs::read_dir(folder.path().join("nats")).into_iter().flatten().flatten().map(|entry| entry.path());
    found.extend(logins.filter(|it| has_extension(it, &["jwt", "creds"]) && it.with_extension("jwt") != own));
    Ok(found)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.ctime(), about.ctime_nsec()))
}

/// The key that a credential, a login's JWT or a `.creds` file is about. Nothing of it is verified: what is damaged or was not issued
/// here is known all the more.
fn key_in(path: &Path) -> Option<[u8; 32]> {
    let of_user = |nkey: &str| nkeys::from_public_key(nkey).ok().map(|(_, raw)| raw);
    if has_extension(path, &["creds"]) {
        return of_user(&Login::read(path).ok()?.seed().public_key()?);
    }
    if let Ok(Some(login)) = read_jwt(path) {
        return of_user(login.key());
    }
    let raw = read_public(path, MAX_CREDENTIAL + 2).ok()?;
    let mut claims = claims_in(std::str::from_utf8(&raw).ok()?.trim())?;
    let jwk: Jwk = serde_json::from_value(claims.get_mut("cnf")?.get_mut("jwk")?.take()).ok()?;
    PublicKey::try_from(&jwk).ok().map(|key| *key.as_bytes())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|it| extensions.contains(&it))
}

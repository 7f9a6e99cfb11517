//! How somebody logs in to the broker: a JWT of the broker's account, and the connection key that it is about (section 10).

use std::path::{Path, PathBuf};

use countersign_protocol::json;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::file::{Fault, KeyFileError, read_public, read_secret};
use super::member::Seed;

/// The longest JWT of a user, in bytes: with it, CONNECT is within the 4,096 bytes that a broker takes.
pub const MAX_USER_JWT: usize = 3_584;

const JWT_HEAD: &str = "-----BEGIN NATS USER JWT-----";
const SEED_HEAD: &str = "-----BEGIN USER NKEY SEED-----";

/// A user's JWT as it stands in a file. Nothing of it is verified here: the broker does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserJwt {
    text: String,
    key: String,
    claims: Map<String, Value>,
}

/// What logs in to the broker: the connection key, and a JWT about it. It is read from a file of credentials as NATS's own
/// tools take it (`.creds`), and the JWT is read again for each connection, so that a renewed one needs no restart.
#[derive(Debug, Clone)]
pub struct Login {
    seed: Seed,
    jwt: String,
    file: Option<PathBuf>,
}

impl UserJwt {
    /// A user's JWT.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let claims = claims_in(text)?;
        let key = claims.get("sub")?.as_str()?.to_owned();
        let is_user = key.starts_with('U') && nkeys::from_public_key(&key).is_ok();
        is_user.then(|| Self { text: text.to_owned(), key, claims })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The public connection key (`U…`).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it states.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// When it was issued, in seconds.
    pub fn issued_at(&self) -> i64 {
        self.claims.get("iat").and_then(Value::as_i64).unwrap_or_default()
    }
}

impl Login {
    /// By a key and a JWT that are in no file.
    pub fn new(seed: Seed, jwt: impl Into<String>) -> Self {
        Self { seed, jwt: jwt.into(), file: None }
    }

    /// Reads a file of credentials: a secret, under the conditions of [`read_key`](super::read_key). A newer JWT about the same
    /// key in a file beside it, with the ending `.jwt`, takes the place of the one in it: that is how one is renewed whose key
    /// is on another machine than the issuer's.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let (seed, mut jwt) = parse_creds(&read_secret(path)?).ok_or_else(|| {
            let what = "not a file of NATS credentials".to_owned();
            let expected = "a user's JWT and its seed, each between the lines that NATS's tools write";
            let hint = "remove it and run `countersign init`, which makes another, or ask for it where that runs";
            KeyFileError::new(path, Fault::Content { what, expected, hint })
        })?;
        match read_public(&path.with_extension("jwt"), MAX_USER_JWT + 2) {
            Ok(beside) => {
                let beside = std::str::from_utf8(&beside).ok().and_then(UserJwt::parse);
                jwt = beside.filter(|it| it.key == jwt.key && it.issued_at() > jwt.issued_at()).unwrap_or(jwt);
            }
            Err(KeyFileError { fault: Fault::Missing, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { seed, jwt: jwt.text, file: Some(path.to_owned()) })
    }

    /// The connection key.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The JWT as it was read.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// Who its JWT says that it is, where it says so.
    pub fn user_name(&self) -> Option<String> {
        UserJwt::parse(&self.jwt)?.claims.get("name")?.as_str().map(str::to_owned)
    }

    /// The JWT that is in the file now, if it is about the same key; else the one that was read first. The key does not change
    /// while a process runs: another one could be the key that signs messages.
    pub fn latest_jwt(&self) -> String {
        let read = self.file.as_deref().and_then(|file| Self::read(file).ok());
        read.filter(|read| read.seed == self.seed).map_or_else(|| self.jwt.clone(), |read| read.jwt)
    }

    /// Signs what the broker asks for; `None` is never seen in practice.
    pub fn sign(&self, nonce: &[u8]) -> Option<Vec<u8>> {
        KeyPair::from_seed(self.seed.as_str()).ok()?.sign(nonce).ok()
    }
}

/// The claims of a NATS JWT, which nobody has verified.
pub fn claims_in(jwt: &str) -> Option<Map<String, Value>> {
    let mut parts = jwt.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    json::parse(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?).ok()
}

/// A file of credentials as NATS's tools read it: a secret.
pub fn creds_text(jwt: &str, seed: &Seed) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "{JWT_HEAD}\n{jwt}\n------END NATS USER JWT------\n\n{SEED_HEAD}\n{}\n------END USER NKEY SEED------\n",
        seed.as_str()
    ))
}

fn parse_creds(text: &str) -> Option<(Seed, UserJwt)> {
    let below = |head: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|line| !line.ends_with(head)).skip(1);
        lines.find(|line| !line.is_empty())
    };
    let (seed, jwt) = (Seed::parse(below(SEED_HEAD)?)?, UserJwt::parse(below(JWT_HEAD)?)?);
    (seed.public_key().as_deref() == Some(&jwt.key)).then_some((seed, jwt))
}

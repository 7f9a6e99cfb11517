//! Who signs: a private key and the credential that vouches for it.

use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::{MessageType, Signed, jws};
use crate::credential::Credential;
use crate::key::{SecretKey, Thumbprint};
use crate::name::Name;

/// A message-signing key with its credential (section 6); two are equal when both are the same.
#[derive(Debug, Clone)]
pub struct Identity {
    key: SecretKey,
    credential: Credential,
}

/// The credential is for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential is for the key {expected}, but the private key is {got}")]
pub struct WrongKey {
    /// The key that the credential names.
    pub expected: Thumbprint,
    /// The key that was given.
    pub got: Thumbprint,
}

impl Identity {
    /// Joins a key and the credential that was issued for it.
    pub fn new(key: SecretKey, credential: Credential) -> Result<Self, WrongKey> {
        if key.public() == credential.key() {
            Ok(Self { key, credential })
        } else {
            Err(WrongKey { expected: credential.kid(), got: key.public().thumbprint() })
        }
    }

    /// The same key with another credential that was issued for it.
    pub fn with(&self, credential: Credential) -> Result<Self, WrongKey> {
        Self::new(self.key.clone(), credential)
    }

    /// Signs the body of a message of a type (section 2).
    pub fn sign(&self, typ: MessageType, subject: String, body: Vec<u8>) -> Signed {
        let protected = jws::protect(typ, self.kid());
        let signature = jws::sign(&self.key, &jws::signing_input(&protected, &body));
        Signed {
            subject,
            signature: format!("{protected}..{signature}"),
            credential: self.credential.raw().clone(),
            body: Bytes::from(body),
        }
    }

    /// The name that the credential vouches for.
    pub fn name(&self) -> &Name {
        self.credential.name()
    }

    /// The credential.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The thumbprint of the key.
    pub fn kid(&self) -> Thumbprint {
        self.credential.kid()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.kid(), self.credential.jti()) == (other.kid(), other.credential.jti())
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kid(), self.credential.jti()).hash(state);
    }
}

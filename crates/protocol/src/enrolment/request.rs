//! The request: the public keys that the worker has made, signed by the new key and, where there is one, by the token's.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Version;
use crate::digest::Digest;
use crate::envelope::body::{self, BodyError};
use crate::envelope::jws::Multisigned;
use crate::envelope::{HeaderError, MessageType};
use crate::json::{self, JsonError, present};
use crate::key::{Jwk, KeyError, PublicKey, SecretKey, Thumbprint};
use crate::limits::MAX_ENROLMENT_REQUEST;
use crate::name::{ConnectionKey, Name, TokenId};
use crate::time::Millis;

/// A request to become a client. The private keys of both keys stay where they were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The version of the protocol.
    pub v: Version,
    /// The realm, where the worker knows it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Name")]
    pub realm: Option<Name>,
    /// The token that it comes with; without one, a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TokenId")]
    pub token: Option<TokenId>,
    /// The name that the client is to have.
    pub name: Name,
    /// The groups that it is to be in.
    pub groups: Vec<Name>,
    /// The key by which it will sign messages.
    pub jwk: Jwk,
    /// The key by which it will log in to the broker.
    pub connection_key: ConnectionKey,
    /// When it was signed, by the worker's clock.
    pub issued_at: Millis,
}

/// A request that the key signed which it is about: whoever sent it has that key. Whose token it came with says
/// [`is_signed_by`](Self::is_signed_by).
#[derive(Debug, Clone)]
pub struct OpenedRequest {
    request: EnrolmentRequest,
    key: PublicKey,
    digest: Digest,
    document: Multisigned,
}

/// Why bytes are not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is longer than section 14 allows.
    #[error("{got} bytes; a request has at most {MAX_ENROLMENT_REQUEST}")]
    Size {
        /// Its length, in bytes.
        got: usize,
    },
    /// It is not a payload with its signatures.
    #[error("not a signed document: {0}")]
    Form(JsonError),
    /// The payload is not canonical base64url.
    #[error("the payload is not canonical, unpadded base64url")]
    Encoding,
    /// The payload is not a request.
    #[error("not a request for enrolment: {0}")]
    Body(String),
    /// A protected header is not exactly what section 2 says.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The key that it is about is not one of section 2.
    #[error("its key is refused: {0}")]
    Key(KeyError),
    /// It has not one or two signatures by different keys, or none by the key that it is about.
    #[error("not signed once by the key that it is about, and at most once by another")]
    Signatures,
    /// The signature by its own key does not hold.
    #[error("the signature by the key {kid} does not hold")]
    Signature {
        /// The key.
        kid: Thumbprint,
    },
}

impl EnrolmentRequest {
    /// Signs it by the new key that it is about, and by the token's where there is one.
    pub fn sign(&self, key: &SecretKey, token: Option<&SecretKey>) -> Vec<u8> {
        let signers: Vec<&SecretKey> = std::iter::once(key).chain(token).collect();
        body::write(&Multisigned::sign(MessageType::EnrolmentRequest, &body::write(self), &signers))
    }
}

impl OpenedRequest {
    /// Opens what arrived: its form, and the signature by its own key.
    pub fn open(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_ENROLMENT_REQUEST {
            return Err(RequestError::Size { got: bytes.len() });
        }
        let document: Multisigned = json::parse_as(bytes).map_err(RequestError::Form)?;
        let payload = BASE64URL_NOPAD.decode(document.payload.as_bytes()).map_err(|_| RequestError::Encoding)?;
        let request: EnrolmentRequest =
            body::read(MessageType::EnrolmentRequest, &payload).map_err(|error| match error {
                BodyError::Json(error) => RequestError::Body(error.to_string()),
                BodyError::Shape(detail) => RequestError::Body(detail),
            })?;
        let key = PublicKey::try_from(&request.jwk).map_err(RequestError::Key)?;
        let kid = key.thumbprint();
        let signers = document.signers(MessageType::EnrolmentRequest)?;
        let different: BTreeSet<&Thumbprint> = signers.iter().collect();
        if signers.len() > 2 || different.len() != signers.len() || !different.contains(&kid) {
            return Err(RequestError::Signatures);
        }
        if !document.is_signed_by(MessageType::EnrolmentRequest, &key) {
            return Err(RequestError::Signature { kid });
        }
        Ok(Self { request, key, digest: Digest::of(bytes), document })
    }

    /// What it asks for.
    pub fn request(&self) -> &EnrolmentRequest {
        &self.request
    }

    /// The key that it is about.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a token's key signed it, which is none of the keys that it is about.
    pub fn is_signed_by(&self, token: &PublicKey) -> bool {
        *token != self.key && self.document.is_signed_by(MessageType::EnrolmentRequest, token)
    }
}

//! Protected headers and signatures (section 2), the same for messages, credentials and trust bundles.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::MessageType;
use crate::json::{self, JsonError};
use crate::key::{PublicKey, SecretKey, Thumbprint};
use crate::text::echo;

const ALGORITHM: &str = "EdDSA";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    alg: String,
    kid: String,
    typ: String,
}

/// A payload with its signatures: a JWS in general JSON serialisation (RFC 7515, section 7.2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Multisigned {
    pub(crate) payload: String,
    pub(crate) signatures: Vec<Signature>,
}

/// One of the signatures.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    pub(crate) protected: String,
    pub(crate) signature: String,
}

impl Multisigned {
    /// A payload, signed by each of these keys.
    pub(crate) fn sign(typ: MessageType, payload: &[u8], by: &[&SecretKey]) -> Self {
        let signatures = by.iter().map(|key| {
            let protected = protect(typ, key.public().thumbprint());
            let signature = sign(key, &signing_input(&protected, payload));
            Signature { protected, signature }
        });
        Self { payload: BASE64URL_NOPAD.encode(payload), signatures: signatures.collect() }
    }

    /// The keys that are said to have signed it, in the order of the signatures; none is verified.
    pub(crate) fn signers(&self, typ: MessageType) -> Result<Vec<Thumbprint>, HeaderError> {
        self.signatures.iter().map(|it| unprotect(&it.protected, typ)).collect()
    }

    /// Whether the first signature that is said to be by this key holds.
    pub(crate) fn is_signed_by(&self, typ: MessageType, key: &PublicKey) -> bool {
        let kid = key.thumbprint();
        let said = self.signatures.iter().find(|it| unprotect(&it.protected, typ) == Ok(kid));
        said.is_some_and(|it| verify(key, &format!("{}.{}", it.protected, self.payload), &it.signature))
    }
}

/// Why a protected header is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is not unpadded, canonical base64url.
    #[error("the protected header is not canonical, unpadded base64url")]
    Encoding,
    /// It is not a JSON object of exactly `alg`, `kid` and `typ`.
    #[error("the protected header must have exactly `alg`, `kid` and `typ`: {0}")]
    Json(JsonError),
    /// Another algorithm, whatever it is.
    #[error("`alg` is `{got}`, but `EdDSA` was expected")]
    Algorithm {
        /// The algorithm that it names, escaped and cut.
        got: String,
    },
    /// The signature is for another type of message.
    #[error("`typ` is `{got}`, but `{expected}` was expected")]
    Type {
        /// The type that belongs here.
        expected: &'static str,
        /// The type that it names, escaped and cut.
        got: String,
    },
    /// The `kid` is no thumbprint.
    #[error("`kid` is `{got}`, but an RFC 7638 thumbprint was expected")]
    KeyId {
        /// The `kid`, escaped and cut.
        got: String,
    },
}

/// The protected header for a type and a signing key, encoded.
pub(crate) fn protect(typ: MessageType, kid: Thumbprint) -> String {
    BASE64URL_NOPAD.encode(format!(r#"{{"alg":"{ALGORITHM}","kid":"{kid}","typ":"{}"}}"#, typ.typ()).as_bytes())
}

/// The `kid` of an encoded protected header of this type.
pub(crate) fn unprotect(encoded: &str, typ: MessageType) -> Result<Thumbprint, HeaderError> {
    let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| HeaderError::Encoding)?;
    let protected: Protected = json::parse_as(&bytes).map_err(HeaderError::Json)?;
    if protected.alg != ALGORITHM {
        return Err(HeaderError::Algorithm { got: echo(&protected.alg) });
    }
    if protected.typ != typ.typ() {
        return Err(HeaderError::Type { expected: typ.typ(), got: echo(&protected.typ) });
    }
    protected.kid.parse().map_err(|_| HeaderError::KeyId { got: echo(&protected.kid) })
}

/// What is signed: `<protected>.<base64url(payload)>`.
pub(crate) fn signing_input(protected: &str, payload: &[u8]) -> String {
    let mut input = String::with_capacity(protected.len() + 1 + BASE64URL_NOPAD.encode_len(payload.len()));
    input.push_str(protected);
    input.push('.');
    BASE64URL_NOPAD.encode_append(payload, &mut input);
    input
}

/// The signature over a signing input, encoded.
pub(crate) fn sign(key: &SecretKey, input: &str) -> String {
    BASE64URL_NOPAD.encode(&key.sign(input.as_bytes()))
}

/// Whether an encoded signature over a signing input holds.
pub(crate) fn verify(key: &PublicKey, input: &str, signature: &str) -> bool {
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    signature.is_some_and(|signature| key.verify(input.as_bytes(), &signature))
}

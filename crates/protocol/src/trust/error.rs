//! Why a trust bundle is refused (section 7).

use super::MAX_TRUST;
use crate::envelope::HeaderError;
use crate::json::JsonError;
use crate::key::{KeyError, Thumbprint};
use crate::name::Name;

/// Why a trust bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It is too long.
    #[error("a trust bundle of {got} bytes; at most {MAX_TRUST} are accepted")]
    Size {
        /// Its length, in bytes.
        got: usize,
    },
    /// It is not a JWS in general JSON serialisation with exactly the members of section 7.
    #[error("not a JWS in general JSON serialisation: {0}")]
    Form(JsonError),
    /// Its payload is not unpadded, canonical base64url.
    #[error("the payload is not canonical, unpadded base64url")]
    Encoding,
    /// Its payload breaks a rule of section 3.
    #[error("the payload is not strict JSON: {0}")]
    Json(JsonError),
    /// Its payload is not exactly what section 7 says.
    #[error("the payload is not that of a trust bundle: {0}")]
    Body(String),
    /// The threshold is not met by all roots together.
    #[error("a threshold of {threshold}, but {roots} roots")]
    Threshold {
        /// The threshold.
        threshold: u64,
        /// How many roots there are.
        roots: usize,
    },
    /// A root or an issuer has a key that section 2 refuses.
    #[error("a key in the bundle is refused: {0}")]
    Key(KeyError),
    /// Two roots or two issuers have the same key.
    #[error("the key {kid} is listed twice")]
    Duplicate {
        /// The key.
        kid: Thumbprint,
    },
    /// A signature's protected header is not exactly what section 2 says.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A root has signed twice.
    #[error("two signatures by the root {kid}")]
    SignedTwice {
        /// The root.
        kid: Thumbprint,
    },
    /// A signature by a root does not hold.
    #[error("the signature by the root {kid} does not hold")]
    Signature {
        /// The root.
        kid: Thumbprint,
    },
    /// The pinned root is not among the roots.
    #[error("the pinned root {pin} is not among the bundle's roots")]
    PinNotListed {
        /// The pin.
        pin: Thumbprint,
    },
    /// The pinned root has not signed.
    #[error("the pinned root {pin} has not signed the bundle")]
    PinNotSigned {
        /// The pin.
        pin: Thumbprint,
    },
    /// Fewer roots have signed than the threshold says.
    #[error("signed by {got} roots; the threshold is {threshold}")]
    TooFewSignatures {
        /// The threshold.
        threshold: u64,
        /// How many roots have signed.
        got: usize,
    },
    /// It is of another realm than the bundle in force.
    #[error("for the realm {got}, but this is {expected}")]
    Realm {
        /// The realm of the bundle in force.
        expected: Name,
        /// The realm that it names.
        got: Name,
    },
    /// It is not the version that follows the one in force.
    #[error("version {got}, but after version {accepted} only version {} is accepted", accepted.saturating_add(1))]
    NotNext {
        /// Its version.
        got: u64,
        /// The version in force.
        accepted: u64,
    },
    /// Fewer roots of the version in force have signed than its threshold says.
    #[error("signed by {got} roots of version {accepted}, whose threshold is {threshold}")]
    NotByPredecessor {
        /// The version in force.
        accepted: u64,
        /// Its threshold.
        threshold: usize,
        /// How many of its roots have signed.
        got: usize,
    },
}

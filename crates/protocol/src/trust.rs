//! The trust bundle (section 7): the realm's roots, issuers and revocations, signed by the roots.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::Version;
use crate::digest::Digest;
use crate::envelope::body::{self, BodyError};
use crate::envelope::{HeaderError, MessageType, jws};
use crate::id::Uuid;
use crate::json::{self, JsonError};
use crate::key::{Jwk, KeyError, PublicKey, SecretKey, Thumbprint};
use crate::name::Name;
use crate::time::Millis;

/// The longest trust bundle, in bytes.
pub const MAX_TRUST: usize = 65_536;

/// What a trust bundle says, exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustBody {
    /// 1.
    pub v: Version,
    /// The realm.
    pub realm: Name,
    /// Counts the realm's bundles; an older one is never accepted.
    #[schemars(range(min = 1))]
    pub version: u64,
    /// When a client stops obeying under it.
    pub expires_at: Millis,
    /// The keys that may sign a bundle.
    pub roots: Vec<Jwk>,
    /// How many of them must.
    #[schemars(range(min = 1))]
    pub threshold: u64,
    /// Those who may issue credentials.
    pub issuers: Vec<Issuer>,
    /// What is refused at once.
    pub revoked: Vec<Revoked>,
}

/// One who may issue credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name, the `iss` of what it issues.
    pub name: Name,
    /// Its key.
    pub jwk: Jwk,
}

/// What is no longer to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RevokedWire", into = "RevokedWire")]
pub enum Revoked {
    /// One credential.
    Credential {
        /// Its id.
        jti: Uuid,
        /// From when on messages under it are to be doubted; for auditors.
        since: Millis,
    },
    /// Every credential of a key, or from an issuer's key.
    Key {
        /// The key's thumbprint.
        kid: Thumbprint,
        /// From when on messages under it are to be doubted; for auditors.
        since: Millis,
    },
}

/// A [`Revoked`] as it is written: exactly one of `jti` and `kid`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["jti"] }, { "required": ["kid"] }]))]
struct RevokedWire {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Uuid")]
    jti: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Thumbprint")]
    kid: Option<Thumbprint>,
    since: Millis,
}

impl TryFrom<RevokedWire> for Revoked {
    type Error = &'static str;

    fn try_from(wire: RevokedWire) -> Result<Self, Self::Error> {
        match (wire.jti, wire.kid) {
            (Some(jti), None) => Ok(Self::Credential { jti, since: wire.since }),
            (None, Some(kid)) => Ok(Self::Key { kid, since: wire.since }),
            _ => Err("exactly one of `jti` and `kid` was expected"),
        }
    }
}

impl From<Revoked> for RevokedWire {
    fn from(revoked: Revoked) -> Self {
        match revoked {
            Revoked::Credential { jti, since } => Self { jti: Some(jti), kid: None, since },
            Revoked::Key { kid, since } => Self { jti: None, kid: Some(kid), since },
        }
    }
}

/// A bundle around its signatures: a JWS in general JSON serialisation (RFC 7515, section 7.2.1).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    payload: String,
    signatures: Vec<BundleSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleSignature {
    protected: String,
    signature: String,
}

/// A trust bundle that the pinned root and as many roots as its threshold signed. Two are equal when their bytes are.
#[derive(Debug, Clone)]
pub struct Trust {
    realm: Name,
    version: u64,
    expires_at: Millis,
    issuers: BTreeMap<Thumbprint, (Name, PublicKey)>,
    revoked_credentials: BTreeSet<Uuid>,
    revoked_keys: BTreeSet<Thumbprint>,
    digest: Digest,
}

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
}

impl Trust {
    /// Verifies a bundle against the pin, the thumbprint of a root that came another way. An expired one is accepted: it
    /// still says who may ask (section 7). Signatures by keys that are no roots are passed over.
    pub fn verify(bytes: &[u8], pin: Thumbprint) -> Result<Self, TrustError> {
        if bytes.len() > MAX_TRUST {
            return Err(TrustError::Size { got: bytes.len() });
        }
        let bundle: Bundle = json::parse_as(bytes).map_err(TrustError::Form)?;
        let payload = BASE64URL_NOPAD.decode(bundle.payload.as_bytes()).map_err(|_| TrustError::Encoding)?;
        let body: TrustBody = body::read(MessageType::Trust, &payload).map_err(|error| match error {
            BodyError::Json(error) => TrustError::Json(error),
            BodyError::Shape(detail) => TrustError::Body(detail),
        })?;

        let roots = keys(body.roots.into_iter().map(|jwk| (jwk, ())))?;
        let issuers = keys(body.issuers.into_iter().map(|issuer| (issuer.jwk, issuer.name)))?;
        let threshold = usize::try_from(body.threshold).unwrap_or(usize::MAX);
        if threshold > roots.len() {
            return Err(TrustError::Threshold { threshold: body.threshold, roots: roots.len() });
        }
        if !roots.contains_key(&pin) {
            return Err(TrustError::PinNotListed { pin });
        }
        let signatures = by_root(&bundle, &roots)?;
        let pinned = signatures.get(&pin).ok_or(TrustError::PinNotSigned { pin })?;
        // The pin first: who cannot sign for it can make nobody check more than this one signature.
        let others = signatures.iter().filter(|(kid, _)| **kid != pin);
        for (kid, signature) in std::iter::once((&pin, pinned)).chain(others) {
            let input = format!("{}.{}", signature.protected, bundle.payload);
            if !roots.get(kid).is_some_and(|((), key)| jws::verify(key, &input, &signature.signature)) {
                return Err(TrustError::Signature { kid: *kid });
            }
        }
        if signatures.len() < threshold {
            return Err(TrustError::TooFewSignatures { threshold: body.threshold, got: signatures.len() });
        }

        let mut trust = Self {
            realm: body.realm,
            version: body.version,
            expires_at: body.expires_at,
            issuers,
            revoked_credentials: BTreeSet::new(),
            revoked_keys: BTreeSet::new(),
            digest: Digest::of(bytes),
        };
        for revoked in body.revoked {
            match revoked {
                Revoked::Credential { jti, .. } => trust.revoked_credentials.insert(jti),
                Revoked::Key { kid, .. } => trust.revoked_keys.insert(kid),
            };
        }
        Ok(trust)
    }

    /// Signs a bundle with roots' keys: the bytes of `trust.json`. Nothing is checked; whoever signs verifies it.
    pub fn sign(body: &TrustBody, roots: &[&SecretKey]) -> Vec<u8> {
        let json = body::write(body);
        let signatures = roots.iter().map(|root| {
            let protected = jws::protect(MessageType::Trust, root.public().thumbprint());
            let signature = jws::sign(root, &jws::signing_input(&protected, &json));
            BundleSignature { protected, signature }
        });
        body::write(&Bundle { payload: BASE64URL_NOPAD.encode(&json), signatures: signatures.collect() })
    }

    /// The realm.
    pub fn realm(&self) -> &Name {
        &self.realm
    }

    /// The bundle's version, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// From when on it is expired.
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }

    /// Whether it is expired: a client then answers queries and `terminate` only (section 7).
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.expires_at
    }

    /// The issuer with a key: its name and the key. One that is revoked is still listed.
    pub fn issuer(&self, kid: &Thumbprint) -> Option<(&Name, &PublicKey)> {
        self.issuers.get(kid).map(|(name, key)| (name, key))
    }

    /// Whether a credential, or a key of it or of its issuer, is revoked.
    pub fn is_revoked(&self, jti: &Uuid, kid: &Thumbprint) -> bool {
        self.revoked_credentials.contains(jti) || self.revoked_keys.contains(kid)
    }

    /// The digest of the bundle's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Keys by their thumbprints, each listed once, with what belongs to them.
fn keys<T>(listed: impl Iterator<Item = (Jwk, T)>) -> Result<BTreeMap<Thumbprint, (T, PublicKey)>, TrustError> {
    let mut keys = BTreeMap::new();
    for (jwk, owner) in listed {
        let key = PublicKey::try_from(&jwk).map_err(TrustError::Key)?;
        let kid = key.thumbprint();
        if keys.insert(kid, (owner, key)).is_some() {
            return Err(TrustError::Duplicate { kid });
        }
    }
    Ok(keys)
}

/// The roots' signatures, one each and none checked yet.
fn by_root<'a, T>(
    bundle: &'a Bundle,
    roots: &BTreeMap<Thumbprint, T>,
) -> Result<BTreeMap<Thumbprint, &'a BundleSignature>, TrustError> {
    let mut signatures = BTreeMap::new();
    for signature in &bundle.signatures {
        let kid = jws::unprotect(&signature.protected, MessageType::Trust)?;
        if roots.contains_key(&kid) && signatures.insert(kid, signature).is_some() {
            return Err(TrustError::SignedTwice { kid });
        }
    }
    Ok(signatures)
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Trust {}

impl Hash for Trust {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

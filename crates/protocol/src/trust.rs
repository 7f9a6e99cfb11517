//! The trust bundle (section 7): the realm's roots, issuers and revocations, signed by the roots.

mod body;
mod chain;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;

use crate::digest::Digest;
use crate::ending::Term;
use crate::envelope::MessageType;
use crate::envelope::body as payload;
use crate::envelope::body::BodyError;
use crate::envelope::jws::{self, Multisigned};
use crate::id::Uuid;
use crate::json;
use crate::key::{Jwk, PublicKey, SecretKey, Thumbprint};
use crate::name::Name;
use crate::time::Millis;

pub use self::body::{Issuer, Revoked, TrustBody};
pub use self::error::TrustError;

/// The longest trust bundle, in bytes.
pub const MAX_TRUST: usize = 65_536;

/// A trust bundle that the pinned root and as many roots as its threshold signed, or that follows such a one in the chain of
/// versions. Two are equal when their bytes are.
#[derive(Debug, Clone)]
pub struct Trust {
    body: Arc<TrustBody>,
    roots: BTreeMap<Thumbprint, PublicKey>,
    threshold: usize,
    issuers: BTreeMap<Thumbprint, (Name, PublicKey)>,
    revoked_credentials: BTreeSet<Uuid>,
    revoked_keys: BTreeSet<Thumbprint>,
    /// The root that a person gave this receiver, which the chain began with.
    pin: Thumbprint,
    bytes: Arc<[u8]>,
    digest: Digest,
}

/// What the broker answers to a request for a version. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredTrust {
    /// The bundle that it stores of this version.
    Bundle(u64, Vec<u8>),
    /// It stores none of that version.
    Absent,
    /// It does not answer, or stores none at all; the text is escaped.
    Failed(String),
}

/// A bundle whose form is right and whose signatures were not looked at.
struct Unverified {
    bundle: Multisigned,
    body: TrustBody,
    roots: BTreeMap<Thumbprint, PublicKey>,
    threshold: usize,
}

impl Trust {
    /// Verifies a bundle against the pin, the thumbprint of a root that came another way. An expired one is accepted: it
    /// still says who may ask (section 7). Signatures by keys that are no roots are passed over.
    pub fn verify(bytes: &[u8], pin: Thumbprint) -> Result<Self, TrustError> {
        let unverified = Unverified::read(bytes)?;
        if !unverified.roots.contains_key(&pin) {
            return Err(TrustError::PinNotListed { pin });
        }
        let signatures = by_root(&unverified.bundle, &unverified.roots)?;
        let pinned = signatures.get(&pin).ok_or(TrustError::PinNotSigned { pin })?;
        // The pin first: who cannot sign for it can make nobody check more than this one signature.
        let others = signatures.iter().filter(|(kid, _)| **kid != pin);
        for (kid, signature) in std::iter::once((&pin, pinned)).chain(others) {
            unverified.check(&unverified.roots, kid, signature)?;
        }
        unverified.meets_own_threshold(signatures.len())?;
        unverified.trusted(bytes, pin)
    }

    /// Signs a bundle with roots' keys: the bytes of `trust.json`. Nothing is checked; whoever signs verifies it.
    pub fn sign(body: &TrustBody, roots: &[&SecretKey]) -> Vec<u8> {
        payload::write(&Multisigned::sign(MessageType::Trust, &payload::write(body), roots))
    }

    /// The realm.
    pub fn realm(&self) -> &Name {
        &self.body.realm
    }

    /// The bundle's version, from 1.
    pub fn version(&self) -> u64 {
        self.body.version
    }

    /// From when on it is expired.
    pub fn expires_at(&self) -> Millis {
        self.body.expires_at
    }

    /// Whether it is expired: a client then answers queries and `terminate` only (section 7).
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.body.expires_at
    }

    /// Its term.
    pub fn term(&self) -> Term {
        Term::of_trust(self.body.expires_at)
    }

    /// All that it says: what the next version is made of.
    pub fn body(&self) -> &TrustBody {
        &self.body
    }

    /// The very bytes that were verified.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root that the chain of versions began with: the pin.
    pub fn pin(&self) -> Thumbprint {
        self.pin
    }

    /// Whether a key is one of its roots.
    pub fn is_root(&self, kid: &Thumbprint) -> bool {
        self.roots.contains_key(kid)
    }

    /// The issuer with a key: its name and the key. One that is revoked is still listed.
    pub fn issuer(&self, kid: &Thumbprint) -> Option<(&Name, &PublicKey)> {
        self.issuers.get(kid).map(|(name, key)| (name, key))
    }

    /// Whether a credential, or a key of it or of its issuer, is revoked.
    pub fn is_revoked(&self, jti: &Uuid, kid: &Thumbprint) -> bool {
        self.revoked_credentials.contains(jti) || self.revoked_keys.contains(kid)
    }

    /// Whether a key is revoked, of a credential or of an issuer.
    pub fn is_revoked_key(&self, kid: &Thumbprint) -> bool {
        self.revoked_keys.contains(kid)
    }

    /// The digest of the bundle's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Unverified {
    fn read(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > MAX_TRUST {
            return Err(TrustError::Size { got: bytes.len() });
        }
        let bundle: Multisigned = json::parse_as(bytes).map_err(TrustError::Form)?;
        let json = BASE64URL_NOPAD.decode(bundle.payload.as_bytes()).map_err(|_| TrustError::Encoding)?;
        let body: TrustBody = payload::read(MessageType::Trust, &json).map_err(|error| match error {
            BodyError::Json(error) => TrustError::Json(error),
            BodyError::Shape(detail) => TrustError::Body(detail),
        })?;
        let roots = keys(body.roots.iter().map(|jwk| (jwk, ())))?;
        let roots: BTreeMap<_, _> = roots.into_iter().map(|(kid, ((), key))| (kid, key)).collect();
        let threshold = usize::try_from(body.threshold).unwrap_or(usize::MAX);
        if threshold > roots.len() {
            return Err(TrustError::Threshold { threshold: body.threshold, roots: roots.len() });
        }
        Ok(Self { bundle, body, roots, threshold })
    }

    /// Whether the signature by one of these roots holds.
    fn check(
        &self,
        roots: &BTreeMap<Thumbprint, PublicKey>,
        kid: &Thumbprint,
        signature: &jws::Signature,
    ) -> Result<(), TrustError> {
        let input = format!("{}.{}", signature.protected, self.bundle.payload);
        let holds = roots.get(kid).is_some_and(|key| jws::verify(key, &input, &signature.signature));
        if holds { Ok(()) } else { Err(TrustError::Signature { kid: *kid }) }
    }

    fn meets_own_threshold(&self, got: usize) -> Result<(), TrustError> {
        if got < self.threshold {
            return Err(TrustError::TooFewSignatures { threshold: self.body.threshold, got });
        }
        Ok(())
    }

    /// Its signatures hold.
    fn trusted(self, bytes: &[u8], pin: Thumbprint) -> Result<Trust, TrustError> {
        let Self { body, roots, threshold, .. } = self;
        let issuers = keys(body.issuers.iter().map(|issuer| (&issuer.jwk, issuer.name.clone())))?;
        let (mut revoked_credentials, mut revoked_keys) = (BTreeSet::new(), BTreeSet::new());
        for revoked in &body.revoked {
            match revoked {
                Revoked::Credential { jti, .. } => revoked_credentials.insert(*jti),
                Revoked::Key { kid, .. } => revoked_keys.insert(*kid),
            };
        }
        let (body, digest, bytes) = (Arc::new(body), Digest::of(bytes), bytes.into());
        Ok(Trust { body, roots, threshold, issuers, revoked_credentials, revoked_keys, pin, bytes, digest })
    }
}

/// Keys by their thumbprints, each listed once, with what belongs to them.
fn keys<'a, T>(listed: impl Iterator<Item = (&'a Jwk, T)>) -> Result<BTreeMap<Thumbprint, (T, PublicKey)>, TrustError> {
    let mut keys = BTreeMap::new();
    for (jwk, owner) in listed {
        let key = PublicKey::try_from(jwk).map_err(TrustError::Key)?;
        let kid = key.thumbprint();
        if keys.insert(kid, (owner, key)).is_some() {
            return Err(TrustError::Duplicate { kid });
        }
    }
    Ok(keys)
}

/// The roots' signatures, one each and none checked yet.
fn by_root<'a, T>(
    bundle: &'a Multisigned,
    roots: &BTreeMap<Thumbprint, T>,
) -> Result<BTreeMap<Thumbprint, &'a jws::Signature>, TrustError> {
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

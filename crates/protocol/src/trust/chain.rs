//! The chain of versions: each is signed by the roots of the one before it and by its own (section 7).

use std::collections::BTreeMap;

use super::{Trust, TrustError, Unverified, by_root};
use crate::key::Thumbprint;

impl Trust {
    /// Verifies the next version: one more than this one, of this realm, signed by the threshold of this version's roots and
    /// by that of its own. This one may have expired: it proves the next and nothing else.
    pub fn successor(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let next = Unverified::read(bytes)?;
        self.refuse_other_realm(&next)?;
        if Some(next.body.version) != self.version().checked_add(1) {
            return Err(TrustError::NotNext { got: next.body.version, accepted: self.version() });
        }
        self.superseded(next, bytes)
    }

    /// What a receiver starts with. `file` is the bundle that a person put there, and `remembered` the one that it accepted
    /// last under this pin, as [`bytes`](Self::bytes) gave it: a file of its own, which nobody else can write to.
    ///
    /// Without the latter the pin decides. With it the file counts only if it is newer and signed by the roots of what is
    /// remembered, versions between them left out or not: the pinned root itself may have been replaced meanwhile.
    pub fn at_start(file: &[u8], remembered: Option<&[u8]>, pin: Thumbprint) -> Result<Self, TrustError> {
        let Some(remembered) = remembered else { return Self::verify(file, pin) };
        let remembered = Self::remembered(remembered, pin)?;
        let given = Unverified::read(file)?;
        remembered.refuse_other_realm(&given)?;
        if given.body.version <= remembered.version() {
            return Ok(remembered);
        }
        remembered.superseded(given, file)
    }

    /// What was accepted before, and written where nobody else can write: by its own roots.
    pub fn remembered(bytes: &[u8], pin: Thumbprint) -> Result<Self, TrustError> {
        let unverified = Unverified::read(bytes)?;
        let signatures = by_root(&unverified.bundle, &unverified.roots)?;
        for (kid, signature) in &signatures {
            unverified.check(&unverified.roots, kid, signature)?;
        }
        unverified.meets_own_threshold(signatures.len())?;
        unverified.trusted(bytes, pin)
    }

    fn refuse_other_realm(&self, other: &Unverified) -> Result<(), TrustError> {
        if other.body.realm == *self.realm() {
            return Ok(());
        }
        Err(TrustError::Realm { expected: self.realm().clone(), got: other.body.realm.clone() })
    }

    /// A later version that the thresholds of both have signed.
    fn superseded(&self, next: Unverified, bytes: &[u8]) -> Result<Self, TrustError> {
        let all: BTreeMap<Thumbprint, _> =
            self.roots.iter().chain(&next.roots).map(|(kid, key)| (*kid, *key)).collect();
        let signatures = by_root(&next.bundle, &all)?;
        // Those of this version first: who cannot sign for it can make nobody check more than these.
        let (before, new): (Vec<_>, Vec<_>) = signatures.iter().partition(|(kid, _)| self.roots.contains_key(kid));
        if before.len() < self.threshold {
            let (accepted, threshold) = (self.version(), self.threshold);
            return Err(TrustError::NotByPredecessor { accepted, threshold, got: before.len() });
        }
        for (kid, signature) in before.into_iter().chain(new) {
            next.check(&all, kid, signature)?;
        }
        next.meets_own_threshold(signatures.keys().filter(|kid| next.roots.contains_key(kid)).count())?;
        next.trusted(bytes, self.pin)
    }
}

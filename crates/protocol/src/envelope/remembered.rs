//! Credentials whose issuer's signature was verified once (section 6).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::credential::Credential;
use crate::time::Millis;

/// A bounded set of verified credentials, by their exact bytes. At the bound the one that expires first makes room.
#[derive(Debug)]
pub(super) struct Remembered {
    most: usize,
    by_bytes: HashMap<Arc<str>, Credential>,
    by_expiry: BTreeSet<(Millis, Arc<str>)>,
}

impl Remembered {
    /// Room for so many, and for one at least.
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_bytes: HashMap::new(), by_expiry: BTreeSet::new() }
    }

    pub(super) fn find(&self, raw: &str) -> Option<Credential> {
        self.by_bytes.get(raw).cloned()
    }

    pub(super) fn add(&mut self, credential: &Credential) {
        let raw = credential.raw();
        if self.by_bytes.contains_key(raw) {
            return;
        }
        if self.by_bytes.len() >= self.most
            && let Some((_, first)) = self.by_expiry.pop_first()
        {
            self.by_bytes.remove(&first);
        }
        self.by_expiry.insert((credential.expires_at(), Arc::clone(raw)));
        self.by_bytes.insert(Arc::clone(raw), credential.clone());
    }
}

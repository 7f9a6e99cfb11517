//! The trust bundle on disk and at the broker (section 7).

use std::sync::Arc;

use countersign_keys::keep_trust;
use countersign_machine::client::Step;
use countersign_protocol::trust::Trust;

use super::{Shell, now};

impl Shell {
    /// Puts a trust bundle in force, once it is on the disk.
    pub(super) fn keep_trust(&mut self, trust: Arc<Trust>) -> Step {
        match keep_trust(&self.accepted, &trust) {
            Ok(()) => {
                self.verifier.set_trust(Arc::clone(&trust));
                self.machine.trust_kept(trust, now())
            }
            Err(error) => self.machine.trust_not_kept(&error.what(), now()),
        }
    }
}

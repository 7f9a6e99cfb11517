//! The trust bundle on disk and at the broker (section 7).

use std::sync::Arc;
use std::time::Duration;

use countersign_keys::keep_trust;
use countersign_protocol::trust::{StoredTrust, Trust};
use tokio::time::timeout;

use crate::operator::{Operator, now};

/// How long what was published before is waited for when an operator connects: several round trips of a slow line. A broker
/// that withholds it only delays.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Operator {
    /// The trust bundle in force.
    pub fn trust(&self) -> &Arc<Trust> {
        self.machine.trust()
    }

    /// Takes the versions that were published before, so that nobody who was revoked is believed.
    pub(crate) async fn catch_up_trust(&mut self) {
        let all = async {
            while let Some(version) = self.trust().version().checked_add(1) {
                let answer = self.link.stored_trust(&self.realm, version).await;
                let effects = self.machine.trust_answered(answer, now());
                self.apply(effects);
                if self.trust().version() != version {
                    break;
                }
            }
        };
        if timeout(CATCH_UP, all).await.is_err() {
            self.machine.trust_missed(now());
        }
    }

    pub(crate) fn trust_answered(&mut self, answer: StoredTrust) {
        let effects = self.machine.trust_answered(answer, now());
        self.apply(effects);
    }

    /// Puts a trust bundle in force, once it is on the disk, or for this process where it cannot be written.
    pub(crate) fn keep_trust(&mut self, trust: Arc<Trust>) {
        if let Some(accepted) = &self.accepted
            && let Err(error) = keep_trust(accepted, &trust)
        {
            self.notice(false, format!("the new trust bundle is in force for this process only: {}", error.what()));
        }
        self.verifier.set_trust(Arc::clone(&trust));
        self.live.set_trust(Arc::clone(&trust));
        let effects = self.machine.trust_kept(trust, now());
        self.apply(effects);
    }
}

//! The operator's trust bundle, and the versions that follow it (section 7).

use std::sync::Arc;

use countersign_protocol::envelope::Reason;
use countersign_protocol::trust::{StoredTrust, Trust};

use super::operator::emit;
use super::{Effect, Ignored, Now, Operator, Update};
use crate::trust::Taken;

impl Operator {
    /// The bundle in force.
    pub fn trust(&self) -> &Arc<Trust> {
        self.follower.trust()
    }

    /// There is a connection, or messages were lost: what was published meanwhile is asked for.
    pub fn trust_missed(&mut self, now: Now) {
        self.follower.missed(now.millis());
    }

    /// Takes a trust bundle that arrived on the subject of a version.
    pub fn trust_bundle(&mut self, version: u64, bytes: &[u8], now: Now) -> Vec<Effect> {
        let taken = self.follower.take(version, bytes, now.millis());
        self.trust_taken(taken)
    }

    /// Takes what came of [`Effect::FetchTrust`].
    pub fn trust_answered(&mut self, answer: StoredTrust, now: Now) -> Vec<Effect> {
        let taken = self.follower.answered(answer, now.millis());
        taken.map(|taken| self.trust_taken(taken)).unwrap_or_default()
    }

    /// The bundle of [`Effect::KeepTrust`] is in force from now on, written where it can be. What rests on a credential that
    /// it does not vouch for is no longer believed.
    pub fn trust_kept(&mut self, trust: Arc<Trust>, now: Now) -> Vec<Effect> {
        if !self.follower.apply(trust, now.millis()) {
            return Vec::new();
        }
        let trust = Arc::clone(self.trust());
        self.pending.values_mut().for_each(|pending| pending.set_trust(&trust));
        self.roster.forget_unvouched(&trust);
        let roster = &self.roster;
        self.alive.retain(|client, _| roster.entry(client).is_some());
        let version = trust.version();
        let (alarm, text) = match self.identity().credential().vouched_for(&trust) {
            Ok(()) => (false, format!("version {version} of the trust bundle is in force")),
            Err(why) => {
                let name = self.identity().name();
                (
                    true,
                    format!(
                        "version {version} of the trust bundle does not vouch for {name}, who can command nothing: {why}"
                    ),
                )
            }
        };
        vec![emit(Update::Notice { client: None, alarm, text })]
    }

    fn trust_taken(&mut self, taken: Taken) -> Vec<Effect> {
        let refused = |why: &str| format!(": a trust bundle, {why}");
        match taken {
            Taken::Known | Taken::Gap => Vec::new(),
            Taken::Next(trust) => vec![Effect::KeepTrust(trust)],
            Taken::Refused(error) => self.ignore(Ignored::Rejected(Reason::Trust), None, &refused(&error.to_string())),
            Taken::TooMany => {
                self.ignore(Ignored::Rejected(Reason::Trust), None, &refused("one of more than are verified"))
            }
        }
    }
}

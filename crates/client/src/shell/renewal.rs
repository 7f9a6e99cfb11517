//! The client's next credential: on disk, or from the issuer over the bus (section 7).

use countersign_machine::client::Step;
use countersign_protocol::credential::{Credential, Role};
use countersign_protocol::envelope::Signed;
use countersign_protocol::renewal::Renewal;
use countersign_protocol::subject;

use super::{Shell, now};

impl Shell {
    /// Takes a credential that somebody has put on the disk meanwhile, or asks the issuer for one. What cannot be written is not
    /// asked for.
    pub(super) fn renew(&mut self, request: Signed) -> Option<Step> {
        let files = self.files.as_ref()?;
        let (present, trust, at) = (self.machine.credential(), self.machine.trust(), self.machine.time(now()));
        match files.newer(present, trust, at, self.skew) {
            Some(credential) => Some(self.renewed(credential)),
            None => {
                self.link.publish(request, None);
                None
            }
        }
    }

    /// Another credential may be of other groups.
    fn renewed(&mut self, credential: Credential) -> Step {
        let step = self.machine.renewed(credential, now());
        self.link.resubscribe(subscriptions(self.machine.credential()));
        step
    }

    /// Puts the issuer's answer in force, once it is on the disk.
    pub(super) fn keep_renewal(&mut self, renewal: &Renewal) -> Option<Step> {
        Some(match self.files.as_ref()?.keep(renewal) {
            Ok(()) => self.renewed(renewal.credential().clone()),
            Err(error) => self.machine.not_renewed(&error.what()),
        })
    }
}

/// What a client with this credential subscribes to.
pub(super) fn subscriptions(credential: &Credential) -> Vec<String> {
    let (realm, name) = (credential.realm(), credential.name());
    let mut subscriptions = subject::subscriptions(realm, name, credential.groups());
    subscriptions.push(subject::every_trust_bundle(realm));
    subscriptions.push(subject::renewal_answer(realm, Role::Client, name));
    subscriptions
}

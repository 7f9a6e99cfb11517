//! The operator's next credential, which a process that runs for long asks the issuer for (section 7).

use std::sync::Arc;

use countersign_protocol::credential::Credential;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::limits::SKEW;
use countersign_protocol::renewal::Answered;
use countersign_protocol::text::escape;

use super::operator::emit;
use super::{Effect, Now, Operator, Update};
use crate::renewal::Renewer;

impl Operator {
    /// Asks for the next credential from now on. There is a connection.
    pub fn begin_renewals(&mut self, now: Now) {
        let mut seed = [0; 16];
        seed.copy_from_slice(&self.setup.seed[16..]);
        self.renewer = Some(Renewer::new(self.identity().credential(), seed, now.millis()));
        self.connected_renewals(true, now);
    }

    /// There is a connection, or there is none.
    pub(super) fn connected_renewals(&mut self, is_connected: bool, now: Now) {
        if let Some(renewer) = &mut self.renewer {
            renewer.connected(is_connected);
            renewer.observe(now.wall, now.millis());
        }
    }

    /// Asks for the next credential, where that is due.
    pub(super) fn ask_renewal(&mut self, now: Now) -> Option<Effect> {
        let request = self.renewer.as_mut()?.ask(&self.setup.identity, now.wall, now.millis())?;
        Some(Effect::Renew(request))
    }

    /// Takes what arrived as an answer to that. Nothing has changed before it is written. What is no answer to the latest request is
    /// passed over.
    pub fn renewal_answer(&mut self, delivery: &Delivery, now: Now) -> Vec<Effect> {
        let Some(renewer) = &mut self.renewer else { return Vec::new() };
        match renewer.answered(delivery, &self.setup.identity, self.follower.trust(), now.wall, SKEW) {
            Ok(Answered::Renewed(renewal)) => vec![Effect::KeepRenewal(Box::new(renewal))],
            Ok(Answered::Refused(error)) => {
                self.report_not_renewed(format!("{}, {}", error.code, escape(&error.message)))
            }
            Err(_) => Vec::new(),
        }
    }

    /// A newer credential of its key is on the disk, and what is signed from now on is signed under it. Anything else is passed
    /// over.
    pub fn renewed(&mut self, credential: Credential, now: Now) -> Vec<Effect> {
        if !self.identity().credential().is_succeeded_by(&credential) {
            return Vec::new();
        }
        let Ok(identity) = self.identity().with(credential) else { return Vec::new() };
        let until = identity.credential().expires_at().utc();
        let text = format!("the credential of {} is renewed until {until}", identity.name());
        if let Some(renewer) = &mut self.renewer {
            renewer.renewed(identity.credential());
            renewer.observe(now.wall, now.millis());
        }
        self.not_renewed = None;
        self.setup.identity = Arc::new(identity);
        self.pending.values_mut().for_each(|pending| pending.set_identity(&self.setup.identity));
        vec![emit(Update::Notice { client: None, alarm: false, text })]
    }

    /// The credential of [`Effect::KeepRenewal`] could not be written: the one before stays, and it is asked for again.
    pub fn not_renewed(&mut self, why: &str) -> Vec<Effect> {
        self.report_not_renewed(format!("it cannot be written: {why}"))
    }

    /// Reports once why it is not renewed.
    fn report_not_renewed(&mut self, why: String) -> Vec<Effect> {
        if self.not_renewed.as_ref() == Some(&why) {
            return Vec::new();
        }
        let text = format!("the credential of {} is not renewed: {why}", self.identity().name());
        self.not_renewed = Some(why);
        vec![emit(Update::Notice { client: None, alarm: false, text })]
    }
}

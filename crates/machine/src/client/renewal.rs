//! The client's next credential, which it asks the issuer for while it runs (section 7).

use std::sync::Arc;

use countersign_protocol::credential::Credential;
use countersign_protocol::envelope::{Delivery, Reason};
use countersign_protocol::renewal::Answered;
use countersign_protocol::text::escape;

use super::effect::{Effect, Level, Note, Step};
use super::{Client, Moment, Now};

impl Client {
    /// Its own credential.
    pub fn credential(&self) -> &Credential {
        self.outbox.identity().credential()
    }

    /// Asks for the next credential, where that is due.
    pub(super) fn ask_renewal(&mut self, moment: Moment, step: &mut Step) {
        let request = self.renewer.ask(self.outbox.identity(), moment.now, moment.since_boot);
        step.effects.extend(request.map(Effect::Renew));
    }

    /// Takes what arrived as an answer to that. Nothing has changed before it is written.
    pub fn renewal_answer(&mut self, delivery: &Delivery, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let (identity, trust) = (self.outbox.identity(), self.follower.trust());
        match self.renewer.answered(delivery, identity, trust, moment.now, self.limits.skew) {
            Ok(Answered::Renewed(renewal)) => step.effects.push(Effect::KeepRenewal(Box::new(renewal))),
            Ok(Answered::Refused(error)) => {
                self.report_not_renewed(format!("{}, {}", error.code, escape(&error.message)), &mut step);
            }
            // An issuer's late answer, to a request that was made again.
            Err(rejected) if rejected.reason == Reason::Repeat => {}
            Err(rejected) if rejected.reason == Reason::Address && rejected.signer.is_some() => {}
            Err(rejected) => self.drop(&rejected, moment, &mut step),
        }
        step
    }

    /// A newer credential of its key is on the disk, and what is signed from now on is signed under it. Anything else is passed
    /// over.
    pub fn renewed(&mut self, credential: Credential, now: Now) -> Step {
        let mut step = Step::default();
        if !self.credential().is_succeeded_by(&credential) {
            return step;
        }
        let Ok(identity) = self.outbox.identity().with(credential) else { return step };
        let text = format!("renewed until {}", identity.credential().expires_at().utc());
        step.effects.push(Effect::Log(Note { level: Level::Info, text }));
        self.renewer.renewed(identity.credential());
        self.not_renewed = None;
        self.outbox.set_identity(Arc::new(identity));
        let moment = self.observe(now, &mut step);
        self.presence(moment, &mut step);
        step
    }

    /// The credential of [`Effect::KeepRenewal`] could not be written: the one before stays, and it is asked for again.
    pub fn not_renewed(&mut self, why: &str) -> Step {
        let mut step = Step::default();
        self.report_not_renewed(format!("it cannot be written: {why}"), &mut step);
        step
    }

    /// Reports once why it is not renewed.
    fn report_not_renewed(&mut self, why: String, step: &mut Step) {
        if self.not_renewed.as_ref() != Some(&why) {
            let text = format!("this client's credential is not renewed: {why}");
            step.effects.push(Effect::Log(Note { level: Level::Warn, text }));
            self.not_renewed = Some(why);
        }
    }
}

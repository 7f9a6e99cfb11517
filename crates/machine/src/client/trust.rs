//! The client's trust bundle, and the versions that follow it (section 7).

use std::sync::Arc;

use countersign_protocol::ending::Ending;
use countersign_protocol::envelope::{Reason, Rejected};
use countersign_protocol::event::SecurityReason;
use countersign_protocol::trust::{StoredTrust, Trust};

use super::effect::{Effect, Level, Note, Step};
use super::{Client, Moment, Now};
use crate::trust::Taken;

impl Client {
    /// The bundle in force.
    pub fn trust(&self) -> &Arc<Trust> {
        self.follower.trust()
    }

    /// There is a connection: what was published meanwhile is asked for.
    pub fn connected(&mut self, now: Now) {
        self.follower.connected(now.since_boot);
        self.renewer.connected(true);
    }

    /// There is no connection any more.
    pub fn disconnected(&mut self) {
        self.renewer.connected(false);
    }

    /// Takes a trust bundle that arrived on the subject of a version.
    pub fn trust_bundle(&mut self, version: u64, bytes: &[u8], now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let taken = self.follower.take(version, bytes, moment.since_boot);
        self.trust_taken(taken, moment, &mut step);
        step
    }

    /// Takes what came of [`Effect::FetchTrust`].
    pub fn trust_answered(&mut self, answer: StoredTrust, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        if let Some(taken) = self.follower.answered(answer, moment.since_boot) {
            self.trust_taken(taken, moment, &mut step);
        }
        step
    }

    /// The bundle of [`Effect::KeepTrust`] is on disk: it is in force from now on, for every command that was not carried out
    /// before.
    pub fn trust_kept(&mut self, trust: Arc<Trust>, now: Now) -> Step {
        let mut step = Step::default();
        let mut moment = self.observe(now, &mut step);
        if self.follower.apply(trust, moment.since_boot) {
            let (version, until) = (self.trust().version(), self.trust().expires_at().utc());
            let text = format!("version {version} of the trust bundle is in force, until {until}");
            step.effects.push(Effect::Log(Note { level: Level::Info, text }));
            self.trust_warned = false;
            moment = self.observe(now, &mut step);
            self.presence(moment, &mut step);
        }
        step
    }

    /// The bundle of [`Effect::KeepTrust`] could not be written: the one before stays in force, and it is asked for again.
    pub fn trust_not_kept(&mut self, why: &str, now: Now) -> Step {
        self.follower.missed(now.since_boot);
        let text = format!("a new trust bundle is not in force, because it cannot be written: {why}");
        Step { effects: vec![Effect::Log(Note { level: Level::Warn, text })], ..Step::default() }
    }

    fn trust_taken(&mut self, taken: Taken, moment: Moment, step: &mut Step) {
        match taken {
            Taken::Known | Taken::Gap => {}
            Taken::Next(trust) => step.effects.push(Effect::KeepTrust(trust)),
            Taken::Refused(error) => self.drop_bundle(error.to_string(), moment, step),
            Taken::TooMany => self.drop_bundle("more trust bundles than are verified".to_owned(), moment, step),
        }
    }

    fn drop_bundle(&mut self, why: String, moment: Moment, step: &mut Step) {
        self.drop(&Rejected::new(Reason::Trust, None, why), moment, step);
    }

    /// Asks for the next version, where that is due.
    pub(super) fn fetch_trust(&mut self, moment: Moment, step: &mut Step) {
        step.effects.extend(self.follower.fetch(moment.since_boot).map(Effect::FetchTrust));
    }

    /// Reports once that the bundle ends soon, and that it has.
    pub(super) fn observe_trust(&mut self, moment: Moment, step: &mut Step) {
        let term = self.trust().term();
        let renew = "`countersign init` where root.pem is renews it, and `countersign trust publish` brings it here";
        let expired = self.trust().is_expired(moment.now);
        let mut warn = |text| step.effects.push(Effect::Log(Note { level: Level::Warn, text }));
        if expired && !self.trust_expired {
            warn(format!(
                "the trust bundle has expired on {}: only queries and `terminate` are obeyed until there is a newer \
                 one; {renew}",
                term.until().utc()
            ));
        } else if term.ends_soon(moment.now) && !self.trust_warned {
            self.trust_warned = true;
            warn(Ending::Trust.sentence(term));
        }
        if expired && !self.trust_expired {
            self.alarm(SecurityReason::Trust, 1, None, moment, step);
        }
        self.trust_expired = expired;
    }
}

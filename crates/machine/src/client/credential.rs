//! The client's own credential: a command whose reply could not be verified is not executed (section 6).

use countersign_protocol::credential::Credential;
use countersign_protocol::ending::{Ending, RENEW};
use countersign_protocol::envelope::{Reason, Rejected};
use countersign_protocol::event::SecurityReason;

use super::effect::{Effect, Level, Note, Step};
use super::refusal::Rejection;
use super::{Client, Moment};

/// Where the client's own credential stands, by the client's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    InForce,
    /// It is in force, and its holder has been warned of its end.
    Ending,
    /// It is not in force: commands have no effect.
    Over,
}

impl Client {
    /// Whether its own credential is in force: without that nothing it signs can be verified, and it executes nothing.
    pub fn is_in_force(&self) -> bool {
        self.standing != Standing::Over
    }

    /// A command that cannot be answered provably is dropped, queries and `terminate` too.
    pub(super) fn can_prove(&self) -> Result<(), Rejection> {
        if self.is_in_force() {
            return Ok(());
        }
        let detail = "this client's own credential is not in force";
        Err(Rejection::Drop(Rejected::new(Reason::Credential, None, detail)))
    }

    /// A command may have been opened under the trust bundle before this one.
    pub(super) fn still_vouched_for(&self, operator: &Credential) -> Result<(), Rejection> {
        let vouched = operator.vouched_for(self.trust());
        vouched.map_err(|error| Rejection::Drop(Rejected::new(Reason::Credential, None, error.to_string())))
    }

    /// Looks at the client's own credential, and reports once what has changed: a warning before the end, and at the end an
    /// event too, which receivers take until the skew is over.
    pub(super) fn observe_credential(&mut self, moment: Moment, step: &mut Step) {
        let credential = self.outbox.identity().credential();
        let term = credential.term();
        let until = term.until();
        let refused = credential.vouched_for(self.trust()).err();
        let standing = if refused.is_some() || !credential.is_in_force(moment.now, self.limits.skew) {
            Standing::Over
        } else if moment.now >= term.warns_at() {
            Standing::Ending
        } else {
            Standing::InForce
        };
        let next = match standing {
            Standing::InForce => term.warns_at(),
            Standing::Ending => until,
            Standing::Over => until.max(moment.now),
        };
        let left = next.since(moment.now);
        self.standing_until = if left > 0 { moment.since_boot.saturating_add(left) } else { i64::MAX };
        if std::mem::replace(&mut self.standing, standing) == standing {
            return;
        }
        // Under a bundle that revokes it, an event of its own would count for nothing.
        let is_to_be_reported = standing == Standing::Over && refused.is_none();
        let name = self.outbox.identity().name();
        let (level, text) = match (standing, refused) {
            (Standing::Over, Some(error)) => (
                Level::Warn,
                format!(
                    "the credential of {name} is not in force under version {} of the trust bundle: {error}. Its answers \
                     cannot be verified, so no command is carried out. If that is not meant: issue {name} a new credential, \
                     and put it here",
                    self.trust().version()
                ),
            ),
            (Standing::Over, None) => (
                Level::Warn,
                format!(
                    "the credential of {name} is not in force (it ends on {}): its answers cannot be verified, so no \
                     command is carried out, and jobs that run end on record only; {RENEW}",
                    until.utc()
                ),
            ),
            (Standing::Ending, _) => (Level::Warn, Ending::Client(name).sentence(term)),
            (Standing::InForce, _) => (Level::Info, format!("the credential of {name} is in force")),
        };
        step.effects.push(Effect::Log(Note { level, text }));
        if is_to_be_reported {
            self.alarm(SecurityReason::Credential, 1, None, moment, step);
        }
    }
}

//! The straight line of section 9, from an authentic command to its effects. Each stage has a module of its own and
//! takes one type to a stronger one, whose fields only that module sees: a command that skipped a stage cannot be recorded,
//! and one that was not recorded cannot be applied, because neither compiles.

mod address;
mod authorise;
mod decide;
mod fresh;
mod record;
mod validate;

use std::sync::Arc;

use countersign_protocol::command::{Command, CommandKind};
use countersign_protocol::envelope::Authentic;
use countersign_protocol::time::Millis;

pub(super) use self::address::LocalIdentity;
use self::address::address;
use self::authorise::authorise;
pub(super) use self::decide::OwnCommand;
use self::decide::{Capacity, decide};
use self::fresh::{Freshness, fresh};
pub use self::record::Execution;
pub(super) use self::record::{Action, Recorded};
use self::validate::{Valid, validate};
use super::effect::Step;
use super::refusal::Rejection;
use super::{Client, EpochStart, Limits, Moment};

impl Client {
    /// From the eighth stage of section 9 on; the ones before are `Verifier::open`'s.
    pub(super) fn run_pipeline(
        &mut self,
        command: Authentic<Command>,
        moment: Moment,
        step: &mut Step,
    ) -> Result<(), Rejection> {
        let catalogue = Arc::clone(&self.catalogue);
        let operator = command.credential().clone();
        let addressed = address(command, &self.local_identity(), moment.now, self.limits.skew)?;
        self.still_vouched_for(&operator)?;
        self.can_prove()?;
        if self.knows(addressed.started()) {
            return self.repeat(addressed.into_started(), moment, step);
        }
        let authorised = authorise(addressed, &self.local_identity())?;
        let fresh = fresh(authorised, &self.freshness(moment.now))?;
        let valid = validate(fresh, &catalogue, self.trust_expired)?;
        let capacity = self.capacity(&valid);
        let decided = decide(valid, &capacity)?;
        let recorded = self.record(decided, step);
        self.apply(recorded, moment, step);
        Ok(())
    }

    fn local_identity(&self) -> LocalIdentity<'_> {
        let identity = self.outbox.identity();
        LocalIdentity { realm: self.trust().realm(), name: identity.name(), groups: identity.credential().groups() }
    }

    fn freshness(&self, now: Millis) -> Freshness {
        let Limits { skew, max_ttl, .. } = self.limits;
        let EpochStart { epoch, since, .. } = self.epoch_start;
        Freshness { now, skew, max_ttl, epoch, since, is_assured: self.is_assured(now) }
    }

    fn capacity(&mut self, valid: &Valid) -> Capacity {
        let (operator, kind) = (valid.operator(), valid.kind());
        Capacity {
            running: self.records.running().filter(|record| record.command() == valid.command()).count(),
            state: self.state,
            free_slots: self.running_jobs() < self.limits.jobs,
            slots: self.limits.jobs,
            room: kind == CommandKind::Query || self.records.make_room(operator, kind == CommandKind::Control),
            writable: self.parked.is_empty(),
        }
    }
}

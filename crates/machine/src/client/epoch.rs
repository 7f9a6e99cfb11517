//! A new epoch while the client runs, because its clock was set; and the marks by which the next start knows how late it was
//! (section 8).

use countersign_protocol::digest::Digest;
use countersign_protocol::event::SecurityReason;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::UNSYNCED;
use countersign_protocol::time::{Millis, span};

use super::clock::Set;
use super::effect::{Effect, Level, Note, Step};
use super::journal::{Entry, EpochStart};
use super::{Client, Moment};

/// How often the client's time is recorded, in milliseconds. What is left to [`UNSYNCED`] is for the disk to take it.
pub(super) const MARK_EVERY: i64 = 10_000;

/// What the journal states about the client's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    epoch: Uuid,
    at: Millis,
}

impl Entry {
    /// Whether it is about the clock alone: no reply depends on it.
    pub(super) fn is_of_clock(&self) -> bool {
        matches!(self, Self::EpochStarted(_) | Self::Mark { .. })
    }

    /// What it states about the client's time: it is to be synced soon, and then reported to [`Client::synced`].
    pub fn mark(&self, client: &Client) -> Option<Mark> {
        let epoch = client.epoch();
        match self {
            Self::EpochStarted(epoch_start) => Some(Mark { epoch: epoch_start.epoch, at: epoch_start.at }),
            Self::Mark { at } => Some(Mark { epoch, at: *at }),
            Self::Started(_) | Self::Interim { .. } | Self::Finished(_) => None,
        }
    }
}

impl Client {
    /// A mark, and all that was recorded before it, is safely on the disk.
    pub fn synced(&mut self, mark: Mark) {
        if mark.epoch == self.epoch_start.epoch {
            self.synced = mark.at;
        }
    }

    /// Whether the next start is sure to know that it was this late, whatever the disk may lose until then.
    pub(super) fn is_assured(&self, now: Millis) -> bool {
        now <= self.synced.plus(UNSYNCED)
    }

    pub(super) fn mark_if_due(&mut self, moment: Moment, step: &mut Step) {
        if moment.since_boot >= self.mark_at {
            self.mark_at = moment.since_boot.saturating_add(MARK_EVERY);
            step.entries.push(Entry::Mark { at: moment.now });
        }
    }

    /// The clock was set. What was sent before can no longer be distinguished from what was sent after by its time: nothing
    /// from before runs any more.
    pub(super) fn begin_epoch(&mut self, set: Set, moment: Moment, step: &mut Step) {
        let before = &self.epoch_start;
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(before.epoch.as_bytes());
        seed[16..].copy_from_slice(self.outbox.boot().as_bytes());
        let mut unique = [0; 16];
        unique.copy_from_slice(&Digest::of(&seed).as_bytes()[..16]);
        let epoch = Uuid::from_random(unique);
        let since = before.since.max(set.mark).max(moment.now);
        self.epoch_start = EpochStart { at: moment.now, epoch, since, trust: self.trust().version() };
        // Until the disk has this entry, the next start may find what was there before it.
        self.synced = self.synced.min(moment.now);
        self.outbox.begin_epoch(epoch);
        self.records.begin_epoch(moment.now);
        self.queries.begin_epoch(moment.now);
        step.entries.push(Entry::EpochStarted(self.epoch_start.clone()));
        self.report_clock(set.by, moment, step);
        self.presence(moment, step);
    }

    /// Reports by a log line and a security event that the clock was set, and what it means.
    pub(super) fn report_clock(&mut self, by: i64, moment: Moment, step: &mut Step) {
        self.alarm(SecurityReason::Clock, 1, None, moment, step);
        let direction = if by < 0 { "back" } else { "ahead" };
        let distance = span(by.saturating_abs());
        let left = span(self.epoch_start.since.plus(self.limits.skew).since(moment.now));
        let text = format!(
            "the clock was set {direction} by {distance}: a new epoch begins, and commands that do not name it are refused \
             as `starting` for {left}, after which they are sent again under it; if the clock is wrong, set it right"
        );
        step.effects.push(Effect::Log(Note { level: Level::Warn, text }));
    }
}

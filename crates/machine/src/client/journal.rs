//! What a client remembers of the commands that it has decided on, and what of that lies on disk (section 8).

mod records;
mod retained_reply;
mod snapshot;

use countersign_protocol::envelope::Signed;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::{JOB_RETENTION, MAX_KEPT_REPLIES, MAX_RECORDS, UNSYNCED};
use countersign_protocol::name::Name;
use countersign_protocol::reply::Status;
use countersign_protocol::time::Millis;

use super::effect::JobKey;
use super::refusal::ReplyContext;

pub(super) use self::records::{Phase, Record, Records};
pub use self::snapshot::Part;

/// What the remembered answers to queries may take, in bytes.
pub(super) const MAX_QUERY_REPLIES: usize = 8 * 1_024 * 1_024;

/// One change of what is remembered. The journal on disk is a sequence of these, and [`Restored`] is their sum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// An epoch began: the process started, or its clock was set.
    EpochStarted(EpochStart),
    /// A command was decided on; nothing of it has happened yet.
    Started(Started),
    /// A reply that is not final was signed; this is its `seq`.
    Interim {
        /// The command.
        key: JobKey,
        /// The `seq` of the reply.
        seq: u64,
    },
    /// A command's final reply was signed.
    Finished(Finished),
    /// The clock was at least this far.
    Mark {
        /// The client's time.
        at: Millis,
    },
}

/// The begin of an epoch, and what holds from then on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EpochStart {
    /// The clock's time.
    pub at: Millis,
    /// The epoch.
    pub epoch: Uuid,
    /// Commands without an epoch that were issued up to then (plus skew) might be replays from before the epoch.
    pub since: Millis,
    /// The version of the accepted trust bundle; an older one is never accepted again.
    pub trust: u64,
}

/// A command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Started {
    /// Who sent the command, and where the replies go.
    pub reply_context: ReplyContext,
    /// The command's name.
    pub command: Name,
    /// Whether it is a job.
    pub long_running: bool,
    /// When it was decided on.
    pub at: Millis,
    /// When the command is `late`, and its record may be forgotten.
    pub until: Millis,
}

/// A command's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finished {
    /// The command.
    pub key: JobKey,
    /// When it ended.
    pub at: Millis,
    /// How it ended.
    pub status: Status,
    /// The final reply, where it is retained.
    pub reply: Option<Signed>,
}

/// What the journal on disk adds up to. It holds no more at any time than the client would: what may be forgotten by the time
/// that the journal has come to is forgotten while it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Restored {
    pub(super) epoch_start: Option<EpochStart>,
    pub(super) mark: Millis,
    pub(super) records: Records,
}

impl Default for Restored {
    /// Of a client that has never run, with the default retention.
    fn default() -> Self {
        Self::retaining(JOB_RETENTION)
    }
}

impl Restored {
    /// Of a client that has never run, and that remembers a job for so many milliseconds after its end.
    pub fn retaining(retain: i64) -> Self {
        let records = Records::new(MAX_RECORDS, MAX_KEPT_REPLIES - MAX_QUERY_REPLIES).retaining(retain);
        Self { epoch_start: None, mark: Millis::default(), records }
    }

    /// Adds the next entry of the journal. Entries that speak of an unknown command are passed over: its record was forgotten.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::EpochStarted(epoch_start) => {
                self.mark = epoch_start.at;
                self.epoch_start = Some(epoch_start);
            }
            Entry::Started(started) => {
                self.records.begin(started);
            }
            Entry::Interim { key, seq } => {
                if let Some(record) = self.records.find_mut(key) {
                    record.next_seq = seq.saturating_add(1);
                }
            }
            Entry::Finished(finished) => {
                self.records.end(finished);
            }
            Entry::Mark { at } => self.mark = self.mark.max(at),
        }
        self.records.purge(self.mark);
    }

    /// The latest moment at which an earlier run may have acted, which is the later of two: what the journal states, and
    /// what of it may be lost; and when its epoch began.
    pub(super) fn latest(&self) -> Option<Millis> {
        self.epoch_start.as_ref().map(|epoch_start| epoch_start.since.max(self.mark.plus(UNSYNCED)))
    }

    /// The version of the last trust bundle that was accepted.
    pub fn trust_version(&self) -> Option<u64> {
        self.epoch_start.as_ref().map(|epoch_start| epoch_start.trust)
    }
}

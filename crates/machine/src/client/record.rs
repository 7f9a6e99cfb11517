//! What a client remembers of the commands that it has decided on, and what of that lies on disk (section 8).

mod kept;
mod records;
mod snapshot;

use countersign_protocol::envelope::Signed;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::{MAX_KEPT_REPLIES, MAX_RECORDS, UNSYNCED};
use countersign_protocol::name::Name;
use countersign_protocol::reply::Status;
use countersign_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::effect::JobKey;
use super::refusal::ReplyContext;

pub(super) use self::records::{Phase, Record, Records};
pub use self::snapshot::Part;

/// What the remembered answers to queries may take, in bytes.
pub(super) const MAX_QUERY_REPLIES: usize = 8 * 1_024 * 1_024;

/// One change of the record. The log on disk is a sequence of these, and [`Restored`] is their sum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An epoch began: the process started, or its clock was set.
    Started(Started),
    /// A command was decided on; nothing of it has happened yet.
    Begun(Begun),
    /// A reply that is not final was signed; this is its `seq`.
    Interim {
        /// The command.
        key: JobKey,
        /// The `seq` of the reply.
        seq: u64,
    },
    /// A command's final reply was signed.
    Ended(Ended),
    /// The clock was at least this far. Earlier versions ended with one of another name.
    #[serde(alias = "stopped")]
    Mark {
        /// The client's time.
        at: Millis,
    },
}

/// The begin of an epoch, and what holds from then on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Started {
    /// What the clock said.
    pub at: Millis,
    /// The epoch.
    pub epoch: Uuid,
    /// Commands without an epoch that were issued up to then (plus skew) might be replays from before the epoch.
    pub since: Millis,
    /// The version of the accepted trust bundle; an older one is never accepted again.
    pub trust: u64,
}

/// A command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Begun {
    /// Who asked, and where the replies go.
    #[serde(rename = "asker")]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ended {
    /// The command.
    pub key: JobKey,
    /// When it ended.
    pub at: Millis,
    /// How it ended.
    pub status: Status,
    /// The final reply, where it is kept.
    pub reply: Option<Signed>,
}

/// What the log on disk adds up to. It holds no more at any time than the client would: what may be forgotten by the time
/// that the log has come to is forgotten while it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Restored {
    pub(super) started: Option<Started>,
    pub(super) mark: Millis,
    pub(super) records: Records,
}

impl Default for Restored {
    fn default() -> Self {
        let records = Records::new(MAX_RECORDS, MAX_KEPT_REPLIES - MAX_QUERY_REPLIES);
        Self { started: None, mark: Millis::default(), records }
    }
}

impl Restored {
    /// Adds the next entry of the log. Entries that speak of an unknown command are passed over: its record was forgotten.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Started(started) => {
                self.mark = started.at;
                self.started = Some(started);
            }
            Entry::Begun(begun) => {
                self.records.begin(begun);
            }
            Entry::Interim { key, seq } => {
                if let Some(record) = self.records.find_mut(key) {
                    record.next_seq = seq.saturating_add(1);
                }
            }
            Entry::Ended(ended) => {
                self.records.end(ended);
            }
            Entry::Mark { at } => self.mark = self.mark.max(at),
        }
        self.records.purge(self.mark);
    }

    /// The latest moment at which an earlier run may have acted, which is the later of two: what the record says, and what of
    /// it may be lost; and when its epoch began.
    pub(super) fn latest(&self) -> Option<Millis> {
        self.started.as_ref().map(|started| started.since.max(self.mark.plus(UNSYNCED)))
    }

    /// The version of the last trust bundle that was accepted.
    pub fn trust_version(&self) -> Option<u64> {
        self.started.as_ref().map(|started| started.trust)
    }
}

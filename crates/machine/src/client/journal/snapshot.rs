//! The whole record as entries, part by part: for a journal that is written beside the one in use.

use super::records::Record;
use super::{Entry, EpochStart};
use crate::client::Client;
use crate::client::effect::JobKey;

/// Some records, as they stood at one moment. It shares what it can with the client's own, so that it is made quickly; the
/// entries are made where it is read.
#[derive(Debug)]
pub struct Part(Vec<Record>);

impl Part {
    /// What a journal states about its records.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.0.iter().flat_map(Record::entries)
    }

    /// The last of its commands, which the next part begins after; `None` where nothing is left.
    pub fn last(&self) -> Option<JobKey> {
        self.0.last().map(Record::key)
    }
}

impl Client {
    /// What a journal begins with.
    pub fn epoch_started(&self) -> Entry {
        Entry::EpochStarted(EpochStart { at: self.clock.mark(), ..self.epoch_start.clone() })
    }

    /// The next records after a command, in the order of their keys, so many at most.
    ///
    /// A journal that has [`Self::epoch_started`], every part one after another, and then whatever was written since the
    /// first of these, adds up to the journal: an entry that occurs twice changes nothing.
    pub fn part(&self, after: Option<JobKey>, count: usize) -> Part {
        Part(self.records.after(after, count))
    }
}

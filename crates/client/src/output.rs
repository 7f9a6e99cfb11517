//! What jobs write (section 13): kept beside the journal, within bounds, for as long as the job is remembered.
//!
//! Nothing here fails a job. Where the disk takes no more, what is written goes on being counted and digested, and the report
//! says what is not kept.

mod excerpt;
mod file;
mod job;
mod store;

use std::fmt;
use std::sync::Arc;

use countersign_machine::client::JobKey;
use countersign_protocol::output::{OutputReport, Stream};

pub(crate) use self::store::{OutputStore, RESERVE};

/// How many bytes of each stream are kept, unless its command says otherwise: 1 MiB.
pub const MAX_OUTPUT: u64 = 1024 * 1024;

/// Where a job writes (section 13). Clones write to the same place.
#[derive(Clone)]
pub struct JobOutput {
    store: Arc<OutputStore>,
    key: JobKey,
}

impl JobOutput {
    pub(crate) fn new(store: Arc<OutputStore>, key: JobKey) -> Self {
        Self { store, key }
    }

    /// How many bytes of each stream are kept, beginning and end together; by default [`MAX_OUTPUT`], and 1 GiB at most. It has
    /// no effect once something was written.
    pub fn bound(&self, max_output: u64) {
        self.store.bound(self.key, max_output);
    }

    /// Writes to a stream. It never fails: what the disk does not take is counted and digested all the same.
    ///
    /// It returns once the operating system has the bytes, which is in no time for a few of them. Whoever writes much does it
    /// by `spawn_blocking`, or on a thread of its own.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        self.store.write(self.key, stream, bytes);
    }

    /// Ends both streams, and says what was written. What is written later is passed over. The client does this at the end of
    /// every job; a command does it where its result is to state it.
    pub fn finish(&self) -> OutputReport {
        self.store.finish(self.key)
    }
}

impl fmt::Debug for JobOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobOutput").field(&self.key).finish()
    }
}

//! Compacting the journal beside the loop that owns it.
//!
//! A thread writes the new file. First come the records, in parts that the loop makes of what it has, a few at a time; they
//! need not be of one moment, because behind them comes, copied from the journal in use, all that was appended to it since the
//! first part. Only when next to nothing is missing does the loop append the rest itself, and puts the new file in the old
//! one's place. Until then the old one is the journal, and whatever the thread does, it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use countersign_machine::client::{Entry, JobKey, Part};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::format::{self, MAGIC};
use super::length_of;

/// How many records the loop makes a part of: less than a millisecond of its time.
pub(super) const PART: usize = 256;
/// How much the loop appends itself, in bytes, at most.
const REST: u64 = 1024 * 1024;

/// A journal that is being written beside the one in use.
#[derive(Debug)]
pub(super) struct Compaction {
    path: PathBuf,
    tasks: Sender<Task>,
    requests: UnboundedReceiver<CompactionRequest>,
    /// The last command that a part was made of.
    after: Option<JobKey>,
}

/// What the loop gives the thread to do.
enum Task {
    Part(Part),
    /// Copy what was appended to the journal in use, up to this byte, and bring everything to the disk.
    Tail(u64),
    /// The new file has the old one's place: the folder is to go to the disk, and the old file to be closed, which takes a
    /// while.
    Close(PathBuf, File),
}

/// What the thread wants next.
#[derive(Debug)]
pub(crate) struct CompactionRequest(io::Result<Need>);

#[derive(Debug)]
enum Need {
    /// The next part.
    Part,
    /// More of the tail, or the signal that this is enough: so much of the journal in use is copied.
    Tail { copied: u64, file: File, length: u64 },
}

/// What a wish leads to.
pub(super) enum CompactionStep {
    /// It goes on.
    On,
    /// The new file, its length, and up to which byte of the journal in use it has everything.
    Done { file: File, length: u64, copied: u64 },
}

impl Compaction {
    /// Begins. `journal` is the one in use, of which so much is whole.
    pub(super) fn begin(path: PathBuf, log: &File, good: u64, started: &Entry) -> io::Result<Self> {
        remove(&path)?;
        let mut options = OpenOptions::new();
        // Not over one that the thread of another compaction may still write to.
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mut head = MAGIC.to_vec();
        format::write(started, &mut head)?;
        let (log, (tasks, for_thread), (next_request, requests)) = (log.try_clone()?, channel(), unbounded_channel());
        let writer = Writer { log, copied: good, length: 0, file, tasks: for_thread };
        thread::Builder::new().name("compaction".to_owned()).spawn(move || writer.run(&head, &next_request))?;
        Ok(Self { path, tasks, requests, after: None })
    }

    /// What the thread wants next. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next_request(&mut self) -> CompactionRequest {
        self.requests.recv().await.unwrap_or_else(|| CompactionRequest(Err(gone())))
    }

    /// Serves a request. So much of the journal in use is whole.
    pub(super) fn serve(
        &mut self,
        CompactionRequest(want): CompactionRequest,
        good: u64,
        part: impl FnOnce(Option<JobKey>) -> Part,
    ) -> io::Result<CompactionStep> {
        let task = match want? {
            Need::Part => {
                let part = part(self.after);
                match part.last() {
                    Some(last) => {
                        self.after = Some(last);
                        Task::Part(part)
                    }
                    None => Task::Tail(good),
                }
            }
            Need::Tail { copied, file, length } if good.saturating_sub(copied) <= REST => {
                return Ok(CompactionStep::Done { file, length, copied });
            }
            Need::Tail { .. } => Task::Tail(good),
        };
        self.tasks.send(task).map_err(|_| gone())?;
        Ok(CompactionStep::On)
    }

    /// The new file is in its place.
    pub(super) fn close(self, folder: &Path, old: File) {
        // A thread that is gone has nothing to close.
        let _ = self.tasks.send(Task::Close(folder.to_owned(), old));
    }

    /// Gives up.
    pub(super) fn give_up(self) {
        // It is removed before the next one.
        let _ = remove(&self.path);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what a compaction has left behind that did not come to its end.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies from one file to the end of another.
pub(super) fn copy(from: &File, start: u64, end: u64, to: &File, at: u64) -> io::Result<()> {
    let mut part = vec![0; 64 * 1024];
    let (mut from_at, mut to_at) = (start, at);
    while from_at < end {
        let wanted = part.len().min(usize::try_from(end - from_at).unwrap_or(usize::MAX));
        let (part, _) = part.split_at_mut(wanted);
        from.read_exact_at(part, from_at)?;
        to.write_all_at(part, to_at)?;
        from_at = from_at.saturating_add(length_of(part));
        to_at = to_at.saturating_add(length_of(part));
    }
    Ok(())
}

fn gone() -> io::Error {
    io::Error::other("the thread that compacts the journal is gone")
}

/// The thread's own.
struct Writer {
    log: File,
    copied: u64,
    file: File,
    length: u64,
    tasks: Receiver<Task>,
}

impl Writer {
    fn run(mut self, head: &[u8], requests: &UnboundedSender<CompactionRequest>) {
        let mut want = self.write(head).map(|()| Need::Part);
        loop {
            let failed = want.is_err();
            // The loop is gone, or has given up, where nobody takes it.
            if requests.send(CompactionRequest(want)).is_err() || failed {
                return;
            }
            want = match self.tasks.recv() {
                Ok(Task::Part(part)) => self.part(&part).map(|()| Need::Part),
                Ok(Task::Tail(end)) => self.tail(end),
                Ok(Task::Close(folder, old)) => {
                    // After a crash of the machine the old one may be there again, in an epoch that has ended.
                    let _ = File::open(folder).and_then(|folder| folder.sync_all());
                    drop(old);
                    return;
                }
                Err(_) => return,
            };
        }
    }

    fn part(&mut self, part: &Part) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(64 * 1024, &self.file);
        let mut bytes = Vec::new();
        for entry in part.entries() {
            bytes.clear();
            format::write(&entry, &mut bytes)?;
            writer.write_all(&bytes)?;
            self.length = self.length.saturating_add(length_of(&bytes));
        }
        writer.flush()
    }

    fn tail(&mut self, end: u64) -> io::Result<Need> {
        copy(&self.log, self.copied, end, &self.file, self.length)?;
        self.length = self.length.saturating_add(end.saturating_sub(self.copied));
        self.copied = end;
        self.file.sync_all()?;
        Ok(Need::Tail { copied: end, file: self.file.try_clone()?, length: self.length })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length = self.length.saturating_add(length_of(bytes));
        Ok(())
    }
}

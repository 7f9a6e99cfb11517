//! The journal on disk (section 8): an append-only sequence of the machine's entries, in a folder that one client holds.
//!
//! [`mod@format`] says what it looks like. One turn of the client is one write. It goes to the operating system before anything of that turn happens, which survives a crash of the process at any instant without an fsync. A crash of the machine
//! may lose the last seconds: the next start begins another epoch, in which nothing that was lost can run again. What that
//! epoch rests on, the client's time, is brought to the disk when a run begins and then beside the loop ([`sync`]).

mod compaction;
mod format;
mod load;
mod look;
mod space;
pub(crate) mod sync;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::pending;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign_keys::{KeyFileError, accepted_after, refuse_exposed, shell_word};
use countersign_machine::client::{Entry, JobKey, Part, Restored};
use countersign_protocol::name::Name;
use countersign_protocol::text::escape;
use countersign_protocol::trust::Trust;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

pub(crate) use self::compaction::CompactionRequest;
use self::compaction::{Compaction, CompactionStep};
pub use self::look::{StateReport, look_at_state};
use self::space::{END, Space};

/// A record shorter than this is not compacted.
const WORTH_COMPACTING: u64 = 16 * 1024 * 1024;

/// A client's folder, which no other process has while this value is there.
#[derive(Debug)]
pub struct LockedStateDir {
    path: PathBuf,
    /// The folder itself, locked: nothing that is removed from it lets another process in. The kernel lets go of the lock when
    /// the process ends, however it ends.
    folder: File,
}

/// The journal of one client, open and locked.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// How much of the file is whole.
    good: u64,
    /// Whether something that is not may follow.
    spoiled: bool,
    space: Space,
    compact_at: u64,
    compaction: Option<Compaction>,
    folder: LockedStateDir,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalError {
    path: PathBuf,
    fault: JournalFault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum JournalFault {
    /// Another process holds it.
    Locked,
    /// It was removed, or another one was put in its place: the lock keeps nobody out of that.
    Replaced,
    /// The folder belongs to this other user, or these permission bits open it to others.
    Foreign(u32),
    Open(u32),
    /// Somebody else can put another folder in its place.
    Exposed(KeyFileError),
    /// The file is something else, or of another version.
    NotAJournal,
    /// At this byte there is something that a crash of the process does not leave behind.
    Damaged(u64),
    Io(String),
}

impl JournalError {
    fn new(path: &Path, fault: JournalFault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(path, JournalFault::Io(error.to_string()))
    }

    /// Whether another process has the folder, and nothing else is wrong with it.
    pub fn is_held(&self) -> bool {
        self.fault == JournalFault::Locked
    }

    /// What was expected.
    pub fn expected(&self) -> &'static str {
        match &self.fault {
            JournalFault::Locked => "one client for one folder: two would not know what the other has run",
            JournalFault::Replaced => "the folder that this client has locked, for as long as it runs",
            JournalFault::Foreign(_) | JournalFault::Open(_) => "a folder of this user alone, of mode 0700",
            JournalFault::Exposed(error) => error.expected(),
            JournalFault::NotAJournal => "a journal of this version, or none",
            JournalFault::Damaged(_) => "entries whose checksums hold: without them a command could run a second time",
            JournalFault::Io(_) => "a folder that this process can write to, and room on the disk",
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        let path = escape(&self.path.to_string_lossy()).into_owned();
        match &self.fault {
            JournalFault::Locked => "stop the other client, or give this one another name or `--state`".to_owned(),
            JournalFault::Replaced => {
                "start it again, and replace a state folder only while its client is stopped".to_owned()
            }
            JournalFault::Foreign(_) => "run as its owner, or choose another folder by `--state`".to_owned(),
            JournalFault::Open(_) => format!("run `chmod 700 {}`", shell_word(&self.path)),
            JournalFault::Exposed(error) => error.hint(),
            JournalFault::NotAJournal | JournalFault::Damaged(_) => format!(
                "move {path} away: the client then begins a new epoch, and refuses every command from before it"
            ),
            JournalFault::Io(_) => "check the folder and the disk, or choose another folder by `--state`".to_owned(),
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        let path = escape(&path);
        match &self.fault {
            JournalFault::Locked => write!(f, "another client holds {path}"),
            JournalFault::Replaced => write!(f, "{path} was removed or replaced while the client ran"),
            JournalFault::Foreign(owner) => write!(f, "{path} belongs to user {owner}"),
            JournalFault::Open(mode) => write!(f, "{path} is open to others: its mode is {mode:04o}"),
            JournalFault::Exposed(error) => f.write_str(&error.what()),
            JournalFault::NotAJournal => write!(f, "{path} is not a client's journal, or one of another version"),
            JournalFault::Damaged(at) => write!(f, "{path} is damaged at byte {at}, and more follows"),
            JournalFault::Io(error) => write!(f, "{path}: {error}"),
        }
    }
}

impl std::error::Error for JournalError {}

impl LockedStateDir {
    /// Takes the folder of a client below the folder of all states; it is made where there is none. One that another process
    /// has is an error, and nothing is waited for.
    pub fn take(state: &Path, client: &Name) -> Result<Self, JournalError> {
        Self::at(state.join(client.as_str()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trust bundle in force: the one that the keys came with, or what this client has accepted after it.
    pub fn trust(&self, given: &Trust) -> Result<Trust, KeyFileError> {
        accepted_after(given, &self.accepted_trust(given))
    }

    /// Where that is written. What was accepted under another pin does not count.
    pub(crate) fn accepted_trust(&self, given: &Trust) -> PathBuf {
        accepted_trust(&self.path, given)
    }

    fn at(path: PathBuf) -> Result<Self, JournalError> {
        let folder = lock(&path)?;
        let held = Self { path, folder };
        held.check_place()?;
        Ok(held)
    }

    /// Whether it is the locked folder that the path leads to. What cannot be looked at is not known to be another.
    fn check_place(&self) -> Result<(), JournalError> {
        let id = |about: &fs::Metadata| (about.dev(), about.ino());
        let there = match fs::metadata(&self.path) {
            Ok(about) => Some(id(&about)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return Ok(()),
        };
        match self.folder.metadata() {
            Ok(about) if there != Some(id(&about)) => Err(JournalError::new(&self.path, JournalFault::Replaced)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Journal {
    /// Opens the journal in a folder, and adds up what it holds; a job is remembered for so many milliseconds. A last frame that
    /// is not complete was never acted upon, and is cut off.
    pub(crate) fn open(folder: LockedStateDir, retain: i64) -> Result<(Self, Restored), JournalError> {
        let path = folder.path().join("journal");
        let failed = |error: io::Error| JournalError::io(&path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let (restored, good) = load::load(&file, length, retain).map_err(|error| match error {
            load::Error::NotAJournal => JournalError::new(&path, JournalFault::NotAJournal),
            load::Error::Damaged(at) => JournalError::new(&path, JournalFault::Damaged(at)),
            load::Error::Io(error) => failed(error),
        })?;
        if good < length {
            let (path, cut) = (path.display(), length - good);
            tracing::warn!("{path}: the last {cut} bytes were not completely written, and are cut off");
        }
        compaction::remove(&path.with_extension("new")).map_err(failed)?;
        let (spoiled, space, compact_at) = (good < length, Space::behind(good), WORTH_COMPACTING);
        let mut journal = Self { file, good, spoiled, space, compact_at, compaction: None, folder, path };
        journal.cut().map_err(|error| journal.error(&error))?;
        if journal.good == 0 {
            journal.write(format::MAGIC).map_err(|error| journal.error(&error))?;
        }
        Ok((journal, restored))
    }

    /// Appends entries by one write, after which there is room for the ends of so many commands. When it fails nothing was
    /// appended; when what the failure left behind cannot be cut off, every later write fails until it can.
    pub(crate) fn append<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a Entry>,
        unfinished: usize,
    ) -> io::Result<()> {
        let (mut frames, mut begins) = (Vec::new(), false);
        for entry in entries {
            begins |= matches!(entry, Entry::Started(_));
            format::write(entry, &mut frames)?;
        }
        if frames.is_empty() {
            return Ok(());
        }
        self.cut()?;
        let needed = self.good.saturating_add(length_of(&frames)).saturating_add(ends(unfinished));
        self.space.secure(&self.file, self.good, needed, begins)?;
        self.write(&frames)
    }

    /// A failed write as the reason not to start.
    pub(crate) fn error(&self, error: &io::Error) -> JournalError {
        JournalError::io(&self.path, error)
    }

    /// Appends the first entries of a run, and makes sure that all of the journal is on the disk.
    pub(crate) fn append_for_good<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) -> io::Result<()> {
        self.append(entries, 0)?;
        self.file.sync_all()?;
        self.folder.folder.sync_all()
    }

    /// The file, to be brought to the disk by another thread.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// An error once the folder was removed or replaced.
    pub(crate) fn check_place(&self) -> Result<(), JournalError> {
        self.folder.check_place()
    }

    /// Whether the journal has grown so much that compacting it is worth while: past 16 MiB, and twice its size after the
    /// last time.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.good > self.compact_at && self.compaction.is_none()
    }

    /// Begins to compact the journal, beside the one in use, with what a journal begins with.
    pub(crate) fn compact(&mut self, started: &Entry) -> io::Result<()> {
        let started = Compaction::begin(self.path.with_extension("new"), &self.file, self.good, started);
        match started {
            Ok(compaction) => {
                self.compaction = Some(compaction);
                Ok(())
            }
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// What the new journal wants next; never anything where none is being written.
    pub(crate) async fn next_request(&mut self) -> CompactionRequest {
        match &mut self.compaction {
            Some(compaction) => compaction.next_request().await,
            None => pending().await,
        }
    }

    /// Serves a request of the new journal, which takes no longer however much there is on record. Once it has everything, it takes
    /// the place of the old one. When that fails, the old one goes on.
    pub(crate) fn serve(
        &mut self,
        next_request: CompactionRequest,
        unfinished: usize,
        part: impl FnOnce(Option<JobKey>, usize) -> Part,
    ) -> io::Result<()> {
        let Some(compaction) = &mut self.compaction else { return Ok(()) };
        let replaced = match compaction.serve(next_request, self.good, |after| part(after, compaction::PART)) {
            Ok(CompactionStep::On) => return Ok(()),
            Ok(CompactionStep::Done { file, length, copied }) => self.replace(file, length, copied, unfinished),
            Err(error) => Err(error),
        };
        replaced.map_err(|error| self.give_up(error))
    }

    fn replace(&mut self, file: File, length: u64, copied: u64, unfinished: usize) -> io::Result<()> {
        let Some(compaction) = &self.compaction else { return Ok(()) };
        let good = length.saturating_add(self.good.saturating_sub(copied));
        let mut space = Space::behind(length);
        space.secure(&file, length, good.saturating_add(ends(unfinished)), false)?;
        compaction::copy(&self.file, copied, self.good, &file, length)?;
        fs::rename(compaction.path(), &self.path)?;
        (self.good, self.spoiled, self.space) = (good, false, space);
        self.compact_at = good.saturating_mul(2).max(WORTH_COMPACTING);
        let old = std::mem::replace(&mut self.file, file);
        if let (Some(compaction), Some(folder)) = (self.compaction.take(), self.path.parent()) {
            compaction.close(folder, old);
        }
        Ok(())
    }

    /// Leaves the old journal as it is, until it has grown some more.
    fn give_up(&mut self, error: io::Error) -> io::Error {
        self.compact_at = self.good.saturating_add(WORTH_COMPACTING);
        if let Some(compaction) = self.compaction.take() {
            compaction.give_up();
        }
        error
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.cut()?;
        if let Err(error) = self.file.write_all_at(bytes, self.good) {
            self.spoiled = true;
            self.space.failed();
            // Tried again before the next write.
            let _ = self.cut();
            return Err(error);
        }
        self.good = self.good.saturating_add(length_of(bytes));
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.spoiled {
            self.file.set_len(self.good)?;
            self.space.cut(self.good);
            self.spoiled = false;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Journal {
    /// Writes to another file from now on.
    pub(crate) fn exchange_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Lets the disk have room for so many more bytes.
    pub(crate) fn fill_disk_but(&mut self, bytes: u64) {
        self.space = Space::behind(self.good);
        self.space.full_at = self.good + bytes;
    }
}

fn accepted_trust(folder: &Path, given: &Trust) -> PathBuf {
    folder.join(format!("trust.{}.json", given.pin()))
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let failed = |error: io::Error| JournalError::io(folder, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let held = open_private(folder)?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(held),
        Err(Errno::WOULDBLOCK) => Err(JournalError::new(folder, JournalFault::Locked)),
        Err(error) => Err(failed(error.into())),
    }
}

/// Opens a folder that nobody else may reach or replace.
fn open_private(folder: &Path) -> Result<File, JournalError> {
    let failed = |error: io::Error| JournalError::io(folder, &error);
    refuse_exposed(folder).map_err(|error| JournalError::new(folder, JournalFault::Exposed(error)))?;
    let held = File::open(folder).map_err(failed)?;
    let about = held.metadata().map_err(failed)?;
    if about.uid() != geteuid().as_raw() {
        return Err(JournalError::new(folder, JournalFault::Foreign(about.uid())));
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(JournalError::new(folder, JournalFault::Open(mode)));
    }
    Ok(held)
}

/// What the ends of so many commands take at least, in bytes.
fn ends(unfinished: usize) -> u64 {
    END.saturating_mul(u64::try_from(unfinished).unwrap_or(u64::MAX))
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

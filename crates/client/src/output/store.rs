//! The outputs of all jobs, within a bound of their own.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use countersign_machine::client::{JobKey, OutputRead};
use countersign_protocol::output::{Data, OutputPiece, OutputReport, Stream};
use rustix::fs::statvfs;

use super::MAX_OUTPUT;
use super::job::{Job, Piece};

/// What all outputs take on the disk at most, in bytes: 256 MiB.
const MAX_STORED: u64 = 256 * 1024 * 1024;
/// Of how many jobs output is kept at most.
const MAX_JOBS: usize = 4_096;
/// How much of one stream may be kept at most, in bytes: 1 GiB.
const MAX_LIMIT: u64 = 1024 * 1024 * 1024;
/// What output leaves free on the disk, in bytes: the journal needs room too.
pub(crate) const RESERVE: u64 = 16 * 1024 * 1024;
/// After how many bytes that the outputs have grown the disk is asked again how much is free.
const ASK_AFTER: u64 = 1024 * 1024;

/// The outputs of all jobs of a client.
#[derive(Debug)]
pub(crate) struct OutputStore {
    folder: PathBuf,
    max_stored: u64,
    jobs: Mutex<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_key: BTreeMap<JobKey, Entry>,
    /// Oldest first.
    by_age: BTreeMap<u64, JobKey>,
    next: u64,
    stored: u64,
    grown: u64,
}

#[derive(Debug)]
struct Entry {
    job: Arc<Mutex<Job>>,
    path: PathBuf,
    age: u64,
    /// What is counted for it.
    stored: u64,
    has_ended: bool,
}

impl OutputStore {
    /// The store in a folder, with what an earlier run has left there. Where the folder cannot be used, nothing is kept, and
    /// each report says why.
    pub(crate) fn open(folder: PathBuf) -> Self {
        Self::bounded(folder, MAX_STORED)
    }

    fn bounded(folder: PathBuf, max_stored: u64) -> Self {
        let store = Self { folder, max_stored, jobs: Mutex::default() };
        if let Err(error) = store.load() {
            let folder = store.folder.display();
            tracing::warn!(%error, "{folder} cannot be used: the output of jobs is not kept");
        }
        store
    }

    fn load(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut found: Vec<(SystemTime, JobKey, PathBuf)> = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let key = file.file_name().to_str().and_then(key_of);
            let about = file.metadata()?;
            match key {
                Some(key) if about.is_file() => found.push((about.modified()?, key, file.path())),
                Some(_) | None => tracing::warn!("{} is no output of a job, and is left alone", file.path().display()),
            }
        }
        found.sort();
        let mut jobs = self.lock();
        for (_, key, path) in found {
            match Job::of_file(path.clone()) {
                Ok(job) => {
                    let size = job.size();
                    let entry = jobs.add(key, path, job);
                    (entry.stored, entry.has_ended) = (size, true);
                    jobs.stored += size;
                }
                Err(error) => {
                    tracing::warn!(%error, "{} cannot be read, and is removed", path.display());
                    remove(&path);
                }
            }
        }
        jobs.make_room(0, self.max_stored);
        Ok(())
    }

    /// Has the job that begins write to a place of its own.
    pub(crate) fn begin(&self, key: JobKey) {
        let mut jobs = self.lock();
        jobs.forget(key);
        let path = self.folder.join(file_name(key));
        jobs.add(key, path.clone(), Job::new(path, MAX_OUTPUT)).stored = 0;
        jobs.make_room(0, self.max_stored);
    }

    pub(super) fn bound(&self, key: JobKey, limit: u64) {
        if let Some(job) = self.job(key) {
            lock(&job).bound(limit.min(MAX_LIMIT));
        }
    }

    pub(super) fn write(&self, key: JobKey, stream: Stream, bytes: &[u8]) {
        if let Some(job) = self.job(key) {
            lock(&job).write(stream, bytes, |more| self.grow(key, more));
        }
    }

    pub(super) fn finish(&self, key: JobKey) -> OutputReport {
        match self.job(key) {
            Some(job) => lock(&job).finish(),
            None => Job::new(PathBuf::new(), 0).finish(),
        }
    }

    /// The job has ended. From now on its output may give way to that of others.
    pub(crate) fn end(&self, key: JobKey) {
        if let Some(job) = self.job(key) {
            lock(&job).end();
        }
        let mut jobs = self.lock();
        if let Some(entry) = jobs.by_key.get_mut(&key) {
            entry.has_ended = true;
        }
        jobs.make_room(0, self.max_stored);
    }

    /// The piece that an answer to `output` is to bring; `None` where nothing is kept of the job.
    pub(crate) fn piece(&self, wanted: &OutputRead) -> Result<Option<OutputPiece>, String> {
        let piece = self.read(wanted.job(), wanted.stream(), wanted.offset(), wanted.max());
        let piece = piece.transpose().map_err(|error| format!("the output cannot be read: {error}"))?;
        Ok(piece.map(|Piece { offset, data, bytes, digest }| OutputPiece {
            offset,
            data: Data(data),
            bytes,
            ended: wanted.has_ended(),
            sha256: digest.filter(|_| wanted.has_ended()),
        }))
    }

    /// A piece of what a job wrote; `None` where nothing is kept of it.
    pub(crate) fn read(&self, key: JobKey, stream: Stream, offset: u64, max: usize) -> Option<io::Result<Piece>> {
        let job = self.job(key)?;
        let piece = lock(&job).read(stream, offset, max);
        Some(piece)
    }

    /// Removes what belongs to jobs that are not remembered any more.
    pub(crate) fn retain(&self, is_remembered: impl Fn(JobKey) -> bool) {
        let mut jobs = self.lock();
        let gone: Vec<JobKey> = jobs.by_key.keys().copied().filter(|key| !is_remembered(*key)).collect();
        gone.into_iter().for_each(|key| jobs.forget(key));
    }

    /// Whether a job's output may take so many bytes more on the disk.
    fn grow(&self, key: JobKey, more: u64) -> Result<(), String> {
        let mut jobs = self.lock();
        let first = jobs.by_key.get(&key).is_some_and(|entry| entry.stored == 0);
        let more = more + if first { 4_096 } else { 0 };
        if !jobs.make_room(more, self.max_stored) {
            let bound = self.max_stored;
            return Err(format!("the output of all jobs would take more than {bound} bytes, the client's bound"));
        }
        jobs.grown += more;
        if first || jobs.grown >= ASK_AFTER {
            jobs.grown = 0;
            let free = free(&self.folder).map_err(|error| error.to_string())?;
            if free < RESERVE {
                return Err(format!("only {free} bytes are free on the disk; output leaves {RESERVE} for the journal"));
            }
        }
        let Some(entry) = jobs.by_key.get_mut(&key) else { return Err("the job is forgotten".to_owned()) };
        entry.stored += more;
        jobs.stored += more;
        Ok(())
    }

    fn job(&self, key: JobKey) -> Option<Arc<Mutex<Job>>> {
        self.lock().by_key.get(&key).map(|entry| Arc::clone(&entry.job))
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        lock(&self.jobs)
    }
}

impl Jobs {
    fn add(&mut self, key: JobKey, path: PathBuf, job: Job) -> &mut Entry {
        let age = self.next;
        self.next += 1;
        self.by_age.insert(age, key);
        let entry = Entry { job: Arc::new(Mutex::new(job)), path, age, stored: 0, has_ended: false };
        self.by_key.entry(key).insert_entry(entry).into_mut()
    }

    /// Removes the oldest outputs of jobs that have ended until so many bytes more fit; whether they do.
    fn make_room(&mut self, more: u64, max_stored: u64) -> bool {
        while self.stored.saturating_add(more) > max_stored || self.by_key.len() > MAX_JOBS {
            let mut oldest = self.by_age.values();
            let ended = oldest.find(|key| self.by_key.get(key).is_some_and(|entry| entry.has_ended));
            match ended.copied() {
                Some(key) => self.forget(key),
                None => return self.stored.saturating_add(more) <= max_stored,
            }
        }
        true
    }

    fn forget(&mut self, key: JobKey) {
        let Some(entry) = self.by_key.remove(&key) else { return };
        self.by_age.remove(&entry.age);
        self.stored = self.stored.saturating_sub(entry.stored);
        remove(&entry.path);
    }
}

/// A name that nobody chose: the command's id and the thumbprint of its operator's key, each in its only form.
fn file_name(key: JobKey) -> String {
    format!("{}.{}", key.id, key.operator)
}

fn key_of(name: &str) -> Option<JobKey> {
    let (id, operator) = name.split_once('.')?;
    Some(JobKey { id: id.parse().ok()?, operator: operator.parse().ok()? })
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "{} could not be removed", path.display());
    }
}

fn free(folder: &Path) -> io::Result<u64> {
    let there = statvfs(folder)?;
    Ok(there.f_bavail.saturating_mul(there.f_frsize))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

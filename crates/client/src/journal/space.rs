//! Room on the disk that the journal has before it needs it, so that whatever has started can be written to its end.

use std::fs::File;
use std::io;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// How much is taken at a time, and how much there must be again before a journal that has run out of it goes on.
pub(super) const CHUNK: u64 = 256 * 1024;
/// How much the end of one command takes without its reply: less than this.
pub(super) const END: u64 = 256;

/// The room behind the end of a journal.
#[derive(Debug)]
pub(super) struct Space {
    /// Up to this byte of the file the disk has room, whatever else is written to it.
    until: u64,
    /// Whether the file system can promise that at all. Where it cannot, its free space has to do.
    promises: bool,
    /// Whether there was none the last time. While that is so, nothing new begins: or small entries would, and large ones not.
    is_short: bool,
    /// Where the disk is full, for tests.
    #[cfg(test)]
    pub(super) full_at: u64,
}

impl Space {
    /// Of a file that has room up to its end.
    pub(super) fn behind(good: u64) -> Self {
        Self {
            until: good,
            promises: true,
            is_short: false,
            #[cfg(test)]
            full_at: u64::MAX,
        }
    }

    /// What was behind the end of the file is given back, as its truncation does.
    pub(super) fn cut(&mut self, good: u64) {
        self.until = good;
    }

    /// A write failed, however much room was reported.
    pub(super) fn failed(&mut self) {
        self.is_short = true;
    }

    /// Makes sure that the file has room up to a byte. Something new begins only where that leaves a chunk, once the disk was
    /// full.
    pub(super) fn secure(&mut self, file: &File, good: u64, needed: u64, begins: bool) -> io::Result<()> {
        let ample = needed.saturating_add(CHUNK);
        let must_recover = self.is_short && begins;
        if needed <= self.until && !must_recover {
            return Ok(());
        }
        let taken = self.take(file, good, ample);
        if taken.is_ok() || must_recover {
            self.is_short = taken.is_err();
            return taken;
        }
        // That an end found room is no room for what begins.
        let taken = self.take(file, good, needed);
        self.is_short |= taken.is_err();
        taken
    }

    fn take(&mut self, file: &File, good: u64, until: u64) -> io::Result<()> {
        #[cfg(test)]
        if until > self.full_at {
            return Err(Errno::NOSPC.into());
        }
        // Not every file system looks at it before the room is used.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| until > limit) {
            return Err(Errno::FBIG.into());
        }
        let more = until.saturating_sub(good);
        if self.promises {
            match fallocate(file, FallocateFlags::KEEP_SIZE, good, more) {
                Ok(()) => {
                    self.until = self.until.max(until);
                    return Ok(());
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => self.promises = false,
                Err(error) => return Err(error.into()),
            }
        }
        let there = fstatvfs(file)?;
        let free = there.f_bavail.saturating_mul(there.f_frsize);
        if free < more { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }
}

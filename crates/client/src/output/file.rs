//! The file of one job's output: a header, and for each stream its beginning and a ring for its end.
//!
//! The header is written after the bytes that it counts. A ring that was being written when the process crashed has lost at
//! most [`MAX_WRITE`] of its oldest bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use countersign_protocol::digest::Digest;

/// The most that is written between two headers, in bytes.
pub(super) const MAX_WRITE: usize = 64 * 1024;
/// Where the first stream begins.
const DATA: u64 = 4_096;
const MAGIC: &[u8; 8] = b"CSOUT\0\0\x01";
const STREAM: usize = 64;
const HEADER: usize = 16 + 2 * STREAM;

/// What is known of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    /// How many bytes were written.
    pub(super) bytes: u64,
    /// How many of them, from the first on, are in the file, or were before the ring came round.
    pub(super) stored: u64,
    /// The digest of all bytes, once the job has ended.
    pub(super) digest: Option<Digest>,
    /// How many bytes more may have been written, over the oldest of the end: the process crashed.
    torn: u64,
}

impl Extent {
    /// How many bytes of the beginning are kept, and from which byte on the end is.
    pub(super) fn kept(&self, limit: u64) -> (u64, u64) {
        let reached = self.bytes.saturating_add(self.torn);
        if self.stored == self.bytes && reached <= limit {
            return (self.bytes, self.bytes);
        }
        let head = head(limit).min(self.stored);
        if self.stored < self.bytes {
            return (head, self.bytes);
        }
        (head, reached.saturating_sub(limit / 2).clamp(head, self.bytes))
    }
}

/// How much of the bound the beginning has.
fn head(limit: u64) -> u64 {
    limit.div_ceil(2)
}

/// An open file.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    limit: u64,
}

impl OutputFile {
    pub(super) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, limit })
    }

    /// Opens a file of an earlier run, or of a job that has ended.
    pub(super) fn open(path: &Path) -> io::Result<(Self, [Extent; 2])> {
        let file = File::open(path)?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let number = |at: usize| {
            let bytes = header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let (limit, damaged) = (number(8), || io::Error::other("it is no output of this version"));
        if header.get(..8) != Some(MAGIC.as_slice()) || limit > i64::MAX.unsigned_abs() / 4 {
            return Err(damaged());
        }
        let extent = |index: usize| {
            let at = 16 + index * STREAM;
            let (bytes, stored, has_ended) = (number(at), number(at + 8), number(at + 16) == 1);
            let digest: Option<[u8; 32]> = header.get(at + 24..at + 56).and_then(|bytes| bytes.try_into().ok());
            let digest = digest.filter(|_| has_ended).map(Digest::from);
            let torn = if has_ended { 0 } else { MAX_WRITE as u64 };
            Extent { bytes, stored, digest, torn }
        };
        let extents = [extent(0), extent(1)];
        if extents.iter().any(|extent| extent.stored > extent.bytes || extent.bytes > i64::MAX.unsigned_abs()) {
            return Err(damaged());
        }
        Ok((Self { file, limit }, extents))
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn write_header(&self, extents: &[Extent; 2]) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.limit.to_le_bytes());
        for extent in extents {
            for number in [extent.bytes, extent.stored, extent.digest.is_some().into()] {
                header.extend_from_slice(&number.to_le_bytes());
            }
            header.extend_from_slice(extent.digest.map_or([0; 32], |digest| *digest.as_bytes()).as_slice());
            header.extend_from_slice(&[0; STREAM - 56]);
        }
        self.file.write_all_at(&header, 0)
    }

    /// Writes [`MAX_WRITE`] bytes at most from a byte of a stream on.
    pub(super) fn write(&self, stream: usize, from: u64, bytes: &[u8]) -> io::Result<()> {
        self.pieces(stream, from, bytes.len(), |at, range| {
            bytes.get(range).map_or(Ok(()), |piece| self.file.write_all_at(piece, at))
        })
    }

    /// Reads what is kept from a byte of a stream on.
    pub(super) fn read(&self, stream: usize, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.pieces(stream, from, length, |at, range| {
            bytes.get_mut(range).map_or(Ok(()), |piece| self.file.read_exact_at(piece, at))
        })?;
        Ok(bytes)
    }

    /// Where the bytes of a stream are in the file, piece by piece: the ring comes round.
    fn pieces(
        &self,
        stream: usize,
        from: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (head, start) = (head(self.limit), DATA + self.limit * stream as u64);
        let ring = self.limit / 2;
        let mut done = 0;
        while done < length {
            let offset = from + done as u64;
            let (at, room) = if offset < head {
                (offset, head - offset)
            } else if ring == 0 {
                return Ok(());
            } else {
                let turn = (offset - head) % ring;
                (head + turn, ring - turn)
            };
            let piece = (length - done).min(usize::try_from(room).unwrap_or(usize::MAX));
            each(start + at, done..done + piece)?;
            done += piece;
        }
        Ok(())
    }
}

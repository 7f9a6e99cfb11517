//! Reading a journal, and telling what a crash leaves behind from damage.
//!
//! A crash of the process in the middle of its last write leaves a frame that is not complete: it was never acted upon, and
//! is cut off. Where the machine crashed too, there may be zeros instead of the last that was written: that may have been
//! acted upon, but in an epoch that ended with the machine, and is cut off as well. Everything else that does not fit is
//! damage: what follows it, or was in its place, may have run, and to pass over it would let it run again.

use std::fs::File;
use std::io::{self, BufReader, Read};

use countersign_machine::client::Restored;

use super::format::{self, HEAD, MAGIC, MAX_PAYLOAD};
use super::length_of;

/// Why a journal cannot be read.
#[derive(Debug)]
pub(super) enum Error {
    NotAJournal,
    Damaged(u64),
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a journal of this length adds up to where a job is remembered for so many milliseconds, and how much of it is whole.
pub(super) fn load(file: &File, length: u64, retain: i64) -> Result<(Restored, u64), Error> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut restored = Restored::retaining(retain);
    let mut first = Vec::new();
    reader.by_ref().take(length_of(MAGIC)).read_to_end(&mut first)?;
    if first != MAGIC {
        // A process that crashed while it made the file.
        return if MAGIC.starts_with(&first) { Ok((restored, 0)) } else { Err(Error::NotAJournal) };
    }
    let mut at = length_of(MAGIC);
    while at < length {
        let rest = length - at;
        let mut head = [0; HEAD];
        if rest < length_of(&head) {
            break;
        }
        reader.read_exact(&mut head)?;
        let (size, sum) = split(head);
        if size == 0 || size > MAX_PAYLOAD {
            let zeros = head == [0; HEAD] && all_zeros(&mut reader)?;
            return if zeros { Ok((restored, at)) } else { Err(Error::Damaged(at)) };
        }
        let mut payload = Vec::new();
        reader.by_ref().take(size.try_into().unwrap_or(u64::MAX)).read_to_end(&mut payload)?;
        if payload.len() < size {
            // Or a length that is damaged itself: then there are whole frames in what seems to be the rest.
            if holds_a_frame(&payload) {
                return Err(Error::Damaged(at));
            }
            break;
        }
        let entry = if crc32fast::hash(&payload) == sum { format::read(&payload) } else { None };
        let Some(entry) = entry else {
            // No entry ends in a zero: the machine crashed before the last of it, and all behind it, was on disk.
            let lost = payload.ends_with(&[0]) && all_zeros(&mut reader)?;
            return if lost { Ok((restored, at)) } else { Err(Error::Damaged(at)) };
        };
        restored.apply(entry);
        at += length_of(&head) + length_of(&payload);
    }
    Ok((restored, at))
}

fn split(head: [u8; HEAD]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = head;
    (usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX), u32::from_le_bytes([e, f, g, h]))
}

fn all_zeros(reader: &mut impl Read) -> io::Result<bool> {
    let mut part = [0; 4096];
    loop {
        match reader.read(&mut part)? {
            0 => return Ok(true),
            read if part.iter().take(read).any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn holds_a_frame(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|start| {
        let Some((head, rest)) = bytes.get(start..).and_then(|bytes| bytes.split_first_chunk::<HEAD>()) else {
            return false;
        };
        let (size, sum) = split(*head);
        size > 0 && rest.get(..size).is_some_and(|payload| crc32fast::hash(payload) == sum)
    })
}

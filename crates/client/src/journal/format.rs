//! Version 1 of the journal's form on disk.
//!
//! A line says what the file is and which version. Then come frames: the payload's length and its CRC-32, both as 4 bytes,
//! little end first, and the payload, one entry as a JSON object with one member. The types here are the form itself: neither
//! the machine's entries nor the wire's messages can change it unnoticed.

use std::borrow::Cow;
use std::io;

use countersign_machine::client::{Entry, EpochStart, Finished, JobKey, ReplyContext, Started};
use countersign_protocol::envelope::Signed;
use countersign_protocol::reply::Status;
use countersign_protocol::time::Millis;
use serde::{Deserialize, Serialize};

/// The first line of a journal.
pub(super) const MAGIC: &[u8] = b"countersign-journal 1\n";
/// What precedes a payload: its length and its checksum.
pub(super) const HEAD: usize = 8;
/// The longest payload, in bytes. An entry with the longest reply has less than half of it.
pub(super) const MAX_PAYLOAD: usize = 4 * 1024 * 1024;

/// One entry. Times are in milliseconds since 1970; ids, digests and names are in their written form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Payload<'a> {
    Epoch {
        at: i64,
        epoch: Cow<'a, str>,
        since: i64,
        trust: u64,
    },
    Started {
        #[serde(borrow)]
        key: Key<'a>,
        operator: Cow<'a, str>,
        reply_to: Cow<'a, str>,
        digest: Cow<'a, str>,
        command: Cow<'a, str>,
        long_running: bool,
        at: i64,
        until: i64,
    },
    Interim {
        #[serde(borrow)]
        key: Key<'a>,
        seq: u64,
    },
    Finished {
        #[serde(borrow)]
        key: Key<'a>,
        at: i64,
        status: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Reply<'a>>,
    },
    Mark {
        at: i64,
    },
}

/// A command: its id, and the thumbprint of the key that signed it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    operator: Cow<'a, str>,
}

/// A signed reply: its subject, its two headers, and its body as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    signature: Cow<'a, str>,
    credential: Cow<'a, str>,
    body: Cow<'a, str>,
}

/// Appends the frame of an entry.
pub(super) fn write(entry: &Entry, into: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(&Payload::from_entry(entry)?)?;
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let length = length.ok_or_else(|| io::Error::other("an entry that is too long for the journal"))?;
    into.extend(length.to_le_bytes());
    into.extend(crc32fast::hash(&payload).to_le_bytes());
    into.extend(payload);
    Ok(())
}

/// The entry of a payload whose checksum holds; `None` if it is none of this version.
pub(super) fn read(payload: &[u8]) -> Option<Entry> {
    serde_json::from_slice::<Payload<'_>>(payload).ok()?.into_entry()
}

impl<'a> Payload<'a> {
    fn from_entry(entry: &'a Entry) -> io::Result<Self> {
        Ok(match entry {
            Entry::EpochStarted(EpochStart { at, epoch, since, trust }) => {
                Self::Epoch { at: at.get(), epoch: epoch.to_string().into(), since: since.get(), trust: *trust }
            }
            Entry::Started(Started { reply_context, command, long_running, at, until }) => {
                let ReplyContext { key, operator, reply_to, digest } = reply_context;
                Self::Started {
                    key: Key::of(key),
                    operator: operator.as_str().into(),
                    reply_to: reply_to.into(),
                    digest: digest.to_string().into(),
                    command: command.as_str().into(),
                    long_running: *long_running,
                    at: at.get(),
                    until: until.get(),
                }
            }
            Entry::Interim { key, seq } => Self::Interim { key: Key::of(key), seq: *seq },
            Entry::Finished(Finished { key, at, status, reply }) => Self::Finished {
                key: Key::of(key),
                at: at.get(),
                status: status.as_str().into(),
                reply: reply.as_ref().map(Reply::of).transpose()?,
            },
            Entry::Mark { at } => Self::Mark { at: at.get() },
        })
    }

    fn into_entry(self) -> Option<Entry> {
        Some(match self {
            Self::Epoch { at, epoch, since, trust } => Entry::EpochStarted(EpochStart {
                at: Millis::new(at),
                epoch: epoch.parse().ok()?,
                since: Millis::new(since),
                trust,
            }),
            Self::Started { key, operator, reply_to, digest, command, long_running, at, until } => {
                Entry::Started(Started {
                    reply_context: ReplyContext {
                        key: key.parse()?,
                        operator: operator.parse().ok()?,
                        reply_to: reply_to.into_owned(),
                        digest: digest.parse().ok()?,
                    },
                    command: command.parse().ok()?,
                    long_running,
                    at: Millis::new(at),
                    until: Millis::new(until),
                })
            }
            Self::Interim { key, seq } => Entry::Interim { key: key.parse()?, seq },
            Self::Finished { key, at, status, reply } => Entry::Finished(Finished {
                key: key.parse()?,
                at: Millis::new(at),
                status: Status::ALL.iter().copied().find(|known| known.as_str() == status)?,
                reply: reply.map(Reply::into_signed),
            }),
            Self::Mark { at } => Entry::Mark { at: Millis::new(at) },
        })
    }
}

impl Key<'_> {
    fn of(key: &JobKey) -> Self {
        Self { id: key.id.to_string().into(), operator: key.operator.to_string().into() }
    }

    fn parse(&self) -> Option<JobKey> {
        Some(JobKey { id: self.id.parse().ok()?, operator: self.operator.parse().ok()? })
    }
}

impl<'a> Reply<'a> {
    fn of(signed: &'a Signed) -> io::Result<Self> {
        let body = str::from_utf8(&signed.body).map_err(io::Error::other)?;
        Ok(Self {
            subject: signed.subject.as_str().into(),
            signature: signed.signature.as_str().into(),
            credential: Cow::Borrowed(&signed.credential),
            body: body.into(),
        })
    }

    fn into_signed(self) -> Signed {
        Signed {
            subject: self.subject.into_owned(),
            signature: self.signature.into_owned(),
            credential: self.credential.into(),
            body: self.body.into_owned().into_bytes().into(),
        }
    }
}

#[cfg(test)]
mod tests;

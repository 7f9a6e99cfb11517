//! What a client and the helper of a job say to each other: frames of a length and as many bytes, over a channel of their own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use countersign_protocol::json;
use countersign_protocol::limits::MAX_BODY;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::confinement::Confinement;
use super::user::User;

/// The longest frame, in bytes.
const MAX_FRAME: usize = 1 << 20;
/// The longest result of a program, in bytes.
pub(super) const MAX_RESULT: usize = MAX_BODY;
/// The byte by which a client has a job ended.
pub(super) const CANCEL: u8 = b'c';

/// What the helper is to start. The arguments follow it in a frame of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Launch {
    pub(super) words: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// Who is to be changed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User>,
    /// The private folder, to be made and removed.
    pub(super) folder: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) working_directory: Option<PathBuf>,
    pub(super) timeout_ms: u64,
    pub(super) grace_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open_files: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confinement: Option<Confinement>,
}

/// What the helper reports.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Report {
    /// Nothing was started, and why.
    NotStarted(String),
    Progress(Progress),
    /// Nothing of the job is left, or what is left cannot be ended.
    Ended(Ended),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    pub(super) fraction: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

/// How a program ended.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    pub(super) how: How,
    pub(super) cause: Cause,
    /// The processes that could not be ended.
    pub(super) remaining: Vec<i32>,
    pub(super) result: ResultFile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    Exit(i32),
    Signal(i32),
    /// It runs on: it could not be ended.
    Running(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cause {
    Itself,
    TimedOut,
    Cancelled,
}

/// What was found in the place of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResultFile {
    Missing,
    /// It follows in a frame of its own.
    Follows,
    /// It cannot be taken, and why.
    Unfit(String),
}

impl Launch {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

/// A message as a frame.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    raw_frame(&serde_json::to_vec(message)?)
}

/// Bytes as a frame.
pub(super) fn raw_frame(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

/// Reads a frame, where reading may block.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; bounded(length)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a frame.
pub(super) async fn next_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = vec![0; bounded(length)?];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What a frame says.
pub(super) fn parse<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    json::parse_as(frame).map_err(io::Error::other)
}

/// Writes a frame, where writing may block.
pub(super) fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

fn bounded(length: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > MAX_FRAME { Err(io::Error::other("a frame is too long")) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn what_is_reported_comes_through() {
        let progress = |message: Option<&str>| Progress { fraction: 1.0, message: message.map(str::to_owned) };
        let ended = |how, cause, result| Ended { how, cause, remaining: vec![7], result };
        for report in [
            Report::NotStarted("no".to_owned()),
            Report::Progress(progress(None)),
            Report::Progress(progress(Some("half"))),
            Report::Ended(ended(How::Exit(255), Cause::Itself, ResultFile::Missing)),
            Report::Ended(ended(How::Signal(9), Cause::TimedOut, ResultFile::Follows)),
            Report::Ended(ended(How::Running(3), Cause::Cancelled, ResultFile::Unfit("a link".to_owned()))),
        ] {
            let framed = frame(&report).unwrap();
            assert_eq!(parse::<Report>(&read_frame(&mut framed.as_slice()).unwrap()).unwrap(), report);
        }
        assert!(read_frame(&mut [255, 0, 0, 0].as_slice()).is_err());
    }
}

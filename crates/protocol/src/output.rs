//! What a job writes (section 13): its two streams, and what is said of each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json;
use crate::text::words;

words! {
    /// One of the two streams that a job writes.
    pub enum Stream {
        /// What it has to say.
        Stdout = "stdout",
        /// What it has to say of itself.
        Stderr = "stderr",
    }
}

/// What a job wrote to one stream, as its client signs it (section 13).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamReport {
    /// How many bytes the job wrote.
    pub bytes: u64,
    /// The digest of all of them.
    pub sha256: Digest,
    /// What the client keeps. Absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Kept")]
    pub kept: Option<Kept>,
    /// The beginning and the end, for people: 4,096 bytes at most in JSON.
    pub text: String,
    /// Whether `text` is exactly what the job wrote: all of it, and all of it UTF-8.
    pub exact: bool,
}

/// What is kept of a stream where that is less than all: its beginning and its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// How many bytes of the beginning.
    pub head: u64,
    /// How many bytes of the end.
    pub tail: u64,
    /// The digest of these bytes, those of the beginning first.
    pub sha256: Digest,
    /// What went wrong, for people. Absent: the job wrote more than its command's bound.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "String")]
    pub fault: Option<String>,
}

/// Both streams of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputReport {
    /// Standard output.
    pub stdout: StreamReport,
    /// Standard error.
    pub stderr: StreamReport,
}

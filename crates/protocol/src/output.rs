//! What a job writes (section 13): its two streams, and what is said of each.

use std::borrow::Cow;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::id::MessageId;
use crate::json;
use crate::limits::MAX_PIECE;
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

/// The arguments of `output`: which piece of which stream of which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputQuery {
    /// The command that is meant.
    pub command_id: MessageId,
    /// The digest of its body, as in `result`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Digest")]
    pub command_digest: Option<Digest>,
    /// The stream.
    pub stream: Stream,
    /// From which byte on.
    pub offset: u64,
}

/// The result of `output`: the first piece that is kept and not before the offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputPiece {
    /// Where it begins. Later than asked for: what is between is not kept.
    pub offset: u64,
    /// The bytes; none where there are no more for now, or at the end.
    pub data: Data,
    /// How many bytes the job has written to the stream.
    pub bytes: u64,
    /// Whether the job has ended, so that there will be no more.
    pub ended: bool,
    /// The digest of everything that the job wrote to the stream. Absent: the job runs, or the client's process ended while
    /// it ran.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Digest")]
    pub sha256: Option<Digest>,
}

/// Bytes, in JSON as unpadded base64url.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Data(pub Vec<u8>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        if bytes.len() > MAX_PIECE {
            return Err(serde::de::Error::custom("at most 131,072 bytes were expected"));
        }
        Ok(Self(bytes))
    }
}

impl JsonSchema for Data {
    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Za-z_-]*$", "maxLength": (MAX_PIECE * 4).div_ceil(3) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_unpadded_canonical_base64url_of_bounded_length() {
        let read = |text: &str| json::read::<Data>(&json!(text)).ok();
        assert_eq!(read("_w"), Some(Data(vec![0xff])));
        assert_eq!(json!(Data(vec![0xff])), json!("_w"));
        assert_eq!((read("_w=="), read("_x"), read("/w")), (None, None, None));
        assert!(read(&BASE64URL_NOPAD.encode(&vec![0; MAX_PIECE])).is_some());
        assert!(read(&BASE64URL_NOPAD.encode(&vec![0; MAX_PIECE + 1])).is_none());
    }
}

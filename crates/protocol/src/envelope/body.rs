//! Bodies, claims and trust bundles: strict JSON that satisfies both its schema and its type (section 3).

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::MessageType;
use crate::json::{self, JsonError};
use crate::schema;

/// Why bytes are not the JSON of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It breaks a rule of section 3.
    #[error("{0}")]
    Json(JsonError),
    /// It does not satisfy the schema or the type.
    #[error("{0}")]
    Shape(String),
}

/// Reads what came from outside.
pub(crate) fn read<T: DeserializeOwned>(typ: MessageType, bytes: &[u8]) -> Result<T, BodyError> {
    let value = Value::Object(json::parse(bytes).map_err(BodyError::Json)?);
    match schema::envelope(typ).errors(&value, 1).first() {
        Some(error) => Err(BodyError::Shape(error.to_string())),
        None => json::read(&value).map_err(|error| BodyError::Shape(error.to_string())),
    }
}

/// Writes what is to be signed.
#[expect(clippy::expect_used, reason = "the types of this crate have string keys only and finite numbers")]
pub(crate) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a type of the protocol is JSON")
}

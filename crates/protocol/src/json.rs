//! Strict JSON (section 3).

mod kept;
mod parser;
mod typed;

#[cfg(test)]
mod tests;

pub use self::kept::JsonText;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::limits::{MAX_DEPTH, MAX_INTEGER, MAX_VALUES};

/// Which rule of section 3 some bytes or a value break. What it quotes is escaped and cut to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A byte-order mark comes first.
    #[error("a byte-order mark")]
    ByteOrderMark,
    /// The top level is not an object.
    #[error("an object was expected")]
    NotAnObject,
    /// Something other than white space follows the object.
    #[error("something after the object, at byte {0}")]
    Trailing(usize),
    /// Not JSON at all.
    #[error("not JSON, at byte {0}")]
    Syntax(usize),
    /// One object has two members of one name.
    #[error("the member `{0}` twice")]
    DuplicateMember(String),
    /// An escaped half of a character without its other half.
    #[error("a lone surrogate, at byte {0}")]
    LoneSurrogate(usize),
    /// More than 32 levels.
    #[error("more than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than 16,384 values.
    #[error("more than {MAX_VALUES} values")]
    TooManyValues,
    /// An integer outside ±(2^53 − 1).
    #[error("an integer outside ±(2^53 − 1)")]
    IntegerOutOfRange,
    /// A number too large for a double.
    #[error("a number that is not finite")]
    NotFinite,
    /// JSON, but not of the type that was expected.
    #[error("{0}")]
    Shape(String),
}

/// Parses one object by the rules of section 3, in linear time.
///
/// # Errors
/// The first rule that the bytes break.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    parser::parse(bytes)
}

/// Parses one value of any kind by the rules of section 3, which is to stand in a message at a depth; see [`check`].
///
/// # Errors
/// The first rule that the bytes break, and at which byte that was found.
pub fn parse_value(bytes: &[u8], depth: usize) -> Result<Value, (JsonError, usize)> {
    parser::parse_value(bytes, depth)
}

/// Parses one object by the rules of section 3 and reads it as a type.
///
/// # Errors
/// The first rule that the bytes break, or [`JsonError::Shape`].
pub fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(&Value::Object(parse(bytes)?))
}

/// Reads a value as a type, more strictly than `serde_json` does: a struct is read from an object only, and a word from
/// a string only.
///
/// # Errors
/// [`JsonError::Shape`] where it is not of that type.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, JsonError> {
    T::deserialize(typed::Typed(value))
}

/// Whether a value that was made here, such as the result of a command, may stand in a message at a depth: 1 for the
/// top level, 2 for a member of it.
///
/// # Errors
/// [`JsonError::TooDeep`], [`JsonError::IntegerOutOfRange`] or [`JsonError::TooManyValues`]; nothing else can be wrong with a
/// [`Value`].
pub fn check(value: &Value, depth: usize) -> Result<(), JsonError> {
    check_each(value, depth)?;
    if count(value) > MAX_VALUES { Err(JsonError::TooManyValues) } else { Ok(()) }
}

/// How many values a value holds, itself included: what section 3 bounds.
pub fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn check_each(value: &Value, depth: usize) -> Result<(), JsonError> {
    let integer_out_of_range = |number: &serde_json::Number| {
        !number.is_f64() && !number.as_i64().is_some_and(|integer| (-MAX_INTEGER..=MAX_INTEGER).contains(&integer))
    };
    match value {
        Value::Array(_) | Value::Object(_) if depth > MAX_DEPTH => Err(JsonError::TooDeep),
        Value::Array(items) => items.iter().try_for_each(|item| check_each(item, depth + 1)),
        Value::Object(members) => members.values().try_for_each(|member| check_each(member, depth + 1)),
        Value::Number(number) if integer_out_of_range(number) => Err(JsonError::IntegerOutOfRange),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Reads an optional member that is present, for `deserialize_with`: a `T`, and never null for its absence.
///
/// # Errors
/// Where it is not a `T`.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a `T` that must also be acceptable; `expected` says what is.
pub(crate) fn within<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    accept: impl FnOnce(&T) -> bool,
    expected: &str,
) -> Result<T, D::Error> {
    let value = T::deserialize(deserializer)?;
    if accept(&value) { Ok(value) } else { Err(D::Error::custom(format_args!("expected {expected}"))) }
}

//! Values as text, where many are kept.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A JSON value as compact text: what is kept of what others say. Parsed, it would take up to 80 times as much. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// The value, parsed again.
    pub fn value(&self) -> Value {
        // It was written from a value; there is nothing that it could be if it were not.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for JsonText {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

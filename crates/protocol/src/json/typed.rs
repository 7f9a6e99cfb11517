//! Reading a value as a type. `serde_json` also reads a struct from an array, a map from null and a word from
//! `{"word": null}`, and quotes the input at any length in its errors; none of that here.

use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::JsonError;
use crate::text::echo;

/// A value from which a type is read.
#[derive(Clone, Copy)]
pub(super) struct Typed<'a>(pub(super) &'a Value);

impl<'de> Deserializer<'de> for Typed<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(*bool),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, Some(number)) => visitor.visit_f64(number),
                (None, None, None) => Err(JsonError::NotFinite),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Self))),
            Value::Object(members) => visitor.visit_map(typed_members(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(self.unexpected(&visitor)) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(BorrowedStrDeserializer::new(word)),
            Value::Object(members) if members.len() == 1 && !members.values().any(Value::is_null) => {
                visitor.visit_enum(MapAccessDeserializer::new(typed_members(members)))
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, JsonError> for Typed<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Typed<'_> {
    fn unexpected(self, expected: &dyn Expected) -> JsonError {
        let unexpected = match self.0 {
            Value::Null => Unexpected::Unit,
            Value::Bool(bool) => Unexpected::Bool(*bool),
            Value::Number(_) => Unexpected::Other("number"),
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        };
        JsonError::invalid_type(unexpected, expected)
    }
}

impl Error for JsonError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Shape(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Str(text) => Self::Shape(format!("the text `{}` where {expected} was expected", echo(text))),
            Unexpected::Unit => Self::Shape(format!("null where {expected} was expected")),
            other => Self::Shape(format!("{other} where {expected} was expected")),
        }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        Self::Shape(format!("the unknown word `{}`", echo(variant)))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self::Shape(format!("the unknown member `{}`", echo(field)))
    }
}

fn typed_members<'a>(
    members: &'a Map<String, Value>,
) -> MapDeserializer<'a, impl Iterator<Item = (&'a str, Typed<'a>)>, JsonError> {
    MapDeserializer::new(members.iter().map(|(name, value)| (name.as_str(), Typed(value))))
}

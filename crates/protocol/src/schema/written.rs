//! Schemas that an administrator writes for the arguments and the result of a program (section 13).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Schema;
use crate::json;
use crate::text::{echo, escape};

/// The longest such schema, in bytes of compact JSON.
const MAX_SCHEMA: usize = 65_536;
/// How many values such a schema may hold once its references are replaced by what they refer to: they bound the work of a
/// validation.
const MAX_EXPANDED: usize = 65_536;
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What a reference begins with.
const DEFS: &str = "#/$defs/";

/// Why a schema is not taken: a sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchema(String);

impl Schema {
    /// A schema of somebody else's, under a name. It refers to nothing but its own `$defs`, not in a circle, and its patterns
    /// are matched in linear time.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn written(name: &str, value: Value) -> Result<Self, InvalidSchema> {
        let Value::Object(mut schema) = value else { return refuse("a schema is an object") };
        match schema.get("$schema").map(Value::as_str) {
            None | Some(Some(DRAFT)) => {}
            Some(_) => return refuse(format!("its `$schema` is not {DRAFT}")),
        }
        schema.insert("$schema".to_owned(), json!(DRAFT));
        let id = schema.insert("$id".to_owned(), json!(format!("urn:countersign:schema:1:{name}")));
        if id.is_some() {
            return refuse("it has an `$id`, which is given by Countersign");
        }
        let value = Value::Object(schema);
        json::check(&value, 1).map_err(|error| InvalidSchema(error.to_string()))?;
        if value.to_string().len() > MAX_SCHEMA {
            return refuse(format!("it is longer than {MAX_SCHEMA} bytes"));
        }
        References::of(&value)?.check()?;
        Self::compile(name, value).map_err(|error| {
            let at = error.instance_path().as_str();
            let place = if at.is_empty() { String::new() } else { format!(" at {}", echo(at)) };
            InvalidSchema(format!("it is no JSON Schema of draft 2020-12{place}: {}", escape(&error.to_string())))
        })
    }

    /// Whether it lets through text that no `enum`, `const` or anchored `pattern` describes, at any depth. A program may take
    /// such text for code.
    pub fn admits_free_text(&self) -> bool {
        let value: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let empty = Map::new();
        let defs = value.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
        !describes_all_text(&value, defs)
    }

    /// Whether it is met by objects alone, and by none with a member that it does not describe (section 3).
    pub fn is_of_closed_objects(&self) -> bool {
        let value: Value = serde_json::from_str(&self.text).unwrap_or_default();
        value["type"] == json!("object")
            && [&value["additionalProperties"], &value["unevaluatedProperties"]].contains(&&Value::Bool(false))
    }
}

/// The references of a schema: those of each definition, and its number of values.
struct References<'a> {
    root: Vec<&'a str>,
    defs: BTreeMap<&'a str, (Vec<&'a str>, usize)>,
    size: usize,
}

impl<'a> References<'a> {
    fn of(schema: &'a Value) -> Result<Self, InvalidSchema> {
        let (mut root, mut defs) = (Vec::new(), BTreeMap::new());
        let members = schema.as_object().into_iter().flatten();
        for (keyword, value) in members {
            match (keyword.as_str(), value.as_object()) {
                ("$defs", Some(named)) => {
                    for (name, value) in named {
                        let mut found = Vec::new();
                        references(value, &mut found)?;
                        defs.insert(name.as_str(), (found, json::count(value)));
                    }
                }
                ("$id", _) => {}
                ("$ref", _) => reference(keyword, value, &mut root)?,
                _ => references(value, &mut root)?,
            }
        }
        Ok(Self { root, defs, size: json::count(schema) })
    }

    fn check(&self) -> Result<(), InvalidSchema> {
        let mut sizes = BTreeMap::new();
        let expanded = self.root.iter().try_fold(self.size, |sum, name| {
            Ok(usize::saturating_add(sum, self.expanded(name, &mut Vec::new(), &mut sizes)?))
        })?;
        if expanded > MAX_EXPANDED {
            return refuse(format!("with its references replaced it holds more than {MAX_EXPANDED} values"));
        }
        Ok(())
    }

    fn expanded(
        &self,
        name: &'a str,
        above: &mut Vec<&'a str>,
        sizes: &mut BTreeMap<&'a str, usize>,
    ) -> Result<usize, InvalidSchema> {
        if above.contains(&name) {
            return refuse(format!("`{DEFS}{}` refers to itself", echo(name)));
        }
        if let Some(size) = sizes.get(name) {
            return Ok(*size);
        }
        let Some((found, own)) = self.defs.get(name) else {
            return refuse(format!("nothing is at `{DEFS}{}`", echo(name)));
        };
        above.push(name);
        let mut size = *own;
        for name in found {
            size = size.saturating_add(self.expanded(name, above, sizes)?);
        }
        above.pop();
        sizes.insert(name, size);
        Ok(size)
    }
}

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) -> Result<(), InvalidSchema> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(keyword, value)| match keyword.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor" if value.is_string() => {
                reference(keyword, value, found)
            }
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().try_for_each(|item| references(item, found)),
        _ => Ok(()),
    }
}

fn reference<'a>(keyword: &str, value: &'a Value, found: &mut Vec<&'a str>) -> Result<(), InvalidSchema> {
    let name = value.as_str().and_then(|text| text.strip_prefix(DEFS)).filter(|name| !name.contains(['/', '~', '%']));
    match (keyword, name) {
        ("$ref", Some(name)) => {
            found.push(name);
            Ok(())
        }
        ("$ref", None) => refuse(format!("a `$ref` to something other than `{DEFS}NAME` of the schema itself")),
        _ => refuse(format!("it has `{keyword}`, which is not taken")),
    }
}

/// Whether every text that a schema lets through is described by it.
fn describes_all_text(schema: &Value, defs: &Map<String, Value>) -> bool {
    let Value::Object(schema) = schema else { return *schema == Value::Bool(false) };
    let describes = |schema: &Value| describes_all_text(schema, defs);
    let each = |keyword: &str, all: bool| match schema.get(keyword).and_then(Value::as_array) {
        Some(schemas) if all => schemas.iter().all(describes),
        Some(schemas) => schemas.iter().any(describes),
        None => false,
    };
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(DEFS));
    if schema.contains_key("const")
        || schema.contains_key("enum")
        || target.and_then(|name| defs.get(name)).is_some_and(describes)
        || each("anyOf", true)
        || each("oneOf", true)
        || each("allOf", false)
    {
        return true;
    }
    let anchored = |pattern: &str| pattern.starts_with('^') && pattern.ends_with('$') && !pattern.ends_with("\\$");
    let absent_or = |keyword: &str| schema.get(keyword).is_none_or(describes);
    let values = |keyword: &str| schema.get(keyword).and_then(Value::as_object).into_iter().flatten();
    let describes_type = |of: &str| match of {
        "null" | "boolean" | "integer" | "number" => true,
        "string" => schema.get("pattern").and_then(Value::as_str).is_some_and(anchored),
        "array" => {
            let prefix = schema.get("prefixItems").and_then(Value::as_array).into_iter().flatten();
            schema.get("items").is_some_and(describes) && prefix.into_iter().all(describes)
        }
        "object" => {
            let rest = ["additionalProperties", "unevaluatedProperties"];
            rest.iter().any(|keyword| schema.get(*keyword) == Some(&Value::Bool(false)))
                && rest.iter().all(|keyword| absent_or(keyword))
                && values("properties").all(|(_, schema)| describes(schema))
                && values("patternProperties").all(|(name, schema)| anchored(name) && describes(schema))
        }
        _ => false,
    };
    match schema.get("type") {
        Some(Value::String(of)) => describes_type(of),
        Some(Value::Array(of)) => of.iter().filter_map(Value::as_str).all(describes_type),
        _ => false,
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, InvalidSchema> {
    Err(InvalidSchema(why.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    fn refused(schema: Value) -> String {
        Schema::written("test.args", schema).unwrap_err().to_string()
    }

    #[test]
    fn a_schema_refers_to_nothing_but_its_own_definitions_and_never_in_a_circle() {
        for (reference, word) in [
            ("https://example.com/x", "other than"),
            ("file:///etc/passwd", "other than"),
            ("#", "other than"),
            ("#/properties/a", "other than"),
            ("#/$defs/none", "nothing is at"),
            ("#/$defs/a", "refers to itself"),
        ] {
            let schema = json!({ "properties": { "x": { "$ref": reference } },
                "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" } } });
            let text = refused(schema);
            assert!(text.contains(word), "{reference}: {text}");
        }
        assert!(refused(json!({ "$ref": "#" })).contains("other than"));
        assert!(refused(json!({ "$defs": { "a": { "$dynamicRef": "#a" } } })).contains("not taken"));
        let good = json!({ "properties": { "x": { "$ref": "#/$defs/a" } }, "$defs": { "a": { "type": "integer" } } });
        let good = Schema::written("test.args", good).unwrap();
        assert!(good.accepts(&json!({ "x": 1 })) && !good.accepts(&json!({ "x": "1" })));
    }

    #[test]
    fn what_grows_without_bound_when_references_are_replaced_is_refused() {
        let mut defs = Map::new();
        for level in 0..20 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            defs.insert(format!("d{level}"), json!({ "anyOf": [next, { "not": next }] }));
        }
        defs.insert("d20".to_owned(), json!({ "type": "null" }));
        assert!(refused(json!({ "$ref": "#/$defs/d0", "$defs": defs })).contains("values"));
    }

    #[test]
    fn what_is_no_schema_of_the_draft_is_refused() {
        assert!(refused(json!([])).contains("an object"));
        assert!(refused(json!({ "type": "integr" })).contains("no JSON Schema"));
        assert!(refused(json!({ "$schema": "http://json-schema.org/draft-07/schema#" })).contains("$schema"));
        assert!(refused(json!({ "pattern": "(a)\\1" })).contains("no JSON Schema"), "no backtracking");
        assert!(refused(json!({ "description": "x".repeat(70_000) })).contains("longer"));
    }

    #[test]
    fn text_is_free_unless_an_enum_a_const_or_an_anchored_pattern_describes_it() {
        let free = |x: Value| {
            let schema = json!({ "type": "object", "additionalProperties": false, "properties": { "x": x } });
            Schema::written("test.args", schema).unwrap().admits_free_text()
        };
        for described in [
            json!({ "type": "integer" }),
            json!({ "type": ["null", "number"] }),
            json!({ "enum": ["a", "b"] }),
            json!({ "type": "string", "pattern": "^[a-z]+$" }),
            json!({ "type": "array", "items": { "type": "boolean" } }),
            json!({ "type": "object", "additionalProperties": false }),
            json!({ "anyOf": [{ "const": "a" }, { "type": "null" }] }),
            json!(false),
        ] {
            assert!(!free(described.clone()), "{described}");
        }
        for undescribed in [
            json!({ "type": "string" }),
            json!({ "type": "string", "maxLength": 9, "pattern": "[a-z]" }),
            json!({ "type": "string", "pattern": "^a\\$" }),
            json!({}),
            json!(true),
            json!({ "type": "array" }),
            json!({ "type": "object" }),
            json!({ "type": "object", "additionalProperties": { "type": "integer" } }),
            json!({ "anyOf": [{ "const": "a" }, {}] }),
        ] {
            assert!(free(undescribed.clone()), "{undescribed}");
        }
    }
}

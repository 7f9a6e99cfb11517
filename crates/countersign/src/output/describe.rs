//! The answer to `describe`, for people. Its texts are the client's, raw: whoever prints them escapes them.

use countersign_protocol::command::Description;
use countersign_protocol::json;
use countersign_protocol::name::Name;
use countersign_protocol::text::escape;
use serde_json::Value;

use super::table;

/// How much of a schema's own words is shown of each member, in characters.
const MAX_ABOUT: usize = 200;

/// What a command does and takes, in a block.
pub(super) fn block(client: &Name, description: &Description) -> String {
    let Description { command, kind, long_running, description: about, args, result } = description;
    let kind = if *long_running { format!("{kind}, runs as a job") } else { kind.to_string() };
    let mut lines = vec![format!("{command} at {client} ({kind})")];
    lines.extend(about.iter().map(|about| format!("  {}", escape(about))));
    for (heading, schema) in [("arguments", args), ("result", result)] {
        lines.push(String::new());
        lines.push(format!("{heading}:"));
        match json::parse(schema.as_bytes()) {
            Ok(schema) => lines.push(indent(&members(&Value::Object(schema)))),
            Err(_) => lines.push("  a schema that cannot be read".to_owned()),
        }
    }
    lines.join("\n")
}

/// The members of an object by its schema, a line for each; of anything else its type.
fn members(schema: &Value) -> String {
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        names.into_iter().any(|it| it.as_str() == Some(name))
    };
    let rows: Vec<Vec<String>> = match schema.get("properties").and_then(Value::as_object) {
        Some(properties) => properties
            .iter()
            .map(|(name, member)| {
                let member = resolved(member, schema);
                let optional = if required(name) { "" } else { ", optional" };
                vec![name.clone(), format!("{}{optional}", kind(member)), about(member)]
            })
            .collect(),
        None => return escape(format!("{}  {}", kind(schema), about(schema)).trim_end()).into_owned(),
    };
    if rows.is_empty() {
        return "none".to_owned();
    }
    table(&["NAME", "TYPE", "NOTE"], rows)
}

/// What a reference within a schema refers to.
pub(crate) fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..8 {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        match target.and_then(|pointer| root.pointer(pointer)) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

/// The type of a value by its schema, with its bounds.
fn kind(schema: &Value) -> String {
    let mut kind = match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    };
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        kind = words.join(" or ");
    }
    if let Some(word) = schema.get("const") {
        kind = word.to_string();
    }
    if kind.is_empty() {
        kind = "any".to_owned();
    }
    let members = names(schema);
    if kind == "object" && !members.is_empty() {
        kind = format!("object of {}", members.join(", "));
    }
    for (keyword, text) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "of at least"),
        ("maxLength", "of at most"),
        ("pattern", "like"),
    ] {
        if let Some(bound) = schema.get(keyword).filter(|bound| !bound.is_object()) {
            let bound = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
            kind.push_str(&format!(" {text} {bound}"));
        }
    }
    kind.chars().take(MAX_ABOUT).collect()
}

/// The members that an object has by its schema.
fn names(schema: &Value) -> Vec<&str> {
    let described = schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| &**name);
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<&str> = described.chain(required).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn about(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().chars().take(MAX_ABOUT).collect()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use countersign_protocol::command::{Builtin, CommandKind};
    use countersign_protocol::schema;

    use super::*;

    #[test]
    fn a_description_names_each_argument_with_its_type_and_bounds() {
        let (args, result) = (schema::arguments(Builtin::Calculate), schema::result(Builtin::Ping));
        let description = Description {
            command: Builtin::Calculate.into(),
            kind: CommandKind::Data,
            long_running: true,
            description: Some("Computes.\u{1b}[2J".to_owned()),
            args: args.text().to_owned(),
            result: result.text().to_owned(),
        };
        let block = block(&Builtin::Ping.into(), &description);
        assert!(block.starts_with("calculate at ping (data, runs as a job)\n  Computes.\\u{1b}[2J\n"), "{block}");
        assert!(block.contains("  x     number from 0.0 to 86400.0  "), "{block}");
        assert!(block.contains("string of at most 4096"), "{block}");
    }

    #[test]
    fn a_constant_and_the_members_of_an_object_are_named() {
        let schema = serde_json::json!({ "properties": {
            "exit_code": { "const": 0 },
            "stdout": { "type": "object" },
            "value": { "type": "object", "required": ["title", "pages"], "properties": { "pages": {} } },
        }});
        let members = members(&schema);
        for line in
            ["exit_code  0, optional", "stdout     object, optional", "value      object of pages, title, optional"]
        {
            assert!(members.contains(line), "{members}");
        }
    }

    #[test]
    fn what_is_no_object_of_members_is_shown_without_what_moves_the_cursor() {
        for hostile in [
            serde_json::json!({ "type": "\u{1b}[2J" }),
            serde_json::json!({ "enum": ["\u{202e}"], "pattern": "\u{1b}[2J", "description": "\r" }),
            serde_json::json!({ "type": "object", "required": ["\u{1b}[2J\n"] }),
        ] {
            let members = members(&hostile);
            assert_eq!(escape(&members), members, "{members:?}");
        }
    }

    #[test]
    fn a_schema_that_is_nonsense_is_no_harm() {
        let circle = serde_json::json!({ "properties": { "x": { "$ref": "#/properties/x" } }, "required": 3 });
        assert!(members(&circle).contains("any, optional"));
    }
}

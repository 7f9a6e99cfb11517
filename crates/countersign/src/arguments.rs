//! `key=value` after the name of a command: made into JSON, and checked, by the schemas that the clients sign (`describe`).
//! What a client validates against is its own; this is for people, before anything is sent.

use std::collections::BTreeSet;

use countersign_machine::server::{Audience, Report, Verdict};
use countersign_protocol::command::{Builtin, Call, CommandKind, CommandName, Description};
use countersign_protocol::json::{self, read};
use countersign_protocol::limits::MAX_ERRORS;
use countersign_protocol::name::Name;
use countersign_protocol::schema::{self, Schema};
use countersign_protocol::text::echo;
use countersign_server::Operator;
use serde_json::{Map, Value, json};

use crate::cli_error::{CliError, CliResult};
use crate::output::resolved;
use crate::suggest::suggest;
use crate::text::{code, command};

/// How many definitions of one command are asked for, where they differ between clients.
const MAX_DEFINITIONS: usize = 8;

/// Arguments as they were typed.
pub(crate) type Pairs = Vec<(String, String)>;

/// The words before the first `key=value`, and those from there on.
pub(crate) fn split(words: &[String]) -> (&[String], Pairs) {
    let pair = |word: &String| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let first = words.iter().position(|word| pair(word).is_some_and(|(key, _)| !key.is_empty()));
    let (words, pairs) = words.split_at(first.unwrap_or(words.len()));
    // A word without `=` among them is the value's, which was not quoted; it is a key without a value to the check.
    (words, pairs.iter().map(|word| pair(word).unwrap_or_else(|| (word.clone(), String::new()))).collect())
}

/// Whether the schema of the arguments is known without asking anybody; then these are they.
pub(crate) fn of_builtin(name: &Name, pairs: &Pairs) -> Option<CliResult<Map<String, Value>>> {
    let builtin = Builtin::from_name(name.as_str())?;
    let schema = schema::arguments(builtin);
    let checked = convert(pairs, &parsed(schema.text())).and_then(|args| check(name, "every client", schema, args));
    Some(checked.map_err(|error| meant(error, pairs, schema.text())))
}

/// The question for the schemas of a command, and whom to ask: of the clients that the roster knows, one for each
/// definition.
pub(crate) fn question(operator: &Operator, audience: &Audience, name: &Name) -> (Call, Audience) {
    let args = json!(CommandName { command: name.clone() });
    let args = if let Value::Object(args) = args { args } else { Map::new() };
    let call = Call { name: Builtin::Describe.into(), args };
    let belongs = |client: &Name, groups: &[Name]| match audience {
        Audience::Clients(clients) => clients.contains(client),
        Audience::Group(group) => groups.contains(group),
        Audience::All => true,
    };
    let mut asked: Vec<(_, Name)> = Vec::new();
    for presence in operator.roster().entries().filter(|it| belongs(it.client(), it.groups())) {
        let known = presence.info().commands.iter().find(|known| known.name == *name);
        if let Some(known) = known
            && asked.len() < MAX_DEFINITIONS
            && asked.iter().all(|(digest, _)| *digest != known.args)
        {
            asked.push((known.args, presence.client().clone()));
        }
    }
    match asked.is_empty() {
        true => (call, audience.clone()),
        false => (call, Audience::Clients(asked.into_iter().map(|(_, client)| client).collect())),
    }
}

/// The arguments by the answers: as the first schema has them, and as every one allows them.
pub(crate) fn by_answers(name: &Name, pairs: &Pairs, report: &Report) -> CliResult<Map<String, Value>> {
    let described: Vec<_> = descriptions(report).into_iter().filter(|(_, it)| it.command == *name).collect();
    let Some((_, first)) = described.first() else {
        let client = report.replies.first().map(|reply| reply.client.to_string()).unwrap_or_default();
        return Err(CliError::usage(format!(
            "no schema of `{}` is known: {client} does not describe it",
            echo(name.as_str())
        ))
        .expected("a command that a target has, and `describe` in the operator's grant")
        .hint(code("commands") + " lists what there is; --args takes JSON without a schema"));
    };
    let args = convert(pairs, &parsed(&first.args))?;
    for (client, description) in &described {
        let mut schema = parsed(&description.args);
        if let Some(members) = schema.as_object_mut() {
            members.remove("$id");
        }
        // What cannot be used here is still the client's own to judge by.
        if let Ok(schema) = Schema::written("described.args", schema) {
            check(name, client.as_str(), &schema, args.clone())
                .map_err(|error| meant(error, pairs, &description.args))?;
        }
    }
    Ok(args)
}

/// The arguments that the built-in data commands take, by their names.
pub(crate) fn builtin_keys() -> impl Iterator<Item = (String, BTreeSet<String>)> {
    let data = Builtin::ALL.iter().filter(|builtin| builtin.kind() == CommandKind::Data);
    data.map(|builtin| (builtin.to_string(), keys(schema::arguments(*builtin).text())))
}

/// The same of the commands that the answers to `describe` tell of.
pub(crate) fn described_keys(report: &Report) -> Vec<(Name, BTreeSet<String>)> {
    if report.command.as_str() != Builtin::Describe.name() {
        return Vec::new();
    }
    let described = descriptions(report);
    described.into_iter().map(|(_, it)| (it.command, keys(&it.args))).collect()
}

/// The names of the members by a schema; what cannot be typed at a prompt is left out.
fn keys(schema: &str) -> BTreeSet<String> {
    let schema = parsed(schema);
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, _)| name).filter(|name| is_plain(name)).take(64).cloned().collect()
}

/// Whether a name can be typed without quotation marks. It comes from a client, and is printed by a shell.
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|it| it.is_ascii_alphanumeric() || "_-".contains(it))
}

fn descriptions(report: &Report) -> Vec<(Name, Description)> {
    let described = report.replies.iter().filter_map(|reply| match &reply.verdict {
        Verdict::Succeeded { result: Some(result) } => {
            read::<Description>(&result.value()).ok().map(|described| (reply.client.clone(), described))
        }
        _ => None,
    });
    described.collect()
}

fn parsed(text: &str) -> Value {
    json::parse(text.as_bytes()).map(Value::Object).unwrap_or_default()
}

fn convert(pairs: &Pairs, schema: &Value) -> CliResult<Map<String, Value>> {
    let mut args = Map::new();
    for (key, text) in pairs {
        let member = schema.get("properties").and_then(|properties| properties.get(key));
        let value = value(text, member.map(|member| resolved(member, schema)), schema);
        if args.insert(key.clone(), value).is_some() {
            return Err(CliError::usage(format!("`{}` is given twice", echo(key)))
                .expected("each argument once")
                .hint(command("call worker-1 calculate x=2.5 msg=\"all done\"")));
        }
    }
    Ok(args)
}

/// A text as a value of the types that a schema names: text where it allows nothing else, JSON where that has one of the
/// types, and where no type is named what it looks like.
fn value(text: &str, schema: Option<&Value>, root: &Value) -> Value {
    let mut types = Vec::new();
    if let Some(schema) = schema {
        types_of(schema, root, 0, &mut types);
    }
    let parsed = json::parse(format!("{{\"value\":{text}}}").as_bytes());
    let parsed = parsed.ok().filter(|members| members.len() == 1).and_then(|mut members| members.remove("value"));
    match parsed {
        Some(parsed) if types.is_empty() || types.iter().any(|it| *it == type_of(&parsed)) => parsed,
        // The check says what it is instead.
        Some(parsed) if !types.contains(&"string") => parsed,
        _ => Value::String(text.to_owned()),
    }
}

/// The types of the values that a schema allows, as far as it says so itself; `number` for every number.
fn types_of<'a>(schema: &'a Value, root: &'a Value, depth: usize, types: &mut Vec<&'a str>) {
    let number = |it: &'a str| if it == "integer" { "number" } else { it };
    match schema.get("type") {
        Some(Value::String(one)) => types.push(number(one)),
        Some(Value::Array(several)) => types.extend(several.iter().filter_map(Value::as_str).map(number)),
        _ => {
            let words = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
            types.extend(words.chain(schema.get("const")).map(|it| -> &'a str { type_of(it) }));
            let several = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_array());
            if depth < 4 {
                several.flatten().for_each(|part| types_of(resolved(part, root), root, depth + 1, types));
            }
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(name: &Name, at: &str, schema: &Schema, args: Map<String, Value>) -> CliResult<Map<String, Value>> {
    let args = Value::Object(args);
    let errors = schema.errors(&args, MAX_ERRORS);
    let Value::Object(args) = args else { return Ok(Map::new()) };
    if errors.is_empty() {
        return Ok(args);
    }
    let errors: Vec<String> = errors.iter().map(|error| format!("{error} ({})", error.keyword)).collect();
    Err(CliError::usage(format!("invalid arguments for {name}: {}; nothing was sent", errors.join("; ")))
        .expected(format!("what {at} takes"))
        .hint(code(format!("describe TARGET {name}")) + " shows it"))
}

/// The same error with what may have been meant: a member of another name, or a value of several words without quotation
/// marks.
fn meant(error: CliError, pairs: &Pairs, schema: &str) -> CliError {
    let known = keys(schema);
    let is_unknown = |(key, _): &(String, String)| !known.contains(key);
    let Some(at) = pairs.iter().position(is_unknown) else { return error };
    let Some((key, value)) = pairs.get(at) else { return error };
    if let Some(near) = suggest(key, known.iter().map(String::as_str)) {
        return error.meant(key, near);
    }
    let Some((first, text)) = at.checked_sub(1).and_then(|before| pairs.get(before)).filter(|_| value.is_empty())
    else {
        return error;
    };
    let more =
        pairs.iter().skip(at).take_while(|pair| is_unknown(pair) && pair.1.is_empty()).map(|(word, _)| word.clone());
    let words: Vec<String> = std::iter::once(format!("{first}={text}")).chain(more).collect();
    let whole = words.join(" ");
    error.meant_as_one(words, whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;
    use crate::text::Place;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn of(pairs: &[&str], schema: &Value) -> Value {
        Value::Object(convert(&split(&words(pairs)).1, schema).unwrap())
    }

    #[test]
    fn pairs_begin_at_the_first_word_with_an_equals_sign() {
        let all = words(&["worker-1", "report", "name=q3", "where=a=b", "empty="]);
        let (before, pairs) = split(&all);
        assert_eq!(before, &all[..2]);
        let expected = [("name", "q3"), ("where", "a=b"), ("empty", "")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(split(&all[..2]), (&all[..2], vec![]));
    }

    #[test]
    fn a_value_has_the_type_that_the_schema_names() {
        let schema = json!({
            "properties": {
                "name": { "type": "string" }, "pages": { "type": "integer" }, "ratio": { "type": ["number", "null"] },
                "draft": { "type": "boolean" }, "tags": { "type": "array" }, "size": { "$ref": "#/$defs/size" },
                "maybe": { "anyOf": [{ "type": "string" }, { "type": "null" }] }, "any": {},
            },
            "$defs": { "size": { "enum": ["a4", "a5", 3] } },
        });
        let typed = of(
            &["name=3", "pages=3", "ratio=null", "draft=true", "tags=[1]", "size=a4", "maybe=null", "any={\"a\":1}"],
            &schema,
        );
        let expected = json!({
            "name": "3", "pages": 3, "ratio": null, "draft": true, "tags": [1], "size": "a4", "maybe": null,
            "any": { "a": 1 },
        });
        assert_eq!(typed, expected);
        assert_eq!(
            of(&["size=3", "any=text", "unknown=7"], &schema),
            json!({ "size": 3, "any": "text", "unknown": 7 })
        );
    }

    #[test]
    fn a_value_cannot_bring_members_of_its_own() {
        assert_eq!(of(&["a=1,\"b\":2"], &json!({})), json!({ "a": "1,\"b\":2" }));
    }

    #[test]
    fn what_the_schema_does_not_allow_is_told_with_its_path_and_rule() {
        let of = |pairs: &[&str]| of_builtin(&"calculate".parse().unwrap(), &split(&words(pairs)).1).unwrap();
        assert_eq!(of(&["x=2.5", "msg=3"]).unwrap(), *json!({ "x": 2.5, "msg": "3" }).as_object().unwrap());
        for (pairs, path, rule) in [
            (&["x=-1", "msg=a"][..], "/x: ", "(minimum)"),
            (&["x=abc", "msg=a"], "/x: ", "(type)"),
            (&["x=1"], "the whole: ", "(required)"),
            (&["x=1", "msg=a", "y=2"], "the unknown member `y`", "(additionalProperties)"),
        ] {
            let text = of(pairs).unwrap_err().lines(Place::Shell).map(|(_, line)| line).collect::<String>();
            assert!(text.contains(path) && text.contains(rule), "{text}");
        }
    }

    #[test]
    fn an_argument_that_is_given_twice_is_refused() {
        assert!(convert(&split(&words(&["a=1", "a=2"])).1, &json!({})).is_err());
    }
}

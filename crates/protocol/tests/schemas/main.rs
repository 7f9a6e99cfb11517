//! What the schemas say, and that they and the types say the same.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod examples;
mod own_types;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use countersign_protocol::command::{Builtin, Command};
use countersign_protocol::credential::Claims;
use countersign_protocol::digest::Digest;
use countersign_protocol::enrolment::{EnrolmentAnswer, EnrolmentRequest};
use countersign_protocol::envelope::MessageType;
use countersign_protocol::event::Event;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::key::{PublicKey, Thumbprint};
use countersign_protocol::name::{ConnectionKey, Name, Session, TokenId};
use countersign_protocol::renewal::{RenewalAnswer, RenewalRequest};
use countersign_protocol::reply::Reply;
use countersign_protocol::schema::{self, Schema, SchemaError};
use countersign_protocol::trust::TrustBody;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde_json::{Value, json};

const STATUSES: [&str; 7] = ["accepted", "progress", "succeeded", "failed", "refused", "cancelled", "interrupted"];
const KINDS: [&str; 3] = ["presence", "job", "security"];

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let file =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap());
    let committed: BTreeMap<_, _> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| file(entry.unwrap()))
        .filter(|(name, _)| name.ends_with(".json"))
        .collect();
    let generated =
        schema::all().into_iter().map(|schema| (format!("{}.json", schema.name()), schema.text().to_owned()));
    assert_eq!(committed, generated.collect(), "run `countersign schemas --write schemas`");
}

#[test]
fn every_schema_is_closed_draft_2020_12_under_its_own_id() {
    let schemas = schema::all();
    assert_eq!(schemas.len(), MessageType::ALL.len() + 2 + 2 * Builtin::ALL.len());
    for schema in schemas {
        let value: Value = serde_json::from_str(schema.text()).unwrap();
        assert_eq!(value["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(value["$id"], format!("urn:countersign:schema:1:{}", schema.name()));
        assert_eq!(schema.digest(), Digest::of(schema.text().as_bytes()));
        assert!(value["type"] != "object" || value["additionalProperties"] == false, "{}", schema.name());
        assert!(!schema.text().contains("\"format\""), "{}", schema.name());
    }
}

#[test]
fn a_schema_refers_to_nothing_outside_itself() {
    for schema in schema::all() {
        for line in schema.text().lines().filter(|line| line.contains("$ref") || line.contains("$dynamicRef")) {
            assert!(line.trim().starts_with("\"$ref\": \"#/$defs/"), "{}: {line}", schema.name());
        }
    }
}

/// A schema, honest examples of what it describes, and whether a value can be read as the type.
struct Described {
    schema: &'static Schema,
    examples: Vec<Value>,
    reads: fn(&Value) -> bool,
}

fn messages() -> Vec<Described> {
    vec![
        Described {
            schema: schema::envelope(MessageType::Command),
            examples: vec![
                examples::command(),
                command_to(json!({ "group": "web" })),
                command_to(json!({ "all": true })),
            ],
            reads: |value| json::read::<Command>(value).is_ok(),
        },
        Described {
            schema: schema::envelope(MessageType::Reply),
            examples: STATUSES.map(examples::reply).to_vec(),
            reads: |value| json::read::<Reply>(value).is_ok_and(|reply| reply.outcome().is_ok()),
        },
        Described {
            schema: schema::envelope(MessageType::Event),
            examples: KINDS.map(examples::event).to_vec(),
            reads: |value| json::read::<Event>(value).is_ok_and(|event| event.data().is_ok()),
        },
        Described {
            schema: schema::envelope(MessageType::EnrolmentRequest),
            examples: vec![examples::enrolment_request()],
            reads: |value| {
                json::read::<EnrolmentRequest>(value).is_ok_and(|request| PublicKey::try_from(&request.jwk).is_ok())
            },
        },
        Described {
            schema: schema::envelope(MessageType::EnrolmentAnswer),
            examples: [false, true].map(examples::enrolment_answer).to_vec(),
            reads: |value| json::read::<EnrolmentAnswer>(value).is_ok_and(|answer| answer.into_outcome().is_ok()),
        },
        Described {
            schema: schema::envelope(MessageType::RenewalRequest),
            examples: vec![examples::renewal_request()],
            reads: |value| json::read::<RenewalRequest>(value).is_ok(),
        },
        Described {
            schema: schema::envelope(MessageType::RenewalAnswer),
            examples: ["user_jwt", "error"].map(examples::renewal_answer).to_vec(),
            reads: |value| json::read::<RenewalAnswer>(value).is_ok_and(|answer| answer.into_outcome().is_ok()),
        },
    ]
}

fn command_to(to: Value) -> Value {
    let mut command = examples::command();
    command["to"] = to;
    command
}

/// Everything that a value becomes by one change anywhere in it.
fn changes(value: &Value) -> Vec<Value> {
    let replacements = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(2),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("X"),
        json!([]),
        json!({}),
        json!([value]),
        json!({ "x": value }),
    ];
    let mut changes: Vec<Value> = replacements.into_iter().filter(|replacement| replacement != value).collect();
    match value {
        Value::Object(members) => {
            let with = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
                let mut members = members.clone();
                change(&mut members);
                Value::Object(members)
            };
            changes.push(with(&|members| drop(members.insert("unknown".into(), json!(1)))));
            for (name, member) in members {
                changes.push(with(&|members| drop(members.remove(name))));
                changes.push(with(&|members| {
                    members.remove(name);
                    members.insert(name.to_uppercase(), member.clone());
                }));
                changes.extend(
                    self::changes(member)
                        .into_iter()
                        .map(|changed| with(&|members| drop(members.insert(name.clone(), changed.clone())))),
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                changes.extend(self::changes(item).into_iter().map(|changed| {
                    let mut items = items.clone();
                    items[index] = changed;
                    Value::Array(items)
                }));
            }
        }
        Value::String(text) => changes.push(json!(format!("{text}\n"))),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    changes
}

#[test]
fn honest_messages_satisfy_the_schema_and_the_type() {
    for Described { schema, examples, reads } in messages() {
        for example in examples {
            assert_eq!(schema.errors(&example, 16), [], "{example:#}");
            assert!(reads(&example), "{example:#}");
        }
    }
}

#[test]
fn honest_credentials_and_trust_satisfy_the_schema_and_the_type() {
    for role in ["operator", "client"] {
        let claims = examples::credential(role);
        assert_eq!(schema::envelope(MessageType::Credential).errors(&claims, 16), []);
        assert_eq!(json::read::<Claims>(&claims).err(), None);
    }
    assert_eq!(schema::envelope(MessageType::Trust).errors(&examples::trust(), 16), []);
    assert_eq!(json::read::<TrustBody>(&examples::trust()).err(), None);
}

#[test]
fn honest_arguments_and_results_satisfy_the_schema_and_the_type() {
    for builtin in Builtin::ALL {
        let name = builtin.name();
        assert_eq!(schema::arguments(*builtin).errors(&examples::arguments(name), 16), [], "{name}");
        assert_eq!(schema::result(*builtin).errors(&examples::result(name), 16), [], "{name}");
    }
}

#[test]
fn a_message_changed_anywhere_satisfies_the_schema_only_if_it_satisfies_the_type() {
    for Described { schema, examples, reads } in messages() {
        let mut refused = 0;
        for changed in examples.iter().flat_map(changes) {
            assert_eq!(schema.accepts(&changed), reads(&changed), "{}: {changed:#}", schema.name());
            refused += usize::from(!reads(&changed));
        }
        assert!(refused > 100, "{}: {refused}", schema.name());
    }
}

#[test]
fn what_a_message_is_written_as_satisfies_its_schema() {
    fn rewritten<T: serde::Serialize + serde::de::DeserializeOwned>(value: &Value) -> Value {
        serde_json::to_value(json::read::<T>(value).unwrap()).unwrap()
    }
    assert_eq!(rewritten::<Command>(&examples::command()), examples::command());
    for reply in STATUSES.map(examples::reply) {
        assert_eq!(rewritten::<Reply>(&reply), reply);
    }
    for event in KINDS.map(examples::event) {
        assert_eq!(rewritten::<Event>(&event), event);
        let data = json::read::<Event>(&event).unwrap().data().unwrap();
        assert_eq!((json!(data.kind()), json!(data.to_map())), (event["kind"].clone(), event["data"].clone()));
    }
}

#[test]
fn a_number_with_a_fraction_is_an_integer_to_the_schema_and_not_to_the_type() {
    let one_point_zero = |value: &mut Value, place: &str| *value.pointer_mut(place).unwrap() = json!(1.0);
    for (mut value, place, message) in [
        (examples::command(), "/v", MessageType::Command),
        (examples::command(), "/issued_at", MessageType::Command),
        (examples::reply("accepted"), "/n", MessageType::Reply),
        (examples::event("job"), "/data/started_at", MessageType::Event),
    ] {
        one_point_zero(&mut value, place);
        assert!(schema::envelope(message).accepts(&value), "{place}");
        let reads =
            messages().into_iter().find(|described| described.schema.name() == message_name(message)).unwrap().reads;
        assert!(!reads(&value), "{place}");
    }
    let error = &schema::result(Builtin::Ping).errors(&json!(1.0), 16)[0];
    assert_eq!((error.path.as_str(), error.keyword.as_str()), ("", "type"));
}

fn message_name(message: MessageType) -> &'static str {
    schema::envelope(message).name()
}

#[test]
fn a_flood_of_errors_is_cut_short_and_quotes_little() {
    let hostile = "\u{202e}\u{1b}[2J".repeat(10_000);
    let many: serde_json::Map<_, _> = (0..14_000).map(|n| (format!("{hostile:.32}{n}"), json!(n))).collect();
    for arguments in
        [Value::Object(many), json!({ hostile.clone(): 1 }), json!({ "x": hostile.clone(), "msg": [hostile] })]
    {
        let errors = schema::arguments(Builtin::Calculate).errors(&arguments, 16);
        assert!((1..=16).contains(&errors.len()));
        for SchemaError { path, message, .. } in errors {
            assert!(path.chars().count() <= 64 && message.chars().count() <= 128, "{path} {message}");
            assert!(!message.contains(['\u{202e}', '\u{1b}']), "{message:?}");
        }
    }
    assert_eq!(schema::arguments(Builtin::Calculate).errors(&json!({}), 1).len(), 1);
    assert_eq!(schema::arguments(Builtin::Calculate).errors(&json!({}), 0).len(), 0);
}

/// Asserts that the pattern of a type and its parser judge a text alike.
fn assert_alike<T: JsonSchema + FromStr>(schema: &Schema, text: &str) {
    assert_eq!(schema.accepts(&json!(text)), text.parse::<T>().is_ok(), "{} {text:?}", schema.name());
}

#[test]
fn patterns_and_parsers_agree_on_texts_built_against_them() {
    fn attack<T: JsonSchema + FromStr>(honest: &str) {
        let schema = Schema::of::<T>("pattern");
        assert!(schema.accepts(&json!(honest)) && honest.parse::<T>().is_ok(), "{honest}");
        for length in 0..=honest.len() {
            let (head, tail) = honest.split_at(length);
            for piece in ["", "-", "_", ".", "*", ">", "A", "g", "0", " ", "\n", "\0", "é", "١", "ａ"] {
                assert_alike::<T>(&schema, &format!("{head}{piece}{tail}"));
                assert_alike::<T>(&schema, &format!("{head}{piece}{}", tail.get(1..).unwrap_or_default()));
            }
        }
        for piece in ["a", "0", "-", "a-", "{"] {
            assert_alike::<T>(&schema, &piece.repeat(200_000));
            assert_alike::<T>(&schema, &format!("{}!", piece.repeat(200_000)));
        }
    }
    attack::<Name>("worker-1");
    attack::<Name>(&"a".repeat(64));
    attack::<Session>("k3v9q2m8x7c1b5n0");
    attack::<Session>(&"a".repeat(32));
    attack::<TokenId>("k3v9q2m8x7c1b5n0");
    attack::<ConnectionKey>(&format!("U{}", "A2".repeat(27) + "Z"));
    attack::<MessageId>("019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90");
    attack::<Uuid>("b2f0c1de-0f1a-4b6c-8d2e-5a7b9c3d1e0f");
    attack::<Digest>(&format!("sha256:{}", "0123456789abcdef".repeat(4)));
    attack::<Thumbprint>("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

proptest! {
    #[test]
    fn the_pattern_of_names_and_their_parser_agree(text in "[a-z0-9_-]{0,66}|[a-zA-Z0-9_. -]{0,8}|.{0,4}") {
        static SCHEMA: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(|| Schema::of::<Name>("name"));
        assert_alike::<Name>(&SCHEMA, &text);
    }
}

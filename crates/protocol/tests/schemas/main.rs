//! What the schemas say, and that they and the types say the same.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod examples;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use countersign_protocol::command::{Builtin, Command};
use countersign_protocol::credential::Claims;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::MessageType;
use countersign_protocol::event::Event;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::Reply;
use countersign_protocol::schema::{self, Schema, SchemaError};
use countersign_protocol::trust::TrustBody;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
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
    assert_eq!(schemas.len(), 5 + 2 + 2 * Builtin::ALL.len());
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
        assert!(refused > 500, "{}: {refused}", schema.name());
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

/// One change to an honest example: the place, what is put there (nothing: the member is removed), and what is said.
type Negative<'a> = (&'a str, Option<Value>, &'a str, &'a str);

#[track_caller]
fn assert_refused(schema: &Schema, example: &Value, negatives: &[Negative<'_>]) {
    for (place, replacement, path, keyword) in negatives {
        let mut changed = example.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let members = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match replacement {
            Some(value) => members.insert(name.to_owned(), value.clone()),
            None => members.remove(name),
        };
        let errors = schema.errors(&changed, 16);
        let found = errors.iter().map(|error| (error.path.as_str(), error.keyword.as_str())).collect::<Vec<_>>();
        assert_eq!(found, [(*path, *keyword)], "{} {place} {replacement:?}: {errors:?}", schema.name());
    }
}

#[test]
fn a_command_is_refused_for_what_is_wrong_with_it() {
    assert_refused(
        schema::envelope(MessageType::Command),
        &examples::command(),
        &[
            ("/v", Some(json!(2)), "/v", "const"),
            ("/v", None, "", "required"),
            ("/id", Some(json!("019ab2d4-7c1e-4a55-9d0b-3c1f5e8a2b90")), "/id", "pattern"),
            ("/id", Some(json!("019AB2D4-7C1E-7A55-9D0B-3C1F5E8A2B90")), "/id", "pattern"),
            ("/realm", Some(json!("Demo")), "/realm", "pattern"),
            ("/realm", Some(json!("a".repeat(65))), "/realm", "pattern"),
            ("/from", Some(json!("alice.bob")), "/from", "pattern"),
            ("/from", Some(json!(">")), "/from", "pattern"),
            ("/credential", Some(json!(null)), "/credential", "type"),
            ("/to", Some(json!({})), "/to", "oneOf"),
            ("/to", Some(json!({ "all": false })), "/to", "oneOf"),
            ("/to", Some(json!({ "client": "worker-1", "all": true })), "/to", "oneOf"),
            ("/to", Some(json!(["worker-1"])), "/to", "oneOf"),
            ("/issued_at", Some(json!(1.5)), "/issued_at", "type"),
            ("/issued_at", Some(json!("1795485600123")), "/issued_at", "type"),
            ("/issued_at", Some(json!(9_007_199_254_740_992_i64)), "/issued_at", "maximum"),
            ("/expires_at", Some(json!(i64::MIN)), "/expires_at", "minimum"),
            ("/expires_at", Some(json!(u64::MAX)), "/expires_at", "maximum"),
            ("/epoch", Some(json!(null)), "/epoch", "type"),
            ("/dry_run", Some(json!(false)), "/dry_run", "const"),
            ("/dry_run", Some(json!(null)), "/dry_run", "const"),
            ("/Dry_run", Some(json!(true)), "", "additionalProperties"),
            ("/command", Some(json!(["ping", {}])), "/command", "type"),
            ("/command/args", None, "/command", "required"),
            ("/command/args", Some(json!([])), "/command/args", "type"),
            ("/command/kind", Some(json!("data")), "/command", "additionalProperties"),
        ],
    );
}

#[test]
fn a_reply_has_the_members_of_its_status_and_no_others() {
    let schema = schema::envelope(MessageType::Reply);
    let (progress, error) =
        (examples::reply("progress")["progress"].clone(), examples::reply("failed")["error"].clone());
    let members = [("/progress", progress), ("/result", json!(1)), ("/error", error)];
    for status in STATUSES {
        let own = match status {
            "accepted" => "",
            "progress" => "/progress",
            "succeeded" => "/result",
            _ => "/error",
        };
        for (member, value) in &members {
            let negative = if own == *member {
                (own, None, "", "required")
            } else {
                (*member, Some(value.clone()), *member, "falseSchema")
            };
            assert_refused(schema, &examples::reply(status), &[negative]);
        }
    }
}

#[test]
fn a_reply_is_refused_for_what_is_wrong_with_it() {
    let schema = schema::envelope(MessageType::Reply);
    assert_refused(
        schema,
        &examples::reply("progress"),
        &[
            ("/state", Some(json!("READY")), "/state", "enum"),
            ("/n", Some(json!(-1)), "/n", "minimum"),
            ("/seq", None, "", "required"),
            ("/command_digest", Some(json!("sha256:00")), "/command_digest", "pattern"),
            ("/progress/fraction", Some(json!(1.01)), "/progress/fraction", "maximum"),
            ("/progress/fraction", Some(json!(-0.01)), "/progress/fraction", "minimum"),
            ("/progress/message", Some(json!(null)), "/progress/message", "type"),
            ("/progress/unknown", Some(json!(1)), "/progress", "additionalProperties"),
        ],
    );
    assert_refused(
        schema,
        &examples::reply("accepted"),
        &[("/status", Some(json!("done")), "/status", "enum"), ("/status", None, "", "required")],
    );
    assert_refused(
        schema,
        &examples::reply("failed"),
        &[
            ("/error/code", Some(json!("NotReady")), "/error/code", "enum"),
            ("/error/message", None, "/error", "required"),
            ("/error/details", Some(json!([])), "/error/details", "type"),
        ],
    );
}

#[test]
fn the_data_of_an_event_is_that_of_its_kind() {
    let schema = schema::envelope(MessageType::Event);
    assert_refused(
        schema,
        &examples::event("presence"),
        &[
            ("/data/state", Some(json!("gone")), "/data/state", "enum"),
            ("/data/dropped/unheard_of", Some(json!(1)), "/data/dropped", "additionalProperties"),
            ("/data/dropped/late", Some(json!(-1)), "/data/dropped/late", "minimum"),
            ("/data/jobs", Some(json!([0, 64])), "/data/jobs", "type"),
            ("/data/trust/version", None, "/data/trust", "required"),
        ],
    );
    assert_refused(schema, &examples::event("job"), &[("/data/ended_at", Some(json!(null)), "/data/ended_at", "type")]);
    assert_refused(
        schema,
        &examples::event("security"),
        &[
            ("/data/reason", Some(json!("curiosity")), "/data/reason", "enum"),
            ("/data/signer", Some(json!("a b")), "/data/signer", "pattern"),
            ("/kind", Some(json!("gossip")), "/kind", "enum"),
        ],
    );
    let mut crossed = examples::event("job");
    crossed["kind"] = json!("security");
    assert!(!schema.accepts(&crossed));
}

#[test]
fn arguments_are_refused_for_what_is_wrong_with_them() {
    let calculate = schema::arguments(Builtin::Calculate);
    assert_refused(
        calculate,
        &examples::arguments("calculate"),
        &[
            ("/x", None, "", "required"),
            ("/x", Some(json!(-0.001)), "/x", "minimum"),
            ("/x", Some(json!(86_400.001)), "/x", "maximum"),
            ("/x", Some(json!("2.5")), "/x", "type"),
            ("/msg", Some(json!("😀".repeat(4_097))), "/msg", "maxLength"),
            ("/msg", Some(json!(null)), "/msg", "type"),
            ("/$ref", Some(json!("https://example.com/schema.json")), "", "additionalProperties"),
            ("/$schema", Some(json!("https://example.com/schema.json")), "", "additionalProperties"),
            ("/Msg", Some(json!("done")), "", "additionalProperties"),
        ],
    );
    for limit in [json!({ "x": 0, "msg": "" }), json!({ "x": 86_400, "msg": "😀".repeat(4_096) })] {
        assert_eq!(calculate.errors(&limit, 16), []);
    }
    assert_refused(schema::arguments(Builtin::Ping), &json!({}), &[("/x", Some(json!(1)), "", "additionalProperties")]);
    assert_refused(
        schema::arguments(Builtin::Cancel),
        &examples::arguments("cancel"),
        &[("/command_id", Some(json!("all")), "/command_id", "pattern")],
    );
    assert_eq!(calculate.errors(&json!([2.5, "done"]), 1)[0].keyword, "type");
}

#[test]
fn results_are_refused_for_what_is_wrong_with_them() {
    let mut list = examples::result("jobs");
    list["jobs"] = json!(vec![examples::job(); 256]);
    assert_eq!(schema::result(Builtin::Jobs).errors(&list, 16), []);
    let one_more = json!(vec![examples::job(); 257]);
    assert_refused(schema::result(Builtin::Jobs), &list, &[("/jobs", Some(one_more), "/jobs", "maxItems")]);
    assert_refused(
        schema::result(Builtin::Result),
        &examples::result("result"),
        &[
            ("/result", Some(json!(1)), "/result", "falseSchema"),
            ("/status", Some(json!("succeeded")), "/error", "falseSchema"),
            ("/status", Some(json!("progress")), "/error", "falseSchema"),
        ],
    );
    assert_eq!(schema::result(Builtin::Result).errors(&json!({ "status": "succeeded" }), 1), []);
    assert_eq!(schema::result(Builtin::Ping).errors(&json!("now"), 1)[0].keyword, "type");
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

#[test]
fn a_path_that_comes_from_the_value_is_escaped_and_cut() {
    #[derive(Deserialize, JsonSchema)]
    struct Counts {
        #[expect(dead_code, reason = "only its schema matters")]
        counts: BTreeMap<String, u8>,
    }
    let schema = Schema::of::<Counts>("counts");
    let error = &schema.errors(&json!({ "counts": { "\u{1b}".repeat(100): "none" } }), 1)[0];
    assert!(error.path.starts_with(r"/counts/\u{1b}\u{1b}") && error.path.ends_with('…'), "{}", error.path);
    assert!(error.path.chars().count() <= 64, "{}", error.path);
}

#[test]
fn the_integers_of_a_program_s_own_types_are_bounded() {
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Integers {
        i8: i8,
        u8: u8,
        i16: i16,
        u16: u16,
        i32: i32,
        u32: u32,
        i64: i64,
        u64: u64,
    }
    let schema = Schema::of::<Integers>("integers");
    let most = (1_i64 << 53) - 1;
    let bounds: [(&str, i64, i64); 8] = [
        ("i8", -128, 127),
        ("u8", 0, 255),
        ("i16", -32_768, 32_767),
        ("u16", 0, 65_535),
        ("i32", i32::MIN.into(), i32::MAX.into()),
        ("u32", 0, u32::MAX.into()),
        ("i64", -most, most),
        ("u64", 0, most),
    ];
    let lowest = json!(bounds.map(|(name, low, _)| (name.to_owned(), low)).into_iter().collect::<BTreeMap<_, _>>());
    let highest = json!(bounds.map(|(name, _, high)| (name.to_owned(), high)).into_iter().collect::<BTreeMap<_, _>>());
    assert_eq!((schema.errors(&lowest, 16), schema.errors(&highest, 16)), (vec![], vec![]));
    for (name, low, high) in bounds {
        let place = format!("/{name}");
        assert_refused(
            &schema,
            &lowest,
            &[(&place, Some(json!(low - 1)), &place, "minimum"), (&place, Some(json!(high + 1)), &place, "maximum")],
        );
    }
}

#[test]
fn a_typed_schema_asks_the_type_as_well() {
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Resize {
        width: u32,
    }
    let fractional = json!({ "width": 1.0 });
    assert!(Schema::of::<Resize>("resize").accepts(&fractional));
    let typed = Schema::typed::<Resize>("resize");
    assert!(!typed.accepts(&fractional));
    assert_eq!(typed.errors(&fractional, 16)[0].message, "floating point `1.0` where u32 was expected");
    assert!(typed.accepts(&json!({ "width": 1 })));
}

#[test]
#[should_panic(expected = "the schema `elsewhere` is not valid")]
fn a_schema_that_refers_to_the_network_is_not_compiled() {
    #[derive(JsonSchema)]
    #[schemars(extend("$ref" = "https://example.com/schema.json"))]
    struct Elsewhere {}
    Schema::of::<Elsewhere>("elsewhere");
}

#[test]
#[should_panic(expected = "the schema `backtracking` is not valid")]
fn a_pattern_that_cannot_be_matched_in_linear_time_is_not_compiled() {
    #[derive(JsonSchema)]
    struct Backtracking {
        #[expect(dead_code, reason = "only its schema matters")]
        #[schemars(regex(pattern = r"^(a+)\1$"))]
        text: String,
    }
    Schema::of::<Backtracking>("backtracking");
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

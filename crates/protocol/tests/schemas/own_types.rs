//! Schemas of the types of a program that embeds a client.

use std::collections::BTreeMap;

use countersign_protocol::schema::Schema;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::refusals::assert_refused;

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

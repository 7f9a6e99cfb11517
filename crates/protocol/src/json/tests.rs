#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Debug;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits::{MAX_BODY, MAX_VALUES};

fn member(text: &str) -> Result<Value, JsonError> {
    parse(format!(r#"{{"a":{text}}}"#).as_bytes()).map(|mut object| object.remove("a").unwrap())
}

fn nested(levels: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[test]
fn an_object_of_everything_is_parsed() {
    let text = r#" { "text" : "a\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00" , "list":[ ],"nothing":null,
        "numbers":[0, -1,2.5,1e2,1E+2,1e-2],"words":[true,false], "" : { } } "#;
    let expected = json!({
        "text": "a\"\\/\u{8}\u{c}\n\r\téé😀", "list": [], "nothing": null,
        "numbers": [0, -1, 2.5, 100.0, 100.0, 0.01], "words": [true, false], "": {},
    });
    assert_eq!(parse(text.as_bytes()).map(Value::Object), Ok(expected));
}

#[test]
fn only_one_object_is_allowed_at_the_top() {
    for text in ["[]", "[{}]", "null", "1", "\"a\"", "x", "}", "\u{b}{}"] {
        assert_eq!(parse(text.as_bytes()), Err(JsonError::NotAnObject), "{text}");
    }
    for text in ["", "  \r\n\t"] {
        assert_eq!(parse(text.as_bytes()), Err(JsonError::Syntax(text.len())), "{text:?}");
    }
}

#[test]
fn nothing_but_white_space_may_follow() {
    assert_eq!(parse(b"{} \r\n\t"), Ok(Map::new()));
    for (text, at) in [("{}{}", 2), ("{} x", 3), ("{},", 2), ("{}\0", 2), ("{}\u{a0}", 2), ("{}\u{feff}", 2)] {
        assert_eq!(parse(text.as_bytes()), Err(JsonError::Trailing(at)), "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_wherever_they_are() {
    let invalid: &[&[u8]] = &[
        b"{\"v\":\"\xff\"}",
        b"{\"unknown\":\"\xc3\"}",
        b"{\"\xed\xa0\x80\":1}",
        b"{\"a\":\"\xc0\xaf\"}",
        b"{}\xff",
        b"\xff\xfe{\0}\0",
    ];
    for bytes in invalid {
        assert_eq!(parse(bytes), Err(JsonError::NotUtf8), "{bytes:?}");
    }
}

#[test]
fn a_byte_order_mark_is_refused() {
    assert_eq!(parse(b"\xef\xbb\xbf{}"), Err(JsonError::ByteOrderMark));
}

#[test]
fn a_member_may_not_stand_twice_at_any_level() {
    let twice = |text: &str| parse(text.as_bytes());
    assert_eq!(twice(r#"{"a":1,"b":2,"a":1}"#), Err(JsonError::DuplicateMember("a".into())));
    assert_eq!(twice(r#"{"x":[{"y":{"a":1,"a":2}}]}"#), Err(JsonError::DuplicateMember("a".into())));
    assert_eq!(twice(r#"{"a":1,"\u0061":2}"#), Err(JsonError::DuplicateMember("a".into())));
    assert_eq!(twice(r#"{"\/":1,"/":2}"#), Err(JsonError::DuplicateMember("/".into())));
    assert_eq!(twice(r#"{"😀":1,"\ud83d\ude00":2}"#), Err(JsonError::DuplicateMember("😀".into())));
    assert_eq!(twice(r#"{"\u001b":1,"\u001B":2}"#), Err(JsonError::DuplicateMember(r"\u{1b}".into())));
    assert!(twice(r#"{"a":{"a":{"a":1}},"A":2}"#).is_ok());
}

#[test]
fn lone_surrogates_are_refused() {
    for text in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83d\u0061""#] {
        assert_eq!(member(text), Err(JsonError::LoneSurrogate(7)), "{text}");
    }
    assert_eq!(parse(br#"{"\udfff":1}"#), Err(JsonError::LoneSurrogate(3)));
    assert_eq!(member(r#""\ud83d\n""#), Err(JsonError::Syntax(13)));
}

#[test]
fn there_may_be_32_levels_and_no_more() {
    assert!(parse(nested(32).as_bytes()).is_ok());
    assert_eq!(parse(nested(33).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse(nested(100_000).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse(r#"{"a":"#.repeat(100_000).as_bytes()), Err(JsonError::TooDeep));
}

#[test]
fn integers_stay_within_those_of_a_double() {
    assert_eq!(member("9007199254740991"), Ok(json!(MAX_INTEGER)));
    assert_eq!(member("-9007199254740991"), Ok(json!(-MAX_INTEGER)));
    let outside = ["9007199254740992", "-9007199254740992", "9223372036854775808", "18446744073709551616"];
    for text in outside.into_iter().map(str::to_owned).chain([format!("-{}", "9".repeat(100_000))]) {
        assert_eq!(member(&text), Err(JsonError::IntegerOutOfRange));
    }
}

#[test]
fn what_is_written_with_a_fraction_or_an_exponent_is_no_integer() {
    for text in ["1.0", "1e0", "10E-1"] {
        let value = member(text).unwrap();
        assert_eq!(value, json!(1.0), "{text}");
        assert!(read::<i64>(&value).is_err(), "{text}");
        assert_eq!(read::<f64>(&value), Ok(1.0), "{text}");
    }
    assert_eq!(member("9007199254740992.0"), Ok(json!(9_007_199_254_740_992.0)));
}

#[test]
fn numbers_are_finite() {
    for text in ["1e400", "-1e400", "1.8e308", "1e999999999999999999999"] {
        assert_eq!(member(text), Err(JsonError::NotFinite), "{text}");
    }
    assert_eq!(member("1e-400"), Ok(json!(0.0)));
    assert_eq!(member("1.7976931348623157e308"), Ok(json!(f64::MAX)));
}

#[test]
fn minus_zero_is_zero() {
    assert_eq!(member("-0"), Ok(json!(0)));
    for text in ["-0.0", "-0e9", "-1e-400"] {
        assert!(member(text).unwrap().as_f64().unwrap().is_sign_positive(), "{text}");
    }
}

#[test]
fn other_grammars_are_refused_where_they_differ() {
    let cases = [
        ("NaN", 5),
        ("Infinity", 5),
        ("-Infinity", 6),
        ("+1", 5),
        ("01", 6),
        ("-", 6),
        ("-01", 7),
        ("1.", 7),
        (".5", 5),
        ("1.e5", 7),
        ("1e", 7),
        ("1e+", 8),
        ("0x10", 6),
        ("1_000", 6),
        ("'a'", 5),
        ("True", 5),
        ("nul", 8),
        ("\"\t\"", 6),
        ("\"\n\"", 6),
        ("\"\0\"", 6),
        (r#""\x41""#, 7),
        (r#""\'""#, 7),
        (r#""\u12g4""#, 8),
        (r#""\u+123""#, 8),
        (r#""\u123é""#, 8),
        (r#""\U0041""#, 7),
        ("[1,]", 8),
        ("[,1]", 6),
        ("[1 2]", 8),
        ("[1", 7),
        ("{\"b\":1,}", 12),
        ("{b:1}", 6),
        ("{1:1}", 6),
        ("{\"b\" 1}", 10),
        ("{\"b\"}", 9),
        ("/**/1", 5),
        ("", 5),
        ("\u{a0}1", 5),
    ];
    for (text, at) in cases {
        assert_eq!(member(text), Err(JsonError::Syntax(at)), "{text:?}");
    }
    for (text, at) in [("{", 1), ("{\"a", 3), ("{\"a\":1", 6), ("{\"a\":\"\\", 7), ("{\"a\":\"\\u00", 8)] {
        assert_eq!(parse(text.as_bytes()), Err(JsonError::Syntax(at)), "{text:?}");
    }
}

#[test]
fn the_worst_of_bodies_are_parsed_or_refused() {
    let fill = |piece: &str| piece.repeat(MAX_BODY / piece.len());
    assert_eq!(member(&format!("[{}0]", fill("0,"))), Err(JsonError::TooManyValues));
    assert_eq!(member(&format!("[{}0]", fill("{\"a\":0},"))), Err(JsonError::TooManyValues));
    assert_eq!(member(&format!("\"{}\"", fill("\\u0061"))), Ok(json!("a".repeat(MAX_BODY / 6))));
    assert_eq!(member(&format!("\"{}\"", "a".repeat(1 << 20))), Ok(json!("a".repeat(1 << 20))));
    assert_eq!(member(&format!("0.{}", fill("9"))), Ok(json!(1.0)));
    assert_eq!(member(&format!("1e-{}", fill("9"))), Ok(json!(0.0)));
    let members: Vec<_> = (0..1_000_000).map(|n| format!("\"{n}\":0")).collect();
    assert_eq!(member(&format!("{{{}}}", members.join(","))), Err(JsonError::TooManyValues));
    assert_eq!(parse(format!("{}{{}}", fill(" ")).as_bytes()), Ok(Map::new()));
    assert_eq!(parse(format!("{{{}", fill("\"\":[{},")).as_bytes()), Err(JsonError::Syntax(10)));
}

#[test]
fn as_many_values_as_are_allowed_are_parsed_and_one_more_is_not() {
    // Two values stand around the array's elements: the outermost object and the array itself.
    for (element, values) in
        [("0", 1), ("\"\"", 1), ("null", 1), ("[]", 1), ("{}", 1), ("{\"a\":true}", 2), ("[[0]]", 3)]
    {
        let most = (MAX_VALUES - 2) / values;
        let array = |elements: usize| format!("[{}]", vec![element; elements].join(","));
        let parsed = member(&array(most)).unwrap();
        assert_eq!((count(&parsed), check(&parsed, 2)), (1 + most * values, Ok(())), "{element}");
        assert_eq!(member(&array(most + 1)), Err(JsonError::TooManyValues), "{element}");
    }
    let members = |count: usize| (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    assert!(parse(format!("{{{}}}", members(MAX_VALUES - 1)).as_bytes()).is_ok());
    assert_eq!(parse(format!("{{{}}}", members(MAX_VALUES)).as_bytes()), Err(JsonError::TooManyValues));
}

#[test]
fn too_many_values_are_refused_before_the_rest_is_looked_at() {
    let text = format!("{{\"a\":[{}neither read nor kept", "0,".repeat(MAX_VALUES));
    assert_eq!(parse(text.as_bytes()), Err(JsonError::TooManyValues));
}

#[test]
fn a_made_value_is_checked_for_how_many_it_holds() {
    let array = |elements: usize| json!(vec![0; elements]);
    assert_eq!(check(&array(MAX_VALUES - 1), 2), Ok(()));
    assert_eq!(check(&array(MAX_VALUES), 2), Err(JsonError::TooManyValues));
}

#[test]
fn a_made_value_is_checked_for_the_depth_where_it_is_to_stand() {
    let levels = |levels| Value::Object(serde_json::from_str(&nested(levels)).unwrap());
    assert_eq!(check(&levels(31), 2), Ok(()));
    assert_eq!(check(&levels(32), 2), Err(JsonError::TooDeep));
    assert_eq!(check(&json!([1, "a", null, 2.5e300]), 32), Ok(()));
    assert_eq!(check(&json!([]), 33), Err(JsonError::TooDeep));
    assert_eq!(check(&json!(1), 33), Ok(()));
}

#[test]
fn a_made_value_is_checked_for_its_integers() {
    assert_eq!(check(&json!([MAX_INTEGER, -MAX_INTEGER]), 2), Ok(()));
    for integer in [json!(MAX_INTEGER + 1), json!(-MAX_INTEGER - 1), json!(u64::MAX), json!(i64::MIN)] {
        assert_eq!(check(&json!({ "a": [integer] }), 2), Err(JsonError::IntegerOutOfRange));
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    word: Word,
    #[serde(default, deserialize_with = "present")]
    inner: Option<Inner>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    n: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Plain,
    With(u8),
}

#[track_caller]
fn assert_shape<T: DeserializeOwned + Debug + PartialEq>(text: &str, message: &str) {
    assert_eq!(parse_as::<T>(text.as_bytes()), Err(JsonError::Shape(message.to_owned())), "{text}");
}

#[test]
fn a_type_is_read_from_what_its_serialisation_looks_like() {
    let sample = |word, inner| Ok(Sample { word, inner });
    assert_eq!(parse_as(br#"{"word":"plain"}"#), sample(Word::Plain, None));
    assert_eq!(parse_as(br#"{"word":{"with":1},"inner":{"n":2}}"#), sample(Word::With(1), Some(Inner { n: 2 })));
}

#[test]
fn a_type_is_read_from_nothing_else() {
    assert_shape::<Sample>("{}", "missing field `word`");
    assert_shape::<Sample>(r#"{"word":"plain","inner":null}"#, "null where struct Inner was expected");
    assert_shape::<Sample>(r#"{"word":"plain","inner":[2]}"#, "sequence where struct Inner was expected");
    assert_shape::<Sample>(r#"{"word":"plain","Inner":{"n":2}}"#, "the unknown member `Inner`");
    assert_shape::<Sample>(r#"{"word":"plain","inner":{"n":2,"m":1}}"#, "the unknown member `m`");
    assert_shape::<Sample>(r#"{"word":"plain","inner":{"n":2.0}}"#, "floating point `2.0` where u8 was expected");
    assert_shape::<Sample>(r#"{"word":"plain","inner":{"n":"2"}}"#, "the text `2` where u8 was expected");
    assert_shape::<Sample>(r#"{"word":"plain","inner":{"n":256}}"#, "integer `256` where u8 was expected");
    assert_shape::<Sample>(r#"{"word":"Plain"}"#, "the unknown word `Plain`");
    assert_shape::<Sample>(r#"{"word":{"plain":null}}"#, "map where enum Word was expected");
    assert_shape::<Sample>(r#"{"word":{"plain":{}}}"#, "map where unit was expected");
    assert_shape::<Sample>(r#"{"word":{}}"#, "map where enum Word was expected");
    assert_shape::<Sample>(r#"{"word":{"with":1,"plain":2}}"#, "map where enum Word was expected");
    assert_shape::<std::collections::BTreeMap<String, Map<String, Value>>>(
        r#"{"a":null}"#,
        "null where a map was expected",
    );
    assert_shape::<Sample>(r#"{"word":["plain"]}"#, "sequence where enum Word was expected");
}

#[test]
fn what_an_error_quotes_is_escaped_and_cut() {
    let long = "\\u001b".repeat(1_000);
    for text in [
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"word":"{long}"}}"#),
        format!(r#"{{"word":"plain","inner":{{"n":"{long}"}}}}"#),
    ] {
        let message = parse_as::<Sample>(text.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(r"`\u{1b}\u{1b}") && message.chars().count() < 128, "{message}");
    }
}

/// Text that is nearly JSON: pieces of it, and of what the rules forbid, in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"a\"",
        "\"b\"",
        "\"a\":",
        "\"\\u0061\":",
        "{\"a\":",
        "{}",
        "[]",
        "0",
        "-0",
        "1",
        "-",
        "12",
        ".5",
        "e3",
        "E-400",
        "e400",
        "9007199254740992",
        "true",
        "false",
        "null",
        "\"",
        "\\",
        "\\n",
        "\\ud83d",
        "\\ude00",
        "é",
        "\u{feff}",
        "\u{0}",
        "x",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| format!("{{\"z\":{}}}", pieces.concat()))
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Equal but for the last digit of a fraction, which `serde_json` does not promise, and for the sign of zero.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| alike(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(name, ours)| theirs.get(name).is_some_and(|theirs| alike(ours, theirs)))
        }
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= ours.abs() * f64::EPSILON * 2.0
        }
        _ => ours == theirs,
    }
}

/// Ours is stricter than `serde_json`, by the rules of section 3 alone, and where both accept they agree.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    match (parse(bytes).map(Value::Object), serde_json::from_slice::<Value>(bytes)) {
        (Ok(ours), Ok(theirs)) => prop_assert!(alike(&ours, &theirs), "{ours} and {theirs}"),
        (Ok(ours), Err(error)) => prop_assert!(false, "only ours accepts {ours}: {error}"),
        (Err(error), Ok(theirs)) => prop_assert!(
            matches!(error, JsonError::DuplicateMember(_) | JsonError::IntegerOutOfRange | JsonError::TooDeep)
                || (error == JsonError::NotAnObject && !theirs.is_object()),
            "only theirs accepts {theirs}: {error}"
        ),
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        compare(&bytes)?;
    }

    #[test]
    fn nearly_json_is_judged_as_by_serde_json_but_for_our_rules(text in nearly_json()) {
        compare(text.as_bytes())?;
    }

    #[test]
    fn a_damaged_document_is_judged_as_by_serde_json_but_for_our_rules(
        value in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), insert in any::<bool>(),
    ) {
        let mut bytes = serde_json::to_vec(&json!({ "a": value })).unwrap();
        compare(&bytes)?;
        let at = at.index(bytes.len());
        bytes.splice(at..at + usize::from(!insert), [byte]);
        compare(&bytes)?;
    }

    #[test]
    fn what_is_written_is_parsed_to_the_same(value in any_json()) {
        let object = json!({ "a": value });
        prop_assert_eq!(parse(object.to_string().as_bytes()).map(Value::Object), Ok(object.clone()));
        prop_assert_eq!(parse(format!("{object:#}").as_bytes()).map(Value::Object), Ok(object.clone()));
        prop_assert_eq!(check(&object, 1), Ok(()));
        prop_assert_eq!(read::<Value>(&object), Ok(object));
    }
}

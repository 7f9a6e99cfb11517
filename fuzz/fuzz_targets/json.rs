//! Strict JSON (section 3): what it accepts, other parsers accept too, and written again it is the same.
#![no_main]

use countersign_protocol::json;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = json::parse(bytes) else { return };
    assert!(serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object()));
    let value = Value::Object(object);
    assert_eq!(json::check(&value, 1), Ok(()));
    let written = serde_json::to_vec(&value).unwrap();
    assert_eq!(json::parse(&written).map(Value::Object), Ok(value));
});

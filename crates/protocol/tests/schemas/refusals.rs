//! What the schemas refuse, where, and by which keyword.

use countersign_protocol::command::Builtin;
use countersign_protocol::envelope::MessageType;
use countersign_protocol::schema::{self, Schema};
use serde_json::{Value, json};

use crate::{STATUSES, examples};

/// One change to an honest example: the place, what is put there (nothing: the member is removed), and what is said.
pub(crate) type Negative<'a> = (&'a str, Option<Value>, &'a str, &'a str);

#[track_caller]
pub(crate) fn assert_refused(schema: &Schema, example: &Value, negatives: &[Negative<'_>]) {
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
    let mut bare = examples::result("result");
    bare["status"] = json!("succeeded");
    bare.as_object_mut().unwrap().remove("error");
    assert_eq!(schema::result(Builtin::Result).errors(&bare, 1), []);
    assert_eq!(schema::result(Builtin::Ping).errors(&json!("now"), 1)[0].keyword, "type");
}

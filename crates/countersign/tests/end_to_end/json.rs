//! Bodies that are rightly signed and still not to be obeyed: moments and texts of every bad form.

use countersign_host::clock;
use countersign_protocol::limits::{MAX_BODY, MAX_INTEGER};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::Forger;

const HOUR: i64 = 3_600_000;

#[test]
fn a_command_from_another_time_is_refused_or_dropped_and_no_number_overflows() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let now = clock::wall().get();
    let at = |issued: i64, expires: i64| {
        let mut body = forger.terminate();
        (body["issued_at"], body["expires_at"]) = (json!(issued), json!(expires));
        forger.sign_bytes(body.to_string().into_bytes())
    };
    for (issued, expires, code) in [
        (now, now, "lifetime"),
        (now, now - 1, "lifetime"),
        (now, now + 60_001, "lifetime"),
        (-MAX_INTEGER, MAX_INTEGER, "lifetime"),
        (now - 60_000, now - 30_000, "expired"),
        (now + 60_000, now + 90_000, "not_yet_valid"),
    ] {
        let refusal = forger.request(&at(issued, expires));
        assert_eq!(
            (&refusal["status"], &refusal["error"]["code"]),
            (&json!("refused"), &json!(code)),
            "{issued} {expires}"
        );
    }
    for (issued, expires) in
        [(now + 2 * HOUR, now + 2 * HOUR + 1), (MAX_INTEGER - 1, MAX_INTEGER), (MAX_INTEGER, -MAX_INTEGER)]
    {
        forger.send(&at(issued, expires));
    }
    for (issued, expires) in [(now - 200_000, now - 170_000), (-2, -1), (-MAX_INTEGER, 1 - MAX_INTEGER)] {
        forger.send(&at(issued, expires));
    }
    let text = |issued: &str| {
        let body = forger.terminate();
        let honest = format!("\"issued_at\":{}", body["issued_at"]);
        let body = body.to_string();
        assert!(body.contains(&honest));
        forger.send(&forger.sign_bytes(body.replace(&honest, &format!("\"issued_at\":{issued}")).into_bytes()));
    };
    for out_of_range in
        ["9223372036854775807", "-9223372036854775808", "18446744073709551616", "9007199254740992", "1e400"]
    {
        text(out_of_range);
    }
    for no_integer in ["1.0", "1.5", "1795485600123.0", "1e3", "\"1795485600123\"", "null", "true", "[]"] {
        text(no_integer);
    }
    let info = fleet.dropped("worker-1", &[("ahead", 3), ("late", 3), ("json", 5), ("envelope", 8)]);
    assert_eq!(info["state"], "ready");
    assert_eq!(forger.request(&forger.command("ping", json!({})))["status"], "succeeded");
}

#[test]
fn a_body_that_is_not_strict_json_or_not_a_command_is_dropped_and_its_signer_reported() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let honest = forger.terminate().to_string();
    let args = |args: &str| honest.replace("\"args\":{}", &format!("\"args\":{args}")).into_bytes();
    let first = |member: &str| honest.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let raw = |before: &[u8], after: &[u8]| [before, honest.as_bytes(), after].concat();
    let members = |count: usize| (0..count).map(|key| format!("\"{key}\":0")).collect::<Vec<_>>().join(",");
    let not_json = vec![
        first("\"v\":1"),
        args(r#"{"a":1,"a":1}"#),
        args(r#"{"a":1,"\u0061":1}"#),
        args(r#"{"a":{"b":[{"c":1,"c":2}]}}"#),
        args(&deep(100_000)),
        args(&deep(32)),
        args(r#"{"a":1e400}"#),
        args(r#"{"a":18446744073709551616}"#),
        args(r#"{"a":-9007199254740992}"#),
        args(r#"{"a":NaN}"#),
        args(r#"{"a":Infinity}"#),
        args(r#"{"a":"\ud800"}"#),
        args(r#"{"a":"\udc00\ud800"}"#),
        args(r#"{"a":01}"#),
        args(r#"{"a":'b'}"#),
        args("{\"a\":\"\u{1}\"}"),
        args("{\"a\":1,}"),
        first("\"unknown\":\"\u{fffd}\"").into_iter().map(|byte| if byte == 0xef { 0xff } else { byte }).collect(),
        honest
            .replace("\"demo\"", "\"dem~\"")
            .into_bytes()
            .into_iter()
            .map(|b| if b == b'~' { 0xff } else { b })
            .collect(),
        raw(b"\xef\xbb\xbf", b""),
        raw(b"", b"x"),
        raw(b"", b"{}"),
        raw(b"", b"\0"),
        raw(b"[", b"]"),
        raw(b"//\n", b""),
        first(&members(16_384)),
        b"null".to_vec(),
        b"".to_vec(),
        honest.as_bytes()[..honest.len() - 1].to_vec(),
    ];
    let no_command = vec![
        first("\"unknown\":1"),
        first("\"V\":1"),
        first(&format!("\"long\":\"{}\"", "a".repeat(200_000))),
        first(&members(16_000)),
        honest.replace("\"from\"", "\"From\"").into_bytes(),
        honest.replace("\"v\":1", "\"v\":1.0").into_bytes(),
        honest.replace("\"v\":1", "\"v\":2").into_bytes(),
        honest.replace("\"demo\"", "null").into_bytes(),
        honest.replace("\"demo\"", "\"DEMO\"").into_bytes(),
        honest.replace("{\"client\":\"worker-1\"}", "[\"client\",\"worker-1\"]").into_bytes(),
        honest.replace("{\"client\":\"worker-1\"}", "{\"client\":\"worker-1\",\"all\":true}").into_bytes(),
        honest.replace("{\"client\":\"worker-1\"}", "{\"client\":\"worker-1\",\"x\":1}").into_bytes(),
        honest.replace("\"terminate\"", "\"terminate \"").into_bytes(),
        first("\"dry_run\":false"),
        first("\"dry_run\":null"),
        args("[]"),
        args("null"),
        b"{}".to_vec(),
    ];
    let (json, envelope) = (not_json.len() as u64, no_command.len() as u64);
    for body in not_json.into_iter().chain(no_command) {
        assert_ne!(body, honest.as_bytes());
        forger.send(&forger.sign_bytes(body));
    }
    let info = fleet.dropped("worker-1", &[("json", json), ("envelope", envelope)]);
    assert_eq!(info["state"], "ready");
    let event = fleet.event("worker-1", "security")["data"].clone();
    assert_eq!((&event["reason"], &event["signer"]), (&json!("envelope"), &json!("alice")));
    assert_eq!(
        forger.request(&forger.sign_bytes(honest.into_bytes()))["status"],
        "succeeded",
        "without a change it is one"
    );
}

#[test]
fn arguments_are_checked_by_their_schema_and_odd_numbers_are_what_they_are() {
    let (fleet, worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let calculate = |args: &str| {
        let body: Value = json!(forger.draft("calculate", json!({})).command);
        let body = body.to_string().replace("\"args\":{}", &format!("\"args\":{args}"));
        forger.request(&forger.sign_bytes(body.into_bytes()))
    };
    for x in ["-0", "-0.0", "1e-400", "0"] {
        let reply = calculate(&format!("{{\"x\":{x},\"msg\":\"zero\"}}"));
        assert_eq!((&reply["status"], reply["result"]["x"].as_f64()), (&json!("succeeded"), Some(0.0)), "{x}");
    }
    for (args, path) in [
        (r#"{"x":-1,"msg":""}"#, "/x"),
        (r#"{"x":86401,"msg":""}"#, "/x"),
        (r#"{"x":"0","msg":""}"#, "/x"),
        (r#"{"x":0,"msg":null}"#, "/msg"),
        (r#"{"x":0}"#, ""),
        (r#"{"x":0,"msg":"","more":1}"#, ""),
        (r#"{"x":0,"msg":"","$ref":"http://127.0.0.1:1/schema","$schema":"http://127.0.0.1:1/"}"#, ""),
    ] {
        let reply = calculate(args);
        let got = (&reply["error"]["code"], &reply["error"]["details"]["errors"][0]["path"]);
        assert_eq!(got, (&json!("invalid_args"), &json!(path)), "{args}");
    }
    let too_long = calculate(&format!("{{\"x\":0,\"msg\":\"{}\"}}", "a".repeat(4_097)));
    assert_eq!(too_long["error"]["code"], "invalid_args");
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(worker.printed(), "zero\n".repeat(4));
}

#[test]
fn a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let of_length = |length: usize| {
        let body: Value = json!(forger.draft("status", json!({})).command);
        let mut body = body.to_string().into_bytes();
        body.resize(length, b' ');
        forger.sign_bytes(body)
    };
    assert_eq!(forger.request(&of_length(MAX_BODY))["status"], "succeeded");
    forger.send(&of_length(MAX_BODY + 1));
    // The broker takes little more.
    forger.send(&of_length(325_000));
    fleet.dropped("worker-1", &[("size", 2)]);
    fleet.run(&["ping", "worker-1"]).exits(0);
}

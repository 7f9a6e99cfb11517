//! One honest example of everything that has a schema, and more where a message has several shapes.

use countersign_protocol::command::Builtin;
use countersign_protocol::schema::{Schema, arguments as arguments_of, result as result_of};
use serde_json::{Value, json};

const ID: &str = "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90";
const UUID: &str = "b2f0c1de-0f1a-4b6c-8d2e-5a7b9c3d1e0f";
const KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

pub(crate) fn command() -> Value {
    json!({
        "v": 1, "id": ID, "realm": "demo", "from": "alice", "credential": UUID, "to": { "client": "worker-1" },
        "subject": "cs.demo.cmd.client.worker-1",
        "reply_to": format!("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.{ID}"),
        "issued_at": 1_795_485_600_123_i64, "expires_at": 1_795_485_630_123_i64, "epoch": UUID, "dry_run": true,
        "command": { "name": "calculate", "args": { "x": 2.5, "msg": "done" } },
    })
}

pub(crate) fn reply(status: &str) -> Value {
    let mut reply = json!({
        "v": 1, "id": ID, "realm": "demo", "from": "worker-1", "credential": UUID, "to": "alice",
        "subject": format!("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.{ID}.worker-1"),
        "command_id": ID, "command_digest": digest(), "issued_at": 1_795_485_600_131_i64, "epoch": UUID, "boot": UUID,
        "n": 12, "state": "ready", "seq": 0, "status": status,
    });
    match status {
        "accepted" => {}
        "progress" => reply["progress"] = progress(),
        "succeeded" => reply["result"] = json!(1_795_485_600),
        _ => reply["error"] = error(),
    }
    reply
}

pub(crate) fn event(kind: &str) -> Value {
    let data = match kind {
        "presence" => client_info(),
        "job" => job(),
        _ => json!({ "reason": "envelope", "count": 3, "signer": "alice" }),
    };
    json!({
        "v": 1, "id": ID, "realm": "demo", "from": "worker-1", "credential": UUID,
        "subject": format!("cs.demo.event.worker-1.{kind}"), "issued_at": 1_795_485_600_131_i64, "epoch": UUID,
        "boot": UUID, "n": 12, "state": "ready", "kind": kind, "data": data,
    })
}

pub(crate) fn renewal_request() -> Value {
    json!({
        "v": 1, "id": ID, "realm": "demo", "from": "worker-1", "credential": UUID,
        "subject": "cs.demo.renewal.request.client.worker-1", "issued_at": 1_795_485_600_123_i64,
    })
}

pub(crate) fn renewal_answer(outcome: &str) -> Value {
    let mut answer = json!({
        "v": 1, "realm": "demo", "from": "issuer", "credential": UUID,
        "subject": "cs.demo.renewal.answer.client.worker-1", "request": digest(), "issued_at": 1_795_485_600_131_i64,
    });
    answer[outcome] = match outcome {
        "user_jwt" => json!("eyJ0eXAiOiJKV1QifQ.e30.c2ln"),
        _ => json!({ "code": "unknown", "message": "there is no client worker-1" }),
    };
    answer
}

pub(crate) fn credential(role: &str) -> Value {
    let mut claims = json!({
        "iss": "issuer", "sub": "alice", "jti": UUID, "iat": 1_795_485_600, "nbf": 1_795_485_600, "exp": 1_798_077_600,
        "realm": "demo", "role": role, "cnf": { "jwk": jwk() },
    });
    if role == "operator" {
        claims["grant"] =
            json!({ "commands": ["ping"], "clients": ["worker-1"], "groups": [], "all": false, "max_ttl_ms": 60_000 });
    } else {
        claims["groups"] = json!(["web"]);
    }
    claims
}

pub(crate) fn trust() -> Value {
    json!({
        "v": 1, "realm": "demo", "version": 1, "expires_at": 1_827_021_600_000_i64, "roots": [jwk()], "threshold": 1,
        "issuers": [{ "name": "issuer", "jwk": jwk() }],
        "revoked": [{ "jti": UUID, "since": 1_795_485_600_000_i64 }, { "kid": KEY, "since": 0 }],
    })
}

pub(crate) fn enrolment_request() -> Value {
    json!({
        "v": 1, "realm": "demo", "token": "k3v9q2m8x7c1b5n0", "name": "worker-1", "groups": ["web"], "jwk": jwk(),
        "connection_key": format!("U{}", "A".repeat(55)), "issued_at": 1_795_485_600_123_i64,
    })
}

pub(crate) fn enrolment_answer(refused: bool) -> Value {
    let mut answer = json!({
        "v": 1, "realm": "demo", "from": "issuer", "request": digest(), "issued_at": 1_795_485_600_123_i64,
        "trust": "e30",
    });
    if refused {
        answer["error"] = json!({ "code": "token_used", "message": "other keys were enrolled with it" });
    } else {
        (answer["credential"], answer["user_jwt"]) = (json!("a.b.c"), json!("a.b.c"));
    }
    answer
}

pub(crate) fn client_info() -> Value {
    json!({
        "state": "ready", "epoch": UUID, "boot": UUID, "n": 12, "version": "0.1.0",
        "started_at": 1_795_485_600_000_i64, "heartbeat_ms": 10_000, "groups": ["web", "db"],
        "jobs": { "running": 1, "limit": 64 }, "dropped": { "signature": 2, "out_of_reach": 1 },
        "commands": [
            { "name": "ping", "kind": "data", "args": digest(), "result": digest() },
            { "name": "report", "kind": "data", "args": digest(), "result": digest(), "definition": digest() },
        ],
        "trust": { "version": 1, "expires_at": 1_827_021_600_000_i64 },
    })
}

pub(crate) fn job() -> Value {
    json!({
        "command_id": ID, "command": "calculate", "operator": "alice", "status": "succeeded",
        "started_at": 1_795_485_600_000_i64, "ended_at": 1_795_485_602_500_i64, "progress": progress(),
    })
}

/// Arguments of a command.
pub(crate) fn arguments(command: &str) -> Value {
    let named = json!({ "command_id": ID, "command_digest": digest() });
    let piece = json!({ "command_id": ID, "command_digest": digest(), "stream": "stdout", "offset": 0 });
    let command_name = json!({ "command": "calculate" });
    first_accepted(arguments_of(builtin(command)), [json!({}), named, calculation(), piece, command_name])
}

/// A result of a command.
pub(crate) fn result(command: &str) -> Value {
    let recorded = json!({ "command_digest": digest(), "operator": "alice", "status": "failed", "error": error() });
    let results = [
        json!({ "changed": true }),
        json!({ "changed": true, "running": 1 }),
        json!({ "cancelled": 1 }),
        json!({ "cancelled": true }),
        json!(1_795_485_600),
        calculation(),
        client_info(),
        json!({ "jobs": [job()], "more": false }),
        recorded,
        json!({ "offset": 0, "data": "ZG9uZQo", "bytes": 5, "ended": true, "sha256": digest() }),
        json!({
            "command": "calculate", "kind": "data", "long_running": true, "description": "Computes", "args": "{}",
            "result": "{}",
        }),
    ];
    first_accepted(result_of(builtin(command)), results)
}

fn builtin(command: &str) -> Builtin {
    Builtin::from_name(command).unwrap_or_else(|| panic!("no such command: {command}"))
}

fn first_accepted(schema: &Schema, examples: impl IntoIterator<Item = Value>) -> Value {
    let found = examples.into_iter().find(|example| schema.accepts(example));
    found.unwrap_or_else(|| panic!("no example satisfies {}: add one", schema.name()))
}

fn calculation() -> Value {
    json!({ "x": 2.5, "msg": "done" })
}

fn progress() -> Value {
    json!({ "fraction": 0.5, "message": "half way" })
}

fn error() -> Value {
    json!({ "code": "not_ready", "message": "the client is not ready", "details": { "state": "unready" } })
}

fn digest() -> String {
    format!("sha256:{}", "0123456789abcdef".repeat(4))
}

fn jwk() -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": KEY })
}

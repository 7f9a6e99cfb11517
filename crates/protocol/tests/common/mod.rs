//! A realm for tests: its keys, its trust bundle, and messages that hold, to be changed until they do not.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of it")]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use countersign_protocol::command::{Command, Version};
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::envelope::{
    Authentic, CREDENTIAL_HEADER, Delivery, Identity, MessageType, Payload, Rejected, SIGNATURE_HEADER, Signed,
    Verifier,
};
use countersign_protocol::key::{SecretKey, Thumbprint};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// The moment at which everything holds.
pub(crate) const NOW: Millis = Millis::new(1_795_485_600_000);
/// Its seconds.
pub(crate) const NOW_S: i64 = NOW.seconds();
/// The subject of [`command`].
pub(crate) const COMMAND: &str = "cs.demo.cmd.client.worker-1";
/// The subject of [`reply`].
pub(crate) const REPLY: &str = "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1";
/// The subject of [`event`].
pub(crate) const EVENT: &str = "cs.demo.event.worker-1.security";
/// Alice's credential.
pub(crate) const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
/// The client's credential.
pub(crate) const WORKER: &str = "00000000-0000-4000-8000-00000000000b";

/// A key of one's own for each number.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn root() -> SecretKey {
    key(1)
}

pub(crate) fn issuer() -> SecretKey {
    key(2)
}

pub(crate) fn alice_key() -> SecretKey {
    key(3)
}

pub(crate) fn worker_key() -> SecretKey {
    key(4)
}

pub(crate) fn pin() -> Thumbprint {
    root().public().thumbprint()
}

pub(crate) fn trust_body() -> TrustBody {
    TrustBody {
        v: Version,
        realm: name("demo"),
        version: 1,
        expires_at: NOW.plus(1_000_000),
        roots: vec![root().public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: issuer().public().jwk() }],
        revoked: vec![],
    }
}

pub(crate) fn trust_of(body: &TrustBody) -> Arc<Trust> {
    Arc::new(Trust::verify(&Trust::sign(body, &[&root()]), pin()).unwrap())
}

pub(crate) fn trust() -> Arc<Trust> {
    static TRUST: LazyLock<Arc<Trust>> = LazyLock::new(|| trust_of(&trust_body()));
    TRUST.clone()
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new(trust(), SKEW)
}

/// What `alice` may do: everything, everywhere.
pub(crate) fn alice_claims() -> Claims {
    Claims {
        iss: name("issuer"),
        sub: name("alice"),
        jti: ALICE.parse().unwrap(),
        iat: NOW_S,
        nbf: NOW_S - 100,
        exp: NOW_S + 100,
        realm: name("demo"),
        role: Role::Operator,
        cnf: Confirmation { jwk: alice_key().public().jwk() },
        grant: Some(Grant { commands: Commands::Any, clients: vec![], groups: vec![], all: true, max_ttl_ms: 60_000 }),
        groups: None,
    }
}

/// `worker-1`, which is in the group `web`.
pub(crate) fn worker_claims() -> Claims {
    Claims {
        sub: name("worker-1"),
        jti: WORKER.parse().unwrap(),
        role: Role::Client,
        cnf: Confirmation { jwk: worker_key().public().jwk() },
        grant: None,
        groups: Some(vec![name("web")]),
        ..alice_claims()
    }
}

pub(crate) fn credential(claims: &Claims) -> Credential {
    Credential::verify(&Credential::issue(claims, &issuer()), &trust(), NOW, SKEW).unwrap()
}

pub(crate) fn alice() -> &'static Identity {
    static ALICE: LazyLock<Identity> =
        LazyLock::new(|| Identity::new(alice_key(), credential(&alice_claims())).unwrap());
    &ALICE
}

pub(crate) fn worker() -> &'static Identity {
    static WORKER: LazyLock<Identity> =
        LazyLock::new(|| Identity::new(worker_key(), credential(&worker_claims())).unwrap());
    &WORKER
}

/// Alice's `ping` for `worker-1`.
pub(crate) fn command() -> Value {
    json!({
        "v": 1,
        "id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90",
        "realm": "demo",
        "from": "alice",
        "credential": ALICE,
        "to": { "client": "worker-1" },
        "subject": COMMAND,
        "reply_to": "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90",
        "issued_at": NOW.get(),
        "expires_at": NOW.get() + 30_000,
        "command": { "name": "ping", "args": {} },
    })
}

/// The client's answer to it.
pub(crate) fn reply() -> Value {
    json!({
        "v": 1,
        "id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b91",
        "realm": "demo",
        "from": "worker-1",
        "credential": WORKER,
        "to": "alice",
        "subject": REPLY,
        "command_id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90",
        "command_digest": format!("sha256:{}", "0".repeat(64)),
        "issued_at": NOW.get(),
        "epoch": "00000000-0000-4000-8000-00000000000c",
        "boot": "00000000-0000-4000-8000-00000000000d",
        "n": 1,
        "state": "ready",
        "seq": 0,
        "status": "succeeded",
        "result": NOW_S,
    })
}

/// An event of the client's.
pub(crate) fn event() -> Value {
    json!({
        "v": 1,
        "id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b92",
        "realm": "demo",
        "from": "worker-1",
        "credential": WORKER,
        "subject": EVENT,
        "issued_at": NOW.get(),
        "epoch": "00000000-0000-4000-8000-00000000000c",
        "boot": "00000000-0000-4000-8000-00000000000d",
        "n": 2,
        "state": "ready",
        "kind": "security",
        "data": { "reason": "clock", "count": 1 },
    })
}

/// The command with some of its members replaced.
pub(crate) fn command_with(changes: Value) -> Value {
    with(command(), changes)
}

pub(crate) fn with(mut value: Value, changes: Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut value, changes) else { panic!("two objects") };
    members.extend(changes);
    value
}

pub(crate) fn sign_command(body: &Value) -> Signed {
    alice().sign(MessageType::Command, COMMAND.to_owned(), body.to_string().into_bytes())
}

/// A command that holds.
pub(crate) fn signed() -> Signed {
    sign_command(&command())
}

/// A command as Alice signs it under a protected header of any content.
pub(crate) fn signed_under(protected: &str) -> Signed {
    let body = command().to_string();
    let protected = BASE64URL_NOPAD.encode(protected.as_bytes());
    let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(body.as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&alice_key().sign(input.as_bytes()));
    Signed { signature: format!("{protected}..{signature}"), ..signed() }
}

/// A delivery with two headers of any content.
pub(crate) fn delivery(signature: &str, credential: &str, body: impl Into<Bytes>) -> Delivery {
    let headers = [(SIGNATURE_HEADER, signature), (CREDENTIAL_HEADER, credential)];
    Delivery::new(COMMAND, false, headers, body.into())
}

/// Opens as anybody would who receives it now.
pub(crate) fn open<M: Payload>(delivery: &Delivery) -> Result<Authentic<M>, Rejected> {
    verifier().open(delivery, NOW)
}

pub(crate) fn open_command(signed: &Signed) -> Result<Authentic<Command>, Rejected> {
    open(&signed.delivery())
}

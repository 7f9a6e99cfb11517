//! NATS's JWTs: `ed25519-nkey` signatures by nkeys.

use countersign_keys::claims_in;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Map, Value};
use sha2::{Digest, Sha512_256};

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// What a JWT states.
pub(super) type Claims = Map<String, Value>;

/// Signs claims: with `iss`, with `iat` in seconds, and with `jti`, the digest of all the others. `None` is never seen in practice.
pub(super) fn sign(mut claims: Claims, iat: i64, by: &KeyPair) -> Option<String> {
    claims.insert("iss".to_owned(), by.public_key().into());
    claims.insert("iat".to_owned(), iat.into());
    let digest = Sha512_256::digest(Value::Object(claims.clone()).to_string());
    claims.insert("jti".to_owned(), BASE32_NOPAD.encode(&digest).into());
    let [header, claims] =
        [HEADER.to_owned(), Value::Object(claims).to_string()].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let input = format!("{header}.{claims}");
    Some(format!("{input}.{}", BASE64URL_NOPAD.encode(&by.sign(input.as_bytes()).ok()?)))
}

/// The claims of a JWT that this public key has signed.
pub(super) fn verify(jwt: &str, by: &str) -> Option<Claims> {
    let (input, signature) = jwt.rsplit_once('.')?;
    let (header, _) = input.split_once('.')?;
    (BASE64URL_NOPAD.decode(header.as_bytes()).ok()? == HEADER.as_bytes()).then_some(())?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    KeyPair::from_public_key(by).ok()?.verify(input.as_bytes(), &signature).ok()?;
    claims_in(jwt).filter(|claims| claims.get("iss").and_then(Value::as_str) == Some(by))
}

/// Claims without what differs each time that the same is signed.
pub(super) fn lasting(mut claims: Claims) -> Claims {
    for name in ["iss", "iat", "jti"] {
        claims.remove(name);
    }
    claims
}

/// When a JWT was issued, in seconds.
pub(super) fn issued_at(claims: &Claims) -> i64 {
    claims.get("iat").and_then(Value::as_i64).unwrap_or_default()
}

//! Users of a broker with accounts, as whoever holds an account's own key makes them: with any permissions.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// A key of the file of keys that `countersign init` makes, by what it is called there.
pub fn key(authority: &str, title: &str) -> KeyPair {
    let mut lines = authority.lines().filter_map(|line| line.split_once(' '));
    KeyPair::from_seed(lines.find(|(found, _)| *found == title).expect("a key of that name").1).unwrap()
}

/// A JWT with these claims.
pub fn signed(mut claims: Value, by: &KeyPair) -> String {
    claims["iss"] = by.public_key().into();
    let encoded = [json!({ "typ": "JWT", "alg": "ed25519-nkey" }), claims]
        .map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let input = encoded.join(".");
    format!("{input}.{}", BASE64URL_NOPAD.encode(&by.sign(input.as_bytes()).unwrap()))
}

/// The claims of a JWT.
pub fn claims(jwt: &str) -> Value {
    let claims = jwt.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap()
}

/// A file of credentials for a user of this name and seed, signed by the account's own key: its permissions are its own.
pub fn user(account: &KeyPair, name: &str, seed: &str, publish: &[&str], subscribe: &[&str]) -> String {
    let key = KeyPair::from_seed(seed).unwrap();
    let claims = json!({
        "name": name, "sub": key.public_key(), "iat": 1,
        "nats": {
            "type": "user", "version": 2, "pub": { "allow": publish }, "sub": { "allow": subscribe },
            "subs": -1, "data": -1, "payload": -1,
        },
    });
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
        signed(claims, account)
    )
}

/// The seed in a file of credentials.
pub fn seed_in(creds: &str) -> &str {
    creds.lines().map(str::trim).find(|line| line.starts_with("SU")).expect("a seed")
}

/// The JWT in a file of credentials; a plain seed has none.
pub fn jwt_in(creds: &str) -> Option<&str> {
    creds.lines().map(str::trim).find(|line| line.starts_with("eyJ"))
}

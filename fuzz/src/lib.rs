//! One realm with fixed keys, in which the fuzz targets present what they make up.

use std::sync::{Arc, LazyLock};

use countersign_protocol::command::Version;
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::envelope::{Identity, MessageType, Verifier};
use countersign_protocol::id::Uuid;
use countersign_protocol::key::{SecretKey, Thumbprint};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use data_encoding::BASE64URL_NOPAD;

/// The moment at which everything arrives.
pub const NOW: Millis = Millis::new(1_795_485_600_000);

/// What a target needs to sign, and to verify.
pub struct Realm {
    pub root: SecretKey,
    pub issuer: SecretKey,
    pub pin: Thumbprint,
    pub trust: Arc<Trust>,
    pub verifier: Verifier,
    pub operator: Identity,
    pub client: Identity,
}

pub static REALM: LazyLock<Realm> = LazyLock::new(|| {
    let (root, issuer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let body = TrustBody {
        v: Version,
        realm: name("demo"),
        version: 1,
        expires_at: NOW.plus(1_000_000),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: issuer.public().jwk() }],
        revoked: Vec::new(),
    };
    let pin = root.public().thumbprint();
    let trust = Arc::new(Trust::verify(&Trust::sign(&body, &[&root]), pin).unwrap());
    let member = |member: &str, seed: u8, role, grant, groups| {
        let key = SecretKey::from_seed([seed; 32]);
        let claims = Claims {
            iss: name("issuer"),
            sub: name(member),
            jti: Uuid::from_random([seed; 16]),
            iat: NOW.seconds(),
            nbf: NOW.seconds(),
            exp: NOW.seconds() + 1_000,
            realm: name("demo"),
            role,
            cnf: Confirmation { jwk: key.public().jwk() },
            grant,
            groups,
        };
        let raw = Credential::issue(&claims, &issuer);
        Identity::new(key, Credential::verify(&raw, &trust, NOW, SKEW).unwrap()).unwrap()
    };
    let grant = Grant { commands: Commands::Any, clients: vec![], groups: vec![], all: true, max_ttl_ms: 60_000 };
    let operator = member("alice", 3, Role::Operator, Some(grant), None);
    let client = member("worker-1", 4, Role::Client, None, Some(vec![]));
    let verifier = Verifier::new(Arc::clone(&trust), SKEW);
    verifier.remember(operator.credential());
    verifier.remember(client.credential());
    Realm { pin, verifier, trust, operator, client, root, issuer }
});

/// A JWS over a payload, in its three parts: protected header, payload, signature.
pub fn jws(typ: MessageType, key: &SecretKey, payload: &[u8]) -> [String; 3] {
    let kid = key.public().thumbprint();
    let protected = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{}"}}"#, typ.typ());
    let [protected, payload] = [protected.as_bytes(), payload].map(|part| BASE64URL_NOPAD.encode(part));
    let signature = key.sign(format!("{protected}.{payload}").as_bytes());
    [protected, payload, BASE64URL_NOPAD.encode(&signature)]
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

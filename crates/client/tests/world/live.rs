//! What a realm signs so that it holds now.

use countersign_host::clock;
use countersign_protocol::command::Version;
use countersign_protocol::credential::{Claims, Confirmation, Credential, Grant, Role};
use countersign_protocol::envelope::Identity;
use countersign_protocol::id::Uuid;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use countersign_testkit::realm::{Realm, name};

/// A trust bundle of a version.
pub(crate) fn bundle(realm: &Realm, version: u64) -> Trust {
    let body = TrustBody {
        v: Version,
        realm: realm.name.clone(),
        version,
        expires_at: clock::wall().plus(86_400_000),
        roots: vec![realm.root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: realm.issuer.public().jwk() }],
        revoked: Vec::new(),
    };
    Trust::verify(&Trust::sign(&body, &[&realm.root]), realm.root.public().thumbprint()).unwrap()
}

/// An operator with a grant, or a client without; `seed` makes its key.
pub(crate) fn member(realm: &Realm, trust: &Trust, member: &str, seed: u8, grant: Option<Grant>) -> Identity {
    let key = SecretKey::from_seed([seed; 32]);
    let now = clock::wall();
    let groups = grant.is_none().then(Vec::new);
    let claims = Claims {
        iss: name("issuer"),
        sub: name(member),
        jti: Uuid::from_random([seed; 16]),
        iat: now.seconds() - 60,
        nbf: now.seconds() - 60,
        exp: now.seconds() + 86_400,
        realm: realm.name.clone(),
        role: if grant.is_some() { Role::Operator } else { Role::Client },
        cnf: Confirmation { jwk: key.public().jwk() },
        grant,
        groups,
    };
    let credential = Credential::verify(&Credential::issue(&claims, &realm.issuer), trust, now, SKEW).unwrap();
    Identity::new(key, credential).unwrap()
}

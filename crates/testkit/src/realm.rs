//! A realm: root, issuer, trust bundle, and the identities that a test asks for. Nothing here is random.

use std::cell::Cell;
use std::sync::Arc;

use countersign_protocol::command::{Call, Command, Target, True, Version};
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::envelope::{Authentic, Identity, MessageType, Payload, Rejected, Signed, Verifier};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::{Name, Session};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use serde_json::{Map, Value, json};

/// The moment at which a realm's tests begin.
pub const START: Millis = Millis::new(1_795_485_600_000);

/// How long credentials last from [`START`] on, in seconds.
const LIFE: i64 = 30 * 86_400;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn to(client: &str) -> Target {
    Target::Client(name(client))
}

/// A grant of every command on every client.
pub fn full_grant() -> Grant {
    Grant { commands: Commands::Any, clients: Vec::new(), groups: Vec::new(), all: true, max_ttl_ms: 60_000 }
}

/// A realm and its keys.
pub struct Realm {
    pub name: Name,
    pub root: SecretKey,
    pub issuer: SecretKey,
    pub trust: Arc<Trust>,
    count: Cell<u8>,
}

impl Realm {
    pub fn new(realm: &str) -> Self {
        Self::with_trust_until(realm, START.plus(365 * 86_400_000))
    }

    /// A realm whose trust bundle expires at a moment.
    pub fn with_trust_until(realm: &str, expires_at: Millis) -> Self {
        let seed = realm.bytes().fold(7, |seed: u8, byte| seed.wrapping_mul(31).wrapping_add(byte));
        let (root, issuer) = (SecretKey::from_seed([seed; 32]), SecretKey::from_seed([seed ^ 0x55; 32]));
        let body = TrustBody {
            v: Version,
            realm: name(realm),
            version: 1,
            expires_at,
            roots: vec![root.public().jwk()],
            threshold: 1,
            issuers: vec![Issuer { name: name("issuer"), jwk: issuer.public().jwk() }],
            revoked: Vec::new(),
        };
        let trust = Trust::verify(&Trust::sign(&body, &[&root]), root.public().thumbprint()).unwrap();
        Self { name: name(realm), root, issuer, trust: Arc::new(trust), count: Cell::new(0) }
    }

    pub fn operator(&self, operator: &str, grant: Grant) -> Arc<Identity> {
        self.operator_until(operator, grant, LIFE)
    }

    /// An operator whose credential expires so many seconds after [`START`].
    pub fn operator_until(&self, operator: &str, grant: Grant, seconds: i64) -> Arc<Identity> {
        self.member(operator, Role::Operator, Some(grant), None, seconds)
    }

    pub fn client(&self, client: &str, groups: &[&str]) -> Arc<Identity> {
        self.client_until(client, groups, LIFE)
    }

    /// A client whose credential expires so many seconds after [`START`].
    pub fn client_until(&self, client: &str, groups: &[&str], seconds: i64) -> Arc<Identity> {
        let groups = groups.iter().map(|group| name(group)).collect();
        self.member(client, Role::Client, None, Some(groups), seconds)
    }

    pub fn verifier(&self) -> Verifier {
        Verifier::new(Arc::clone(&self.trust), SKEW)
    }

    /// What a verifier makes of a message, at a moment.
    pub fn open<M: Payload>(&self, signed: &Signed, now: Millis) -> Result<Authentic<M>, Rejected> {
        self.verifier().open(&signed.delivery(), now)
    }

    fn member(
        &self,
        member: &str,
        role: Role,
        grant: Option<Grant>,
        groups: Option<Vec<Name>>,
        life: i64,
    ) -> Arc<Identity> {
        let count = self.count.get() + 1;
        self.count.set(count);
        let key = SecretKey::from_seed([count; 32]);
        let seconds = START.seconds();
        let claims = Claims {
            iss: name("issuer"),
            sub: name(member),
            jti: Uuid::from_random([count; 16]),
            iat: seconds - 60,
            nbf: seconds - 60,
            exp: seconds + life,
            realm: self.name.clone(),
            role,
            cnf: Confirmation { jwk: key.public().jwk() },
            grant,
            groups,
        };
        let raw = Credential::issue(&claims, &self.issuer);
        let credential = Credential::verify(&raw, &self.trust, START, SKEW).unwrap();
        Arc::new(Identity::new(key, credential).unwrap())
    }
}

/// A command in the making: honest unless a test says otherwise.
#[derive(Debug, Clone)]
pub struct Draft {
    pub command: Command,
}

impl Draft {
    /// A command from an operator, number `id`, issued at a moment and valid for 30 s.
    pub fn new(operator: &Identity, to: Target, call: &str, args: Value, id: u64, now: Millis) -> Self {
        let realm = operator.credential().realm().clone();
        let from = operator.name().clone();
        let id = message_id(id);
        let session: Session = "k3v9q2m8x7c1b5n0".parse().unwrap();
        let args: Map<String, Value> = serde_json::from_value(args).unwrap();
        let command = Command {
            v: Version,
            id,
            subject: subject::command(&realm, &to),
            reply_to: subject::reply_to(&realm, &from, &session, &id),
            realm,
            from,
            credential: operator.credential().jti(),
            to,
            issued_at: now,
            expires_at: now.plus(30_000),
            epoch: None,
            dry_run: None,
            command: Call { name: name(call), args },
        };
        Self { command }
    }

    #[must_use]
    pub fn epoch(mut self, epoch: Uuid) -> Self {
        self.command.epoch = Some(epoch);
        self
    }

    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.command.dry_run = Some(True);
        self
    }

    /// Changes whatever the test wants changed before it is signed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    pub fn sign(&self, operator: &Identity) -> Signed {
        self.sign_body(operator, &json!(self.command))
    }

    /// Signs another body in this command's place.
    pub fn sign_body(&self, operator: &Identity, body: &Value) -> Signed {
        operator.sign(MessageType::Command, self.command.subject.clone(), body.to_string().into_bytes())
    }
}

/// The id of message number `n`.
pub fn message_id(n: u64) -> MessageId {
    let mut unique = [0; 10];
    unique[2..].copy_from_slice(&n.to_be_bytes());
    MessageId::new(START, unique)
}

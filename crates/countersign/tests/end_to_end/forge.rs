//! What an insider can make: messages signed with alice's key or another, of any form, sent with alice's connection.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use countersign_host::clock;
use countersign_keys::{load_member, load_trust, read_key};
use countersign_protocol::credential::{Claims, Confirmation, Credential, Grant, Role};
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;
use countersign_testkit::hostile::{Message, Peer};
use countersign_testkit::realm::{Draft, full_grant, name, to};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::fleet::Fleet;

/// Alice, with her keys in the hands of a test.
pub struct Forger {
    pub identity: Arc<Identity>,
    pub key: SecretKey,
    pub issuer: SecretKey,
    pub trust: Trust,
    /// Her connection, which also receives the replies to her.
    pub peer: RefCell<Peer>,
    epoch: Uuid,
    count: Cell<u64>,
}

impl Forger {
    /// For the epoch that `worker-1` is in now.
    pub fn new(fleet: &Fleet) -> Self {
        let epoch = fleet.status("worker-1")["epoch"].as_str().unwrap().parse().unwrap();
        Self::with_epoch(fleet, epoch)
    }

    pub fn with_epoch(fleet: &Fleet, epoch: Uuid) -> Self {
        let (keys, alice) = (fleet.keys(), name("alice"));
        let trust = load_trust(&keys).unwrap();
        let member = load_member(&keys, Role::Operator, &alice, &trust, clock::wall(), SKEW).unwrap();
        let mut peer = fleet.peer(&keys.creds(Role::Operator, &alice));
        peer.subscribe("cs.demo.reply.alice.>");
        Self {
            identity: Arc::new(member.identity),
            key: read_key(&keys.key(Role::Operator, &alice)).unwrap(),
            issuer: read_key(&keys.issuer_key()).unwrap(),
            trust,
            peer: RefCell::new(peer),
            epoch,
            count: Cell::new(0),
        }
    }

    /// A command to `worker-1` under a new id, honest until a test changes it.
    pub fn draft(&self, call: &str, args: Value) -> Draft {
        self.draft_of(&self.identity, call, args)
    }

    /// The same of another operator.
    pub fn draft_of(&self, operator: &Identity, call: &str, args: Value) -> Draft {
        self.count.set(self.count.get() + 1);
        Draft::new(operator, to("worker-1"), call, args, self.count.get(), clock::wall()).epoch(self.epoch)
    }

    /// A signed command to `worker-1`.
    pub fn command(&self, call: &str, args: Value) -> Signed {
        self.draft(call, args).sign(&self.identity)
    }

    /// The body of a command that would end `worker-1` if it were obeyed.
    pub fn terminate(&self) -> Value {
        json!(self.draft("terminate", json!({})).command)
    }

    pub fn send(&self, message: &Signed) {
        self.peer.borrow().send(message);
    }

    /// The protected header that belongs to alice's commands.
    pub fn protected(&self) -> Value {
        json!({ "alg": "EdDSA", "kid": self.identity.kid(), "typ": MessageType::Command.typ() })
    }

    /// A command with any protected header, signed with alice's key all the same.
    pub fn seal(&self, protected: &str, body: &[u8]) -> Signed {
        seal(&self.key, protected, self.identity.credential().raw(), body)
    }

    /// A command with any bytes as its body, rightly signed.
    pub fn sign_bytes(&self, body: Vec<u8>) -> Signed {
        self.identity.sign(MessageType::Command, "cs.demo.cmd.client.worker-1".to_owned(), body)
    }

    /// Sends a command and waits for its final reply.
    pub fn request(&self, message: &Signed) -> Value {
        self.send(message);
        self.reply_to(message).json()
    }

    /// Waits for the final reply to a command that was sent.
    pub fn reply_to(&self, message: &Signed) -> Message {
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let id = body["id"].as_str().unwrap();
        let is_final = |reply: &Message| {
            let reply = reply.json();
            reply["command_id"] == id && !["accepted", "progress"].contains(&reply["status"].as_str().unwrap())
        };
        self.peer.borrow_mut().wait_for(&format!("the final reply to {id}"), is_final)
    }

    /// The claims of alice's own credential, with another id, for a test to change.
    pub fn claims(&self) -> Claims {
        let now = clock::wall().seconds();
        Claims {
            iss: name("issuer"),
            sub: name("alice"),
            jti: Uuid::from_random([0x77; 16]),
            iat: now,
            nbf: now - 60,
            exp: now + 3_600,
            realm: name("demo"),
            role: Role::Operator,
            cnf: Confirmation { jwk: self.key.public().jwk() },
            grant: Some(full_grant()),
            groups: None,
        }
    }

    /// Another operator of the realm with this grant, who signs with a key of their own.
    pub fn colleague(&self, operator: &str, grant: Grant) -> Identity {
        let key = SecretKey::from_seed([0x42; 32]);
        let cnf = Confirmation { jwk: key.public().jwk() };
        let claims = Claims { sub: name(operator), cnf, grant: Some(grant), ..self.claims() };
        self.identity_of(key, &claims)
    }

    /// An identity from claims that the realm's issuer signs.
    pub fn identity_of(&self, key: SecretKey, claims: &Claims) -> Identity {
        let raw = Credential::issue(claims, &self.issuer);
        Identity::new(key, Credential::verify(&raw, &self.trust, clock::wall(), SKEW).unwrap()).unwrap()
    }
}

/// A command to `worker-1` of which the caller chooses every part.
pub fn seal(key: &SecretKey, protected: &str, credential: &str, body: &[u8]) -> Signed {
    let protected = BASE64URL_NOPAD.encode(protected.as_bytes());
    let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(body));
    let signature = BASE64URL_NOPAD.encode(&key.sign(input.as_bytes()));
    Signed {
        subject: "cs.demo.cmd.client.worker-1".to_owned(),
        signature: format!("{protected}..{signature}"),
        credential: credential.into(),
        body: body.to_vec().into(),
    }
}

/// The replies to a command among what was observed.
pub fn replies_to<'a>(observed: &'a [Message], id: &str) -> Vec<&'a Message> {
    observed.iter().filter(|message| message.json()["command_id"] == id).collect()
}

/// The commands among what was observed that go to a client under a name.
pub fn commands<'a>(observed: &'a [Message], client: &str, call: &str) -> Vec<&'a Message> {
    let subject = format!("cs.demo.cmd.client.{client}");
    observed.iter().filter(|it| it.subject == subject && it.json()["command"]["name"] == call).collect()
}

/// Whether this is the event that a job has succeeded, which comes after its final reply.
pub fn is_end_of_job(message: &Message) -> bool {
    let event = message.json();
    event["kind"] == "job" && event["data"]["status"] == "succeeded"
}

/// The id in a signed body.
pub fn id_of(message: &Signed) -> MessageId {
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    body["id"].as_str().unwrap().parse().unwrap()
}

/// Names of clients or groups.
pub fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|one| name(one)).collect()
}

//! A realm as of now, a real nats-server with the permissions of docs/protocol.md, and a worker that answers as told.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

use std::sync::Arc;

use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use countersign_host::clock;
use countersign_keys::{Login, Member, Seed};
use countersign_protocol::command::{Command, Version};
use countersign_protocol::credential::{Claims, Confirmation, Credential, Grant, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{
    CREDENTIAL_HEADER, Delivery, Identity, MessageType, SIGNATURE_HEADER, Signed, Verifier,
};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Outcome, Reply, State};
use countersign_protocol::subject;
use countersign_protocol::trust::{Issuer, Trust, TrustBody};
use countersign_server::{Follow, Operator, OperatorConfig, OperatorError};
use countersign_testkit::broker::{Broker, TIMEOUT};
use countersign_testkit::realm::{full_grant, name};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::timeout;

pub fn uuid(n: u8) -> Uuid {
    Uuid::from_random([n; 16])
}

pub fn seed(n: u8) -> Seed {
    Seed::from_random([n; 32]).unwrap()
}

/// What logs in with that key to a broker that has a list of keys.
pub fn login(n: u8) -> Login {
    Login::new(seed(n), "")
}

/// The realm `demo` with `alice` and `worker-1`, and a broker with their connection keys.
pub struct Demo {
    pub trust: Arc<Trust>,
    issuer: SecretKey,
    pub broker: Broker,
}

impl Demo {
    pub fn start() -> Self {
        Self::with(true)
    }

    /// With or without JetStream.
    pub fn with(jetstream: bool) -> Self {
        let (root, issuer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let body = TrustBody {
            v: Version,
            realm: name("demo"),
            version: 1,
            expires_at: clock::wall().plus(86_400_000),
            roots: vec![root.public().jwk()],
            threshold: 1,
            issuers: vec![Issuer { name: name("issuer"), jwk: issuer.public().jwk() }],
            revoked: Vec::new(),
        };
        let trust = Trust::verify(&Trust::sign(&body, &[&root]), root.public().thumbprint()).unwrap();
        Self { trust: Arc::new(trust), issuer, broker: Broker::configured(&configuration(jetstream)) }
    }

    /// From now on the broker lets the key 14 hear the replies to alice.
    pub fn allow_everything(&self) {
        self.broker.reconfigure(&configuration(true).replace("cs.demo.reply.bob.>", "cs.demo.reply.alice.>"));
    }

    pub async fn operator(&self) -> Operator {
        self.connect(&self.broker.url(), login(10)).await.unwrap()
    }

    pub async fn connect(&self, url: &str, login: Login) -> Result<Operator, OperatorError> {
        let identity = self.identity("alice", 3, Role::Operator, Some(full_grant()), None);
        let member = Member { identity, login, files: None, inbox_prefix: "_INBOX.operator-alice".to_owned() };
        let (broker, trust) = (url.into(), Arc::clone(&self.trust));
        let (follow, enrolled) = (Follow::Everything, vec![name("worker-1")]);
        Operator::connect(OperatorConfig { broker, member, trust, accepted: None, follow, enrolled }).await
    }

    pub async fn worker(&self) -> Worker {
        let client = ConnectOptions::with_nkey(seed(11).as_str().to_owned()).connect(self.broker.url()).await.unwrap();
        let commands = client.subscribe("cs.demo.cmd.client.worker-1").await.unwrap();
        client.flush().await.unwrap();
        let identity = self.identity("worker-1", 4, Role::Client, None, Some(Vec::new()));
        Worker { identity, client, commands, verifier: Verifier::new(Arc::clone(&self.trust), SKEW), n: 0 }
    }

    /// The presence of `client-<number>`, which is in the group `web`.
    pub fn presence_of(&self, number: u16) -> Signed {
        let mut key = [0x33; 32];
        key[..2].copy_from_slice(&number.to_le_bytes());
        let client = format!("client-{number}");
        let groups = Some(vec![name("web")]);
        let identity = self.identity_of(&client, SecretKey::from_seed(key), uuid(9), Role::Client, None, groups);
        presence(&identity, uuid(20), State::Ready, 0)
    }

    /// Hears from now on what the stream is asked for.
    pub async fn questions(&self) -> Questions {
        let client = ConnectOptions::with_nkey(seed(13).as_str().to_owned()).connect(self.broker.url()).await.unwrap();
        let roster_requests = client.subscribe("cs.demo.roster.*").await.unwrap();
        let passed = client.subscribe("test.passed").await.unwrap();
        client.flush().await.unwrap();
        let mut questions = Questions { client, roster_requests, passed };
        questions.count().await;
        questions
    }

    fn identity(&self, sub: &str, n: u8, role: Role, grant: Option<Grant>, groups: Option<Vec<Name>>) -> Identity {
        self.identity_of(sub, SecretKey::from_seed([n; 32]), uuid(n), role, grant, groups)
    }

    fn identity_of(
        &self,
        sub: &str,
        key: SecretKey,
        jti: Uuid,
        role: Role,
        grant: Option<Grant>,
        groups: Option<Vec<Name>>,
    ) -> Identity {
        let now = clock::wall().seconds();
        let claims = Claims {
            iss: name("issuer"),
            sub: name(sub),
            jti,
            iat: now,
            nbf: now - 60,
            exp: now + 3_600,
            realm: name("demo"),
            role,
            cnf: Confirmation { jwk: key.public().jwk() },
            grant,
            groups,
        };
        let raw = Credential::issue(&claims, &self.issuer);
        Identity::new(key, Credential::verify(&raw, &self.trust, clock::wall(), SKEW).unwrap()).unwrap()
    }
}

/// Hears what the stream is asked for.
pub struct Questions {
    client: Client,
    roster_requests: Subscriber,
    passed: Subscriber,
}

impl Questions {
    /// How many there were since this was last asked.
    pub async fn count(&mut self) -> usize {
        // What the broker took before this has arrived when this has.
        self.client.publish("test.passed", "".into()).await.unwrap();
        timeout(TIMEOUT, self.passed.next()).await.unwrap().unwrap();
        let mut count = 0;
        while let Some(Some(_)) = self.roster_requests.next().now_or_never() {
            count += 1;
        }
        count
    }
}

/// A worker without a mind of its own.
pub struct Worker {
    pub identity: Identity,
    pub client: Client,
    commands: Subscriber,
    verifier: Verifier,
    n: u64,
}

impl Worker {
    /// The next command, verified, and the digest of its body.
    pub async fn command(&mut self) -> (Command, Digest) {
        let message = timeout(TIMEOUT, self.commands.next()).await.unwrap().unwrap();
        let headers = message.headers.unwrap();
        let headers: Vec<(&str, &str)> = [SIGNATURE_HEADER, CREDENTIAL_HEADER]
            .iter()
            .map(|name| (*name, headers.get(*name).unwrap().as_str()))
            .collect();
        let delivery = Delivery::new(&message.subject, false, headers, message.payload);
        let command = self.verifier.open::<Command>(&delivery, clock::wall()).unwrap();
        assert_eq!(message.reply.unwrap().as_str(), command.message().reply_to);
        (command.message().clone(), command.digest())
    }

    pub fn reply(&mut self, command: &Command, digest: Digest, outcome: Outcome) -> Signed {
        let (status, progress, result, error) = outcome.into_members();
        self.n += 1;
        let reply = Reply {
            v: Version,
            id: MessageId::new(clock::wall(), [5; 10]),
            realm: name("demo"),
            from: name("worker-1"),
            credential: self.identity.credential().jti(),
            to: command.from.clone(),
            subject: subject::reply(&command.reply_to, &name("worker-1")),
            command_id: command.id,
            command_digest: digest,
            issued_at: clock::wall(),
            epoch: command.epoch.unwrap_or_else(|| uuid(20)),
            boot: uuid(21),
            n: self.n,
            state: State::Ready,
            seq: 0,
            status,
            progress,
            result,
            error,
        };
        let body = serde_json::to_vec(&reply).unwrap();
        self.identity.sign(MessageType::Reply, reply.subject, body)
    }

    /// Answers one ping, which knows this epoch.
    pub async fn pong(&mut self, epoch: Uuid) {
        let (command, digest) = self.command().await;
        assert_eq!((command.command.name.as_str(), command.epoch), ("ping", Some(epoch)));
        let reply = self.reply(&command, digest, Outcome::Succeeded(json!(1_795_485_600)));
        self.publish(&reply).await;
    }

    /// Says that it is there, or that it has ended.
    pub async fn present(&mut self, epoch: Uuid, state: State) {
        self.n += 1;
        self.publish(&presence(&self.identity, epoch, state, self.n)).await;
    }

    pub async fn publish(&self, message: &Signed) {
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_HEADER, message.signature.as_str());
        headers.insert(CREDENTIAL_HEADER, &*message.credential);
        self.client.publish_with_headers(message.subject.clone(), headers, message.body.clone()).await.unwrap();
        self.client.flush().await.unwrap();
    }
}

/// What a client says of itself, signed.
fn presence(client: &Identity, epoch: Uuid, state: State, n: u64) -> Signed {
    let info = json!({
        "state": state, "epoch": epoch, "boot": uuid(21), "n": n, "version": "0.1.0", "started_at": 0,
        "heartbeat_ms": 10_000, "groups": [], "jobs": { "running": 0, "limit": 64 }, "dropped": {},
        "commands": [], "trust": { "version": 1, "expires_at": 0 },
    });
    let event = Event {
        v: Version,
        id: MessageId::new(clock::wall(), [6; 10]),
        realm: name("demo"),
        from: client.name().clone(),
        credential: client.credential().jti(),
        subject: subject::event(&name("demo"), client.name(), EventKind::Presence),
        issued_at: clock::wall(),
        epoch,
        boot: uuid(21),
        n,
        state,
        kind: EventKind::Presence,
        data: serde_json::from_value(info).unwrap(),
    };
    let body = serde_json::to_vec(&event).unwrap();
    client.sign(MessageType::Event, event.subject, body)
}

/// What `countersign init` allows, and nothing more: to alice, to worker-1 and to whoever sets up the streams. And to some that
/// tests need.
fn configuration(jetstream: bool) -> String {
    let user = |n: u8, publish: &[&str], subscribe: &[&str]| {
        json!({
            "nkey": seed(n).public_key().unwrap(),
            "permissions": { "publish": { "allow": publish }, "subscribe": { "allow": subscribe } },
        })
    };
    let [presence, trust] = ["cs-demo-presence", "cs-demo-trust"]
        .map(|stream| ["CREATE", "UPDATE", "INFO", "PURGE"].map(|verb| format!("$JS.API.STREAM.{verb}.{stream}")));
    let streams: Vec<&str> = presence.iter().chain(&trust).map(String::as_str).collect();
    let users = [
        user(
            10,
            &["cs.demo.cmd.>", "cs.demo.roster.*", "cs.demo.trust.get"],
            &["cs.demo.reply.alice.>", "cs.demo.event.>", "cs.demo.trust.bundle.*", "_INBOX.operator-alice.>"],
        ),
        // Every reply and event subject, for attacks and for other clients.
        user(11, &["cs.demo.reply.>", "cs.demo.event.>"], &["cs.demo.cmd.client.worker-1"]),
        // May do what alice may, but hear replies to another.
        user(
            14,
            &["cs.demo.cmd.>", "cs.demo.roster.*", "cs.demo.trust.get"],
            &["cs.demo.reply.bob.>", "cs.demo.event.>", "cs.demo.trust.bundle.*", "_INBOX.operator-alice.>"],
        ),
        // Hears what the stream is asked for.
        user(13, &["test.passed"], &["cs.demo.roster.*", "test.passed"]),
    ];
    let setup = user(12, &streams, &["_INBOX.setup.>"]);
    let store = |subject: &str| format!("$JS.API.{subject}.cs-demo-presence");
    let trust = "$JS.API.STREAM.MSG.GET.cs-demo-trust";
    let imported = |subject, to| json!({ "service": { "account": "store", "subject": store(subject) }, "to": to });
    let accounts = json!({
        "system": {},
        "realm": {
            "users": users,
            "exports": [{ "stream": "cs.demo.event.*.presence" }, { "stream": "cs.demo.trust.bundle.*" }],
            "imports": [
                imported("DIRECT.GET", "cs.demo.roster.get"),
                imported("STREAM.MSG.GET", "cs.demo.roster.message"),
                { "service": { "account": "store", "subject": trust }, "to": "cs.demo.trust.get" },
            ],
        },
        "store": {
            "jetstream": "enabled",
            "users": [setup],
            "exports": [
                { "service": store("DIRECT.GET"), "response_type": "stream" },
                { "service": store("STREAM.MSG.GET") },
                { "service": trust },
            ],
            "imports": [
                { "stream": { "account": "realm", "subject": "cs.demo.event.*.presence" } },
                { "stream": { "account": "realm", "subject": "cs.demo.trust.bundle.*" } },
            ],
        },
    });
    json!({ "jetstream": jetstream, "system_account": "system", "accounts": accounts }).to_string()
}

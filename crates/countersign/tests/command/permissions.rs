//! What each connection key may do at a real broker, and that it may do nothing else.
//!
//! The tests speak the NATS protocol by hand: the broker answers PING after everything that came before it, so that what
//! was not refused by then was allowed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use countersign_protocol::enrolment::Token;
use countersign_testkit::accounts::{jwt_in, seed_in};

use crate::broker::Broker;
use crate::folder::Folder;

/// A user with a connection.
pub struct User {
    stream: BufReader<TcpStream>,
    subscriptions: u32,
}

impl User {
    pub fn connect(folder: &Folder, broker: &Broker, user: &str) -> Self {
        let creds = folder.read(&format!("keys/nats/{user}.creds"));
        let mut user = Self::greet(broker, &KeyPair::from_seed(seed_in(&creds)).unwrap(), jwt_in(&creds));
        assert_eq!(user.refusals(), [""; 0]);
        user
    }

    fn greet(broker: &Broker, key: &KeyPair, jwt: Option<&str>) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", broker.port)).unwrap());
        let mut info = String::new();
        stream.read_line(&mut info).unwrap();
        let info: Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        let signature = BASE64URL_NOPAD.encode(&key.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap());
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "nkey": key.public_key(), "jwt": jwt, "sig": signature,
        });
        let mut user = Self { stream, subscriptions: 0 };
        user.send(&format!("CONNECT {connect}\r\n"));
        user
    }

    fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// What the broker has refused since the last time.
    fn refusals(&mut self) -> Vec<String> {
        self.send("PING\r\n");
        let mut refused = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the broker closed the connection: {refused:?}");
            match line.trim_end() {
                "PONG" => return refused,
                line => refused.extend(line.strip_prefix("-ERR ").map(str::to_owned)),
            }
        }
    }

    /// Subscribes to what it may subscribe to.
    pub fn subscribe(&mut self, subject: &str) {
        self.send(&format!("SUB {subject} 0\r\n"));
        assert_eq!(self.refusals(), [""; 0]);
    }

    /// How many messages have arrived since the last time.
    pub fn received(&mut self) -> usize {
        self.send("PING\r\n");
        let mut received = 0;
        let mut line = Vec::new();
        while !line.starts_with(b"PONG") {
            line.clear();
            self.stream.read_until(b'\n', &mut line).unwrap();
            let is_message = line.starts_with(b"HMSG ") || line.starts_with(b"MSG ");
            if is_message {
                let header = String::from_utf8(line.clone()).unwrap();
                let length: usize = header.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
                self.stream.read_exact(&mut vec![0; length + 2]).unwrap();
                received += 1;
            }
        }
        received
    }

    /// Asks the broker for something, and waits for its answer.
    pub fn request(&mut self, subject: &str, inbox: &str, body: &str) {
        self.subscribe(inbox);
        self.send(&format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len()));
        while self.received() == 0 {}
    }

    fn may_publish(&mut self, subject: &str) -> bool {
        self.send(&format!("PUB {subject} 2\r\n{{}}\r\n"));
        Self::was_allowed(&self.refusals(), &format!("'Permissions Violation for Publish to \"{subject}\"'"))
    }

    fn may_subscribe(&mut self, subject: &str) -> bool {
        self.subscriptions += 1;
        let id = self.subscriptions;
        self.send(&format!("SUB {subject} {id}\r\n"));
        let refusals = self.refusals();
        self.send(&format!("UNSUB {id}\r\n"));
        Self::was_allowed(&refusals, &format!("'Permissions Violation for Subscription to \"{subject}\"'"))
    }

    /// Nothing was refused, or exactly this.
    fn was_allowed(refusals: &[String], refusal: &str) -> bool {
        assert!(refusals.is_empty() || refusals == [refusal], "{refusals:?}");
        refusals.is_empty()
    }

    #[track_caller]
    fn check(&mut self, may_publish: &[&str], may_subscribe: &[&str]) {
        for subject in SUBJECTS {
            assert_eq!(self.may_publish(subject), may_publish.contains(subject), "publish {subject}");
            assert_eq!(self.may_subscribe(subject), may_subscribe.contains(subject), "subscribe {subject}");
        }
        for subject in WILDCARDS {
            assert_eq!(self.may_subscribe(subject), may_subscribe.contains(subject), "subscribe {subject}");
        }
    }
}

/// Everything that a user may need, or may try to break: every user is tested with all of it.
const SUBJECTS: &[&str] = &[
    "cs.demo.cmd.client.worker-1",
    "cs.demo.cmd.client.worker-2",
    "cs.demo.cmd.group.web",
    "cs.demo.cmd.group.db",
    "cs.demo.cmd.all",
    "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1",
    "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-2",
    "cs.demo.reply.bob.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1",
    "cs.demo.event.worker-1.presence",
    "cs.demo.event.worker-2.presence",
    "cs.demo.event.worker-1.presence.more",
    "cs.demo.trust.bundle.7",
    "cs.demo.trust.get",
    "cs.demo.renewal.request.client.worker-1",
    "cs.demo.renewal.request.client.worker-2",
    "cs.demo.renewal.request.operator.alice",
    "cs.demo.renewal.answer.client.worker-1",
    "cs.demo.renewal.answer.operator.alice",
    "cs.demo.renewal.answer.operator.bob",
    "cs.demo.enrolment.request.k3v9q2m8x7c1b5n0",
    "cs.demo.enrolment.answer.k3v9q2m8x7c1b5n0.key",
    "cs.demo.roster.get",
    "cs.demo.roster.message",
    "cs.plant.roster.get",
    "cs.plant.cmd.all",
    "cs.plant.trust.bundle.2",
    "cs.plant.trust.get",
    "_INBOX.operator-alice.a.b",
    "_INBOX.operator-bob.a.b",
    "_INBOX.setup.a.b",
    "_INBOX.client-worker-1.a.b",
    "_INBOX.client-worker-2.a.b",
    "_INBOX.observer.a.b",
    "_INBOX.trust.a.b",
    "_INBOX.accounts.a.b",
    "_INBOX.issuer.a.b",
    "_INBOX.a",
    "$JS.API.DIRECT.GET.cs-demo-presence",
    "$JS.API.DIRECT.GET.cs-demo-presence.cs.demo.event.worker-1.presence",
    "$JS.API.DIRECT.GET.cs-plant-presence",
    "$JS.API.STREAM.CREATE.cs-demo-presence",
    "$JS.API.STREAM.UPDATE.cs-demo-presence",
    "$JS.API.STREAM.INFO.cs-demo-presence",
    "$JS.API.STREAM.CREATE.other",
    "$JS.API.STREAM.DELETE.cs-demo-presence",
    "$JS.API.STREAM.PURGE.cs-demo-presence",
    "$JS.API.STREAM.MSG.DELETE.cs-demo-presence",
    "$JS.API.STREAM.MSG.GET.cs-demo-presence",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.CREATE.cs-demo-presence",
    "$JS.API.CONSUMER.CREATE.cs-demo-presence.x",
    "$JS.API.STREAM.CREATE.cs-demo-trust",
    "$JS.API.STREAM.DELETE.cs-demo-trust",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.CLAIMS.DELETE",
    "$SYS.REQ.ACCOUNT.A.CLAIMS.LOOKUP",
    "anything",
];

/// Subscriptions only.
const WILDCARDS: &[&str] = &[
    "cs.>",
    "cs.demo.>",
    "cs.demo.cmd.>",
    "cs.demo.cmd.client.*",
    RENEWALS,
    ENROLMENTS,
    "_INBOX.>",
    "$SYS.>",
    ">",
    "*",
];

/// Every request for renewal.
const RENEWALS: &str = "cs.demo.renewal.request.*.*";

/// Every request for enrolment.
const ENROLMENTS: &str = "cs.demo.enrolment.request.*";

fn realm() -> (Folder, Broker) {
    let folder = Folder::with_keys(&[
        "--operator",
        "alice",
        "--operator",
        "bob",
        "--client",
        "worker-1:web",
        "--client",
        "worker-2",
    ]);
    let broker = Broker::start(&folder);
    (folder, broker)
}

#[test]
fn the_observer_sees_everything_of_countersign_and_publishes_nothing_but_to_itself_and_the_question_for_trust() {
    let (folder, broker) = realm();
    let of_countersign: Vec<&str> = SUBJECTS.iter().copied().filter(|subject| subject.starts_with("cs.")).collect();
    let wildcards = ["cs.>", "cs.demo.>", "cs.demo.cmd.>", "cs.demo.cmd.client.*", RENEWALS, ENROLMENTS];
    let own = ["_INBOX.observer.a.b"];
    let publish = ["cs.demo.trust.get", own[0]];
    User::connect(&folder, &broker, "observer").check(&publish, &[&of_countersign[..], &wildcards, &own].concat());
}

#[test]
fn a_client_receives_its_own_commands_and_sends_replies_and_events_as_itself() {
    let (folder, broker) = realm();
    let publish = [
        "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1",
        "cs.demo.reply.bob.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1",
        "cs.demo.event.worker-1.presence",
        "cs.demo.trust.get",
        "cs.demo.renewal.request.client.worker-1",
    ];
    let subscribe = [
        "cs.demo.cmd.client.worker-1",
        "cs.demo.cmd.group.web",
        "cs.demo.cmd.all",
        "cs.demo.trust.bundle.7",
        "cs.demo.renewal.answer.client.worker-1",
        "_INBOX.client-worker-1.a.b",
    ];
    User::connect(&folder, &broker, "client-worker-1").check(&publish, &subscribe);
}

#[test]
fn an_operator_sends_commands_receives_its_own_replies_and_reads_presence() {
    let (folder, broker) = realm();
    let publish = [
        "cs.demo.cmd.client.worker-1",
        "cs.demo.cmd.client.worker-2",
        "cs.demo.cmd.group.web",
        "cs.demo.cmd.group.db",
        "cs.demo.cmd.all",
        "cs.demo.roster.get",
        "cs.demo.roster.message",
        "cs.demo.trust.get",
        "cs.demo.renewal.request.operator.alice",
    ];
    let subscribe = [
        "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-1",
        "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90.worker-2",
        "cs.demo.event.worker-1.presence",
        "cs.demo.event.worker-2.presence",
        "cs.demo.event.worker-1.presence.more",
        "cs.demo.trust.bundle.7",
        "cs.demo.renewal.answer.operator.alice",
        "_INBOX.operator-alice.a.b",
    ];
    User::connect(&folder, &broker, "operator-alice").check(&publish, &subscribe);
}

#[test]
fn the_setup_key_makes_reads_and_purges_the_two_streams_and_deletes_none_and_makes_no_other() {
    let (folder, broker) = realm();
    let publish = [
        "$JS.API.STREAM.CREATE.cs-demo-presence",
        "$JS.API.STREAM.UPDATE.cs-demo-presence",
        "$JS.API.STREAM.INFO.cs-demo-presence",
        "$JS.API.STREAM.PURGE.cs-demo-presence",
        "$JS.API.STREAM.CREATE.cs-demo-trust",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.MSG.GET.cs-demo-presence",
        "$JS.API.DIRECT.GET.cs-demo-presence",
        "$JS.API.CONSUMER.CREATE.cs-demo-presence.x",
    ];
    User::connect(&folder, &broker, "setup").check(&publish, &["_INBOX.setup.a.b"]);
}

#[test]
fn the_trust_key_publishes_trust_and_receives_nothing_but_answers() {
    let (folder, broker) = realm();
    let publish = ["cs.demo.trust.bundle.7", "cs.demo.trust.get"];
    User::connect(&folder, &broker, "trust").check(&publish, &["_INBOX.trust.a.b"]);
}

#[test]
fn the_accounts_key_gives_the_broker_changed_accounts_and_does_nothing_else() {
    let (folder, broker) = realm();
    let publish = ["$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.A.CLAIMS.LOOKUP"];
    User::connect(&folder, &broker, "accounts").check(&publish, &["_INBOX.accounts.a.b"]);
}

#[test]
fn the_issuer_receives_requests_answers_them_and_does_nothing_else() {
    let (folder, broker) = realm();
    let both = |part: &'static str| {
        let parts = ["renewal", "enrolment"].map(|what| format!("cs.demo.{what}.{part}."));
        SUBJECTS.iter().copied().filter(move |subject| parts.iter().any(|part| subject.starts_with(part)))
    };
    let publish: Vec<&str> = both("answer").chain(["cs.demo.trust.get"]).collect();
    let subscribe: Vec<&str> =
        both("request").chain([RENEWALS, ENROLMENTS, "cs.demo.trust.bundle.7", "_INBOX.issuer.a.b"]).collect();
    User::connect(&folder, &broker, "issuer").check(&publish, &subscribe);
}

#[test]
fn whoever_has_a_token_asks_by_it_hears_the_answers_to_it_and_does_nothing_else() {
    let (folder, broker) = realm();
    let made = folder.run(&["enroll", "token", "worker-7", "-o", "json"]).expect(0).json();
    let token = Token::parse(made["token"].as_str().unwrap()).unwrap();
    let key = KeyPair::from_seed(&token.seed).unwrap();
    let mut user = User::greet(&broker, &key, Some(&token.user_jwt));
    user.check(&[], &[]);
    let id = &token.id;
    assert!(user.may_publish(&format!("cs.demo.enrolment.request.{id}")));
    assert!(user.may_subscribe(&format!("cs.demo.enrolment.answer.{id}.*")));
    assert!(!user.may_subscribe(&format!("cs.demo.enrolment.request.{id}")));
    assert!(!user.may_publish(&format!("cs.demo.enrolment.answer.{id}.key")));
}

/// How many messages the stream holds, and the number of the last.
fn stored(folder: &Folder, broker: &Broker) -> Value {
    let mut setup = User::connect(folder, broker, "setup");
    setup.subscribe("_INBOX.setup.a");
    setup.send("PUB $JS.API.STREAM.INFO.cs-demo-presence _INBOX.setup.a 0\r\n\r\n");
    let mut line = String::new();
    while !line.starts_with("MSG ") {
        line.clear();
        setup.stream.read_line(&mut line).unwrap();
    }
    let length: usize = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    setup.stream.read_exact(&mut body).unwrap();
    let state = &serde_json::from_slice::<Value>(&body).unwrap()["state"];
    json!([state["messages"], state["last_seq"]])
}

#[test]
fn no_connection_key_reaches_the_store_by_the_reply_subject_of_a_request() {
    let (folder, broker) = realm();
    folder.run(&["setup", "--nats-url", &broker.url()]).expect(0);
    for client in ["worker-1", "worker-2"] {
        let mut client_user = User::connect(&folder, &broker, &format!("client-{client}"));
        client_user.send(&format!("PUB cs.demo.event.{client}.presence 2\r\n{{}}\r\n"));
        assert_eq!(client_user.refusals(), [""; 0]);
    }
    let before = stored(&folder, &broker);
    assert_eq!(before, json!([2, 2]));
    let request = r#"{"seq":1,"batch":9,"next_by_subj":"cs.demo.event.*.presence"}"#;
    for seed in ["operator-alice", "client-worker-1", "observer", "trust", "issuer"] {
        let mut user = User::connect(&folder, &broker, seed);
        for service in ["cs.demo.roster.get", "cs.demo.roster.message", "$JS.API.DIRECT.GET.cs-demo-presence"] {
            for reply in [
                "$JS.API.STREAM.PURGE.cs-demo-presence",
                "$JS.API.STREAM.DELETE.cs-demo-presence",
                "$JS.API.STREAM.CREATE.other",
                "cs.demo.event.worker-2.presence",
                "cs.demo.cmd.client.worker-1",
                "$SYS.REQ.SERVER.PING",
                "cs.demo.roster.get",
            ] {
                user.send(&format!("PUB {service} {reply} {}\r\n{request}\r\n", request.len()));
                user.refusals();
            }
        }
    }
    assert_eq!(stored(&folder, &broker), before, "nothing is purged, and no answer is stored");
}

#[test]
fn what_a_stolen_connection_key_has_stored_breaks_no_roster_and_the_rest_of_it_is_read() {
    let (folder, broker) = realm();
    folder.run(&["setup", "--nats-url", &broker.url()]).expect(0);
    let mut thief = User::connect(&folder, &broker, "client-worker-1");
    thief.send(&format!("PUB cs.demo.event.worker-1.presence 70000\r\n{}\r\n", " ".repeat(70_000)));
    assert_eq!(thief.refusals(), [""; 0]);
    assert_eq!(stored(&folder, &broker), json!([0, 0]), "what is too long is not stored");
    thief.send("HPUB cs.demo.event.worker-1.presence 22 24\r\nNATS/1.0\r\nBad\rX: y\r\n\r\n{}\r\n");
    assert_eq!(thief.refusals(), [""; 0]);
    assert_eq!(stored(&folder, &broker), json!([1, 1]));
    let shown = folder.run(&["clients", "-o", "json", "--as", "alice", "--nats-url", &broker.url()]).expect(0).json();
    let incomplete = shown["roster_incomplete"].as_str().unwrap();
    assert!(incomplete.ends_with("is not readable: cs.demo.event.worker-1.presence"), "{incomplete}");
    let removed =
        folder.run(&["clients", "forget", "worker-1", "--as", "alice", "--nats-url", &broker.url()]).expect(0);
    assert!(removed.stderr.contains("worker-1 is removed"), "{removed:#?}");
    assert_eq!(stored(&folder, &broker), json!([0, 1]));
}

#[test]
fn a_user_without_a_jwt_of_the_account_is_not_let_in() {
    let (_folder, broker) = realm();
    let mut stranger = User::greet(&broker, &KeyPair::new_user(), None);
    let mut line = String::new();
    stranger.stream.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "-ERR 'Authorization Violation'");
}

#[test]
fn a_realm_of_another_folder_of_keys_is_refused_with_status_4() {
    let (_folder, broker) = realm();
    let run = Folder::with_keys(&[]).run(&["ping", "worker-1", "--nats-url", &broker.url()]).expect(4);
    let address = broker.url().replace("nats://", "");
    let first = run.stderr.lines().next().unwrap();
    assert!(first.starts_with(&format!("error: the NATS server at {address} refuses us: ")), "{run:#?}");
}

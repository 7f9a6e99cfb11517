//! Which credentials count, and for what.

use countersign_host::clock;
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant};
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::Uuid;
use countersign_protocol::key::SecretKey;
use countersign_protocol::trust::{Issuer, Revoked, Trust, TrustBody};
use countersign_testkit::hostile::FakeBroker;
use countersign_testkit::realm::{full_grant, name};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::{Forger, id_of, names, replies_to, seal};

/// A `terminate` that names a credential, signed with alice's key and sent with that credential.
fn with_credential(forger: &Forger, jti: Uuid, raw: &str) -> Signed {
    let mut body = forger.terminate();
    body["credential"] = json!(jti);
    seal(&forger.key, &forger.protected().to_string(), raw, body.to_string().as_bytes())
}

#[test]
fn a_credential_that_does_not_hold_here_and_now_opens_nothing() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let stranger = SecretKey::from_seed([9; 32]);
    let now = clock::wall().seconds();
    let claims = || forger.claims();
    let issued = |claims: &Claims, issuer: &SecretKey| (claims.jti, Credential::issue(claims, issuer));
    let mut thrown = vec![
        issued(&claims(), &stranger),
        issued(&claims(), &forger.key),
        issued(&Claims { nbf: now - 7_200, exp: now - 3_600, ..claims() }, &forger.issuer),
        issued(&Claims { nbf: now + 3_600, ..claims() }, &forger.issuer),
        issued(&Claims { realm: name("other"), ..claims() }, &forger.issuer),
        issued(&Claims { iss: name("somebody"), ..claims() }, &forger.issuer),
    ];
    // An issuer's header whose `kid` is a path, and one that names another algorithm.
    let payload = BASE64URL_NOPAD.encode(json!(claims()).to_string().as_bytes());
    for (alg, kid) in [("EdDSA", "../../keys/issuer"), ("none", "")] {
        let header = json!({ "alg": alg, "kid": kid, "typ": "countersign-credential" }).to_string();
        let input = format!("{}.{payload}", BASE64URL_NOPAD.encode(header.as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&forger.issuer.sign(input.as_bytes()));
        thrown.push((claims().jti, format!("{input}.{signature}")));
    }
    for (jti, raw) in &thrown {
        forger.send(&with_credential(&forger, *jti, raw));
    }
    // A client's credential is none for commands.
    let worker = std::fs::read_to_string(fleet.keys().path().join("clients/worker-1.jwt")).unwrap();
    forger.send(&with_credential(&forger, claims().jti, worker.trim()));
    let info = fleet.dropped("worker-1", &[("credential", thrown.len() as u64 + 1)]);
    assert_eq!(info["state"], "ready");
    let (jti, raw) = issued(&claims(), &forger.issuer);
    assert_eq!(forger.request(&with_credential(&forger, jti, &raw))["status"], "succeeded", "what holds is obeyed");
}

#[test]
fn a_revoked_credential_is_refused_from_the_next_trust_bundle_on() {
    let (fleet, worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let claims = forger.claims();
    let revoked = forger.identity_of(forger.key.clone(), &claims);
    let command = forger.draft_of(&revoked, "status", json!({})).sign(&revoked);
    assert_eq!(forger.request(&command)["status"], "succeeded");
    worker.signal(crate::process::Signal::TERM);
    worker.wait().exits(0);

    let root = countersign_keys::read_key(&fleet.keys().root_key()).unwrap();
    let body = TrustBody {
        v: countersign_protocol::command::Version,
        realm: name("demo"),
        version: 2,
        expires_at: clock::wall().plus(86_400_000),
        roots: vec![root.public().jwk()],
        threshold: 1,
        issuers: vec![Issuer { name: name("issuer"), jwk: forger.issuer.public().jwk() }],
        revoked: vec![Revoked::Credential { jti: claims.jti, since: clock::wall() }],
    };
    let first = std::fs::read(fleet.keys().trust()).unwrap();
    std::fs::write(fleet.keys().trust(), Trust::sign(&body, &[&root])).unwrap();
    let worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let command = forger.draft_of(&revoked, "terminate", json!({})).sign(&revoked);
    forger.send(&command);
    let info = fleet.dropped("worker-1", &[("credential", 1)]);
    assert_eq!((&info["state"], &info["trust"]["version"]), (&json!("ready"), &json!(2)));

    // The version is remembered: going back to a bundle without the revocation is refused.
    worker.signal(crate::process::Signal::TERM);
    worker.wait().exits(0);
    std::fs::write(fleet.keys().trust(), first).unwrap();
    let refused = fleet.run(&["client", "--name", "worker-1"]).exits(5);
    assert!(refused.stderr.contains("version 2 was accepted before"), "{refused:#?}");
}

#[test]
fn a_broader_credential_of_the_same_key_cannot_be_swapped_in() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let grant = Grant { commands: Commands::Only(names(&["status"])), ..full_grant() };
    let narrow = forger.identity_of(forger.key.clone(), &Claims { grant: Some(grant), ..forger.claims() });
    let command = forger.draft_of(&narrow, "terminate", json!({})).sign(&narrow);
    let broad = forger.identity.credential().raw().clone();
    forger.send(&Signed { credential: broad, ..command.clone() });
    assert_eq!(fleet.dropped("worker-1", &[("credential", 1)])["state"], "ready");
    assert_eq!(forger.request(&command)["error"]["code"], "forbidden", "and its own credential does not permit it");
}

#[test]
fn what_the_grant_does_not_cover_is_forbidden_to_one_and_met_with_silence_among_many() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2"]);
    let _worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let mut observer = fleet.observer();
    let forger = Forger::new(&fleet);
    let nobody = || Grant { clients: Vec::new(), groups: Vec::new(), all: false, ..full_grant() };
    let cases = [
        ("only-pings", Grant { commands: Commands::Only(names(&["ping"])), ..full_grant() }, true),
        ("elsewhere", Grant { clients: names(&["worker-2"]), ..nobody() }, false),
        ("empty", nobody(), false),
        ("nothing", Grant { commands: Commands::Only(Vec::new()), ..full_grant() }, true),
    ];
    let mut silent = 0;
    let mut among_many = Vec::new();
    for (operator, grant, reaches) in cases {
        let colleague = forger.colleague(operator, grant);
        let command = forger.draft_of(&colleague, "terminate", json!({})).sign(&colleague);
        forger.send(&command);
        let id = id_of(&command).to_string();
        let refusal = observer.wait_for(operator, |it| it.json()["command_id"] == *id).json();
        let got = (&refusal["status"], &refusal["error"]["code"], &refusal["to"]);
        assert_eq!(got, (&json!("refused"), &json!("forbidden"), &json!(operator)));
        for (subject, to) in
            [("cs.demo.cmd.all", json!({ "all": true })), ("cs.demo.cmd.group.web", json!({ "group": "web" }))]
        {
            let mut body: Value = json!(forger.draft_of(&colleague, "terminate", json!({})).command);
            body.as_object_mut().unwrap().remove("epoch");
            body["to"] = to;
            body["subject"] = json!(subject);
            let message = colleague.sign(
                countersign_protocol::envelope::MessageType::Command,
                subject.to_owned(),
                body.to_string().into_bytes(),
            );
            forger.send(&message);
            if !reaches {
                silent += 1;
                among_many.push(id_of(&message).to_string());
            }
        }
    }
    let info = fleet.dropped("worker-1", &[("out_of_reach", silent)]);
    assert_eq!(info["state"], "ready");
    let observed = observer.so_far();
    for id in among_many {
        assert_eq!(replies_to(&observed, &id).len(), 0, "silence");
    }
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
}

#[test]
fn what_a_fake_broker_gets_signed_as_its_nonce_is_no_command() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let body = forger.terminate().to_string();
    let protected = BASE64URL_NOPAD.encode(forger.protected().to_string().as_bytes());
    let input = format!("{protected}.{}", BASE64URL_NOPAD.encode(body.as_bytes()));
    let fake = FakeBroker::start(&input);
    let mut command = fleet.command(&["ping", "worker-1", "--timeout", "100ms"]);
    command.env("NATS_URL", fake.url());
    let operator = crate::process::Process::spawn(command);
    let [session, _of_events] = fake.accept_operator();
    let signature = session.connect()["sig"].as_str().expect("it signs the nonce").to_owned();
    drop(session);
    operator.kill();
    let stolen = Signed { signature: format!("{protected}..{signature}"), ..forger.sign_bytes(body.into_bytes()) };
    forger.send(&stolen);
    assert_eq!(fleet.dropped("worker-1", &[("signature", 1)])["state"], "ready", "the connection key is another key");
    // Nor does it pass with a credential that names the connection key, for no issuer vouches for it.
    let claims = Claims { cnf: Confirmation { jwk: SecretKey::from_seed([1; 32]).public().jwk() }, ..forger.claims() };
    let raw = Credential::issue(&claims, &SecretKey::from_seed([1; 32]));
    forger.send(&Signed { credential: raw.into(), ..stolen });
    fleet.dropped("worker-1", &[("signature", 1), ("credential", 1)]);
    fleet.run(&["ping", "worker-1"]).exits(0);
}

#[test]
fn an_operator_whose_commands_may_live_for_7_seconds_needs_no_option_for_that() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let claims = Claims { grant: Some(Grant { max_ttl_ms: 7_000, ..full_grant() }), ..forger.claims() };
    let file = fleet.keys().path().join("operators/alice.jwt");
    std::fs::write(file, Credential::issue(&claims, &forger.issuer)).unwrap();
    fleet.run(&["clients"]).exits(0);
    assert_eq!(fleet.run(&["ping", "@all", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    let refused = fleet.run(&["ping", "worker-1", "--ttl", "8s"]).exits(2);
    assert!(refused.stderr.contains("--ttl 8s is longer than a command of alice may live"), "{refused:#?}");
}

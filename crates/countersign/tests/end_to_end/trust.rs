//! Trust bundles over the bus (section 7): what is revoked ends at every running client within a moment, and stays so.

use std::fs;
use std::path::Path;

use countersign_host::clock;
use countersign_keys::{KeyFolder, load_member, load_trust};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::{Identity, Signed};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::SKEW;
use countersign_protocol::trust::{Trust, TrustBody};
use countersign_testkit::hostile::Peer;
use countersign_testkit::realm::{Draft, name, to};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::process::Process;

/// Waits for a presence of a client that reports a version of the trust bundle.
fn holds(fleet: &Fleet, client: &str, version: u64) -> Value {
    fleet.presence_that(client, &format!("trust {version}"), |body| body["data"]["trust"]["version"] == version)
}

/// A connection of alice's, which hears the replies to the drafts below, and not what goes on to report to whoever started it.
fn replies_to_alice(fleet: &Fleet) -> Peer {
    let mut peer = fleet.peer(&fleet.keys().creds(Role::Operator, &name("alice")));
    peer.subscribe("cs.demo.reply.alice.k3v9q2m8x7c1b5n0.>");
    peer
}

/// What a thief has: the identity of an operator, and a connection.
struct Thief {
    identity: Identity,
    peer: Peer,
    sent: u64,
}

impl Thief {
    fn of_alice(fleet: &Fleet) -> Self {
        let (keys, alice) = (fleet.keys(), name("alice"));
        let trust = load_trust(&keys).unwrap();
        let member = load_member(&keys, Role::Operator, &alice, &trust, clock::wall(), SKEW).unwrap();
        Self { identity: member.identity, peer: replies_to_alice(fleet), sent: 0 }
    }

    fn command(&mut self, client: &str, presence: &Value) -> Signed {
        self.sent += 1;
        let epoch = presence["epoch"].as_str().unwrap().parse().unwrap();
        let draft = Draft::new(&self.identity, to(client), "status", json!({}), self.sent, clock::wall());
        draft.epoch(epoch).sign(&self.identity)
    }
}

#[test]
fn a_revoked_operator_has_no_power_over_any_running_client_and_none_after_their_restarts() {
    let clients = ["worker-1", "worker-2", "worker-3"];
    let fleet = Fleet::of(&clients);
    let workers = clients.map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    let mut thief = Thief::of_alice(&fleet);
    let mut in_use = fleet.spawn(&["calculate", "worker-1", "600", "long", "-o", "ndjson"]);
    in_use.stdout.wait_for("accepted");
    fleet.forget_events();

    let revoked = fleet.run(&["revoke", "alice", "-o", "json"]).exits(0).json();
    assert_eq!(
        (&revoked["version"], &revoked["stored"], &revoked["published"]),
        (&json!(2), &json!(true), &json!([1, 2]))
    );
    let presences = clients.map(|client| holds(&fleet, client, 2));
    in_use.stderr.wait_for("version 2 of the trust bundle does not vouch for alice");
    thief.peer.wait_for_end();
    let ran = fleet.run(&["status", "worker-1"]).exits(5);
    assert!(ran.stderr.contains("its key or its issuer's is revoked"), "{ran:#?}");
    let again = fleet.run(&["revoke", "alice", "-o", "json"]).exits(0).json();
    assert_eq!((&again["version"], &again["new"], &again["published"]), (&json!(2), &json!(false), &json!([])));

    // Even where the broker lets the thief in, as whoever may listen to the replies.
    let (keys, alice) = (fleet.keys(), name("alice"));
    for file in [KeyFolder::key, KeyFolder::credential, KeyFolder::creds, KeyFolder::user_jwt] {
        fs::remove_file(file(&keys, Role::Operator, &alice)).unwrap();
    }
    fleet.run(&["credential", "issue", "operator", "alice"]).exits(0);
    thief.peer = replies_to_alice(&fleet);
    for (client, presence) in clients.iter().zip(&presences) {
        let command = thief.command(client, presence);
        thief.peer.send(&command);
        fleet.dropped(client, &[("credential", 1)]);
    }
    assert_eq!(thief.peer.so_far(), []);

    // Whoever starts knows it before it hears from the broker: the folder of keys is as it was before.
    for worker in workers {
        worker.kill();
    }
    fs::copy(fleet.keys().trust_version(1), fleet.keys().trust()).unwrap();
    fs::remove_dir_all(fleet.keys().path().join("trust")).unwrap();
    for client in clients {
        let process = fleet.client(client);
        let presence = fleet.last_presence(client);
        assert_eq!(presence["data"]["trust"]["version"], 2);
        let command = thief.command(client, &presence);
        thief.peer.send(&command);
        fleet.dropped(client, &[("credential", 1)]);
        drop(process);
    }
    assert_eq!(thief.peer.so_far(), []);
}

#[test]
fn without_a_broker_the_version_is_made_and_publishing_it_later_reaches_everybody() {
    let (fleet, _worker) = Fleet::ready();
    let ran = fleet.run(&["revoke", "alice", "--nats-url", "nats://127.0.0.1:1"]).exits(4);
    assert!(ran.stderr.contains("version 2 of the trust bundle is in this folder only"), "{ran:#?}");
    assert!(ran.stderr.contains("try: `countersign trust publish`"), "{ran:#?}");
    fleet.forget_events();
    let ran = fleet.run(&["trust", "publish"]).exits(0);
    assert!(ran.stdout.contains("version 2 of the trust bundle is published, and stored at the broker\n"), "{ran:#?}");
    holds(&fleet, "worker-1", 2);
    assert_eq!(
        fleet.run(&["trust", "publish"]).exits(0).stdout,
        "the broker has version 2 of the trust bundle already\n"
    );
}

#[test]
fn who_was_away_fetches_every_version_and_a_replaced_root_is_followed_from_the_old_pin_across_restarts() {
    let fleet = Fleet::new();
    let away = copy_of_the_keys(&fleet, "away");
    let jti = |number: u8| format!("5b1c7c9e-0d1f-4a53-8a4e-2f6a1f0b7c{number:02}");
    fleet.run(&["revoke", "--jti", &jti(1)]).exits(0);
    fleet.run(&["trust", "rotate", "root"]).exits(0);
    fleet.run(&["revoke", "--jti", &jti(2)]).exits(0);
    let pins = ["keys", &away].map(|keys| fs::read(fleet.path().join(keys).join("root.thumbprint")).unwrap());
    assert_ne!(pins[0], pins[1]);

    let start = || fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--keys", &away]));
    let worker = start();
    holds(&fleet, "worker-1", 4);
    worker.kill();
    let _worker = start();
    assert_eq!(fleet.last_presence("worker-1")["data"]["trust"]["version"], 4);
    fleet.run(&["start", "worker-1", "--keys", &away]).exits(0);
    let shown = fleet.run(&["trust", "show", "-o", "json", "--keys", &away]).exits(0).json();
    assert_eq!((&shown["version"], shown["revoked"].as_array().unwrap().len()), (&json!(4), 2));
    assert_eq!(shown["clients"], json!([{ "client": "worker-1", "version": 4, "behind": false }]));
    assert_ne!(shown["pin"], shown["roots"][0]);
}

#[test]
fn a_stolen_issuer_is_replaced_and_members_work_again_with_their_new_credentials() {
    let (fleet, mut worker) = Fleet::ready();
    let old = load_trust(&fleet.keys()).unwrap();
    fleet.run(&["trust", "rotate", "issuer", "--revoke-old"]).exits(0);
    worker.stderr.wait_for("the credential of worker-1 is not in force under version 3 of the trust bundle");
    worker.kill();
    let _worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["ping", "worker-1"]).exits(0);
    let new = load_trust(&fleet.keys()).unwrap();
    assert_eq!((old.body().issuers.len(), new.body().issuers.len(), new.body().revoked.len()), (1, 2, 1));
    let shown = fleet.run(&["trust", "show"]).exits(0).stdout;
    assert_eq!(shown.matches(", revoked").count(), 1, "{shown}");
}

#[test]
fn a_lost_root_is_replaced_and_members_take_the_new_pin_from_a_person() {
    let (fleet, worker) = Fleet::ready();
    fs::remove_file(fleet.keys().root_key()).unwrap();
    fleet.run(&["revoke", "worker-1"]).exits(5);
    let ran = fleet.run(&["trust", "rotate", "root", "--lost"]).exits(0);
    assert!(ran.stderr.contains("give every member trust.json and root.thumbprint by hand"), "{ran:#?}");
    worker.kill();
    let _worker = fleet.client("worker-1");
    assert_eq!(fleet.last_presence("worker-1")["data"]["trust"]["version"], 2);
    fleet.forget_events();
    fleet.run(&["revoke", "alice"]).exits(0);
    holds(&fleet, "worker-1", 3);
}

#[test]
fn a_broker_that_publishes_what_it_likes_changes_nothing_and_stops_nothing() {
    let (fleet, _worker) = Fleet::ready();
    let trust = load_trust(&fleet.keys()).unwrap();
    let root = countersign_keys::read_key(&fleet.keys().root_key()).unwrap();
    let (first, stranger) = (trust.bytes().to_vec(), SecretKey::from_seed([77; 32]));
    let body = |version| TrustBody { version, ..trust.body().clone() };
    let own = TrustBody { roots: vec![stranger.public().jwk()], ..body(2) };
    let peer = fleet.peer(&fleet.keys().trust_creds());
    let publish = |version: u64, bytes: &[u8]| {
        peer.publish(&format!("cs.demo.trust.bundle.{version}"), None, None, bytes);
    };
    for bytes in [&first[..], b"", b"{}", &Trust::sign(&body(2), &[&stranger]), &Trust::sign(&own, &[&stranger])] {
        publish(2, bytes);
    }
    publish(900, &Trust::sign(&body(900), &[&root]));
    for _ in 0..2_000 {
        publish(2, &[b' '; 4_096]);
    }
    fleet.run(&["ping", "worker-1", "--timeout", "30s"]).exits(0);
    let status = fleet.status("worker-1");
    assert_eq!(status["trust"]["version"], 1);
    assert!(status["dropped"]["trust"].as_u64() >= Some(5), "{status}");

    // What it stores in the place of a version is in the way of nobody.
    fleet.forget_events();
    let ran = fleet.run(&["revoke", "--jti", "5b1c7c9e-0d1f-4a53-8a4e-2f6a1f0b7c11", "-o", "json"]).exits(0);
    assert_eq!(ran.json()["stored"], true);
    holds(&fleet, "worker-1", 2);
    publish(1, &first);
    publish(2, &first);
    fleet.run(&["ping", "worker-1"]).exits(0);
    assert_eq!(fleet.status("worker-1")["trust"]["version"], 2);
}

#[test]
fn a_version_that_the_clients_disk_does_not_take_is_not_in_force_and_is_once_there_is_room() {
    let (fleet, mut worker) = Fleet::ready();
    let limit = |worker: &Process, size| {
        prlimit(Some(worker.pid()), Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
    };
    limit(&worker, Some(64));
    fleet.run(&["revoke", "--jti", "5b1c7c9e-0d1f-4a53-8a4e-2f6a1f0b7c11"]).exits(0);
    worker.stderr.wait_for("a new trust bundle is not in force, because it cannot be written");
    assert_eq!(fleet.status("worker-1")["trust"]["version"], 1);
    limit(&worker, None);
    holds(&fleet, "worker-1", 2);
    worker.kill();
    let _worker = fleet.client("worker-1");
    assert_eq!(fleet.last_presence("worker-1")["data"]["trust"]["version"], 2);
}

#[test]
fn watch_applies_a_version_as_it_is_published() {
    let fleet = Fleet::new();
    let mut watch = fleet.spawn(&["watch", "--kind", "trust", "--count", "2"]);
    watch.stderr.wait_for("watching");
    fleet.run(&["revoke", "worker-1"]).exits(0);
    watch.stderr.wait_for("version 2 of the trust bundle is in force");
    let ran = watch.wait().exits(0);
    assert!(ran.stdout.contains("version 2, until"), "{ran:#?}");
}

/// A copy of the folder of keys, as a member had it before.
fn copy_of_the_keys(fleet: &Fleet, to: &str) -> String {
    fn copy(from: &Path, to: &Path) {
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if path.is_dir() {
                copy(&path, &to);
            } else {
                fs::copy(path, to).unwrap();
            }
        }
    }
    copy(fleet.keys().path(), &fleet.path().join(to));
    to.to_owned()
}

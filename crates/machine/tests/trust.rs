//! Section 7: a client follows the chain of trust bundles while it runs.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{Worker, outcomes};
use countersign_machine::client::State;
use countersign_machine::trust::{Follower, Taken};
use countersign_protocol::envelope::Reason;
use countersign_protocol::event::EventData;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::reply::Outcome;
use countersign_protocol::trust::{Revoked, StoredTrust, Trust, TrustBody};
use countersign_testkit::realm::{Realm, START};
use serde_json::json;

/// The version of a realm's bundle that revokes these keys, signed by its root.
fn bundle(realm: &Realm, version: u64, revoked: &[Thumbprint]) -> Vec<u8> {
    let revoked = revoked.iter().map(|kid| Revoked::Key { kid: *kid, since: START }).collect();
    Trust::sign(&TrustBody { version, revoked, ..realm.trust.body().clone() }, &[&realm.root])
}

fn arrive(worker: &mut Worker, version: u64, bytes: &[u8]) {
    let step = worker.client.trust_bundle(version, bytes, worker.now);
    worker.apply(step);
}

fn version_of_presence(worker: &Worker) -> u64 {
    let presence = worker.events.iter().rev().find_map(|event| match event.data().unwrap() {
        EventData::Presence(info) => Some(info.trust.version),
        EventData::Job(_) | EventData::Security(_) => None,
    });
    presence.unwrap()
}

#[test]
fn a_revoked_operators_commands_are_dropped_from_the_next_message_on_and_after_a_restart_too() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let before = worker.draft("ping", json!({})).sign(&worker.alice);
    let opened = worker.open(&before).unwrap();
    let revoking = bundle(&worker.realm, 2, &[worker.alice.kid()]);
    arrive(&mut worker, 2, &revoking);
    assert_eq!((worker.client.trust().version(), version_of_presence(&worker)), (2, 2));

    let step = worker.client.receive(opened, worker.now);
    assert_eq!(worker.apply(step).len(), 0, "opened under the bundle before, and not carried out");
    for command in ["ping", "status", "jobs", "stop", "terminate", "start"] {
        let message = worker.draft(command, json!({})).sign(&worker.alice);
        assert_eq!(worker.send(&message).len(), 0, "{command}");
    }
    let known = worker.running[0].key().id;
    let cancel = worker.draft("cancel", json!({ "command_id": known })).sign(&worker.alice);
    assert_eq!(worker.send(&cancel).len(), 0);
    assert_eq!((worker.dropped(Reason::Credential), worker.state(), worker.running.len()), (8, State::Ready, 1));

    worker.kill();
    assert_eq!(worker.client.trust().version(), 2);
    let start = worker.draft("start", json!({})).epoch(worker.client.epoch()).sign(&worker.alice);
    assert_eq!(worker.send(&start).len(), 0);
    assert_eq!(worker.state(), State::Unready);
}

#[test]
fn a_bundle_that_is_refused_is_counted_and_changes_nothing() {
    let mut worker = Worker::ready();
    let (realm, other) = (Realm::new("demo"), Realm::new("plant"));
    let second = bundle(&realm, 2, &[]);
    arrive(&mut worker, 2, &second);
    let forged = Trust::sign(&TrustBody { version: 3, ..realm.trust.body().clone() }, &[&other.root]);
    for (version, bytes) in [
        (1, bundle(&realm, 1, &[])),
        (2, bundle(&realm, 2, &[worker.alice.kid()])),
        (3, forged),
        (3, second.clone()),
        (3, b"{}".to_vec()),
    ] {
        arrive(&mut worker, version, &bytes);
    }
    arrive(&mut worker, 2, &second);
    assert_eq!((worker.client.trust().version(), worker.dropped(Reason::Trust)), (2, 5), "the one in force is no news");
    assert_eq!(worker.run_command("ping", json!({})), Outcome::Succeeded(json!(worker.now.wall.seconds())));
}

#[test]
fn a_version_that_cannot_be_written_is_not_in_force_and_asked_for_again() {
    let mut worker = Worker::ready();
    worker.disk_full = true;
    let second = bundle(&worker.realm, 2, &[worker.alice.kid()]);
    arrive(&mut worker, 2, &second);
    assert_eq!((worker.client.trust().version(), worker.kept.is_none()), (1, true));
    assert!(worker.logged.iter().any(|line| line.contains("cannot be written: no space left")));
    worker.pass(1_000);
    worker.tick();
    assert_eq!(worker.fetched, [2]);
    worker.disk_full = false;
    let step = worker.client.trust_answered(StoredTrust::Bundle(2, second), worker.now);
    worker.apply(step);
    assert_eq!((worker.client.trust().version(), worker.kept.as_ref().unwrap().version()), (2, 2));
}

#[test]
fn what_was_missed_is_fetched_version_by_version_at_a_connection_and_after_a_gap() {
    let mut worker = Worker::ready();
    let realm = Realm::new("demo");
    worker.client.connected(worker.now);
    worker.pass(300);
    worker.tick();
    for version in 2..=9 {
        assert_eq!(worker.fetched.last(), Some(&version));
        let answer = StoredTrust::Bundle(version, bundle(&realm, version, &[]));
        let step = worker.client.trust_answered(answer, worker.now);
        worker.apply(step);
        worker.tick();
    }
    let step = worker.client.trust_answered(StoredTrust::Absent, worker.now);
    worker.apply(step);
    assert_eq!((worker.client.trust().version(), worker.fetched.len()), (9, 9));

    let later = bundle(&realm, 12, &[worker.alice.kid()]);
    arrive(&mut worker, 12, &later);
    assert_eq!(worker.client.trust().version(), 9, "what is between may have replaced the root");
    worker.pass(11_000);
    worker.tick();
    assert_eq!(worker.fetched.last(), Some(&10));
}

#[test]
fn its_own_revoked_credential_is_reported_and_nothing_is_carried_out_under_it() {
    let mut worker = Worker::ready();
    let revoking = bundle(&worker.realm, 2, &[worker.identity.kid()]);
    arrive(&mut worker, 2, &revoking);
    assert!(!worker.client.is_in_force());
    let said = worker.logged.iter().filter(|line| line.contains("not in force under version 2 of the trust bundle"));
    assert_eq!(said.count(), 1);
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    assert!(outcomes(&worker.send(&ping)).is_empty());
}

#[test]
fn the_end_of_the_bundle_is_reported_thirty_days_before() {
    let mut worker = Worker::with(Realm::with_trust_until("demo", START.plus(31 * 86_400_000)), Default::default());
    let warned =
        |worker: &Worker| worker.logged.iter().filter(|line| line.contains("the trust bundle ends on")).count();
    assert_eq!(warned(&worker), 0);
    worker.pass(86_400_001);
    worker.tick();
    worker.tick();
    assert_eq!(warned(&worker), 1);
}

#[test]
fn a_flood_of_bundles_is_bounded_and_what_it_crowds_out_is_asked_for() {
    let realm = Realm::new("demo");
    let mut follower = Follower::new(Arc::clone(&realm.trust), [1; 16]);
    let refused = (0..1_000).filter(|_| matches!(follower.take(2, b"{}", 0), Taken::Refused(_))).count();
    assert_eq!(refused, 4, "verified in one second");
    assert_eq!(follower.take(2, &bundle(&realm, 2, &[]), 0), Taken::TooMany);
    assert_eq!(follower.fetch(250), Some(2));
    for version in 3..1_000 {
        assert_eq!(follower.take(version, b"", 300), Taken::Gap);
    }
    assert_eq!(follower.fetch(10_000), None, "one request in ten seconds, whatever arrives");
    assert_eq!(follower.fetch(10_700), Some(2));
    assert_eq!(follower.answered(StoredTrust::Failed(String::new()), 10_800), None);
    assert_eq!((follower.fetch(70_799), follower.fetch(71_100)), (None, Some(2)), "withheld: it goes on asking");
    let Some(Taken::Next(next)) = follower.answered(StoredTrust::Bundle(2, bundle(&realm, 2, &[])), 71_200) else {
        panic!("it follows")
    };
    assert!(follower.apply(Arc::clone(&next), 71_200) && !follower.apply(next, 71_200));
    assert_eq!(follower.fetch(71_200), Some(3), "and what follows is asked for at once");
}

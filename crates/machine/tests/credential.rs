//! Section 6: a client whose own credential has ended carries out nothing, since it could not prove what came of it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes};
use countersign_machine::client::{Effect, Entry, Level, Limits, State, Step};
use countersign_protocol::credential::{Claims, Credential};
use countersign_protocol::envelope::{Delivery, Reason, Verifier};
use countersign_protocol::event::{Event, EventData, SecurityReason};
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::{RENEWAL_GRACE, SKEW};
use countersign_protocol::renewal::{RenewalAnswer, RenewalRequest};
use countersign_protocol::reply::{Outcome, Status};
use countersign_testkit::realm::{Realm, START, name};
use serde_json::{Value, json};

/// When its credential ends, in milliseconds after [`START`].
const END: i64 = 60_000;

/// A client that is ready, whose credential lasts for a minute.
fn short_lived() -> Worker {
    let realm = Realm::new("demo");
    let identity = realm.client_until("worker-1", &["web"], END / 1_000);
    let mut worker = Worker::with_identity(realm, identity, Limits::default());
    worker.pass(6_000);
    assert_eq!(worker.run_command("start", json!({})), Outcome::Succeeded(json!({ "changed": true })));
    worker
}

/// Lets time pass until so many milliseconds after the start.
fn until(worker: &mut Worker, millis: i64) {
    worker.pass(START.plus(millis).since(worker.now.wall));
}

fn notes(step: &Step) -> Vec<(Level, &str)> {
    let mut notes = Vec::new();
    for effect in &step.effects {
        if let Effect::Log(note) = effect {
            notes.push((note.level, note.text.as_str()));
        }
    }
    notes
}

#[test]
fn no_command_has_an_effect_from_the_end_of_the_clients_own_credential_on() {
    let mut worker = short_lived();
    until(&mut worker, END - 1);
    let honest = worker.draft("ping", json!({})).sign(&worker.alice);
    assert_eq!(worker.send(&honest).len(), 1, "until then it is obeyed");
    until(&mut worker, END);
    let _ = worker.tick();
    let (entries, executed) = (worker.log.len(), worker.executed.clone());
    let id = json!({ "command_id": "019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90" });
    let commands: [(&str, Value); 10] = [
        ("ping", json!({})),
        ("calculate", json!({ "x": 1, "msg": "" })),
        ("calculate", json!({})),
        ("unknown", json!({})),
        ("stop", json!({})),
        ("terminate", json!({})),
        ("cancel", id.clone()),
        ("status", json!({})),
        ("jobs", json!({})),
        ("result", id),
    ];
    for (command, args) in &commands {
        let message = worker.draft(command, args.clone()).sign(&worker.alice);
        assert_eq!(worker.deliver(&message), [], "{command}");
    }
    assert_eq!(worker.deliver(&honest), [], "nor is anything said again from the journal");
    assert_eq!((worker.log.len(), worker.executed.clone()), (entries, executed), "nothing is recorded, nothing runs");
    assert_eq!((worker.state(), worker.exited, worker.client.is_in_force()), (State::Ready, false, false));
    assert_eq!(worker.dropped(Reason::Credential), commands.len() as u64 + 1);
}

#[test]
fn the_end_is_reported_on_time_by_the_log_and_by_an_event_that_receivers_still_take() {
    let mut worker = short_lived();
    // The last third of a minute and a minute before it.
    until(&mut worker, END - (END + 60_000) / 3 + 1);
    let step = worker.client.tick(worker.now);
    let reported = notes(&step);
    assert!(
        matches!(reported.as_slice(), [(Level::Warn, text)] if text.starts_with("the credential of worker-1 ends on 2026-11-24 02:01:00 UTC"))
    );
    let _ = worker.apply(step);
    // It wakes for its end, whatever else is due.
    while worker.client.wake_at() - worker.now.since_boot < START.plus(END).since(worker.now.wall) {
        worker.pass(worker.client.wake_at() - worker.now.since_boot);
        let step = worker.client.tick(worker.now);
        assert_eq!(notes(&step), [], "once");
        let _ = worker.apply(step);
    }
    worker.pass(worker.client.wake_at() - worker.now.since_boot);
    assert_eq!(worker.now.wall, START.plus(END));
    let step = worker.client.tick(worker.now);
    let reported = notes(&step);
    assert!(
        matches!(reported.as_slice(), [(Level::Warn, text)] if text.contains("2026-11-24 02:01:00 UTC")),
        "{reported:?}"
    );
    let event = worker.apply(step).into_iter().find_map(|message| {
        let event = worker.realm.open::<Event>(&message, worker.now.wall.plus(SKEW - 1)).ok()?;
        match event.message().data().unwrap() {
            EventData::Security(security) => Some(security),
            _ => None,
        }
    });
    let security = event.expect("a security event");
    assert_eq!((security.reason, security.count, security.signer), (SecurityReason::Credential, 1, None));
    worker.pass(10_000);
    assert_eq!(notes(&worker.client.tick(worker.now)), [], "once");
}

#[test]
fn a_job_that_ends_after_the_credential_is_on_record_for_who_asks_when_it_is_renewed() {
    let mut worker = short_lived();
    until(&mut worker, END - 1_000);
    let job = worker.calculate(30.0);
    until(&mut worker, END + SKEW);
    assert_eq!(worker.complete(), [], "its reply cannot be verified any more");
    assert!(
        worker
            .log
            .iter()
            .any(|entry| matches!(entry, Entry::Finished(finished) if finished.status == Status::Succeeded))
    );
    worker.identity = worker.realm.client("worker-1", &["web"]);
    let _ = worker.kill();
    let id: Value = serde_json::from_slice::<Value>(&job.body).unwrap()["id"].clone();
    let result = worker.run_command("result", json!({ "command_id": id }));
    let Outcome::Succeeded(recorded) = result else { panic!("{result:?}") };
    assert_eq!((&recorded["status"], &recorded["result"]["msg"]), (&json!("succeeded"), &json!("done")));
}

#[test]
fn a_job_that_ends_within_the_skew_has_its_reply() {
    let mut worker = short_lived();
    until(&mut worker, END - 1_000);
    worker.calculate(1.0);
    until(&mut worker, END + SKEW - 1);
    assert!(matches!(outcomes(&worker.complete()).as_slice(), [Outcome::Succeeded(_)]), "receivers take it still");
}

/// The issuer's answer to the client's latest request: a credential that lives for 2 minutes from now on.
fn answer(worker: &Worker) -> Delivery {
    let (now, realm) = (worker.now.wall, &worker.realm);
    let verifier = Verifier::new(std::sync::Arc::clone(&realm.trust), RENEWAL_GRACE);
    let request = RenewalRequest::open(&worker.asked.last().unwrap().delivery(), &verifier, now).unwrap();
    let claims = Credential::examine(request.credential().raw(), &realm.trust, now, SKEW).unwrap().claims;
    let (from, jti) = (now.seconds(), Uuid::from_random([0x77; 16]));
    let claims = Claims { jti, iat: from, nbf: from, exp: from + 120, ..claims };
    let next = Credential::verify(&Credential::issue(&claims, &realm.issuer), &realm.trust, now, SKEW).unwrap();
    let issuer = (&name("issuer"), &realm.issuer);
    RenewalAnswer::sign(&request, issuer, &next, Ok("jwt".to_owned()), now).delivery()
}

fn take(worker: &mut Worker, delivery: &Delivery) {
    let step = worker.client.renewal_answer(delivery, worker.now);
    let _ = worker.apply(step);
}

#[test]
fn a_client_that_is_renewed_while_it_runs_signs_under_its_new_credential_once_that_is_on_the_disk() {
    let mut worker = short_lived();
    worker.client.connected(worker.now);
    let old = worker.client.credential().jti();
    // Its life is 2 minutes, of which one was over at the start: it asks at once, in a few seconds that chance spreads.
    until(&mut worker, 15_000);
    let _ = worker.tick();
    assert_eq!(worker.asked.len(), 1);
    worker.disk_full = true;
    let first = answer(&worker);
    take(&mut worker, &first);
    assert_eq!(worker.client.credential().jti(), old, "what is not on the disk is not taken");
    assert!(worker.logged.iter().any(|it| it.contains("not renewed: it cannot be written: no space left")));

    worker.disk_full = false;
    until(&mut worker, 25_000);
    let _ = worker.tick();
    assert_eq!(worker.asked.len(), 2, "it asks again");
    take(&mut worker, &first);
    assert_eq!(worker.client.credential().jti(), old, "an answer to another request");
    let second = answer(&worker);
    take(&mut worker, &second);
    assert_ne!(worker.client.credential().jti(), old);
    take(&mut worker, &second);

    until(&mut worker, END + SKEW);
    assert!(worker.client.is_in_force(), "beyond the end of the one before");
    let ping = worker.draft("ping", json!({})).sign(&worker.alice);
    let published = worker.send(&ping);
    assert!(matches!(outcomes(&published).as_slice(), [Outcome::Succeeded(_)]));
    assert_eq!(worker.dropped(Reason::Address) + worker.dropped(Reason::Repeat), 0, "a late answer alarms nobody");
}

#[test]
fn an_answer_that_no_issuer_signed_changes_nothing_and_is_counted() {
    let mut worker = short_lived();
    worker.client.connected(worker.now);
    until(&mut worker, 15_000);
    let _ = worker.tick();
    let (honest, old) = (answer(&worker), worker.client.credential().jti());
    let by_alice = worker.alice.sign(
        countersign_protocol::envelope::MessageType::RenewalAnswer,
        honest.subject().to_owned(),
        honest.body().to_vec(),
    );
    take(&mut worker, &by_alice.delivery());
    assert_eq!((worker.client.credential().jti(), worker.dropped(Reason::Signature)), (old, 1));
    take(&mut worker, &honest);
    assert_ne!(worker.client.credential().jti(), old, "the honest one still counts");
}

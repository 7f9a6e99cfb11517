//! Section 6: a client whose own credential has ended carries out nothing, since it could not prove what came of it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use common::{Worker, outcomes};
use countersign_machine::client::{Effect, Entry, Level, Limits, State, Step};
use countersign_protocol::envelope::Reason;
use countersign_protocol::event::{Event, EventData, SecurityReason};
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Outcome, Status};
use countersign_testkit::realm::{Realm, START};
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
        matches!(reported.as_slice(), [(Level::Warn, text)] if text.contains("expires on 2026-11-24 02:01:00 UTC"))
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

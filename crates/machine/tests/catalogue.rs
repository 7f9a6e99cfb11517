//! The commands of a client: how many jobs each may have, how long they may take to end, and others in their place.

#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

mod common;

use countersign_machine::client::{Catalogue, DataCommand};
use countersign_protocol::digest::Digest;
use countersign_protocol::event::EventData;
use countersign_protocol::reply::{ErrorCode, Outcome};
use serde_json::{Value, json};

use common::{Worker, data_commands, outcomes, refusal};

/// The commands of a worker with other properties of `calculate`, and that under another name as well.
fn catalogue(change: impl Fn(&mut DataCommand)) -> Catalogue {
    let [ping, mut calculate] = data_commands();
    change(&mut calculate);
    let other = DataCommand { name: "other".parse().unwrap(), concurrency: None, grace: 0, ..calculate.clone() };
    Catalogue::new([ping, calculate, other]).unwrap()
}

fn replace(worker: &mut Worker, catalogue: Catalogue) {
    let step = worker.client.replace_catalogue(catalogue, worker.now);
    worker.apply(step);
}

/// What the last presence says of a command.
fn announced(worker: &Worker, name: &str) -> Option<Value> {
    let presences = worker.events.iter().rev().filter_map(|event| match event.data().unwrap() {
        EventData::Presence(info) => Some(info),
        EventData::Job(_) | EventData::Security(_) => None,
    });
    let info = presences.into_iter().next().unwrap();
    info.commands.iter().find(|command| command.name.as_str() == name).map(|command| json!(command))
}

#[test]
fn a_command_at_its_own_limit_is_busy_and_others_are_not_until_one_of_its_jobs_ends() {
    let mut worker = Worker::ready();
    replace(&mut worker, catalogue(|calculate| calculate.concurrency = Some(2)));
    worker.calculate(60.0);
    worker.calculate(60.0);
    let third = worker.draft("calculate", json!({ "x": 1, "msg": "" })).sign(&worker.alice);
    let replies = worker.send(&third);
    assert_eq!(refusal(&replies), ErrorCode::Busy);
    let Outcome::Refused(error) = replies[0].outcome().unwrap() else { panic!("{replies:?}") };
    assert_eq!(error.message, "`calculate` runs 2 times already, which is its limit");
    assert_eq!(worker.run_command("other", json!({ "x": 1, "msg": "" })), Outcome::Accepted);
    assert!(matches!(worker.run_command("ping", json!({})), Outcome::Succeeded(_)));
    worker.complete();
    assert_eq!(outcomes(&worker.send(&third)), [Outcome::Accepted], "busy spoke of one delivery only");
}

#[test]
fn a_job_of_a_command_that_is_gone_ends_as_it_began_and_the_next_is_unknown() {
    let mut worker = Worker::ready();
    worker.calculate(60.0);
    let [ping, _] = data_commands();
    replace(&mut worker, Catalogue::new([ping]).unwrap());
    assert_eq!(announced(&worker, "calculate"), None);
    let next = worker.draft("calculate", json!({ "x": 1, "msg": "" })).sign(&worker.alice);
    assert_eq!(refusal(&worker.send(&next)), ErrorCode::UnknownCommand);
    let expected = json!({ "x": 60.0, "msg": "done" });
    assert_eq!(outcomes(&worker.complete()), [Outcome::Succeeded(expected)]);
}

#[test]
fn terminate_waits_for_the_longest_grace_also_of_commands_that_were_replaced() {
    let mut worker = Worker::ready();
    replace(&mut worker, catalogue(|calculate| calculate.grace = 30_000));
    worker.calculate(60.0);
    replace(&mut worker, catalogue(|_| ()));
    let _never_cancelled = worker.client.terminate(worker.now);
    worker.pass(31_900);
    worker.tick();
    assert!(!worker.exited);
    worker.pass(200);
    worker.tick();
    assert!(worker.exited);
}

#[test]
fn a_definition_of_another_program_is_announced_where_the_schemas_are_the_same() {
    let of = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        catalogue(move |calculate| calculate.definition = Some(digest))
    };
    let mut worker = Worker::ready();
    replace(&mut worker, of("program = [\"/bin/true\"]"));
    let before = announced(&worker, "calculate").unwrap();
    replace(&mut worker, of("program = [\"/bin/false\"]"));
    let after = announced(&worker, "calculate").unwrap();
    assert_eq!((&before["args"], &before["result"]), (&after["args"], &after["result"]));
    assert_ne!(before["definition"], after["definition"]);
    assert_eq!(announced(&worker, "ping").unwrap().get("definition"), None);
    assert_ne!(of("one"), of("another"));
}

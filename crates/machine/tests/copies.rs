//! Copies of a command, opened as the client's shell opens what arrives: most are dropped before they are parsed, and the
//! client answers as if all were opened (sections 5 and 8).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use countersign_protocol::command::Command;
use countersign_protocol::envelope::{Reason, Signed, Verifier};
use countersign_protocol::reply::{ErrorCode, Outcome, Reply};
use serde_json::json;

use common::{Worker, outcomes};

/// Delivers so many copies at one moment, and gives the replies.
fn deliver(worker: &mut Worker, verifier: &Verifier, message: &Signed, copies: usize) -> Vec<Reply> {
    let mut published = Vec::new();
    for _ in 0..copies {
        let step = match verifier.open::<Command>(&message.delivery(), worker.client.time(worker.now)) {
            Ok(command) => worker.client.receive(command, worker.now),
            Err(rejected) => worker.client.rejected(&rejected, worker.now),
        };
        published.extend(worker.apply(step));
    }
    worker.replies(&published)
}

#[test]
fn copies_that_are_not_parsed_change_neither_what_runs_nor_what_is_answered_nor_what_is_counted() {
    let (mut sparing, mut opening) = (Worker::ready(), Worker::ready());
    for (worker, spares) in [(&mut sparing, true), (&mut opening, false)] {
        let verifier = worker.realm.verifier();
        let verifier = if spares { verifier.sparing_copies() } else { verifier };
        let message = worker.draft("calculate", json!({ "x": 0, "msg": "once" })).sign(&worker.alice);
        let accepted = deliver(worker, &verifier, &message, 1);
        assert_eq!(outcomes(&accepted), [Outcome::Accepted]);
        let done = worker.complete();
        worker.pass(2_000);
        for second in 1..=3 {
            let replies = deliver(worker, &verifier, &message, 500);
            assert_eq!(replies, vec![done[0].clone(); 10], "in second {second}");
            assert_eq!(worker.dropped(Reason::Repeat), 490 * second);
            worker.pass(1_000);
        }
        assert_eq!(worker.executed.values().sum::<u32>(), 1);
    }
}

#[test]
fn a_copy_of_what_was_refused_for_one_delivery_only_may_still_run() {
    let mut worker = Worker::ready();
    let verifier = worker.realm.verifier().sparing_copies();
    worker.limits.jobs = 1;
    let identity = worker.identity.clone();
    let mut worker = Worker::with_identity(worker.realm, identity, worker.limits);
    worker.pass(6_000);
    worker.run_command("start", json!({}));
    worker.calculate(5.0);
    let message = worker.draft("calculate", json!({ "x": 0, "msg": "later" })).sign(&worker.alice);
    let refused = deliver(&mut worker, &verifier, &message, 500);
    assert_eq!(refused.len(), 10);
    assert!(refused.iter().all(|reply| reply.error.as_ref().unwrap().code == ErrorCode::Busy));
    worker.complete();
    worker.pass(1_000);
    assert_eq!(outcomes(&deliver(&mut worker, &verifier, &message, 1)), [Outcome::Accepted]);
}

//! More messages than a client can handle.

use std::iter::repeat_n;

use countersign_protocol::envelope::Signed;
use serde_json::json;

use crate::fleet::Fleet;
use crate::forge::{Forger, commands, id_of, replies_to};

/// What a client may come to hold at most, in bytes: its bounded queues, and a debug build around them.
const MEMORY: u64 = 256 * 1024 * 1024;

#[test]
fn duplicates_of_a_command_with_a_large_reply_are_answered_a_few_times_a_second_and_counted() {
    let (fleet, _worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let jobs: Vec<Signed> = (0..60).map(|_| forger.command("calculate", json!({ "x": 0, "msg": "" }))).collect();
    forger.peer.borrow().send_all(&jobs);
    forger.peer.borrow_mut().flush();
    let command = forger.command("jobs", json!({}));
    let reply = forger.request(&command);
    assert_eq!(reply["result"]["jobs"].as_array().unwrap().len(), 60);
    assert!(reply.to_string().len() > 10 * command.body.len());
    let mut observer = fleet.observer();
    forger.peer.borrow().send_all(repeat_n(&command, 500));
    forger.peer.borrow_mut().flush();
    let repeated = fleet.status("worker-1")["dropped"]["repeat"].as_u64().unwrap();
    let observed = observer.so_far();
    let answers = replies_to(&observed, &id_of(&command).to_string()).len() as u64;
    assert_eq!(answers + repeated, 500, "each is answered or counted");
    assert!(answers < 250, "{answers} large replies to 500 small queries");
    fleet.run(&["ping", "worker-1"]).exits(0);
}

#[test]
fn every_other_command_is_refused_with_a_reply_and_a_flood_of_them_does_not_keep_terminate_from_being_answered() {
    let (fleet, worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let mut observer = fleet.observer();
    let wrong_epoch: Vec<Signed> = (0..1_000)
        .map(|_| {
            let epoch = countersign_protocol::id::Uuid::from_random([9; 16]);
            forger.draft("calculate", json!({ "x": 600, "msg": "never" })).epoch(epoch).sign(&forger.identity)
        })
        .collect();
    let many_errors = json!({ "x": 0, "msg": "", "more": (0..14_000).collect::<Vec<_>>() });
    let invalid = forger.command("calculate", many_errors);
    forger.peer.borrow().send_all(&wrong_epoch);
    forger.send(&invalid);
    let refusal = forger.reply_to(&invalid);
    assert!(refusal.body.len() <= 4_096, "{} bytes", refusal.body.len());
    assert_eq!(refusal.json()["error"]["code"], "invalid_args");
    let repeated = fleet.status("worker-1")["dropped"]["repeat"].as_u64().unwrap_or(0);
    let refused = observer.so_far().iter().filter(|it| it.json()["error"]["code"] == "wrong_epoch").count() as u64;
    assert_eq!((refused, repeated), (1_000, 0), "no honest command is left without its refusal");
    assert_eq!(fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    worker.wait().exits(0);
}

#[test]
fn jobs_beyond_the_slots_are_refused_as_busy_and_terminate_cancels_all_that_run() {
    let (fleet, worker) = Fleet::ready();
    let forger = Forger::new(&fleet);
    let commands: Vec<Signed> =
        (0..80).map(|_| forger.command("calculate", json!({ "x": 600, "msg": "never" }))).collect();
    forger.peer.borrow().send_all(&commands);
    forger.peer.borrow_mut().flush();
    let info = fleet.status("worker-1");
    assert_eq!(info["jobs"], json!({ "running": 64, "limit": 64 }));
    let terminated = fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(0);
    assert_eq!(terminated.of("worker-1")["result"], json!({ "cancelled": 64 }));
    assert_eq!(worker.wait().exits(0).stdout, "");
}

#[test]
fn a_flood_of_forged_commands_with_a_genuine_credential_leaves_the_client_working() {
    // More than a client queues.
    const FLOOD: usize = 20_000;
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    fleet.run(&["calculate", "worker-1", "0", "genuine"]).exits(0);
    let genuine = commands(&observer.so_far(), "worker-1", "calculate")[0].signed();
    // The observer would be flooded, too.
    drop(observer);
    let forger = Forger::new(&fleet);
    // Other bytes under the old signature, and the credential from the wire: the costliest forgery to detect.
    let mut body = genuine.body.to_vec();
    body.push(b' ');
    let forged = Signed { body: body.into(), ..genuine };
    forger.peer.borrow().send_all(repeat_n(&forged, FLOOD));
    // Shed, refused, or lost with a connection that the broker closed: an honest query is answered nevertheless.
    fleet.run(&["status", "worker-1", "--retry", "--timeout", "60s", "-o", "json"]).exits(0);
    let info = fleet.status("worker-1");
    let dropped = info["dropped"].as_object().unwrap();
    assert!(dropped.keys().all(|reason| ["signature", "overload"].contains(&reason.as_str())), "{info}");
    let counted: u64 = dropped.values().map(|count| count.as_u64().unwrap()).sum();
    assert!((1..=FLOOD as u64).contains(&counted), "{info}");
    assert_eq!(info["state"], "ready");
    assert!(worker.peak_memory() < MEMORY, "{} bytes", worker.peak_memory());
    assert_eq!(forger.request(&forger.command("ping", json!({})))["status"], "succeeded");
    assert_eq!(worker.printed(), "genuine\n");
}

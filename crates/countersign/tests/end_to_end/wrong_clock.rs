//! Clients whose journals contain a later time: an earlier run had a clock that was ahead.

use std::fs::OpenOptions;
use std::io::Write;

use countersign_host::clock;
use countersign_protocol::time::Millis;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::groups::verdicts;

const HOUR: i64 = 3_600_000;

/// The checksum of an entry of the journal: CRC-32 as in gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Leaves a journal like a run whose clock was this far ahead at its end.
fn mark_ahead(fleet: &Fleet, client: &str, ahead: i64) -> Millis {
    fleet.client(client).printed();
    let at = clock::wall().plus(ahead);
    let entry = serde_json::to_vec(&json!({ "mark": { "at": at } })).unwrap();
    let mut journal = OpenOptions::new().append(true).open(fleet.state_folder(client).join("journal")).unwrap();
    let length = u32::try_from(entry.len()).unwrap();
    journal.write_all(&[&length.to_le_bytes()[..], &crc32(&entry).to_le_bytes(), &entry].concat()).unwrap();
    at
}

/// The entry of a client in the roster.
fn entry(fleet: &Fleet, client: &str) -> Value {
    let clients = fleet.run(&["clients", "-o", "json"]).exits(0).json();
    let entries = clients["clients"].as_array().unwrap();
    entries.iter().find(|entry| entry["client"] == client).unwrap().clone()
}

#[test]
fn a_client_whose_clock_was_two_hours_ahead_recovers_at_its_next_start_and_is_everywhere_it_belongs() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2"]);
    mark_ahead(&fleet, "worker-1", 2 * HOUR);
    let _other = fleet.client("worker-2");
    for restart in [false, true] {
        fleet.forget_events();
        let mut worker = fleet.spawn(&["client", "--name", "worker-1"]);
        if !restart {
            let line = worker.stderr.wait_for("the clock was set back by ");
            assert!(line.contains("a new epoch begins") && line.contains("refused as `starting` for 2 h"), "{line}");
            let event = fleet.event("worker-1", "security");
            assert_eq!(event["data"], json!({ "reason": "clock", "count": 1 }));
        }
        fleet.presence("worker-1", "unready");
        // Named, it obeys at once; in the roster it is like any other.
        let ran = fleet.run(&["start", "worker-1", "-o", "json"]).exits(0);
        assert_eq!(verdicts(&ran), ["worker-1 succeeded"]);
        fleet.run(&["ping", "worker-1"]).exits(0);
        assert_eq!(entry(&fleet, "worker-1")["state"], "ready");
        // To all it is refused as `starting` for two hours, and sent again under its epoch.
        fleet.run(&["start", "worker-2"]).exits(0);
        for audience in ["@all", "@web"] {
            let ran = fleet.run(&["ping", audience, "-o", "json"]).exits(0);
            let expected = ["worker-1 succeeded", "worker-2 succeeded"];
            assert_eq!(verdicts(&ran), expected[..if audience == "@all" { 2 } else { 1 }]);
        }
        assert_eq!(fleet.status("worker-1")["dropped"], json!({}), "nothing is lost in silence");
        worker.printed();
    }
}

#[test]
fn a_client_whose_clock_was_a_hundred_days_ahead_is_terminated_like_any_other() {
    let fleet = Fleet::new();
    mark_ahead(&fleet, "worker-1", 2_400 * HOUR);
    let mut worker = fleet.client("worker-1");
    worker.stderr.wait_for("the clock was set back by 99 days 23 h");
    assert_eq!(fleet.run(&["terminate", "worker-1", "-o", "json"]).exits(0).verdict("worker-1"), "succeeded");
    worker.wait().exits(0);
    assert_eq!(entry(&fleet, "worker-1")["state"], "terminated");
}

//! What a client logs of its commands, and what its jobs print.

use crate::fleet::Fleet;

#[test]
fn the_log_of_a_client_says_who_gave_which_command_and_its_verdict_and_prefixed_output_does_too() {
    let fleet = Fleet::new();
    let mut worker = fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--prefix-output"]));
    fleet.run(&["start", "worker-1"]).exits(0);
    let ran = fleet.run(&["calculate", "worker-1", "0", "a secret", "-o", "json"]).exits(0);
    let id = ran.json()["command_id"].as_str().unwrap().to_owned();
    fleet.run(&["status", "worker-1"]).exits(0);
    worker.stdout.wait_for(&format!("worker-1/calculate/{id}: a secret\n"));
    for what in ["started", "succeeded"] {
        let line = worker.stderr.wait_for(&format!("calculate of alice: {what} ({id})\n"));
        assert!(line.contains("INFO"), "{line}");
    }
    worker.signal(crate::process::Signal::TERM);
    let ran = worker.wait().exits(0);
    assert!(ran.stderr.contains("start of alice: succeeded"), "{ran:#?}");
    assert!(!ran.stderr.contains("status of alice") && !ran.stderr.contains("a secret"), "{ran:#?}");
}

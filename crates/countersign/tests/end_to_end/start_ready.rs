//! `countersign client --start-ready`: a reboot of the fleet needs nobody, and nothing from before it runs.

use serde_json::json;

use crate::fleet::Fleet;
use crate::forge::Forger;

#[test]
fn a_client_that_starts_ready_runs_data_commands_after_every_start_and_none_from_before() {
    let fleet = Fleet::new();
    let worker = fleet.spawn(&["client", "--name", "worker-1", "--start-ready"]);
    fleet.presence("worker-1", "ready");
    fleet.run(&["ping", "worker-1"]).exits(0);
    let forger = Forger::new(&fleet);
    let command = forger.command("calculate", json!({ "x": 0, "msg": "once" }));
    forger.send(&command);
    assert_eq!(forger.reply_to(&command).json()["status"], "succeeded");
    fleet.run(&["stop", "worker-1"]).exits(0);
    worker.kill();

    // By its variable this time.
    let mut again = fleet.command(&["client", "--name", "worker-1"]);
    again.env("COUNTERSIGN_START_READY", "1");
    fleet.forget_events();
    let worker = crate::process::Process::spawn(again);
    fleet.presence("worker-1", "ready");
    forger.send(&command);
    fleet.run(&["calculate", "worker-1", "0", "another"]).exits(0);
    fleet.run(&["terminate", "worker-1"]).exits(0);
    assert_eq!(worker.wait().exits(0).stdout, "another\n");

    let mut unready = fleet.command(&["client", "--name", "worker-1"]);
    unready.env("COUNTERSIGN_START_READY", "0");
    let _worker = fleet.client_as("worker-1", unready);
    assert_eq!(fleet.run(&["ping", "worker-1", "-o", "json"]).exits(1).verdict("worker-1"), "refused not_ready");
}

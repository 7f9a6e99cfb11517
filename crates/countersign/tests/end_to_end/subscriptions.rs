//! Subscriptions that the broker refuses at first, because its list of users was not the right one yet.

use std::fs;

use crate::fleet::Fleet;
use crate::groups::verdicts;
use crate::process::Signal;

#[test]
fn a_client_is_not_healthy_until_the_broker_accepts_every_subscription_that_it_refused_at_first() {
    let fleet = Fleet::of(&["worker-1:canary", "worker-2:canary"]);
    let users = fleet.keys().users();
    let whole = fs::read_to_string(&users).unwrap();
    // worker-1 may subscribe to its own subject and to nothing else.
    let own = "\"cs.demo.cmd.client.worker-1\"";
    let (before, after) = whole.split_once(own).unwrap();
    let (list, rest) = after.split_once(']').unwrap();
    assert!(list.contains("cs.demo.cmd.all") && list.contains("cs.demo.cmd.group.canary"), "{list}");
    fs::write(&users, format!("{before}{own}]{rest}")).unwrap();
    fleet.broker.reload();
    let _other = fleet.client("worker-2");
    let mut worker =
        fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--health", "health"]));
    for subject in ["cs.demo.cmd.all", "cs.demo.cmd.group.canary"] {
        let line = worker.stderr.wait_for(&format!("Subscription to \"{subject}\""));
        assert!(line.contains("the broker does not allow it"), "{line}");
    }
    let health = || fleet.run(&["health", "--health", "health"]);
    health().exits(1);
    // It obeys what reaches it; for what does not, the verdict is `no_reply`.
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    let ran = fleet.run(&["ping", "@all", "--timeout", "1s", "-o", "json"]).exits(3);
    assert_eq!(ran.verdict("worker-1"), "no_reply");
    health().exits(1);

    fs::write(&users, whole).unwrap();
    fleet.broker.reload();
    for subject in ["cs.demo.cmd.all", "cs.demo.cmd.group.canary"] {
        worker.stderr.wait_for(&format!("the broker now allows what it refused: {subject}"));
    }
    for audience in ["@all", "@canary"] {
        let ran = fleet.run(&["ping", audience, "-o", "json"]).exits(0);
        assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
    }
    health().exits(0);
    let log = worker.stderr.so_far();
    assert_eq!(log.matches("the broker does not allow it").count(), 2, "each is reported once: {log}");
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
}

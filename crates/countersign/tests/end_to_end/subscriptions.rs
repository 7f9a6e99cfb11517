//! Subscriptions that the broker refuses, because the credentials of a client do not allow them.

use std::fs;

use countersign_protocol::credential::Role;
use countersign_testkit::realm::name;

use crate::fleet::Fleet;
use crate::groups::verdicts;
use crate::process::Signal;

#[test]
fn a_client_is_not_healthy_until_it_has_credentials_that_allow_every_subscription_and_needs_no_restart_for_them() {
    let mut fleet = Fleet::of(&["worker-1:canary", "worker-2:canary"]);
    let creds = fleet.keys().creds(Role::Client, &name("worker-1"));
    let whole = fs::read_to_string(&creds).unwrap();
    // Of commands, worker-1 may subscribe to its own subject and to no other.
    let publish = ["cs.demo.reply.*.*.*.worker-1", "cs.demo.event.worker-1.*", "cs.demo.trust.get"];
    let answers = "cs.demo.renewal.answer.client.worker-1";
    let subscribe = ["cs.demo.cmd.client.worker-1", "cs.demo.trust.bundle.*", answers, "_INBOX.client-worker-1.>"];
    fleet.allow(&creds, &publish, &subscribe);
    let _other = fleet.client("worker-2");
    let mut worker =
        fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--health", "health"]));
    for subject in ["cs.demo.cmd.all", "cs.demo.cmd.group.canary"] {
        let line = worker.stderr.wait_for(&format!("Subscription to \"{subject}\""));
        assert!(line.contains("the broker does not allow it"), "{line}");
    }
    // It obeys what reaches it; for what does not, the verdict is `no_reply`.
    fleet.run(&["health", "--health", "health"]).exits(1);
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    let ran = fleet.run(&["ping", "@all", "--timeout", "1s", "-o", "json"]).exits(3);
    assert_eq!(ran.verdict("worker-1"), "no_reply");
    fleet.run(&["health", "--health", "health"]).exits(1);
    let log = worker.stderr.so_far();
    assert_eq!(log.matches("the broker does not allow it").count(), 2, "each is reported once: {log}");

    fs::write(&creds, whole).unwrap();
    fleet.broker.kill();
    fleet.broker.restart();
    // The first of them may wait for its own connection.
    fleet.run(&["ping", "worker-1", "worker-2", "--retry"]).exits(0);
    for audience in ["@all", "@canary"] {
        let ran = fleet.run(&["ping", audience, "-o", "json"]).exits(0);
        assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
    }
    fleet.run(&["health", "--health", "health"]).exits(0);
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
}

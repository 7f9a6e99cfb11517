//! A broker that is three servers: what one of them stores, the others have too.

use std::time::Instant;

use countersign_testkit::broker::{Broker, TIMEOUT};
use serde_json::Value;

use crate::fleet::Fleet;
use crate::groups::verdicts;
use crate::process::{Process, Ran};

#[test]
fn setup_stores_the_presences_on_three_servers_and_the_loss_of_one_hides_no_client() {
    let fleet = Fleet::without_stream(&["worker-1:web", "worker-2"]);
    let mut brokers = Broker::cluster(&fleet.path().join("nats.conf"));
    let all = brokers.each_ref().map(Broker::url);
    let spawn = |url: &str, arguments: &[&str]| {
        let mut command = fleet.command(arguments);
        command.env("NATS_URL", url);
        Process::spawn(command)
    };
    let run = |arguments: &[&str]| spawn(&all.join(","), arguments).wait();
    let made = run(&["setup"]).exits(0);
    let kept = |stream| format!("note: the stream {stream} is as it should be, kept on 3 servers\n");
    assert_eq!(made.stderr, ["cs-demo-presence", "cs-demo-trust"].map(kept).concat());

    let _workers = ["worker-1", "worker-2"].map(|client| {
        let mut worker = spawn(&all[1..].join(","), &["client", "--name", client]);
        worker.stderr.wait_for("connected\n");
        worker
    });
    let count = |ran: &Ran| {
        let clients = ran.json()["clients"].as_array().unwrap().clone();
        clients.iter().filter(|entry| entry["state"] != Value::Null).count()
    };
    // A cluster takes a moment until each of its servers knows which one leads a stream, and until it has a leader again. A
    // command connects to any of them.
    let both_are_listed_by = |servers: &[String]| {
        let deadline = Instant::now() + TIMEOUT;
        for server in servers {
            loop {
                let ran = spawn(server, &["clients", "-o", "json"]).wait();
                if ran.code == Some(0) && count(&ran) == 2 {
                    break;
                }
                assert!(Instant::now() < deadline, "the presences are not stored: {ran:#?}");
            }
        }
    };
    both_are_listed_by(&all);
    assert_eq!(verdicts(&run(&["start", "@all", "-o", "json"]).exits(0)), ["worker-1 succeeded", "worker-2 succeeded"]);

    brokers[0].kill();
    both_are_listed_by(&all[1..]);
    for (audience, expected) in [("@all", 2), ("@web", 1)] {
        let ran = run(&["ping", audience, "-o", "json"]).exits(0);
        assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"][..expected]);
    }
}

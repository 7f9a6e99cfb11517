//! What the broker stores of the clients' presence.

use countersign_protocol::credential::Role;
use countersign_testkit::hostile::{Message, Peer};
use countersign_testkit::realm::name;
use serde_json::{Value, json};

use crate::fake::FakeWorker;
use crate::fleet::Fleet;

/// Sends the broker a request, and waits for its reply.
fn request(peer: &mut Peer, subject: &str, inbox: &str) -> Message {
    peer.publish(subject, Some(inbox), None, b"");
    peer.wait_for(subject, |it| it.subject == inbox)
}

/// How many messages the stream holds, which the setup key may request.
pub fn stored_messages(fleet: &Fleet) -> u64 {
    let mut setup = fleet.peer(&fleet.keys().setup_creds());
    setup.subscribe("_INBOX.setup.test");
    let info = request(&mut setup, "$JS.API.STREAM.INFO.cs-demo-presence", "_INBOX.setup.test").json();
    info["state"]["messages"].as_u64().unwrap_or_else(|| panic!("{info}"))
}

/// The last presence of a client, as an operator requests it.
fn stored_presence(fleet: &Fleet, client: &str) -> Value {
    let mut alice = fleet.peer(&fleet.keys().creds(Role::Operator, &name("alice")));
    alice.subscribe("_INBOX.operator-alice.test");
    let subject = format!("cs.demo.event.{client}.presence");
    let request = json!({ "last_by_subj": subject }).to_string();
    alice.publish("cs.demo.roster.get", Some("_INBOX.operator-alice.test"), None, request.as_bytes());
    alice.wait_for(&subject, |it| it.subject == "_INBOX.operator-alice.test").json()
}

#[test]
fn the_stream_holds_the_last_presence_of_each_client_and_setup_twice_is_harmless() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let workers = [fleet.client("worker-1"), fleet.client("worker-2")];
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["stop", "worker-1"]).exits(0);
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    assert_eq!(stored_messages(&fleet), 2);
    let before = stored_presence(&fleet, "worker-1");
    assert_eq!((&before["from"], &before["data"]["state"]), (&json!("worker-1"), &json!("ready")));

    let made = fleet.run(&["setup", "-o", "json"]).exits(0).json();
    let stream = |name: &str| json!({ "stream": name, "replicas": 1, "has_fewer": null });
    assert_eq!(made, json!([stream("cs-demo-presence"), stream("cs-demo-trust")]));
    assert_eq!(stored_messages(&fleet), 2);
    assert!(stored_presence(&fleet, "worker-1")["n"].as_u64() >= before["n"].as_u64(), "nothing is lost");

    fleet.run(&["terminate", "worker-2"]).exits(0);
    assert_eq!(
        stored_presence(&fleet, "worker-2")["data"]["state"],
        "terminated",
        "the last presence of a client stays"
    );
    assert_eq!(stored_messages(&fleet), 2);
    drop(workers);
}

#[test]
fn the_doctor_finds_the_client_whose_clock_is_ahead() {
    let fleet = Fleet::new();
    let mut worker = FakeWorker::new(&fleet, "worker-1");
    worker.present(&fleet, -3_600_000);
    let found = fleet.run(&["doctor", "-o", "json"]).exits(2).json();
    let of_clocks = found["findings"].as_array().unwrap().iter().filter(|it| it["check"] == "clock");
    let clock = of_clocks.filter(|it| it["level"] == "broken").map(|it| it["what"].as_str().unwrap()).next().unwrap();
    assert!(clock.starts_with("has another clock than this machine: worker-1, "), "{clock}");
    assert!(clock.ends_with(" ahead"), "{clock}");
}

#[test]
fn the_stream_acknowledges_nothing_and_only_the_setup_key_may_change_it() {
    let (fleet, _worker) = Fleet::ready();
    let mut observer = fleet.observer();
    fleet.run(&["stop", "worker-1"]).exits(0);
    let is_it = |it: &Message| it.subject == "cs.demo.event.worker-1.presence";
    let presence = observer.wait_for("a presence", is_it);
    let mut worker = fleet.peer(&fleet.keys().creds(Role::Client, &name("worker-1")));
    // An acknowledgement would go where an operator receives replies.
    let reply = "cs.demo.reply.alice.k3v9q2m8x7c1b5n0.x.worker-1";
    worker.publish(&presence.subject, Some(reply), Some(&presence.headers), &presence.body);
    worker.flush();
    assert_eq!(observer.wait_for("the same", is_it).signed(), presence.signed());
    assert_eq!(stored_messages(&fleet), 1, "it is in the stream");
    assert!(observer.so_far().iter().all(|message| message.subject != reply));

    for seed in [
        fleet.keys().creds(Role::Operator, &name("alice")),
        fleet.keys().creds(Role::Client, &name("worker-1")),
        fleet.keys().observer_creds(),
    ] {
        let mut peer = fleet.peer(&seed);
        for verb in ["DELETE", "PURGE", "UPDATE", "INFO"] {
            peer.publish(&format!("$JS.API.STREAM.{verb}.cs-demo-presence"), None, None, b"");
        }
        let errors = peer.errors();
        let denied = errors.iter().filter(|error| error.contains("Permissions Violation for Publish")).count();
        assert_eq!(denied, 4, "{errors:?}");
    }
    assert_eq!(stored_messages(&fleet), 1);
}

#[test]
fn a_new_epoch_is_learnt_from_the_stream_and_what_is_sent_names_it() {
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    fleet.run(&["ping", "worker-1"]).exits(0);
    let first = observer.wait_for("the ping", |it| it.json()["command"]["name"] == "ping").json()["epoch"].clone();
    assert!(first.is_string());
    worker.kill();
    std::fs::remove_dir_all(fleet.state_folder("worker-1")).unwrap();
    let _worker = fleet.client("worker-1");
    fleet.run(&["start", "worker-1"]).exits(0);
    let sent = observer.wait_for("the start", |it| it.json()["command"]["name"] == "start").json();
    assert!(sent["epoch"].is_string() && sent["epoch"] != first, "{sent}");
}

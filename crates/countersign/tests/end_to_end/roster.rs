//! The roster: what it shows of each client is what that client signed last, whatever happens.

use std::fs;

use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Signed;
use countersign_protocol::event::EventKind;
use countersign_protocol::reply::{Outcome, State};
use countersign_testkit::hostile::Message;
use countersign_testkit::realm::name;
use serde_json::{Value, json};

use crate::fake::{FakeWorker, HOSTILE, harmless, unleash, wait_until_stored};
use crate::fleet::Fleet;
use crate::groups::{sent, verdicts};
use crate::process::Signal;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SILENT: i64 = 31_000;

/// The table of `countersign clients`, cell by cell, and `ago` for every time since.
#[track_caller]
fn table(fleet: &Fleet) -> Vec<Vec<String>> {
    let ran = fleet.run(&["clients"]).exits(0);
    assert_eq!(ran.stderr, "");
    let cell = |text: &str| if text.ends_with(" ago") { "ago".to_owned() } else { text.to_owned() };
    let row = |line: &str| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).map(cell).collect();
    ran.stdout.lines().map(row).collect()
}

/// The entry of one client in `clients -o json`.
#[track_caller]
fn entry(fleet: &Fleet, client: &str) -> Value {
    let ran = fleet.run(&["clients", "-o", "json"]).exits(0);
    let document = ran.json();
    let mut found = document["clients"].as_array().unwrap().iter().filter(|entry| entry["client"] == client);
    let entry = found.next().unwrap_or_else(|| panic!("no entry of {client}: {ran:#?}"));
    assert!(found.next().is_none(), "twice: {ran:#?}");
    entry.clone()
}

#[test]
fn every_client_is_shown_as_it_is_from_its_start_to_its_end() {
    let fleet = Fleet::of(&["worker-1:web,db", "worker-2", "worker-3"]);
    let head = ["CLIENT", "STATE", "GROUPS", "VERSION", "LAST SEEN", "JOBS"];
    let never = |client: &'static str| [client, "key only", "-", "-", "-", "-"];
    assert_eq!(table(&fleet), [head, never("worker-1"), never("worker-2"), never("worker-3")]);
    let names: Vec<Value> = ["worker-1", "worker-2", "worker-3"].iter().map(|it| json!({ "client": it })).collect();
    assert_eq!(fleet.run(&["clients", "-o", "json"]).exits(0).json(), json!({ "clients": names }));

    let [killed, ended] = ["worker-1", "worker-2"].map(|client| fleet.client(client));
    let of_1 = |state: &'static str, jobs: &'static str| ["worker-1", state, "db,web", VERSION, "ago", jobs];
    let of_2 = |state: &'static str, jobs: &'static str| ["worker-2", state, "-", VERSION, "ago", jobs];
    assert_eq!(table(&fleet), [head, of_1("unready", "0"), of_2("unready", "0"), never("worker-3")]);
    fleet.run(&["start", "@all"]).exits(0);
    assert_eq!(table(&fleet), [head, of_1("ready", "0"), of_2("ready", "0"), never("worker-3")]);
    fleet.run(&["calculate", "worker-1", "600", "x", "--detach"]).exits(0);
    fleet.run(&["stop", "worker-1"]).exits(0);
    fleet.run(&["terminate", "worker-2"]).exits(0);
    ended.wait().exits(0);
    assert_eq!(table(&fleet), [head, of_1("unready", "1"), of_2("terminated", "-"), never("worker-3")]);
    killed.kill();
    assert_eq!(table(&fleet)[1], of_1("unready", "1"), "it was present a moment ago, and no more can be known");

    let lines = fleet.run(&["clients", "-o", "ndjson"]).exits(0).lines();
    assert_eq!(lines.len(), 3);
    let members: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    let mut expected = [
        "client",
        "state",
        "silent",
        "groups",
        "version",
        "last_seen",
        "clock_ahead_ms",
        "started_at",
        "jobs",
        "epoch",
        "boot",
        "credential_expires_at",
        "trust_version",
    ];
    expected.sort_unstable();
    assert_eq!(members, expected);
    let got = (&lines[0]["silent"], &lines[0]["groups"], &lines[0]["jobs"]["running"]);
    assert_eq!(got, (&json!(false), &json!(["db", "web"]), &json!(1)));
    assert!(lines[0]["last_seen"].as_i64() > lines[0]["started_at"].as_i64());
    assert_eq!((&lines[1]["state"], &lines[1]["silent"]), (&json!("terminated"), &json!(false)));
    assert_eq!(lines[2], json!({ "client": "worker-3" }));
}

#[test]
fn a_client_that_starts_again_is_another_process_in_another_epoch() {
    let (fleet, killed) = Fleet::ready();
    let first = entry(&fleet, "worker-1");
    killed.kill();
    let worker = fleet.client("worker-1");
    let second = entry(&fleet, "worker-1");
    assert_eq!(second["state"], "unready");
    assert_ne!((&second["epoch"], &second["boot"]), (&first["epoch"], &first["boot"]));
    assert!(second["started_at"].as_i64() > first["started_at"].as_i64());
    worker.signal(Signal::TERM);
    worker.wait().exits(0);
    assert_eq!(entry(&fleet, "worker-1")["state"], "terminated");
    fs::remove_dir_all(fleet.state_folder("worker-1")).unwrap();
    let _worker = fleet.client("worker-1");
    let third = entry(&fleet, "worker-1");
    assert_ne!((&third["epoch"], &third["boot"]), (&second["epoch"], &second["boot"]));
    assert_eq!(third["epoch"], fleet.status("worker-1")["epoch"]);
}

#[test]
fn the_roster_outlives_the_broker_and_the_clients_that_are_in_it() {
    let mut fleet = Fleet::of(&["worker-1:web", "worker-2", "worker-3"]);
    let [alive, killed, ended] = ["worker-1", "worker-2", "worker-3"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    fleet.run(&["terminate", "worker-3"]).exits(0);
    ended.wait().exits(0);
    killed.kill();
    // No client may send another presence: what is shown must come from the broker's disk.
    alive.signal(Signal::STOP);
    let before = ["worker-1", "worker-2", "worker-3"].map(|client| entry(&fleet, client));
    fleet.broker.kill();
    fleet.broker.restart();
    assert_eq!(["worker-1", "worker-2", "worker-3"].map(|client| entry(&fleet, client)), before);
    alive.signal(Signal::CONT);
    let ran = fleet.run(&["ping", "@all", "--retry", "--ttl", "10s", "-o", "json"]).exits(3);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 no_reply"], "and it lists the expected clients");
}

#[test]
fn without_the_stream_there_is_no_roster_and_nothing_is_sent_to_many() {
    let fleet = Fleet::without_stream(&["worker-1:web"]);
    let _worker = fleet.client("worker-1");
    let mut observer = fleet.observer();
    for arguments in
        [&["clients"][..], &["clients", "forget", "worker-1"], &["start", "@all"], &["ping", "@web", "-o", "json"]]
    {
        let ran = fleet.run(arguments).exits(4);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 3), "{ran:#?}");
        assert!(ran.stderr.contains("\ntry: run `countersign setup` once"), "{ran:#?}");
        // `clients` sends no command, and has no target that could be named.
        let was_command = arguments[0] != "clients";
        assert_eq!(["nothing was sent", "one by one"].map(|it| ran.stderr.contains(it)), [was_command; 2], "{ran:#?}");
    }
    assert_eq!(sent(&mut observer), [] as [&str; 0]);
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["setup"]).exits(0);
    fleet.run(&["stop", "worker-1"]).exits(0);
    assert_eq!(table(&fleet)[1], ["worker-1", "unready", "web", VERSION, "ago", "0"], "from the next presence on");
}

#[test]
fn an_unknown_client_is_answered_with_the_only_near_one_or_with_where_those_are_that_are_known() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "press"]);
    for (unknown, hint) in [
        ("pres", "countersign ping press\n"),
        (
            "worker-3",
            "`countersign clients` lists those that are known: each that has its key in the folder, or has run since ",
        ),
    ] {
        let ran = fleet.run(&["ping", unknown]).exits(2);
        assert!(ran.stderr.contains(&format!("\ntry: {hint}")), "{ran:#?}");
    }
}

#[test]
fn a_retired_client_is_removed_and_one_that_is_present_or_unknown_is_not() {
    let fleet = Fleet::of(&["worker-1", "worker-2", "worker-3", "press"]);
    let [_there, ended] = ["worker-1", "worker-3"].map(|client| fleet.client(client));
    fleet.run(&["start", "@all"]).exits(0);
    fleet.run(&["terminate", "worker-3"]).exits(0);
    ended.wait().exits(0);
    FakeWorker::new(&fleet, "worker-2").present(&fleet, SILENT);
    let states = || table(&fleet).iter().skip(1).map(|row| format!("{} {}", row[0], row[1])).collect::<Vec<_>>();
    let before = ["press key only", "worker-1 ready", "worker-2 ready, silent", "worker-3 terminated"];
    assert_eq!(states(), before);

    let refused = |names: &[&str], code, texts: &[&str]| {
        let ran = fleet.run(&[&["clients", "forget"], names].concat()).exits(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 3), "{ran:#?}");
        assert!(texts.iter().all(|text| ran.stderr.contains(text)), "{texts:?} in {ran:#?}");
    };
    // All are checked before one is removed.
    refused(&["worker-3", "worker-1"], 2, &["worker-1 is still there", "try: countersign terminate worker-1"]);
    // The suggestion, pasted as it stands, must not remove a client that was not named.
    refused(&["worker-3", "wroker-2"], 2, &["wroker-2 is not in the roster", "try: did you mean worker-2?"]);
    refused(&["press"], 2, &["press is not in the roster", "expected: one that is: worker-1, worker-2, worker-3"]);
    fs::rename(fleet.keys().setup_creds(), fleet.path().join("elsewhere.creds")).unwrap();
    refused(&["worker-2"], 5, &["setup.creds"]);
    fs::rename(fleet.path().join("elsewhere.creds"), fleet.keys().setup_creds()).unwrap();
    assert_eq!(states(), before);

    let ping = || fleet.run(&["ping", "@all", "--timeout", "5s", "-o", "json"]);
    assert_eq!(verdicts(&ping().exits(3)), ["worker-1 succeeded", "worker-2 offline"]);
    let ran = fleet.run(&["clients", "forget", "worker-2", "worker-3", "worker-2"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 2), "{ran:#?}");
    assert!(ran.stderr.contains("note: worker-2 is removed from the roster; its key and credential are as they were"));
    assert_eq!(verdicts(&ping().exits(0)), ["worker-1 succeeded"], "it is not expected any more");
    assert_eq!(states(), ["press key only", "worker-1 ready", "worker-2 key only", "worker-3 key only"]);

    let _back = fleet.client("worker-3");
    assert_eq!(states()[3], "worker-3 unready");
    assert_eq!(verdicts(&ping().exits(1)), ["worker-1 succeeded", "worker-3 refused not_ready"]);
}

#[test]
fn a_presence_that_its_client_did_not_sign_is_not_in_the_roster_and_is_reported_once() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    unleash(&fleet, "worker-2");
    let mut mallory = FakeWorker::new(&fleet, "worker-2");
    let of_1 = "cs.demo.event.worker-1.presence";
    let mut honest = FakeWorker::new(&fleet, "worker-1");
    let genuine = honest.presence(|_| {});
    let mut later = genuine.clone();
    later.body = honest.presence(|event| event.state = State::Terminated).body;
    let mut stolen = mallory.presence(|_| {});
    stolen.subject = of_1.to_owned();
    let as_1 = mallory.presence(|event| (event.from, event.subject) = (name("worker-1"), of_1.to_owned()));
    let own = mallory.presence(|event| event.subject = of_1.to_owned());
    let security = honest.presence(|event| {
        event.kind = EventKind::Security;
        event.data = serde_json::from_value(json!({ "reason": "clock", "count": 1 })).unwrap();
    });
    let cases: [(&Signed, &str); 5] = [
        (&later, "note: a message was ignored: not authentic (signature), not signed by the key "),
        (&stolen, "note: a message signed by worker-2 was ignored: not authentic (address), "),
        (&as_1, "note: a message signed by worker-2 was ignored: not authentic (credential), names worker-1 and "),
        (&own, "note: a message signed by worker-2 was ignored: an event that does not belong to its subject"),
        (&security, "note: a message signed by worker-1 was ignored: an event that does not belong to its subject"),
    ];
    for (forged, note) in cases {
        for _ in 0..3 {
            mallory.peer.send(forged);
        }
        wait_until_stored(&fleet, of_1, &forged.body);
        let ran = fleet.run(&["clients", "-o", "json"]).exits(0);
        let why = format!("what the broker keeps is not readable: {of_1}");
        let nobody = json!([{ "client": "worker-1" }, { "client": "worker-2" }]);
        assert_eq!(ran.json(), json!({ "clients": nobody, "roster_incomplete": why }), "{note}");
        assert!(ran.stderr.starts_with(note) && ran.stderr.lines().count() == 2, "{ran:#?}");
        harmless(&ran.stderr);
        // Where no client is found, the note matters all the more.
        let ran = fleet.run(&["ping", "@all"]).exits(3);
        assert!(ran.stderr.starts_with(note), "{ran:#?}");
    }
    // What is not readable can be removed nevertheless.
    let ran = fleet.run(&["clients", "forget", "worker-1", "-o", "json"]).exits(0);
    assert_eq!(ran.json(), json!({ "removed": ["worker-1"] }));

    // Live, while a command is pending: reported once, and what is genuine still counts.
    honest.peer.send(&genuine);
    wait_until_stored(&fleet, of_1, &genuine.body);
    let (mut operator, command) = honest.receive_command(&fleet, &["ping", "@all", "-o", "json", "--timeout", "30s"]);
    for _ in 0..3 {
        mallory.peer.send(&as_1);
    }
    mallory.peer.flush();
    // Events and replies come over separate connections, in no particular order.
    operator.stderr.wait_for("note: a message signed by worker-2 was ignored");
    honest.answer(&command, 0, Outcome::Succeeded(json!(1)));
    let ran = operator.wait().exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded"]);
    assert_eq!(ran.stderr.matches("note: a message signed by worker-2 was ignored").count(), 1, "{ran:#?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
}

#[test]
fn an_old_presence_that_is_replayed_keeps_its_age() {
    let fleet = Fleet::of(&["worker-1"]);
    let worker = fleet.client("worker-1");
    let mut observer = fleet.observer();
    fleet.run(&["start", "worker-1"]).exits(0);
    let is_presence = |it: &Message| it.subject == "cs.demo.event.worker-1.presence";
    let ready = observer.wait_for("its presence", |it| is_presence(it) && it.json()["state"] == "ready");
    fleet.run(&["terminate", "worker-1"]).exits(0);
    worker.wait().exits(0);
    let replayer = fleet.peer(&fleet.keys().creds(Role::Client, &name("worker-1")));
    replayer.send(&ready.signed());
    wait_until_stored(&fleet, &ready.subject, &ready.body);
    let shown = entry(&fleet, "worker-1");
    assert_eq!((&shown["state"], &shown["last_seen"]), (&json!("ready"), &ready.json()["issued_at"]));
    // It counts as no newer than it is, and its client's next presence replaces it.
    let _again = fleet.client("worker-1");
    assert_eq!(entry(&fleet, "worker-1")["state"], "unready");
}

#[test]
fn what_clients_report_in_their_presence_cannot_move_the_cursor() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2"]);
    FakeWorker::new(&fleet, "worker-1").present(&fleet, 0);
    FakeWorker::new(&fleet, "worker-2").present(&fleet, SILENT);
    for format in ["table", "json", "ndjson"] {
        let ran = fleet.run(&["clients", "-o", format]).exits(0);
        harmless(&ran.stdout);
        assert_eq!((ran.stdout.matches("neves").count(), ran.stderr.as_str()), (2, ""), "{ran:#?}");
        if format == "ndjson" {
            assert_eq!(ran.lines()[0]["version"], HOSTILE, "a program gets it as it was signed");
        }
    }
    assert_eq!(entry(&fleet, "worker-2")["silent"], true);
    // An invalid name or group makes the whole presence invalid, although its client has signed it.
    let mut hostile = FakeWorker::new(&fleet, "worker-1");
    for member in ["groups", "commands", HOSTILE] {
        let presence = hostile.presence(|event| drop(event.data.insert(member.to_owned(), json!([HOSTILE]))));
        hostile.peer.send(&presence);
        wait_until_stored(&fleet, &presence.subject, &presence.body);
        let ran = fleet.run(&["clients"]).exits(0);
        harmless(&ran.stdout);
        harmless(&ran.stderr);
        assert!(ran.stdout.contains("worker-1  key only"), "{ran:#?}");
        let note = "note: a message signed by worker-1 was ignored: not authentic (envelope), ";
        assert!(ran.stderr.starts_with(note) && ran.stderr.lines().count() == 2, "{ran:#?}");
    }
}

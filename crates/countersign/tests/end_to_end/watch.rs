//! What an observer sees: every message with its verdict, and what is repeated or missing.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Signed;
use countersign_protocol::text::escape;
use countersign_testkit::hostile::Message;
use countersign_testkit::realm::name;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::{Forger, id_of};
use crate::process::{Process, Ran, Signal};

/// Starts `watch`, and waits until it is subscribed.
pub fn watching(fleet: &Fleet, arguments: &[&str]) -> Process {
    let mut watch = fleet.spawn(&[&["watch"], arguments].concat());
    watch.stderr.wait_for("watching cs.demo.>");
    watch
}

/// The verdicts, kinds and marks of lines of JSON.
fn observations(ran: &Ran) -> Vec<(String, String, bool, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mark = |value: &Value| value.as_bool().unwrap_or(false);
    let lines = ran.lines();
    lines.iter().map(|it| (text(&it["verdict"]), text(&it["kind"]), mark(&it["again"]), mark(&it["late"]))).collect()
}

fn observation(verdict: &str, kind: &str, again: bool, late: bool) -> (String, String, bool, bool) {
    (verdict.to_owned(), kind.to_owned(), again, late)
}

#[test]
fn a_ping_is_seen_as_a_command_and_its_reply_with_their_names() {
    let fleet = Fleet::new();
    let mut watch = watching(&fleet, &[]);
    let quiet = fleet.spawn(&["watch", "-q", "--count", "1"]);
    let _worker = fleet.client("worker-1");
    watch.stdout.wait_for("worker-1 → everyone       unready, 0 of 64 jobs, version");
    fleet.run(&["start", "worker-1"]).exits(0);
    fleet.run(&["ping", "worker-1"]).exits(0);
    for expected in [
        "ok          command   alice → worker-1          ping\n",
        "ok          reply     worker-1 → alice          ping succeeded ",
        "ok          reply     worker-1 → alice          start succeeded {\"changed\":true}",
        "ok          presence  worker-1 → everyone       ready, ",
    ] {
        watch.stdout.wait_for(expected);
    }
    watch.signal(Signal::INT);
    let ran = watch.wait().exits(130);
    assert!(ran.stdout.lines().all(|line| line.get(26..28) == Some("ok")), "{ran:#?}");
    assert!(!ran.stdout.contains("again") && !ran.stdout.contains('\u{1b}'), "{ran:#?}");
    let expected = format!("note: watching cs.demo.> at {}; Ctrl-C ends\n", fleet.broker.url());
    assert_eq!(ran.stderr, expected);
    // The next heartbeat at the latest.
    let ran = quiet.wait().exits(0);
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
}

#[test]
fn bad_shows_a_forgery_with_its_reason_and_nothing_that_is_honest() {
    let (fleet, _worker) = Fleet::ready();
    let mut all = watching(&fleet, &[]);
    let bad = watching(&fleet, &["--bad", "--count", "3"]);
    let forger = Forger::new(&fleet);
    let command = forger.command("terminate", json!({}));
    let other = forger.command("ping", json!({}));
    forger.send(&Signed { body: other.body.clone(), ..command.clone() });
    forger.peer.borrow().send_to("cs.demo.cmd.all", &command);
    forger.peer.borrow().publish("cs.demo.cmd.client.\u{1b}[2J\u{202e}", None, None, b"\x1b[2J");
    fleet.run(&["ping", "worker-1"]).exits(0);

    let ran = bad.wait().exits(0);
    let kid = forger.identity.kid();
    let expected = [
        format!("signature   command   ?                         cs.demo.cmd.client.worker-1: not signed by the key {kid}"),
        "address     command   alice → ?                 cs.demo.cmd.all: for cs.demo.cmd.client.worker-1, but arrived on \
         cs.demo.cmd.all"
            .to_owned(),
        "headers     command   ?                         cs.demo.cmd.client.\\u{1b}[2J\\u{202e}: no Countersign-Signature \
         header"
            .to_owned(),
    ];
    let without_time: Vec<&str> = ran.stdout.lines().map(|line| &line[26..]).collect();
    assert_eq!(without_time, expected);
    for line in expected {
        assert_eq!(all.stdout.wait_for(&line)[26..].trim_end(), line);
    }
    all.stdout.wait_for("ping succeeded");
    assert!(all.stdout.so_far().lines().all(|line| escape(line) == line));
}

#[test]
fn a_command_that_is_replayed_and_the_reply_on_record_are_marked_again() {
    let (fleet, _worker) = Fleet::ready();
    let watch = watching(&fleet, &["--bad", "-o", "ndjson", "--count", "2"]);
    let forger = Forger::new(&fleet);
    let command = forger.command("ping", json!({}));
    let reply = forger.request(&command);
    forger.send(&command);
    let ran = watch.wait().exits(0);
    assert_eq!(
        observations(&ran),
        [observation("ok", "command", true, false), observation("ok", "reply", true, false)]
    );
    let lines = ran.lines();
    assert_eq!(lines[0]["message"]["id"], id_of(&command).to_string());
    assert_eq!(lines[1]["message"], reply);
}

#[test]
fn what_the_broker_removes_holds_back_or_repeats_is_reported() {
    let (fleet, worker) = Fleet::ready();
    let mut observer = fleet.observer();
    for command in ["stop", "start", "stop"] {
        fleet.run(&[command, "worker-1"]).exits(0);
    }
    let is_presence = |it: &Message| it.subject == "cs.demo.event.worker-1.presence";
    let mut presences: Vec<Message> = (0..3).map(|_| observer.wait_for("a presence", is_presence)).collect();
    presences.sort_by_key(|presence| presence.json()["n"].as_u64());
    worker.kill();

    let watch = watching(&fleet, &["-o", "ndjson", "--count", "5"]);
    let peer = fleet.peer(&fleet.keys().creds(Role::Client, &name("worker-1")));
    for index in [0, 2, 1, 1] {
        peer.send(&presences[index].signed());
    }
    let ran = watch.wait().exits(0);
    let expected = [
        observation("ok", "presence", false, false),
        observation("gap", "gap", false, false),
        observation("ok", "presence", false, false),
        observation("ok", "presence", false, true),
        observation("ok", "presence", true, false),
    ];
    assert_eq!(observations(&ran), expected);
    let number = |index: usize| presences[index].json()["n"].as_u64().unwrap();
    let gap = &ran.lines()[1];
    assert_eq!((&gap["from"], gap["missing"].as_u64()), (&json!("worker-1"), Some(number(2) - number(0) - 1)));
}

#[test]
fn filters_select_and_every_line_of_ndjson_is_one_object() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let _workers = [fleet.client("worker-1"), fleet.client("worker-2")];
    fleet.run(&["start", "worker-1", "worker-2"]).exits(0);
    let ndjson = |arguments: &[&str]| watching(&fleet, &[arguments, &["-o", "ndjson"]].concat());
    let two = ndjson(&["--client", "worker-2", "--kind", "command", "--kind", "reply", "--count", "2"]);
    let reports = ndjson(&["--operator", "alice", "--kind", "event", "--kind", "job", "--count", "3"]);
    let nobody = ndjson(&["--operator", "bob"]);
    fleet.run(&["ping", "worker-1", "worker-2"]).exits(0);
    fleet.run(&["calculate", "worker-1", "0", "done"]).exits(0);
    let forger = Forger::new(&fleet);
    let draft = forger.draft("ping", json!({}));
    forger.request(&draft.clone().sign(&forger.identity));
    forger.request(&draft.dry_run().sign(&forger.identity));

    let ran = two.wait().exits(0);
    let lines = ran.lines();
    let route = |line: &Value| [line["from"].clone(), line["to"].clone(), line["verdict"].clone()];
    assert_eq!(route(&lines[0]), ["alice", "worker-2", "ok"]);
    assert_eq!(route(&lines[1]), ["worker-2", "alice", "ok"]);
    assert_eq!(lines[0]["message"]["command"], json!({ "name": "ping", "args": {} }));
    assert_eq!((&lines[0]["message"]["id"], lines.len()), (&lines[1]["message"]["command_id"], 2));

    let ran = reports.wait().exits(0);
    let data: Vec<Value> = ran.lines().iter().map(|line| line["message"]["data"].clone()).collect();
    assert_eq!((&data[0]["status"], &data[1]["status"]), (&json!("accepted"), &json!("succeeded")));
    assert_eq!(data[2], json!({ "reason": "id_conflict", "count": 1, "signer": "alice" }));

    nobody.signal(Signal::INT);
    assert_eq!(nobody.wait().exits(130).stdout, "");
}

#[test]
fn a_trust_bundle_that_is_published_is_verified_too() {
    let fleet = Fleet::new();
    let watch = watching(&fleet, &["--kind", "trust", "--count", "2"]);
    let peer = fleet.peer(&fleet.keys().trust_creds());
    let bundle = std::fs::read(fleet.keys().trust()).unwrap();
    peer.publish("cs.demo.trust.bundle.1", None, None, &bundle);
    peer.publish("cs.demo.trust.bundle.2", None, None, &bundle[1..]);
    let ran = watch.wait().exits(0);
    let lines: Vec<&str> = ran.stdout.lines().map(|line| &line[26..]).collect();
    assert!(lines[0].starts_with("ok          trust     roots → everyone          version 1, until "), "{ran:#?}");
    assert!(
        lines[1].starts_with("json        trust     ?                         cs.demo.trust.bundle.2: "),
        "{ran:#?}"
    );
}

#[test]
fn after_a_restart_of_the_broker_it_continues_and_reports_that_it_was_disconnected() {
    let mut fleet = Fleet::new();
    let mut watch = watching(&fleet, &["--kind", "presence"]);
    let _worker = fleet.client("worker-1");
    watch.stdout.wait_for("unready");
    fleet.broker.kill();
    watch.stderr.wait_for("note: the connection to the broker is lost");
    fleet.broker.restart();
    watch.stderr.wait_for("note: connected again");
    fleet.run(&["start", "worker-1", "--retry", "--ttl", "30s", "--timeout", "30s"]).exits(0);
    watch.stdout.wait_for("worker-1 → everyone       ready");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_though_nothing_is_to_be_printed() {
    let fleet = Fleet::new();
    let mut command = fleet.command(&["watch", "--bad"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(watch.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("watching"), "{line}");
    drop(watch.stdout.take());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    line.clear();
    assert_eq!(stderr.read_line(&mut line).unwrap(), 0, "{line}");
}

#[test]
fn one_document_without_an_end_is_refused_and_a_slip_in_a_name_is_noted() {
    let fleet = Fleet::without_stream(&["worker-1"]);
    let ran = fleet.run(&["watch", "-o", "json"]).exits(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("try: countersign watch -o ndjson"), "{ran:#?}");
    let mut watch = fleet.spawn(&["watch", "--client", "wroker-1", "--client", "worker-1", "--operator", "zzz"]);
    watch.stderr.wait_for("watching");
    let notes = watch.stderr.so_far();
    assert!(notes.contains("no client wroker-1; the nearest that it has is worker-1"), "{notes}");
    assert_eq!(notes.lines().count(), 2, "{notes}");

    let mut command = fleet.command(&["watch"]);
    command.env("NATS_URL", "nats://user:secret@127.0.0.1:1");
    let ran = Process::spawn(command).wait().exits(4);
    assert!(!ran.stderr.contains("secret"), "{ran:#?}");
}

//! What stolen connection keys can do to the operators' side: messages that no NATS library can read, stored or live, on the
//! presence subjects that belong to the keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign_protocol::credential::Role;
use countersign_testkit::broker::TIMEOUT;
use countersign_testkit::hostile::{Peer, hostile_header_blocks};
use countersign_testkit::realm::name;
use serde_json::Value;

use crate::fleet::Fleet;
use crate::groups::{settled, verdicts};
use crate::presence::stored_messages;
use crate::process::Process;
use crate::prompt::prompt_at;
use crate::watch::watching;

/// More than the stream stores of one message, and less than the broker accepts.
const LONG: usize = 300_000;

fn stolen(fleet: &Fleet, client: &str) -> Peer {
    fleet.peer(&fleet.keys().creds(Role::Client, &name(client)))
}

fn presence(client: &str) -> String {
    format!("cs.demo.event.{client}.presence")
}

/// Waits until the broker stores this number of messages.
fn wait_until_stored(fleet: &Fleet, messages: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while stored_messages(fleet) != messages {
        assert!(Instant::now() < deadline, "{} of {messages} are stored", stored_messages(fleet));
    }
}

#[test]
fn what_many_stolen_keys_have_stored_stops_no_command_to_many_and_every_one_of_them_is_named_or_counted() {
    let blocks: Vec<_> = hostile_header_blocks().into_iter().filter(|(_, block)| block.len() < 60_000).collect();
    let thieves: Vec<String> = (0..blocks.len()).map(|number| format!("thief-{number}")).collect();
    let mut clients = vec!["worker-1:web", "worker-2", "long"];
    clients.extend(thieves.iter().map(String::as_str));
    let fleet = Fleet::of(&clients);
    let first = settled(&fleet, "worker-1");
    for (thief, (_, block)) in thieves.iter().zip(&blocks) {
        stolen(&fleet, thief).publish(&presence(thief), None, Some(block), b"{}");
    }
    stolen(&fleet, "long").publish(&presence("long"), None, None, &vec![b' '; LONG]);
    // After the messages that break a page of the roster.
    let second = settled(&fleet, "worker-2");
    let count = u64::try_from(blocks.len()).unwrap();
    wait_until_stored(&fleet, count + 2);

    let incomplete = |document: &Value| document["roster_incomplete"].as_str().unwrap_or_default().to_owned();
    let shown = fleet.run(&["clients", "-o", "json"]).exits(0);
    let document = shown.json();
    let states: Vec<_> = document["clients"].as_array().unwrap().iter().filter(|it| it["state"].is_string()).collect();
    assert_eq!(states.iter().map(|it| &it["client"]).collect::<Vec<_>>(), ["worker-1", "worker-2"]);
    let why = incomplete(&document);
    let named = thieves.iter().filter(|thief| why.contains(&presence(thief))).count();
    assert!(named == 8 && why.ends_with(&format!(", {} more", count - 8)), "{why}");
    assert_eq!(shown.stderr.matches("the roster is incomplete: ").count(), 1, "{shown:#?}");

    let ran = fleet.run(&["start", "@all", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
    assert!(incomplete(&ran.json()) == why && ran.stderr.contains("the roster is incomplete: "), "{ran:#?}");
    let ran = fleet.run(&["ping", "@web", "-o", "json"]).exits(0);
    assert_eq!((verdicts(&ran), incomplete(&ran.json())), (vec!["worker-1 succeeded".to_owned()], why));
    let named = fleet.run(&["ping", "worker-1", "-o", "json"]).exits(0);
    assert_eq!((incomplete(&named.json()).as_str(), named.stderr.as_str()), ("", ""), "a named target needs no roster");

    // All of them can be removed, one by one and together.
    fleet.run(&["clients", "forget", "thief-0"]).exits(0);
    let rest: Vec<&str> = thieves.iter().skip(1).map(String::as_str).collect();
    fleet.run(&[&["clients", "forget"][..], &rest].concat()).exits(0);
    wait_until_stored(&fleet, 2);
    let ran = fleet.run(&["ping", "@all", "-o", "json"]).exits(0);
    assert_eq!((incomplete(&ran.json()).as_str(), ran.stderr.as_str()), ("", ""));
    assert_eq!([first, second].map(Process::printed), ["", ""]);
}

/// A peer that publishes, every 50 ms, what breaks the connection of whoever receives it.
struct Noise {
    on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    fn on(fleet: &Fleet, client: &str) -> Self {
        let (peer, subject) = (stolen(fleet, client), presence(client));
        let on = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&on);
        let thread = thread::spawn(move || {
            let long = vec![b' '; LONG];
            while goes_on.load(Ordering::Relaxed) {
                for (_, block) in hostile_header_blocks() {
                    peer.publish(&subject, None, Some(&block), b"{}");
                    peer.publish(&subject, None, None, &long);
                    thread::sleep(Duration::from_millis(50));
                }
            }
        });
        Self { on, thread: Some(thread) }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|it| it.is_ok()));
    }
}

#[test]
fn messages_that_break_a_connection_break_no_command_of_a_prompt_a_script_or_a_one_shot() {
    let fleet = Fleet::of(&["worker-1:web", "worker-2:web", "thief:web"]);
    let workers = ["worker-1", "worker-2"].map(|client| settled(&fleet, client));
    fleet.run(&["start", "@all"]).exits(0);
    let mut person = prompt_at(&fleet, "countersign> ");
    let noise = Noise::on(&fleet, "thief");

    let is_lost = |text: &str| text.contains("is lost; connecting again");
    let ran = fleet.run(&["calculate", "@all", "0.5", "command", "-o", "json"]).exits(0);
    assert_eq!(verdicts(&ran), ["worker-1 succeeded", "worker-2 succeeded"]);
    assert!(!is_lost(&ran.stderr), "the connection for commands holds: {ran:#?}");
    let script = fleet.command(&["server", "-o", "ndjson"]);
    let lines = "ping worker-1\ncalculate @web 0.2 script\nping @all\nstatus worker-2\n";
    let ran = Process::spawn_with(script, lines).wait().exits(0);
    let verdicts: Vec<Value> = ran.lines().into_iter().filter(|line| line["verdict"].is_string()).collect();
    assert!(verdicts.iter().all(|line| line["verdict"] == "succeeded") && verdicts.len() == 6, "{ran:#?}");
    assert!(!is_lost(&ran.stderr), "{ran:#?}");

    person.wait_for("the connection that they come over broke");
    for (line, answer) in [
        ("ping worker-1", "worker-1: it is "),
        ("calculate worker-2 0.2 prompt", "worker-2: printed \"prompt\" after 0.2 s"),
        ("ping @all", "2 targets: 2 succeeded"),
        ("clients", "worker-2"),
    ] {
        person.line(line);
        person.wait_for(answer);
    }
    drop(noise);
    assert!(!is_lost(&person.screen()), "{}", person.screen());
    let printed = workers.map(Process::printed);
    assert_eq!(printed, ["command\nscript\n", "command\nscript\nprompt\n"]);
}

#[test]
fn messages_that_break_an_observers_connection_end_no_watch_which_reports_that_it_missed_something_and_shows_what_comes_after()
 {
    let (fleet, _worker) = Fleet::ready();
    fleet.run(&["init", "--client", "thief"]).exits(0);
    let mut watch = watching(&fleet, &["--kind", "command", "-o", "ndjson"]);
    let noise = Noise::on(&fleet, "thief");
    watch.stderr.wait_for("the connection to the broker is lost; connecting again");
    watch.stderr.wait_for("connected again; what went over the broker meanwhile was not seen");
    drop(noise);
    // When it is connected again for good is unknown.
    let deadline = Instant::now() + TIMEOUT;
    while !watch.stdout.so_far().contains("\"stop\"") {
        assert!(Instant::now() < deadline, "{}", watch.stderr.so_far());
        fleet.run(&["stop", "worker-1"]).exits(0);
    }
}

//! A broker between alice and her client that withholds, repeats and disconnects: her verdicts are true nevertheless.

use std::fs;

use countersign_protocol::subject;
use countersign_testkit::hostile::{FakeBroker, Message, Session, signed_frame};
use countersign_testkit::realm::{full_grant, name};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::forge::Forger;
use crate::process::Process;

/// Starts an operator's command behind a broker that passes on what the test wants.
fn spawn(fleet: &Fleet, fake: &FakeBroker, arguments: &[&str]) -> Process {
    let mut command = fleet.command(arguments);
    command.env("NATS_URL", fake.url());
    Process::spawn(command)
}

/// With `worker-1`, ready. Its skew is none, so that a command without an epoch is not taken for one from before.
fn ready() -> (Fleet, Process) {
    let fleet = Fleet::new();
    let worker = fleet.client_as("worker-1", fleet.command(&["client", "--name", "worker-1", "--skew", "0s"]));
    fleet.run(&["start", "worker-1"]).exits(0);
    (fleet, worker)
}

fn published(session: &mut Session, call: &str) -> Message {
    session.published(|it| it.json()["command"]["name"] == call).expect("a command")
}

/// Gives alice a reply that was signed for her.
fn pass_back(session: &mut Session, reply: &Message) {
    let process: Vec<&str> = reply.subject.split('.').take(5).collect();
    let sid = session.subscription(&format!("{}.>", process.join(".")));
    session.send(&signed_frame(&sid, &reply.signed()));
}

#[test]
fn a_command_of_another_operator_under_the_same_id_is_no_answer_to_ones_own_query() {
    let (fleet, _worker) = ready();
    let forger = Forger::new(&fleet);
    let bob = forger.colleague("bob", full_grant());
    let fake = FakeBroker::start("nonce");
    let alice = spawn(&fleet, &fake, &["ping", "worker-1", "--timeout", "5s", "-o", "json"]);
    let [mut session, _events] = fake.accept_operator();
    let withheld = published(&mut session, "ping").json();
    let mut observer = fleet.observer();
    let same_id = forger.draft_of(&bob, "ping", json!({})).with(|command| {
        command.id = serde_json::from_value(withheld["id"].clone()).unwrap();
        command.reply_to =
            subject::reply_to(&name("demo"), &name("bob"), &"a".repeat(16).parse().unwrap(), &command.id);
    });
    forger.send(&same_id.sign(&bob));
    observer.wait_for("bob's reply", |it| it.json()["to"] == "bob" && it.json()["status"] == "succeeded");
    drop(session);
    let mut session = fake.accept();
    let question = published(&mut session, "result");
    forger.send(&question.signed());
    let answer = forger.reply_to(&question.signed());
    assert_eq!(answer.json()["error"]["code"], "not_found");
    pass_back(&mut session, &answer);
    let ran = alice.wait().exits(3);
    assert_eq!((ran.verdict("worker-1").as_str(), &ran.of("worker-1")["final"]), ("no_reply", &Value::from(false)));
}

#[test]
fn the_result_of_what_ran_during_an_outage_longer_than_the_timeout_is_queried_when_it_is_over() {
    let (fleet, _worker) = ready();
    let forger = Forger::new(&fleet);
    let fake = FakeBroker::start("nonce");
    let mut alice = spawn(&fleet, &fake, &["ping", "worker-1", "--timeout", "3s", "-o", "json"]);
    let [mut session, _events] = fake.accept_operator();
    let ping = published(&mut session, "ping").signed();
    drop(session);
    alice.stderr.wait_for("the connection to the broker is lost");
    assert_eq!(forger.request(&ping)["status"], "succeeded");
    // It takes longer than the time-out.
    fleet.run(&["calculate", "worker-1", "3.5", "meanwhile"]).exits(0);
    let mut session = fake.accept();
    let question = published(&mut session, "result").signed();
    forger.send(&question);
    pass_back(&mut session, &forger.reply_to(&question));
    assert_eq!(alice.wait().exits(0).verdict("worker-1"), "succeeded");
}

#[test]
fn a_client_that_lost_its_journal_and_was_restarted_is_not_ended_by_the_copy_of_a_terminate() {
    let (fleet, worker) = ready();
    let forger = Forger::new(&fleet);
    let fake = FakeBroker::start("nonce");
    let alice = spawn(&fleet, &fake, &["terminate", "worker-1", "--timeout", "60s", "--retry", "-o", "json"]);
    let [mut session, _events] = fake.accept_operator();
    let terminate = published(&mut session, "terminate").signed();
    assert_eq!(forger.request(&terminate)["status"], "succeeded");
    worker.wait().exits(0);
    fs::remove_dir_all(fleet.state_folder("worker-1")).unwrap();
    let _started_again = fleet.client("worker-1");
    forger.send(&terminate);
    let refusal = forger.reply_to(&terminate);
    assert_eq!(refusal.json()["status"], "refused");
    pass_back(&mut session, &refusal);
    let ran = alice.wait().exits(1);
    assert_eq!(
        (ran.verdict("worker-1").as_str(), &ran.of("worker-1")["final"]),
        ("refused starting", &Value::from(false))
    );
    let terminates = |it: &Message| it.json()["command"]["name"] == "terminate" && it.json()["epoch"].is_string();
    assert!(session.published(terminates).is_none(), "nothing was signed for the new epoch");
    assert_eq!(fleet.status("worker-1")["state"], "unready");
}

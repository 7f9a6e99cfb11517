#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../tests/world/live.rs"]
mod live;

use std::fs::OpenOptions;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_keys::{Login, Seed};
use countersign_link::LinkEvent;
use countersign_machine::client::Limits;
use countersign_protocol::command::NoArgs;
use countersign_protocol::envelope::{Identity, Signed};
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{ErrorCode, Reply, State, Status};
use countersign_testkit::broker::Broker;
use countersign_testkit::hostile::Peer;
use countersign_testkit::realm::{Draft, Realm, full_grant, to};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::command::{Context, DataCommand, Failure, Immediate};

/// Counts how often it ran.
struct Count(Arc<AtomicUsize>);

impl DataCommand for Count {
    const NAME: &'static str = "count";
    type Args = NoArgs;
    type Output = usize;
}

impl Immediate for Count {
    fn run(&self, _: NoArgs, _: &Context) -> Result<usize, Failure> {
        Ok(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A shell that is driven turn by turn, and a peer that receives what it publishes.
struct Bench {
    shell: Shell,
    peer: Peer,
    alice: Identity,
    verifier: Verifier,
    ran: Arc<AtomicUsize>,
    sent: u64,
    _broker: Broker,
    _state: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let (broker, state) = (Broker::start(), TempDir::new().unwrap());
        let realm = Realm::new("demo");
        let trust = live::bundle(&realm, 1);
        let alice = live::member(&realm, &trust, "alice", 101, Some(full_grant()));
        let identity = live::member(&realm, &trust, "worker-1", 102, None);
        let login = Login::new(Seed::from_random([42; 32]).unwrap(), "");
        let member = Member { identity, login, files: None, inbox_prefix: "_INBOX.client-worker-1".to_owned() };
        let config = ClientConfig::new(member, trust.clone(), broker.url(), state.path());
        let ran = Arc::new(AtomicUsize::new(0));
        let commands = Commands::new().immediate(Count(Arc::clone(&ran))).unwrap();
        let mut peer = Peer::connect(broker.port(), None);
        peer.subscribe("cs.demo.reply.>");
        let shell = Shell::start(Client::new(config, commands)).await.unwrap();
        let verifier = Verifier::new(Arc::new(trust), SKEW);
        Self { shell, peer, alice, verifier, ran, sent: 0, _broker: broker, _state: state }
    }

    fn command(&mut self, name: &str) -> Signed {
        self.sent += 1;
        let draft = Draft::new(&self.alice, to("worker-1"), name, json!({}), self.sent, clock::wall());
        draft.epoch(self.shell.machine.epoch()).sign(&self.alice)
    }

    fn take(&mut self, commands: &[&Signed]) {
        self.shell.receive(commands.iter().map(|command| LinkEvent::Message(command.delivery())));
    }

    fn record_length(&self) -> u64 {
        std::fs::metadata(self._state.path().join("worker-1/journal")).unwrap().len()
    }

    fn next_reply(&mut self) -> Reply {
        let message = self.peer.wait_for("a reply", |_| true);
        self.verifier.open::<Reply>(&message.delivery(), clock::wall()).unwrap().into_message()
    }

    /// Makes every write to the journal fail; what is given back lets them succeed.
    fn break_record(&mut self) -> std::fs::File {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        self.shell.journal.exchange_file(full)
    }
}

fn refusal(reply: &Reply) -> (Status, Option<ErrorCode>) {
    (reply.status, reply.error.as_ref().map(|error| error.code))
}

const NOT_RECORDED: (Status, Option<ErrorCode>) = (Status::Refused, Some(ErrorCode::NotRecorded));

#[tokio::test]
async fn what_cannot_be_recorded_is_not_run_and_may_be_ordered_again() {
    let mut bench = Bench::new().await;
    let (start, count) = (bench.command("start"), bench.command("count"));
    bench.take(&[&start]);
    assert_eq!(bench.next_reply().status, Status::Succeeded);

    let file = bench.break_record();
    bench.take(&[&count]);
    assert_eq!(refusal(&bench.next_reply()), NOT_RECORDED);
    assert_eq!(bench.ran.load(Ordering::Relaxed), 0);

    bench.shell.journal.exchange_file(file);
    for _ in 0..2 {
        bench.take(&[&count]);
        assert_eq!(bench.next_reply().result, Some(json!(1)));
    }
    assert_eq!(bench.ran.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_taken_back_is_not_published() {
    let mut bench = Bench::new().await;
    let (start, status) = (bench.command("start"), bench.command("status"));
    let file = bench.break_record();
    // The second is a copy, and would be answered from the journal; the third would see the state.
    bench.take(&[&start, &start, &status]);
    assert_eq!(refusal(&bench.next_reply()), NOT_RECORDED);

    bench.shell.journal.exchange_file(file);
    let status = bench.command("status");
    bench.take(&[&status]);
    let reply = bench.next_reply();
    assert_eq!((reply.state, reply.result.unwrap()["state"].take()), (State::Unready, json!("unready")));
    assert_eq!(bench.peer.so_far(), []);
}

#[tokio::test]
async fn a_client_with_a_journal_that_cannot_be_written_still_terminates() {
    let mut bench = Bench::new().await;
    bench.break_record();
    bench.shell.turn(|machine, now| machine.terminate(now));
    assert!(bench.shell.is_ending);
}

#[tokio::test]
async fn a_journal_that_has_grown_is_compacted_beside_the_loop_and_remembers_what_ran() {
    let mut bench = Bench::new().await;
    let (start, count) = (bench.command("start"), bench.command("count"));
    bench.take(&[&start, &count]);
    let marks = vec![machine::Entry::Mark { at: clock::wall() }; 500_000];
    bench.shell.journal.append(&marks, 0).unwrap();
    let grown = bench.record_length();
    // What arrives meanwhile is taken before each step of it.
    let mut steps = 0;
    while steps == 0 || bench.record_length() >= grown {
        bench.take(&[&count]);
        let next_request = bench.shell.journal.next_request().await;
        bench.shell.compact(next_request);
        steps += 1;
    }
    let last = bench.command("count");
    bench.take(&[&last]);
    assert!(steps >= 2, "{steps} steps");
    assert_eq!(bench.next_reply().result, Some(json!({"changed": true})));
    for _ in 0..=steps {
        assert_eq!(bench.next_reply().result, Some(json!(1)));
    }
    assert_eq!(bench.next_reply().result, Some(json!(2)));
    let Bench { shell: Shell { journal, machine, .. }, _state: state, .. } = bench;
    let mut expected = machine::Restored::default();
    expected.apply(machine.epoch_started());
    machine.part(None, usize::MAX).entries().for_each(|entry| expected.apply(entry));
    drop(journal);
    let folder = LockedStateDir::take(state.path(), &"worker-1".parse().unwrap()).unwrap();
    let (_journal, mut restored) = Journal::open(folder, Limits::default().retain).unwrap();
    // The new log starts with the time at which it was started.
    restored.apply(machine.epoch_started());
    assert_eq!(restored, expected);
}

/// A disk that is full but for what was reserved.
#[tokio::test]
async fn on_a_full_disk_what_has_started_is_answered_and_what_is_new_is_refused_as_not_run() {
    let mut bench = Bench::new().await;
    let (start, count) = (bench.command("start"), bench.command("count"));
    bench.take(&[&start]);
    assert_eq!(bench.next_reply().status, Status::Succeeded);
    // Room for the beginning and a short end, and not for the reply.
    bench.shell.journal.fill_disk_but(1_100);
    bench.take(&[&count]);
    assert_eq!(bench.next_reply().result, Some(json!(1)), "it is answered all the same");
    for _ in 0..3 {
        let count = bench.command("count");
        bench.take(&[&count]);
        assert_eq!(refusal(&bench.next_reply()), NOT_RECORDED);
    }
    assert_eq!(bench.ran.load(Ordering::Relaxed), 1);
}

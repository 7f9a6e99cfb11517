#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_machine::client::{self as machine, Catalogue, Client, Effect, Limits, Now, Restored, StartUp};
use countersign_protocol::command::NoArgs;
use countersign_protocol::digest::Digest;
use countersign_protocol::id::Uuid;
use countersign_protocol::output::Stream;
use countersign_protocol::schema::Schema;
use countersign_testkit::realm::{Draft, Realm, START, full_grant, message_id, name, to};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;
use crate::command::{DataCommand, Failure, Immediate, LongRunning};
use crate::registry::Commands;

macro_rules! command {
    ($type:ident, $name:literal) => {
        impl DataCommand for $type {
            const NAME: &'static str = $name;
            type Args = NoArgs;
            type Output = Value;
        }
    };
}

/// Returns what it knows of its command.
struct Echo;
command!(Echo, "echo");

impl Immediate for Echo {
    fn run(&self, _: NoArgs, context: &Context) -> Result<Value, Failure> {
        Ok(json!([context.command_id, context.operator, context.now]))
    }
}

struct Panics;
command!(Panics, "panics");

impl Immediate for Panics {
    fn run(&self, _: NoArgs, _: &Context) -> Result<Value, Failure> {
        panic!("as it should")
    }
}

struct PanicsLater;
command!(PanicsLater, "panics-later");

impl LongRunning for PanicsLater {
    async fn run(&self, _: NoArgs, _: JobContext) -> Result<Value, Failure> {
        panic!("as it should")
    }
}

struct Fails;
command!(Fails, "fails");

impl LongRunning for Fails {
    async fn run(&self, _: NoArgs, _: JobContext) -> Result<Value, Failure> {
        Err(io::Error::other("no luck"))?
    }
}

/// Ends at a signal, and reports when it is dropped.
struct Waits {
    go: Arc<Notify>,
    dropped: Arc<Notify>,
}
command!(Waits, "waits");

impl LongRunning for Waits {
    async fn run(&self, _: NoArgs, _: JobContext) -> Result<Value, Failure> {
        struct Dropped(Arc<Notify>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let _guard = Dropped(Arc::clone(&self.dropped));
        self.go.notified().await;
        Ok(json!("done"))
    }
}

struct Reports;
command!(Reports, "reports");

impl LongRunning for Reports {
    async fn run(&self, _: NoArgs, job: JobContext) -> Result<Value, Failure> {
        job.progress(0.5, Some(&"m".repeat(1_000)));
        job.progress(7.0, None);
        job.progress(f64::NAN, None);
        for _ in 0..1_000 {
            job.progress(0.9, None);
        }
        Ok(Value::Null)
    }
}

/// A writer that tests can look into.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn key(number: u64) -> JobKey {
    let alice = Realm::new("demo").operator("alice", full_grant());
    JobKey { id: message_id(number), operator: alice.credential().kid() }
}

/// What the machine of a ready client hands out for a long-running command: nothing else makes an execution.
fn execution(number: u64, command: &str, args: Value) -> Execution {
    let realm = Realm::new("demo");
    let (alice, anything) = (realm.operator("alice", full_grant()), Arc::new(Schema::of::<Value>("anything")));
    let known = machine::DataCommand {
        name: name(command),
        arguments: Arc::clone(&anything),
        result: anything,
        long_running: true,
        description: String::new(),
        definition: None,
        concurrency: None,
        grace: 0,
    };
    let start = StartUp {
        limits: Limits::default(),
        version: String::new(),
        identity: realm.client("worker-1", &[]),
        catalogue: Catalogue::new([known]).unwrap(),
        trust: realm.trust.clone(),
        restored: Restored::default(),
        boot: Uuid::from_random([1; 16]),
        epoch: Uuid::from_random([2; 16]),
        start_ready: false,
    };
    let now = Now { wall: START, since_boot: 0 };
    let (mut client, _) = Client::start(start, now).unwrap();
    let mut give = |number, command, args| {
        let command =
            Draft::new(&alice, to("worker-1"), command, args, number, START).epoch(client.epoch()).sign(&alice);
        client.receive(realm.open(&command, START).unwrap(), now).effects
    };
    give(u64::MAX >> 16, "start", json!({}));
    let mut effects = give(number, command, args).into_iter();
    effects.find_map(|effect| if let Effect::Execute(execution) = effect { Some(execution) } else { None }).unwrap()
}

/// A store that keeps nothing, in a folder that cannot be.
fn nowhere() -> Arc<OutputStore> {
    Arc::new(OutputStore::open("/dev/null/output".into()))
}

fn executor(commands: Commands, paper: Paper) -> Executor {
    Executor::new(name("worker-1"), commands.into_parts().unwrap().1, Console::without_limit(paper), nowhere())
}

async fn next_event(executor: &mut Executor) -> JobEvent {
    executor.next_event().await
}

fn broken(finished: Option<ExecutionResult>, word: &str) {
    assert!(matches!(&finished, Some(ExecutionResult::Broken(why)) if why.contains(word)), "{finished:?}");
}

#[tokio::test]
async fn an_immediate_command_ends_on_the_spot_and_knows_its_command() {
    let mut executor = executor(Commands::new().immediate(Echo).unwrap(), Paper::default());
    let finished = executor.execute(execution(1, "echo", json!({})), START);
    assert_eq!(finished, Some(ExecutionResult::Done(json!([message_id(1), "alice", START]))));
}

#[tokio::test]
async fn a_command_that_panics_is_broken_and_the_next_one_runs() {
    let commands =
        Commands::new().immediate(Panics).unwrap().immediate(Echo).unwrap().long_running(PanicsLater).unwrap();
    let mut executor = executor(commands, Paper::default());
    broken(executor.execute(execution(1, "panics", json!({})), START), "panicked");
    assert_eq!(executor.execute(execution(2, "panics-later", json!({})), START), None);
    assert_eq!(
        next_event(&mut executor).await,
        JobEvent::Finished(key(2), ExecutionResult::Broken("it panicked".to_owned()))
    );
    assert!(matches!(executor.execute(execution(3, "echo", json!({})), START), Some(ExecutionResult::Done(_))));
}

#[tokio::test]
async fn a_failure_of_the_command_is_reported_as_such() {
    let mut executor = executor(Commands::new().long_running(Fails).unwrap(), Paper::default());
    assert_eq!(executor.execute(execution(1, "fails", json!({})), START), None);
    let failed = ExecutionResult::Failed { message: "no luck".to_owned(), details: None };
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), failed));
}

#[tokio::test]
async fn what_is_not_registered_or_cannot_be_read_is_broken() {
    let mut executor = executor(Commands::new().immediate(Echo).unwrap(), Paper::default());
    broken(executor.execute(execution(1, "nothing", json!({})), START), "not registered");
    broken(executor.execute(execution(2, "echo", json!({"x": 1})), START), "cannot be read");
}

#[tokio::test]
async fn a_cancelled_job_is_dropped_and_reported_as_cancelled() {
    let (go, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waits = Waits { go: Arc::clone(&go), dropped: Arc::clone(&dropped) };
    let mut executor = executor(Commands::new().long_running(waits).unwrap(), Paper::default());
    for number in 1..=2 {
        assert_eq!(executor.execute(execution(number, "waits", json!({})), START), None);
    }
    tokio::task::yield_now().await;
    executor.cancel(key(1));
    executor.cancel(key(99));
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), cancelled()));
    timeout(Duration::from_secs(30), dropped.notified()).await.unwrap();
    go.notify_waiters();
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(2), ExecutionResult::Done(json!("done"))));
    assert!(executor.handles.is_empty() && executor.keys.is_empty(), "nothing is kept of a job that ended");
}

#[tokio::test]
async fn a_job_that_was_done_before_it_was_cancelled_is_done() {
    let (go, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    go.notify_one();
    let waits = Waits { go, dropped: Arc::clone(&dropped) };
    let mut executor = executor(Commands::new().long_running(waits).unwrap(), Paper::default());
    assert_eq!(executor.execute(execution(1, "waits", json!({})), START), None);
    timeout(Duration::from_secs(30), dropped.notified()).await.unwrap();
    executor.cancel(key(1));
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), ExecutionResult::Done(json!("done"))));
}

#[tokio::test]
async fn progress_is_within_its_bounds_and_never_blocks_the_job() {
    let mut executor = executor(Commands::new().long_running(Reports).unwrap(), Paper::default());
    assert_eq!(executor.execute(execution(1, "reports", json!({})), START), None);
    let (mut reports, mut finished) = (Vec::new(), false);
    while !(finished && reports.len() == MAX_REPORTS) {
        match next_event(&mut executor).await {
            JobEvent::Progress(from, progress) => {
                assert_eq!(from, key(1));
                reports.push((progress.fraction, progress.message));
            }
            JobEvent::Finished(_, how) => {
                assert_eq!(how, ExecutionResult::Done(Value::Null));
                finished = true;
            }
        }
    }
    assert_eq!(reports[..3], [(0.5, Some("m".repeat(256))), (1.0, None), (0.0, None)]);
}

#[tokio::test(start_paused = true)]
async fn calculate_reports_every_two_seconds_and_prints_its_message_escaped_at_the_end() {
    let (paper, folder) = (Paper::default(), tempfile::tempdir().unwrap());
    let runs = Commands::standard().unwrap().into_parts().unwrap().1;
    let output = Arc::new(OutputStore::open(folder.path().join("output")));
    let mut executor = Executor::new(name("worker-1"), runs, Console::without_limit(paper.clone()), output);
    let start = Instant::now();
    let args = json!({"x": 5.0, "msg": "done\u{1b}[2J\n"});
    assert_eq!(executor.execute(execution(1, "calculate", args.clone()), START), None);
    for (seconds, part) in [(2, 0.4), (4, 0.8)] {
        let JobEvent::Progress(from, progress) = next_event(&mut executor).await else { panic!("it ended too early") };
        assert_eq!((from, progress.fraction, progress.message), (key(1), part, None));
        assert_eq!(start.elapsed(), Duration::from_secs(seconds));
    }
    assert!(paper.0.lock().unwrap().is_empty());
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), ExecutionResult::Done(args)));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(String::from_utf8(paper.0.lock().unwrap().clone()).unwrap(), "done\\u{1b}[2J\\n\n");
    let piece = executor.output.read(key(1), Stream::Stdout, 0, 1_000).unwrap().unwrap();
    assert_eq!((piece.data.as_slice(), piece.digest), (b"done\x1b[2J\n\n".as_slice(), Some(Digest::of(&piece.data))));
}

#[tokio::test(start_paused = true)]
async fn a_calculation_of_no_time_at_all_prints_and_ends() {
    let paper = Paper::default();
    let mut executor = executor(Commands::standard().unwrap(), paper.clone());
    let args = json!({"x": 0.0, "msg": ""});
    assert_eq!(executor.execute(execution(1, "calculate", args.clone()), START), None);
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), ExecutionResult::Done(args)));
    assert_eq!(*paper.0.lock().unwrap(), b"\n");
}

#[tokio::test]
async fn a_message_that_cannot_be_printed_fails_the_calculation() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("no room on the paper"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let runs = Commands::standard().unwrap().into_parts().unwrap().1;
    let mut executor = Executor::new(name("worker-1"), runs, Console::new(Full), nowhere());
    assert_eq!(executor.execute(execution(1, "calculate", json!({"x": 0.0, "msg": "m"})), START), None);
    let failed = ExecutionResult::Failed { message: "no room on the paper".to_owned(), details: None };
    assert_eq!(next_event(&mut executor).await, JobEvent::Finished(key(1), failed));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_print_where_nobody_reads_end_and_what_is_lost_is_an_error() {
    /// Is stuck until the test is over.
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (over, until_over) = std::sync::mpsc::channel();
    let runs = Commands::standard().unwrap().into_parts().unwrap().1;
    let mut executor = Executor::new(name("worker-1"), runs, Console::new(Stuck(until_over)), nowhere());
    let args = json!({"x": 0.0, "msg": "m".repeat(4_096)});
    let mut number = 0;
    let mut end_of_next = async || {
        number += 1;
        executor.execute(execution(number, "calculate", args.clone()), START);
        let JobEvent::Finished(finished, end) = executor.next_event().await else {
            panic!("it is a calculation of no time")
        };
        assert_eq!(finished, key(number));
        end
    };
    let mut waiting = 0;
    let failed = loop {
        match end_of_next().await {
            ExecutionResult::Done(_) => waiting += 1,
            other => break other,
        }
    };
    // A mebibyte, and the line that is being written.
    assert!((256..=257).contains(&waiting), "{waiting}");
    let is_lost = |end: &ExecutionResult| matches!(end, ExecutionResult::Failed { message, .. } if message.contains("the line is lost"));
    assert!(is_lost(&failed), "{failed:?}");
    assert!(is_lost(&end_of_next().await));
    drop(over);
}

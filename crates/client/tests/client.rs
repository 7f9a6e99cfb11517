//! A client on a real broker, from its start to its end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod world;

use std::sync::{Arc, Mutex, mpsc};

use countersign_client::{
    ClientError, Commands, Context, DataCommand, Failure, Immediate, JobContext, LongRunning, Stopped,
};
use countersign_protocol::command::NoArgs;
use countersign_protocol::reply::{ErrorCode, State, Status};
use countersign_testkit::broker::TIMEOUT;
use countersign_testkit::realm::name;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use self::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_starts_pings_calculates_and_terminates_and_keeps_its_epoch() {
    let mut world = World::new();
    let client = world.run();
    let epoch = world.presence(State::Unready).epoch;

    let not_ready = world.command("ping", json!({}));
    assert_eq!(world.final_reply(&not_ready).error.unwrap().code, ErrorCode::NotReady);
    let started = world.command("start", json!({}));
    assert_eq!(world.final_reply(&started).result, Some(json!({"changed": true})));
    let pinged = world.command("ping", json!({}));
    let answer = world.final_reply(&pinged);
    assert!(answer.result.unwrap().as_i64().unwrap() > 1_700_000_000);
    assert_eq!(answer.epoch, epoch);

    let calculated = world.command("calculate", json!({"x": 0.01, "msg": "done\u{7}"}));
    assert_eq!(world.reply(&calculated).status, Status::Accepted);
    assert_eq!(world.final_reply(&calculated).result, Some(json!({"x": 0.01, "msg": "done\u{7}"})));
    assert_eq!(client.printed(), "done\\u{7}\n");

    let terminated = world.command("terminate", json!({}));
    assert_eq!(world.final_reply(&terminated).result, Some(json!({"cancelled": 0})));
    assert_eq!(client.finished().await.unwrap(), Stopped::Cleanly);

    let again = world.run();
    assert_ne!(world.presence(State::Unready).epoch, epoch, "every start begins a new epoch");
    again.stop();
    assert_eq!(again.finished().await.unwrap(), Stopped::Cleanly);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_the_process_ended_is_interrupted_and_never_runs_again() {
    let mut world = World::new();
    let client = world.run_ready();
    let long = world.command("calculate", json!({"x": 86_400, "msg": ""}));
    assert_eq!(world.reply(&long).status, Status::Accepted);
    client.crash().await;

    let _client = world.run();
    let (interrupted, bytes) = world.raw_reply(&long, Status::Interrupted);
    assert_eq!(interrupted.error.unwrap().code, ErrorCode::Interrupted);
    world.send(&long);
    assert_eq!(world.raw_reply(&long, Status::Interrupted).1, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_asked_to_end_cancels_its_jobs_and_answers_for_them() {
    let mut world = World::new();
    let client = world.run_ready();
    let long = world.command("calculate", json!({"x": 86_400, "msg": "never"}));
    assert_eq!(world.reply(&long).status, Status::Accepted);
    client.stop();
    let cancelled = world.final_reply(&long);
    assert_eq!((cancelled.status, cancelled.error.unwrap().code), (Status::Cancelled, ErrorCode::Cancelled));
    world.presence(State::Terminated);
    assert_eq!(client.printed(), "");
    assert_eq!(client.finished().await.unwrap(), Stopped::Cleanly);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_of_the_same_name_on_the_same_state_does_not_start() {
    let mut world = World::new();
    let first = world.run();
    world.presence(State::Unready);
    let error = world.run().finished().await.unwrap_err();
    assert!(matches!(error, ClientError::Record(_)), "{error:?}");
    assert!(error.to_string().contains("another client holds"), "{error}");
    first.stop();
    assert_eq!(first.finished().await.unwrap(), Stopped::Cleanly);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_trust_bundle_than_the_accepted_one_does_not_start() {
    let mut world = World::new();
    world.trust_version(5);
    let client = world.run();
    world.presence(State::Unready);
    client.stop();
    assert_eq!(client.finished().await.unwrap(), Stopped::Cleanly);
    world.trust_version(4);
    let error = world.run().finished().await.unwrap_err();
    assert!(matches!(error, ClientError::Start(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_there_before_its_broker_waits_for_it() {
    let mut world = World::new();
    world.without_broker();
    let client = world.run();
    world.with_broker();
    world.make_ready();
    client.stop();
    assert_eq!(client.finished().await.unwrap(), Stopped::Cleanly);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_ends_in_time_without_a_broker() {
    let mut world = World::new();
    world.without_broker();
    let client = world.run();
    client.stop();
    assert_eq!(timeout(TIMEOUT, client.finished()).await.unwrap().unwrap(), Stopped::Cleanly);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_takes_effect_in_the_order_of_its_arrival() {
    let mut world = World::new();
    let _client = world.run();
    world.presence(State::Unready);
    let commands: Vec<_> = (0..400).map(|n| world.sign(if n % 2 == 0 { "start" } else { "stop" }, json!({}))).collect();
    world.send_all(&commands);
    let mut numbers = Vec::new();
    for command in &commands {
        let reply = world.final_reply(command);
        assert_eq!(reply.result.unwrap()["changed"], true, "each finds the state that the one before it left");
        numbers.push(reply.n);
    }
    assert!(numbers.is_sorted());
}

/// Tells that it is reached, and panics.
struct Gate(Arc<Notify>);

impl DataCommand for Gate {
    const NAME: &'static str = "gate";
    type Args = NoArgs;
    type Output = Value;
}

impl Immediate for Gate {
    fn run(&self, _: NoArgs, context: &Context) -> Result<Value, Failure> {
        self.0.notify_one();
        assert_eq!(context.operator, name("alice"));
        panic!("a defect of the command")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_program_runs_like_those_of_the_protocol_and_may_panic() {
    let mut world = World::new();
    let reached = Arc::new(Notify::new());
    let client = world.run_with(Commands::standard().unwrap().immediate(Gate(Arc::clone(&reached))).unwrap());
    let info = world.presence(State::Unready).info;
    assert!(info.commands.iter().any(|command| command.name == name("gate")));
    world.make_ready();
    let command = world.command("gate", json!({}));
    let reply = world.final_reply(&command);
    assert_eq!((reply.status, reply.error.unwrap().code), (Status::Failed, ErrorCode::Internal));
    timeout(TIMEOUT, reached.notified()).await.unwrap();
    let ping = world.command("ping", json!({}));
    assert_eq!(world.final_reply(&ping).status, Status::Succeeded);
    client.stop();
    assert_eq!(client.finished().await.unwrap(), Stopped::Cleanly);
}

/// Holds on to its thread until it is let go.
struct Stubborn(Mutex<mpsc::Receiver<()>>);

impl DataCommand for Stubborn {
    const NAME: &'static str = "stubborn";
    type Args = NoArgs;
    type Output = Value;
}

impl LongRunning for Stubborn {
    async fn run(&self, _: NoArgs, _: JobContext) -> Result<Value, Failure> {
        Ok(json!(self.0.lock().unwrap().recv().is_ok()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_whose_job_will_not_end_ends_at_once_at_the_second_request() {
    let mut world = World::new();
    let (_hold, held) = mpsc::channel();
    let client = world.run_with(Commands::standard().unwrap().long_running(Stubborn(Mutex::new(held))).unwrap());
    world.make_ready();
    let command = world.command("stubborn", json!({}));
    assert_eq!(world.reply(&command).status, Status::Accepted);
    client.stop();
    client.stop();
    assert_eq!(client.finished().await.unwrap(), Stopped::AtOnce);
}

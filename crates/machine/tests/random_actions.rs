//! Random actions on a simulated pair: messages are lost, doubled, delayed and reordered, the client is killed, its machine
//! goes down, its journal is lost, its disk fills up and its clock jumps. Whatever happens, nothing runs twice, nothing runs
//! unasked, and a command has at most one final reply of its own.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::Worker;
use countersign_machine::client::{ExecutionResult, State};
use countersign_protocol::command::{Builtin, CommandKind};
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::MessageId;
use countersign_protocol::reply::{Outcome, Reply};
use countersign_protocol::time::Millis;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
enum Action {
    Send {
        command: &'static str,
        epoch: bool,
        delivered: bool,
        ttl: i64,
    },
    Deliver(prop::sample::Index),
    Complete {
        fails: bool,
    },
    Pass(i64),
    Jump(i64),
    Tick,
    Kill,
    /// With it go entries that are not safely on the disk, and the clock stands anywhere before.
    LosePower {
        retained: usize,
        back: i64,
    },
    /// An older copy of the journal is restored, while the clock is right.
    RestoreRecord(prop::sample::Index),
    Sync,
    LoseRecord,
    FillDisk(bool),
}

fn action() -> impl Strategy<Value = Action> {
    // Every command that is recorded, and those that start something once more.
    let recorded = Builtin::ALL.iter().filter(|builtin| builtin.kind() != CommandKind::Query);
    let command: Vec<&str> = recorded.map(|builtin| builtin.name()).chain(["start", "calculate"]).collect();
    let command = prop::sample::select(command);
    prop_oneof![
        8 => (command, any::<bool>(), prop::bool::weighted(0.8), 1..60_000_i64)
            .prop_map(|(command, epoch, delivered, ttl)| Action::Send { command, epoch, delivered, ttl }),
        6 => any::<prop::sample::Index>().prop_map(Action::Deliver),
        3 => any::<bool>().prop_map(|fails| Action::Complete { fails }),
        4 => (0..20_000_i64).prop_map(Action::Pass),
        1 => (-7_200_000..7_200_000_i64).prop_map(Action::Jump),
        2 => Just(Action::Tick),
        2 => Just(Action::Kill),
        2 => (0..4_usize, 0..7_200_000_i64).prop_map(|(retained, back)| Action::LosePower { retained, back }),
        1 => any::<prop::sample::Index>().prop_map(Action::RestoreRecord),
        3 => Just(Action::Sync),
        1 => Just(Action::LoseRecord),
        1 => any::<bool>().prop_map(Action::FillDisk),
    ]
}

struct Simulation {
    worker: Worker,
    sent: Vec<Signed>,
    latest: Millis,
    finals: BTreeMap<MessageId, Reply>,
}

impl Simulation {
    fn act(&mut self, action: Action) {
        let ready = self.worker.state() == State::Ready;
        let before: u32 = self.worker.executed.values().sum();
        let published = self.published(action);
        for reply in self.worker.replies(&published) {
            self.check(reply);
        }
        for (key, times) in &self.worker.executed {
            assert!(*times <= 1, "{key} ran {times} times");
        }
        let after: u32 = self.worker.executed.values().sum();
        assert!(ready || after == before, "something ran in a client that was not ready");
        self.latest = self.latest.max(self.worker.now.wall);
        if self.worker.exited {
            let replies = self.worker.kill();
            replies.into_iter().for_each(|reply| self.check(reply));
        }
    }

    fn published(&mut self, action: Action) -> Vec<Signed> {
        let worker = &mut self.worker;
        match action {
            Action::Send { command, epoch, delivered, ttl } => {
                let args = match command {
                    "calculate" => json!({ "x": 1, "msg": "done" }),
                    "cancel" => match worker.running.first() {
                        Some(execution) => json!({ "command_id": execution.key().id }),
                        None => json!({}),
                    },
                    _ => json!({}),
                };
                let mut draft =
                    worker.draft(command, args).with(|command| command.expires_at = command.issued_at.plus(ttl));
                if epoch {
                    draft = draft.epoch(worker.client.epoch());
                }
                let message = draft.sign(&worker.alice);
                self.sent.push(message.clone());
                if delivered { worker.deliver(&message) } else { Vec::new() }
            }
            Action::Deliver(index) if !self.sent.is_empty() => {
                let message = index.get(&self.sent).clone();
                worker.deliver(&message)
            }
            Action::Complete { fails } if !worker.running.is_empty() => {
                let execution = worker.running.remove(0);
                let finished = match fails {
                    true => ExecutionResult::Failed { message: "no".to_owned(), details: None },
                    false => ExecutionResult::Done(execution.args().clone()),
                };
                let step = worker.client.finished(execution.key(), finished, worker.now);
                worker.apply(step)
            }
            Action::Deliver(_) | Action::Complete { .. } => Vec::new(),
            Action::Pass(millis) => {
                worker.pass(millis);
                Vec::new()
            }
            Action::Jump(millis) => {
                worker.now.wall = worker.now.wall.plus(millis);
                Vec::new()
            }
            Action::Tick => worker.tick(),
            Action::Kill => {
                let replies = worker.kill();
                self.check_all(replies)
            }
            Action::LosePower { retained, back } => {
                worker.now.wall = worker.now.wall.plus(-back);
                let replies = worker.lose_power(retained);
                self.check_all(replies)
            }
            Action::RestoreRecord(index) => {
                worker.now.wall = worker.now.wall.max(self.latest);
                let retained = index.index(worker.log.len() + 1);
                let replies = worker.restart(|mut log| {
                    log.truncate(retained);
                    log
                });
                self.check_all(replies)
            }
            Action::Sync => {
                worker.sync();
                Vec::new()
            }
            Action::LoseRecord => {
                // Lost together with a clock that was set back it is beyond what a client can defend.
                worker.now.wall = worker.now.wall.max(self.latest);
                let replies = worker.restart(|_| Vec::new());
                self.check_all(replies)
            }
            Action::FillDisk(full) => {
                worker.disk_full = full;
                Vec::new()
            }
        }
    }

    fn check_all(&mut self, replies: Vec<Reply>) -> Vec<Signed> {
        replies.into_iter().for_each(|reply| self.check(reply));
        Vec::new()
    }

    /// One final reply per command, except refusals that spoke of one delivery only and what a lost journal forgot.
    fn check(&mut self, reply: Reply) {
        let outcome = reply.outcome().unwrap();
        let unrecorded = match &outcome {
            Outcome::Refused(error) => !error.code.is_recorded(),
            Outcome::Accepted | Outcome::Progress(_) => true,
            _ => false,
        };
        if unrecorded {
            return;
        }
        if let Some(first) = self.finals.get(&reply.command_id).filter(|first| first.epoch == reply.epoch) {
            assert_eq!(first, &reply, "two different final replies");
        }
        self.finals.entry(reply.command_id).or_insert(reply);
    }
}

/// A sequence that failed once is written to this file, which is committed, and is tried first from then on.
fn regressions() -> Option<Box<dyn proptest::test_runner::FailurePersistence>> {
    Some(Box::new(FileFailurePersistence::Direct("tests/random_actions.regressions")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: regressions(), ..ProptestConfig::default() })]

    #[test]
    fn nothing_runs_twice_whatever_happens(
        start_ready: bool,
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut worker = Worker::ready();
        worker.start_ready = start_ready;
        worker.syncs = false;
        let latest = worker.now.wall;
        let mut simulation = Simulation { worker, sent: Vec::new(), latest, finals: BTreeMap::new() };
        for action in actions {
            simulation.act(action);
        }
        // After all that, the next honest commands still work.
        simulation.worker.disk_full = false;
        simulation.worker.pass(70_000);
        let worker = &mut simulation.worker;
        // Credentials hold from a moment on that the clock may have been set back behind.
        worker.now.wall = worker.now.wall.max(simulation.latest);
        let published = worker.tick();
        worker.replies(&published).into_iter().for_each(|reply| simulation.check(reply));
        let worker = &mut simulation.worker;
        let epoch = worker.client.epoch();
        let start = worker.draft("start", json!({})).epoch(epoch).sign(&worker.alice);
        let replies = worker.send(&start);
        prop_assert!(replies.iter().any(|reply| matches!(reply.outcome(), Ok(Outcome::Succeeded(_)))), "{replies:?}");
    }
}

/// Arguments of every shape are refused or accepted, and never bring the client down.
#[test]
fn arguments_of_every_shape_are_answered() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991..=9_007_199_254_740_991_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("(x|msg|command_id|.{0,8})", inner, 0..6).prop_map(|map| json!(map)),
        ]
    });
    let strategy = (
        prop::sample::select(vec!["start", "cancel", "ping", "calculate", "result", "nonesuch"]),
        prop::collection::btree_map("(x|msg|command_id|.{0,8})", value, 0..4),
    );
    let worker = std::cell::RefCell::new(Worker::ready());
    runner
        .run(&strategy, |(command, args)| {
            let mut worker = worker.borrow_mut();
            worker.pass(1_000);
            let message = worker.draft(command, json!(args)).sign(&worker.alice.clone());
            prop_assert_eq!(worker.send(&message).len(), 1);
            Ok(())
        })
        .unwrap();
}

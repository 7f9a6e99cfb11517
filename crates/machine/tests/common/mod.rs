//! A simulated client: the machine, a clock that the test sets, a log in memory, and what it published.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_machine::client::{
    Catalogue, Client, DataCommand, Effect, Entry, Execution, ExecutionResult, JobKey, Limits, Mark, Now, OutputRead,
    Restored, StartUp, Step,
};
use countersign_protocol::command::{Builtin, Calculate, Command, NoArgs, PingResult};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Authentic, Identity, Reason, Rejected, Signed};
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::Uuid;
use countersign_protocol::output::{Data, OutputPiece};
use countersign_protocol::reply::{ErrorCode, Outcome, Reply, State};
use countersign_protocol::schema::Schema;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use countersign_testkit::realm::{Draft, Realm, START, full_grant, to};
use serde_json::{Value, json};

pub struct Worker {
    pub realm: Realm,
    pub alice: Arc<Identity>,
    pub identity: Arc<Identity>,
    pub limits: Limits,
    /// Whether it is ready when it starts, from the next start on.
    pub start_ready: bool,
    pub client: Client,
    pub now: Now,
    pub log: Vec<Entry>,
    pub running: Vec<Execution>,
    pub exited: bool,
    pub executed: BTreeMap<JobKey, u32>,
    pub events: Vec<Event>,
    pub disk_full: bool,
    pub disk_has_reserve: bool,
    pub logged: Vec<String>,
    /// What jobs wrote to both streams.
    pub outputs: BTreeMap<JobKey, Vec<u8>>,
    /// The trust bundle that was written last; a restart finds it.
    pub kept: Option<Arc<Trust>>,
    /// The versions of it that were asked for.
    pub fetched: Vec<u64>,
    /// The requests for its next credential.
    pub asked: Vec<Signed>,
    /// Whether the disk takes marks as soon as they are written.
    pub syncs: bool,
    /// How much of the log is safely on the disk.
    pub synced: usize,
    /// The latest mark in it that is not.
    mark: Option<Mark>,
    ids: u64,
    boots: u8,
}

/// `ping` and `calculate` as their client registers them.
pub fn catalogue() -> Catalogue {
    Catalogue::new(data_commands()).unwrap()
}

/// `ping` and `calculate`.
pub fn data_commands() -> [DataCommand; 2] {
    let command = |builtin: Builtin, arguments, result| DataCommand {
        name: builtin.name().parse().unwrap(),
        arguments: Arc::new(arguments),
        result: Arc::new(result),
        long_running: builtin.is_long_running(),
        description: String::new(),
        definition: None,
        concurrency: None,
        grace: 0,
    };
    [
        command(Builtin::Ping, Schema::typed::<NoArgs>("ping.args"), Schema::typed::<PingResult>("ping.result")),
        command(
            Builtin::Calculate,
            Schema::typed::<Calculate>("calculate.args"),
            Schema::typed::<Calculate>("calculate.result"),
        ),
    ]
}

/// A piece as a shell reads it, of a job that wrote the same to both streams.
pub fn piece(bytes: &[u8], read: &OutputRead) -> OutputPiece {
    let from = bytes.len().min(read.offset() as usize);
    let data = &bytes[from..bytes.len().min(from + read.max())];
    OutputPiece {
        offset: from as u64,
        data: Data(data.to_vec()),
        bytes: bytes.len() as u64,
        ended: read.has_ended(),
        sha256: read.has_ended().then(|| Digest::of(bytes)),
    }
}

impl Worker {
    pub fn new() -> Self {
        Self::with(Realm::new("demo"), Limits::default())
    }

    /// A client that is ready and past the first seconds of its epoch.
    pub fn ready() -> Self {
        let mut worker = Self::new();
        worker.pass(6_000);
        assert_eq!(worker.run_command("start", json!({})), Outcome::Succeeded(json!({ "changed": true })));
        worker
    }

    pub fn with(realm: Realm, limits: Limits) -> Self {
        let identity = realm.client("worker-1", &["web"]);
        Self::with_identity(realm, identity, limits)
    }

    pub fn with_identity(realm: Realm, identity: Arc<Identity>, limits: Limits) -> Self {
        let alice = realm.operator("alice", full_grant());
        let now = Now { wall: START, since_boot: 1_000_000 };
        let (client, step) = start(&realm.trust, &identity, &limits, false, Restored::default(), 1, now);
        let mut worker = Self {
            realm,
            alice,
            identity,
            limits,
            start_ready: false,
            client,
            now,
            log: Vec::new(),
            running: Vec::new(),
            exited: false,
            executed: BTreeMap::new(),
            events: Vec::new(),
            disk_full: false,
            disk_has_reserve: false,
            logged: Vec::new(),
            outputs: BTreeMap::new(),
            kept: None,
            fetched: Vec::new(),
            asked: Vec::new(),
            syncs: true,
            synced: 0,
            mark: None,
            ids: 0,
            boots: 1,
        };
        worker.apply(step);
        worker
    }

    /// Lets time pass, in which the client's time is recorded as usual.
    pub fn pass(&mut self, millis: i64) {
        self.now.wall = self.now.wall.plus(millis);
        self.now.since_boot += millis;
        if self.syncs && !self.disk_full {
            self.write(vec![Entry::Mark { at: self.client.time(self.now) }]);
        }
    }

    /// Kills the process and starts it again from what is in the log; gives what it then publishes.
    pub fn kill(&mut self) -> Vec<Reply> {
        self.restart(|log| log)
    }

    /// The machine loses its power, and with it what was not synced, but for so many entries. It starts again now.
    pub fn lose_power(&mut self, retained: usize) -> Vec<Reply> {
        let retained = (self.synced + retained).min(self.log.len());
        self.restart(|mut log| {
            log.truncate(retained);
            log
        })
    }

    fn write(&mut self, entries: Vec<Entry>) {
        let mark = entries.iter().filter_map(|entry| entry.mark(&self.client)).last();
        self.mark = mark.or(self.mark);
        self.log.extend(entries);
        if self.syncs {
            self.sync();
        }
    }

    /// Brings the log to the disk.
    pub fn sync(&mut self) {
        self.synced = self.log.len();
        if let Some(mark) = self.mark.take() {
            self.client.synced(mark);
        }
    }

    pub fn restart(&mut self, change: impl FnOnce(Vec<Entry>) -> Vec<Entry>) -> Vec<Reply> {
        self.boots += 1;
        self.running.clear();
        self.synced = 0;
        self.mark = None;
        self.exited = false;
        self.disk_full = false; // A client whose journal cannot be written does not start.
        self.log = change(std::mem::take(&mut self.log));
        let mut restored = Restored::retaining(self.limits.retain);
        self.log.iter().cloned().for_each(|entry| restored.apply(entry));
        let (client, step) = self.started(restored);
        self.client = client;
        let started = self.log.len() + step.entries.len();
        let published = self.apply(step);
        self.synced = self.synced.max(started);
        self.replies(&published)
    }

    fn started(&self, restored: Restored) -> (Client, Step) {
        let trust = self.kept.as_ref().unwrap_or(&self.realm.trust);
        start(trust, &self.identity, &self.limits, self.start_ready, restored, self.boots, self.now)
    }

    /// Whether the disk takes a step's entries: a full one takes none, an almost full one only the end of a command without
    /// its reply, for which room is kept.
    fn fits(&self, step: &Step) -> bool {
        let is_short = |entry: &Entry| match entry {
            Entry::Finished(finished) => finished.reply.is_none(),
            _ => false,
        };
        !self.disk_full || (self.disk_has_reserve && step.entries.iter().all(is_short))
    }

    /// Does what a step asks for, in its order, and gives what was published.
    pub fn apply(&mut self, step: Step) -> Vec<Signed> {
        let mut step = step;
        while !step.entries.is_empty() && !self.fits(&step) {
            step = self.client.roll_back(step, self.now);
        }
        let Step { entries, effects, .. } = step;
        self.write(entries);
        let mut published = Vec::new();
        for effect in effects {
            match effect {
                Effect::Publish(message) => {
                    if let Ok(event) = self.realm.open::<Event>(&message, self.now.wall) {
                        self.events.push(event.into_message());
                    }
                    published.push(message);
                }
                Effect::Execute(execution) => {
                    *self.executed.entry(execution.key()).or_default() += 1;
                    if execution.is_long_running() {
                        self.running.push(execution);
                    } else {
                        let result = ExecutionResult::Done(json!(self.now.wall.seconds()));
                        let step = self.client.finished(execution.key(), result, self.now);
                        published.extend(self.apply(step));
                    }
                }
                Effect::Cancel(key) => {
                    self.running.retain(|execution| execution.key() != key);
                    let cancelled =
                        ExecutionResult::Cancelled { message: "the job was cancelled".to_owned(), details: None };
                    let step = self.client.finished(key, cancelled, self.now);
                    published.extend(self.apply(step));
                }
                Effect::ReadOutput(read) => {
                    let piece = self.outputs.get(&read.job()).map(|bytes| piece(bytes, &read));
                    let step = self.client.output_read(read, Ok(piece), self.now);
                    published.extend(self.apply(step));
                }
                Effect::Log(note) => self.logged.push(note.text),
                Effect::KeepTrust(_) if self.disk_full => {
                    let step = self.client.trust_not_kept("no space left on device", self.now);
                    published.extend(self.apply(step));
                }
                Effect::KeepTrust(trust) => {
                    self.kept = Some(Arc::clone(&trust));
                    let step = self.client.trust_kept(trust, self.now);
                    published.extend(self.apply(step));
                }
                Effect::FetchTrust(version) => self.fetched.push(version),
                Effect::Renew(request) => self.asked.push(request),
                Effect::KeepRenewal(_) if self.disk_full => {
                    let step = self.client.not_renewed("no space left on device");
                    published.extend(self.apply(step));
                }
                Effect::KeepRenewal(renewal) => {
                    let step = self.client.renewed(renewal.credential().clone(), self.now);
                    published.extend(self.apply(step));
                }
                Effect::Exit => self.exited = true,
            }
        }
        published
    }

    /// Gives the client a message as its shell would, and returns what it published.
    pub fn deliver(&mut self, message: &Signed) -> Vec<Signed> {
        let step = match self.open(message) {
            Ok(command) => self.client.receive(command, self.now),
            Err(rejected) => self.client.rejected(&rejected, self.now),
        };
        self.apply(step)
    }

    pub fn open(&self, message: &Signed) -> Result<Authentic<Command>, Rejected> {
        self.realm.open(message, self.client.time(self.now))
    }

    /// Delivers a message and reads the replies to it.
    pub fn send(&mut self, message: &Signed) -> Vec<Reply> {
        let published = self.deliver(message);
        self.replies(&published)
    }

    /// An honest command of alice's to this client.
    pub fn draft(&mut self, command: &str, args: Value) -> Draft {
        self.ids += 1;
        Draft::new(&self.alice, to("worker-1"), command, args, self.ids, self.now.wall)
    }

    /// The only outcome of an honest command, which must be final.
    pub fn run_command(&mut self, command: &str, args: Value) -> Outcome {
        let message = self.draft(command, args).sign(&self.alice);
        let replies = self.send(&message);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies[0].outcome().unwrap()
    }

    /// Makes it ready by a command that names its epoch.
    pub fn start(&mut self) {
        let epoch = self.client.epoch();
        let start = self.draft("start", json!({})).epoch(epoch).sign(&self.alice);
        assert!(matches!(outcomes(&self.send(&start))[..], [Outcome::Succeeded(_)]));
    }

    /// Starts a long computation and gives its command.
    pub fn calculate(&mut self, x: f64) -> Signed {
        let message = self.draft("calculate", json!({ "x": x, "msg": "done" })).sign(&self.alice);
        let replies = self.send(&message);
        assert_eq!(outcomes(&replies), [Outcome::Accepted]);
        message
    }

    /// Ends the oldest running job with its result.
    pub fn complete(&mut self) -> Vec<Reply> {
        let execution = self.running.remove(0);
        let step = self.client.finished(execution.key(), ExecutionResult::Done(execution.into_args()), self.now);
        let published = self.apply(step);
        self.replies(&published)
    }

    /// The whole record as entries, in parts of so many records.
    pub fn snapshot(&self, size: usize) -> Vec<Entry> {
        let mut entries = vec![self.client.epoch_started()];
        let mut after = None;
        loop {
            let part = self.client.part(after, size);
            entries.extend(part.entries());
            after = part.last();
            if after.is_none() {
                return entries;
            }
        }
    }

    pub fn tick(&mut self) -> Vec<Signed> {
        let step = self.client.tick(self.now);
        self.apply(step)
    }

    pub fn replies(&self, published: &[Signed]) -> Vec<Reply> {
        let now = self.client.time(self.now);
        published
            .iter()
            .filter_map(|message| self.realm.open::<Reply>(message, now).ok())
            .map(|m| m.into_message())
            .collect()
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.client.dropped().get(&reason).copied().unwrap_or(0)
    }

    pub fn state(&self) -> State {
        self.client.state()
    }

    pub fn security_events(&self) -> Vec<(String, u64, Option<String>)> {
        let data = self.events.iter().filter_map(|event| match event.data().unwrap() {
            EventData::Security(security) => Some(security),
            EventData::Presence(_) | EventData::Job(_) => None,
        });
        data.map(|s| (s.reason.to_string(), s.count, s.signer.map(|signer| signer.to_string()))).collect()
    }
}

fn start(
    trust: &Arc<Trust>,
    identity: &Arc<Identity>,
    limits: &Limits,
    start_ready: bool,
    restored: Restored,
    boots: u8,
    now: Now,
) -> (Client, Step) {
    let start = StartUp {
        limits: limits.clone(),
        version: "0.1.0".to_owned(),
        identity: Arc::clone(identity),
        catalogue: catalogue(),
        trust: Arc::clone(trust),
        restored,
        boot: Uuid::from_random([boots; 16]),
        epoch: Uuid::from_random([100 + boots; 16]),
        start_ready,
    };
    Client::start(start, now).unwrap()
}

pub fn outcomes(replies: &[Reply]) -> Vec<Outcome> {
    replies.iter().map(|reply| reply.outcome().unwrap()).collect()
}

/// The code of the only reply, which must be a refusal.
pub fn refusal(replies: &[Reply]) -> ErrorCode {
    match outcomes(replies).as_slice() {
        [Outcome::Refused(error)] => error.code,
        other => panic!("one refusal was expected: {other:?}"),
    }
}

pub fn millis(millis: i64) -> Millis {
    Millis::new(millis)
}

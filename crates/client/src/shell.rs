//! The one loop that owns the machine.

mod config;
mod connection;
mod journal;
mod renewal;
mod trust;

pub use self::config::ClientConfig;

use std::future::{pending, poll_fn};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::thread::available_parallelism;
use std::time::Duration;

use countersign_host::clock;
use countersign_keys::{Member, MemberFiles};
use countersign_link::{Link, LinkConfig, LinkError, LinkEvents, MAX_WAITING, TrustRequest};
use countersign_machine::client::{self as machine, Effect, Execution, Level, Mark, Now, StartUp, Step};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Verifier;
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::trust::StoredTrust;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::console::Console;
use crate::error::ClientError;
use crate::executor::{Executor, JobEvent};
use crate::health::Liveness;
use crate::journal::sync::Syncer;
use crate::journal::{CompactionRequest, Journal, JournalError, LockedStateDir};
use crate::output::OutputStore;
use crate::registry::Commands;
use crate::shutdown::{Shutdown, ShutdownRequest};

/// How many messages are taken in one turn; the link bounds their bytes. The bounds keep a turn short under a flood: a few
/// milliseconds.
const TURN: usize = 256;
/// How long the last replies may take to be written to the broker's connection, which may just be coming back.
const FLUSH: Duration = Duration::from_millis(2_500);
/// How long what jobs printed may take to be written.
const PRINT: Duration = Duration::from_millis(500);
/// How often the output of forgotten jobs is removed, in milliseconds.
const FORGET: i64 = 60_000;
/// How long the connection may take to close.
const CLOSE: Duration = Duration::from_millis(1_500);

/// How a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Its jobs have their replies, everything is published and on disk.
    Cleanly,
    /// It was asked to end twice, or took more than 5 seconds: replies that were not sent are left to its next start.
    AtOnce,
}

/// A client that has not started.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    commands: Commands,
    folder: Option<LockedStateDir>,
    updates: Option<mpsc::Receiver<Commands>>,
}

impl Client {
    /// A client with these data commands.
    pub fn new(config: ClientConfig, commands: Commands) -> Self {
        Self { config, commands, folder: None, updates: None }
    }

    /// With its folder, which was taken before: [`ClientConfig::state`] has no meaning then. It must have been taken for this
    /// client's own name.
    #[must_use]
    pub fn holding(self, folder: LockedStateDir) -> Self {
        Self { folder: Some(folder), ..self }
    }

    /// With commands that replace its own while it runs: each set as a whole, announced by a presence. Jobs that run go on.
    #[must_use]
    pub fn updated_by(self, updates: mpsc::Receiver<Commands>) -> Self {
        Self { updates: Some(updates), ..self }
    }

    /// Runs until the command `terminate`, or until it is asked to end. A broker that is not there is waited for.
    ///
    /// Call it in a runtime with time and input/output enabled. The 5 seconds that a client may take to end are kept by that
    /// runtime's timer: where jobs block its threads, only the end of the process ends it.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<Stopped, ClientError> {
        let mut updates = self.updates.take();
        let mut shell = Shell::start(self).await?;
        let mut arrived = Vec::with_capacity(TURN);
        while !shell.is_ending {
            shell.judge_health();
            let (idle, grace) = (shell.idle_time(), shell.grace());
            let taken = tokio::select! {
                taken = shell.events.recv_many(&mut arrived, TURN) => Taken::Arrived(taken),
                next_event = shell.executor.next_event() => Taken::JobEvent(next_event),
                answer = shell.fetching.answer() => Taken::Trust(answer),
                synced = shell.syncer.synced() => Taken::Synced(synced),
                () = sleep(idle) => Taken::Tick,
                next_request = shell.journal.next_request() => Taken::CompactionRequest(next_request),
                commands = next_update(&mut updates) => Taken::Commands(commands),
                request = shutdown.requested(grace) => Taken::Shutdown(request),
            };
            match taken {
                // The link's last handle is here, so that this is a defect of it.
                Taken::Arrived(0) => return Err(LinkError::System("its thread ended".to_owned()).into()),
                Taken::Arrived(_) => {
                    shell.receive(arrived.drain(..));
                    give_way().await;
                }
                Taken::JobEvent(next_event) => shell.on_job_event(next_event),
                Taken::CompactionRequest(next_request) => shell.compact(next_request),
                Taken::Trust(answer) => shell.turn(|machine, now| machine.trust_answered(answer, now)),
                Taken::Synced(synced) => shell.synced(synced),
                Taken::Commands(commands) => shell.replace_commands(commands)?,
                Taken::Tick => {
                    shell.turn(|machine, now| machine.tick(now));
                    shell.forget_output();
                }
                Taken::Shutdown(ShutdownRequest::Orderly) => shell.turn(|machine, now| machine.terminate(now)),
                Taken::Shutdown(ShutdownRequest::AtOnce) => return Ok(Stopped::AtOnce),
            }
        }
        let fault = shell.fault.take();
        tokio::select! {
            () = shell.finish() => fault.map_or(Ok(Stopped::Cleanly), |fault| Err(fault.into())),
            () = shutdown.at_once(Duration::ZERO) => Ok(Stopped::AtOnce),
        }
    }
}

/// What a turn begins with.
enum Taken {
    Arrived(usize),
    JobEvent(JobEvent),
    /// Of the journal that is being compacted.
    CompactionRequest(CompactionRequest),
    Synced(io::Result<Mark>),
    /// In place of those until now.
    Commands(Commands),
    /// The broker's answer to a request for a trust bundle.
    Trust(StoredTrust),
    Tick,
    Shutdown(ShutdownRequest),
}

/// The machine, and everything around it.
struct Shell {
    machine: machine::Client,
    verifier: Verifier,
    realm: Name,
    /// Where the trust bundle is written that was accepted last.
    accepted: PathBuf,
    /// Where its own credential is renewed.
    files: Option<MemberFiles>,
    /// The subject of the issuer's answers.
    answers: String,
    /// How far clocks may differ, in milliseconds.
    skew: i64,
    /// The request for the next one, while it is under way.
    fetching: TrustRequest,
    journal: Journal,
    syncer: Syncer,
    link: Link,
    events: LinkEvents,
    executor: Executor,
    console: Console,
    output: Arc<OutputStore>,
    /// When the output of forgotten jobs is removed next, in milliseconds since boot.
    forget_at: i64,
    sign: Liveness,
    threads: usize,
    is_connected: bool,
    /// Whether it was said that others can read what goes to the broker.
    has_warned: bool,
    /// Whether nothing can begin, because the journal could not be written.
    is_failing: bool,
    /// The latest mark that was written, to be brought to the disk.
    unsynced: Option<Mark>,
    /// Whether the journal could not be brought to the disk the last time.
    is_unsynced: bool,
    is_ending: bool,
    /// Why it ends without a request to.
    fault: Option<JournalError>,
}

impl Shell {
    async fn start(Client { config, commands, folder, updates: _ }: Client) -> Result<Self, ClientError> {
        let ClientConfig { member, trust, broker, state, limits, start_ready, version, console, prefix_output, health } =
            config;
        let Member { identity, login, files, inbox_prefix } = member;
        let (catalogue, runs) = commands.into_parts()?;
        let skew = limits.skew;
        let folder = folder.map_or_else(|| LockedStateDir::take(&state, identity.name()), Ok)?;
        let output = Arc::new(OutputStore::open(folder.path().join("output")));
        let accepted = folder.accepted_trust(&trust);
        let trust = folder.trust(&trust)?;
        let (mut journal, restored) = Journal::open(folder, limits.retain)?;
        let sign = Liveness::new(health, limits.heartbeat);
        let (name, trust) = (identity.name().clone(), Arc::new(trust));
        let realm = trust.realm().clone();
        let answers = subject::renewal_answer(&realm, Role::Client, &name);
        let subscriptions = renewal::subscriptions(identity.credential());
        let verifier = Verifier::new(Arc::clone(&trust), limits.skew).sparing_copies();
        let start = StartUp {
            limits,
            version,
            identity: Arc::new(identity),
            catalogue,
            trust,
            restored,
            boot: Uuid::from_random(clock::random()?),
            epoch: Uuid::from_random(clock::random()?),
            start_ready,
        };
        let (machine, mut first) = machine::Client::start(start, now())?;
        journal.append_for_good(&first.entries).map_err(|error| journal.error(&error))?;
        first.entries.clear();
        let (name_there, max_waiting) = (name.to_string(), MAX_WAITING);
        let link = LinkConfig { broker, name: name_there, login, inbox_prefix, subscriptions, max_waiting, wait: true };
        let (link, events) = Link::connect(link).await?;
        let threads = available_parallelism().map_or(1, usize::from);
        let executor = Executor::new(name.clone(), runs, console.clone(), Arc::clone(&output));
        let executor = executor.prefixed(prefix_output.then(|| name.clone()));
        let mut shell = Self {
            machine,
            verifier,
            realm,
            accepted,
            files,
            answers,
            skew,
            fetching: TrustRequest::default(),
            journal,
            syncer: Syncer::new(),
            link,
            events,
            executor,
            console,
            output,
            forget_at: i64::MIN,
            sign,
            threads,
            is_connected: false,
            has_warned: false,
            is_failing: false,
            unsynced: None,
            is_unsynced: false,
            is_ending: false,
            fault: None,
        };
        shell.commit(vec![first]);
        tracing::info!(client = %name, epoch = %shell.machine.epoch(), "started");
        Ok(shell)
    }

    /// How long nothing is due.
    fn idle_time(&self) -> Duration {
        let millis = self.machine.wake_at().min(self.sign.due()).saturating_sub(clock::since_boot());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// How much longer than others some jobs may take to end.
    fn grace(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.machine.grace()).unwrap_or(0))
    }

    fn replace_commands(&mut self, commands: Commands) -> Result<(), ClientError> {
        let (catalogue, runs) = commands.into_parts()?;
        self.executor.replace(runs);
        self.turn(|machine, now| machine.replace_catalogue(catalogue, now));
        Ok(())
    }

    fn on_job_event(&mut self, next_event: JobEvent) {
        self.turn(|machine, now| match next_event {
            JobEvent::Finished(key, finished) => machine.finished(key, finished, now),
            JobEvent::Progress(key, progress) => machine.progressed(key, progress, now),
        });
    }

    /// The client's time is on the disk, or is not.
    fn synced(&mut self, synced: io::Result<Mark>) {
        match &synced {
            Err(error) if !self.is_unsynced => {
                let meanwhile = "commands to groups and to all are refused as `starting` until it can";
                tracing::error!(%error, "the journal cannot be brought to the disk; {meanwhile}");
            }
            Ok(_) if self.is_unsynced => tracing::info!("the journal is on the disk again"),
            Err(_) | Ok(_) => {}
        }
        self.is_unsynced = synced.is_err();
        if let Ok(mark) = synced {
            self.machine.synced(mark);
        }
    }

    /// Has the client's time brought to the disk, and sees that no second client can be at work beside this one.
    fn secure(&mut self, mark: Mark) {
        self.syncer.request(self.journal.file(), mark);
        if let Err(fault) = self.journal.check_place()
            && self.fault.is_none()
        {
            tracing::error!("{fault}: another client could be at work beside this one, which ends");
            self.fault = Some(fault);
            self.turn(|machine, now| machine.terminate(now));
        }
    }

    /// Removes the output of jobs that the machine has forgotten.
    fn forget_output(&mut self) {
        let now = clock::since_boot();
        if now >= self.forget_at {
            self.forget_at = now.saturating_add(FORGET);
            self.output.retain(|key| self.machine.remembers(key));
        }
    }

    fn turn(&mut self, turn: impl FnOnce(&mut machine::Client, Now) -> Step) {
        let step = turn(&mut self.machine, now());
        self.commit(vec![step]);
    }

    fn apply(&mut self, effect: Effect) -> Option<Step> {
        match effect {
            Effect::Publish(message) => self.link.publish(message, None),
            Effect::Execute(execution) => return self.execute(execution),
            Effect::Cancel(key) => self.executor.cancel(key),
            Effect::ReadOutput(read) => {
                let piece = self.output.piece(&read);
                return Some(self.machine.output_read(read, piece, now()));
            }
            Effect::Log(note) => match note.level {
                Level::Query => tracing::debug!("{}", note.text),
                Level::Command => tracing::info!("{}", note.text),
                Level::Info => tracing::info!("{}", note.text),
                Level::Warn => tracing::warn!("{}", note.text),
                Level::Dropped => tracing::warn!("{}", note.text),
            },
            Effect::KeepTrust(trust) => return Some(self.keep_trust(trust)),
            Effect::Renew(request) => return self.renew(request),
            Effect::KeepRenewal(renewal) => return self.keep_renewal(&renewal),
            Effect::FetchTrust(version) => self.fetching.begin(&self.link, &self.realm, version),
            Effect::Exit => self.is_ending = true,
        }
        None
    }

    fn execute(&mut self, execution: Execution) -> Option<Step> {
        let key = execution.key();
        let finished = self.executor.execute(execution, clock::wall())?;
        Some(self.machine.finished(key, finished, now()))
    }

    /// Sees the last replies off, and closes the connection.
    async fn finish(self) {
        if !self.console.flush(PRINT).await {
            tracing::warn!("what jobs printed could not all be written: nobody reads the output");
        }
        if !self.link.flush(FLUSH).await {
            tracing::warn!("the last replies could not be published; the next start answers for them");
        }
        if !self.link.close(CLOSE).await {
            tracing::warn!("the broker did not see the connection off");
        }
        tracing::info!("ended");
    }
}

async fn next_update(updates: &mut Option<mpsc::Receiver<Commands>>) -> Commands {
    if let Some(receiver) = updates
        && let Some(commands) = receiver.recv().await
    {
        return commands;
    }
    *updates = None;
    pending().await
}

/// Lets jobs and timers have their turn on this thread, too, where there may always be more to take. Not tokio's own
/// `yield_now`: it holds a task back until its thread has nothing else to do, and a job that blocks the thread would hold the
/// client.
async fn give_way() {
    let mut gave_way = false;
    poll_fn(|context| {
        if std::mem::replace(&mut gave_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn now() -> Now {
    Now { wall: clock::wall(), since_boot: clock::since_boot() }
}

#[cfg(test)]
mod tests;

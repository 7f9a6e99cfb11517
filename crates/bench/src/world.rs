//! What a benchmark runs in: a realm with its keys, a nats-server, and processes of the release binary.

use std::fs;
use std::future::ready;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{AuthError, ConnectOptions};
use countersign_host::clock;
use countersign_keys::{KeyFolder, Login, Member, Seed, create_secret, load_member, load_trust};
use countersign_machine::server::{Audience, ClientEvent, CommandRequest, Options, Update};
use countersign_protocol::command::{Builtin, Call};
use countersign_protocol::credential::Role;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::trust::Trust;
use countersign_server::{Follow, Operator, OperatorConfig, OperatorEvent};
use countersign_testkit::accounts;
use countersign_testkit::broker::Broker;
use countersign_testkit::hostile::Peer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Map;
use tempfile::TempDir;

use crate::BenchResult;

/// The realm of every benchmark.
pub(crate) const REALM: &str = "bench";
/// The client that is spoken to.
pub(crate) const WORKER: &str = "worker-1";
/// The operator.
const OPERATOR: &str = "alice";
/// Longer than anything takes that a benchmark waits for.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A realm with `worker-1`, on a nats-server of its own that is configured as this repository's nats.conf says.
pub(crate) struct World {
    folder: TempDir,
    broker: Broker,
}

/// A process of ours, which goes with the value.
pub(crate) struct Process {
    child: Child,
    started: Instant,
}

impl World {
    /// The keys by `countersign init`, the stream by `countersign setup`, and one user more: it stands in for whoever is
    /// not Countersign, and may publish and subscribe to everything.
    pub(crate) fn new() -> BenchResult<Self> {
        let folder = TempDir::new()?;
        let keys = KeyFolder::new(folder.path().join("keys"));
        let mut init = Command::new(binary()?);
        init.args(["init", "--realm", REALM, "--operator", OPERATOR, "--client", WORKER, "--keys"]).arg(keys.path());
        run(&mut init)?;

        let seed = Seed::from_random(clock::random()?).ok_or("no connection key")?;
        let account = accounts::key(&fs::read_to_string(keys.authority())?, "realm");
        create_secret(
            &outsider_creds(&keys),
            accounts::user(&account, "test", seed.as_str(), &[">"], &[">"]).as_bytes(),
        )?;

        let configuration = folder.path().join("nats.conf");
        fs::write(&configuration, include_str!("../../../nats.conf"))?;
        let world = Self { broker: Broker::with_file(&configuration), folder };
        run(&mut world.countersign(&["setup"])?)?;
        Ok(world)
    }

    /// A world with `worker-1` started and ready, and an operator who has just received its presence.
    pub(crate) async fn ready() -> BenchResult<(Self, Process, Operator)> {
        let world = Self::new()?;
        let mut operator = world.operator(Follow::Presence).await?;
        let worker = world.client("state")?;
        start(&mut operator).await?;
        Ok((world, worker, operator))
    }

    /// The keys.
    pub(crate) fn keys(&self) -> KeyFolder {
        KeyFolder::new(self.folder.path().join("keys"))
    }

    /// The trust bundle.
    pub(crate) fn trust(&self) -> BenchResult<Trust> {
        Ok(load_trust(&self.keys())?)
    }

    /// The operator's identity and connection key.
    pub(crate) fn member(&self) -> BenchResult<Member> {
        Ok(load_member(&self.keys(), Role::Operator, &OPERATOR.parse()?, &self.trust()?, clock::wall(), SKEW)?)
    }

    /// A connected operator in this process.
    pub(crate) async fn operator(&self, follow: Follow) -> BenchResult<Operator> {
        let (member, trust) = (self.member()?, Arc::new(self.trust()?));
        let (broker, enrolled) = (self.broker.url().into(), self.keys().names(Role::Client)?);
        Ok(Operator::connect(OperatorConfig { broker, member, trust, accepted: None, follow, enrolled }).await?)
    }

    /// A connection of whoever is not Countersign.
    pub(crate) async fn outsider(&self) -> BenchResult<async_nats::Client> {
        outsider(&self.broker.url(), &self.keys()).await
    }

    /// A connection of the same, which blocks and can publish anything.
    pub(crate) fn peer(&self) -> BenchResult<Peer> {
        Ok(Peer::connect(self.broker.port(), Some(&fs::read_to_string(outsider_creds(&self.keys()))?)))
    }

    /// `countersign` with these arguments, in this realm.
    pub(crate) fn countersign(&self, arguments: &[&str]) -> BenchResult<Command> {
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--keys").arg(self.keys().path()).args(["--nats-url", &self.broker.url()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// `worker-1` as a process, with its journal in a folder of this name.
    pub(crate) fn client(&self, state: &str) -> BenchResult<Process> {
        self.client_with(state, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn client_with(&self, state: &str, arguments: &[&str]) -> BenchResult<Process> {
        let mut command = self.countersign(&[&["client", "--name", WORKER], arguments].concat())?;
        Process::spawn(command.arg("--state").arg(self.state(state)))
    }

    /// Where that folder is.
    pub(crate) fn state(&self, state: &str) -> PathBuf {
        self.folder.path().join(state)
    }

    /// This program in another part, with the broker and the keys as its first arguments; it has reported that it is ready.
    pub(crate) fn part(&self, part: &str, arguments: &[String]) -> BenchResult<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([part, &self.broker.url()]).arg(self.keys().path()).args(arguments);
        let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        let stdout = process.child.stdout.as_mut().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line == "ready\n" { Ok(process) } else { Err(format!("`{part}` ended before it was ready").into()) }
    }
}

impl Process {
    fn spawn(command: &mut Command) -> BenchResult<Self> {
        let started = Instant::now();
        Ok(Self { child: command.spawn()?, started })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Since just before it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(mut self) -> BenchResult<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> BenchResult<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The release binary, which lies beside this program.
pub(crate) fn binary() -> BenchResult<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("countersign");
    if binary.is_file() { Ok(binary) } else { Err(format!("there is no {}", binary.display()).into()) }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> BenchResult<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{} ended with {}: {}", shown(command), output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// A connection of whoever is not Countersign.
pub(crate) async fn outsider(url: &str, keys: &KeyFolder) -> BenchResult<async_nats::Client> {
    let options = login(&outsider_creds(keys))?.subscription_capacity(65_536);
    Ok(options.connect(url).await?)
}

/// Options that log in with a file of credentials.
pub(crate) fn login(creds: &Path) -> BenchResult<ConnectOptions> {
    let login = Login::read(creds)?;
    Ok(ConnectOptions::with_jwt(login.jwt().to_owned(), move |nonce| {
        ready(login.sign(&nonce).ok_or_else(|| AuthError::new("the connection key does not sign")))
    }))
}

/// A request of a built-in command without arguments.
pub(crate) fn request(builtin: Builtin) -> BenchResult<CommandRequest> {
    Ok(CommandRequest::new(Call { name: builtin.into(), args: Map::new() }, false)?)
}

/// Sends a request, and fails unless every target succeeds; the number of targets.
pub(crate) async fn report(operator: &mut Operator, builtin: Builtin, to: &Audience) -> BenchResult<usize> {
    let options = Options { timeout: 10_000, ..Options::default() };
    let report = operator.request(request(builtin)?, to, options, std::future::pending(), |_| {}).await?;
    match report.exit_status() {
        0 => Ok(report.replies.len()),
        _ => Err(format!("{builtin} {to}: {:?}", report.summary()).into()),
    }
}

/// Starts `worker-1`, which has just been run as a process.
pub(crate) async fn start(operator: &mut Operator) -> BenchResult<()> {
    until_state(operator, State::Unready).await?;
    report(operator, Builtin::Start, &worker()?).await.map(drop)
}

/// Waits until a client reports that it is in a state in which it was not before.
pub(crate) async fn until_state(operator: &mut Operator, state: State) -> BenchResult<()> {
    loop {
        if let OperatorEvent::Update { update: Update::ClientEvent { event, .. }, .. } = operator.next().await?
            && let ClientEvent::Joined { state: now }
            | ClientEvent::Restarted { state: now, .. }
            | ClientEvent::State { to: now, .. } = event
            && now == state
        {
            return Ok(());
        }
    }
}

/// `worker-1` alone.
pub(crate) fn worker() -> BenchResult<Audience> {
    let worker: Name = WORKER.parse()?;
    Ok(Audience::Clients(vec![worker]))
}

fn outsider_creds(keys: &KeyFolder) -> PathBuf {
    keys.path().join("nats/bench.creds")
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = command.get_args().take(1).map(|word| word.to_string_lossy().into_owned());
    [program].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

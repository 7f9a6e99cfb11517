//! A real nats-server for one test: its own port, its own folders, gone with the value.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

/// How long a test waits for something before it fails: long enough on a slow machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a condition is polled that sends no event.
const STEP: Duration = Duration::from_millis(5);

/// A nats-server of its own, on a port of 127.0.0.1 that it keeps when it is started again. JetStream's files lie in a
/// folder that goes with it.
#[derive(Debug)]
pub struct Broker {
    child: Option<Child>,
    folder: TempDir,
    arguments: Vec<String>,
    port: u16,
}

impl Broker {
    /// One that lets everybody in and allows everything.
    pub fn start() -> Self {
        Self::with_arguments(TempDir::new().unwrap(), &["-js"])
    }

    /// One with a configuration file that lies elsewhere, as `countersign init` and the repository's nats.conf make it.
    pub fn with_file(configuration: &Path) -> Self {
        Self::with_arguments(TempDir::new().unwrap(), &["-c", text(configuration)])
    }

    /// One with a configuration of its own; [`Self::reconfigure`] changes it.
    pub fn configured(configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("nats.conf");
        fs::write(&path, configuration).unwrap();
        Self::with_arguments(folder, &["-c", text(&path)])
    }

    /// Three that are one cluster, all with one configuration file that lies elsewhere; once they have chosen who leads them.
    pub fn cluster(configuration: &Path) -> [Self; 3] {
        // An address of this process's own: a port that is free now may be somebody else's when all of them have started.
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let host = Ipv4Addr::new(127, 64 | a & 1 | b & 63, c, d);
        let routes = [1, 2, 3].map(|number| format!("nats://{host}:{}", 6_220 + number));
        let all = routes.join(",");
        let brokers = [0, 1, 2].map(|number| {
            let name = format!("broker-{number}");
            let arguments = [
                ["-c", text(configuration)],
                ["--server_name", &name],
                ["--cluster_name", "cluster"],
                ["--cluster", &routes[number]],
                ["--routes", &all],
            ];
            Self::with_arguments(TempDir::new().unwrap(), &arguments.concat())
        });
        let is_led = |broker: &Self| broker.log().contains("JetStream cluster new metadata leader");
        let leads = |broker: &Self| broker.log().contains("Self is new JetStream cluster metadata leader");
        brokers[0].until("the cluster has a leader", || {
            brokers.iter().all(|broker| is_led(broker) || leads(broker)).then_some(())
        });
        brokers
    }

    fn with_arguments(folder: TempDir, arguments: &[&str]) -> Self {
        let mut all = vec!["-a", "127.0.0.1", "--ports_file_dir", text(folder.path())];
        let store = folder.path().join("jetstream");
        all.extend(["-sd", text(&store)]);
        all.extend(arguments);
        let arguments = all.into_iter().map(str::to_owned).collect();
        let mut broker = Self { child: None, folder, arguments, port: 0 };
        broker.restart();
        broker
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps the accounts that it was given over the bus.
    pub fn accounts_store(&self) -> PathBuf {
        self.folder.path().join("accounts")
    }

    /// Ends it in good order: SIGTERM.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Sends a signal: a broker that is stopped accepts connections and sends nothing.
    pub fn signal(&self, signal: Signal) {
        self::signal(self.child.as_ref().expect("the broker runs"), signal);
    }

    /// Ends it as a power failure would: SIGKILL.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again on the same port, when it has ended.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let deadline = Instant::now() + TIMEOUT;
        self.child = Some(self.spawn());
        self.port = loop {
            if let Some(port) = self.announced() {
                break port;
            }
            assert!(Instant::now() < deadline, "the nats-server does not say its port:\n{}", self.log());
            // While the port was free, somebody may have got it for a connection that does not last.
            if self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
                assert!(self.log().contains("address already in use"), "the nats-server has ended:\n{}", self.log());
                self.child = Some(self.spawn());
            }
            thread::sleep(STEP);
        };
    }

    /// Makes it read its configuration again, and waits until it has.
    pub fn reload(&self) {
        const DONE: &str = "Reloaded server configuration";
        let before = self.log().matches(DONE).count();
        self.signal(Signal::HUP);
        self.until(DONE, || (self.log().matches(DONE).count() > before).then_some(()));
    }

    /// Gives a broker that was [`configured`](Self::configured) another configuration.
    pub fn reconfigure(&self, configuration: &str) {
        fs::write(self.folder.path().join("nats.conf"), configuration).unwrap();
        self.reload();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn spawn(&self) -> Child {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        Command::new(program())
            .env("NATS_ACCOUNTS", self.accounts_store())
            .args(&self.arguments)
            .args(["-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program().display()))
    }

    /// The port that it reports, once it has one.
    fn announced(&self) -> Option<u16> {
        let ports = self.folder.path().join(format!("nats-server_{}.ports", self.child.as_ref()?.id()));
        let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(ports).ok()?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    fn end(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("the broker runs");
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
    }

    /// The server reports its state by files only, and nothing wakes us when they change.
    fn until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < deadline, "the nats-server does not come so far that {what}:\n{}", self.log());
            thread::sleep(STEP);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a child of this process. Where it is SIGSTOP, waits until it holds: the child's threads run on for a
/// while after the signal to stop.
pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
    if signal == Signal::STOP {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid), options).unwrap();
        assert!(status.is_some_and(|status| status.stopped()), "it has ended instead");
    }
}

/// A TCP address on this machine; port 0 is any that is free.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The nats-server that NATS_SERVER names, or that is on PATH. A test that needs one does not pass without it.
fn program() -> PathBuf {
    let on_path =
        || env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("nats-server")).find(|path| path.is_file());
    env::var_os("NATS_SERVER")
        .map(PathBuf::from)
        .or_else(on_path)
        .expect("this test needs a nats-server and neither NATS_SERVER nor PATH has one: run it through `./just test`")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

//! A realm of its own: keys, a nats-server with this repository's configuration, clients, and an operator's commands.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use countersign_keys::KeyFolder;
use countersign_testkit::accounts;
use countersign_testkit::broker::{Broker, TIMEOUT};
use countersign_testkit::hostile::Peer;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Ran};

const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");

/// The realm `demo` with the operator `alice`.
pub struct Fleet {
    folder: TempDir,
    pub broker: Broker,
    /// Receives every event, from the start: this is how a test knows that a client is present.
    events: RefCell<Peer>,
    /// With which presence each client started.
    started: RefCell<BTreeMap<String, Value>>,
}

impl Fleet {
    /// With `worker-1`, which is not started.
    pub fn new() -> Self {
        Self::of(&["worker-1"])
    }

    /// With these clients, `worker-2:web` with a group; none of them is started.
    pub fn of(clients: &[&str]) -> Self {
        let fleet = Self::without_stream(clients);
        fleet.run(&["setup"]).exits(0);
        fleet
    }

    /// The same on a broker that stores no presence: `setup` has not run.
    pub fn without_stream(clients: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut init = command(folder.path(), "nats://127.0.0.1:1");
        init.args(["init", "--realm", "demo", "--operator", "alice"]);
        init.args(clients.iter().flat_map(|client| ["--client", client]));
        Process::spawn(init).wait().exits(0);
        let configuration = folder.path().join("nats.conf");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats.conf"), &configuration).unwrap();
        let broker = Broker::with_file(&configuration);
        let mut events = peer(&broker, &keys(folder.path()).observer_creds());
        events.subscribe("cs.demo.event.>");
        Self { folder, broker, events: RefCell::new(events), started: RefCell::default() }
    }

    /// With `worker-1` started and ready, and its process.
    pub fn ready() -> (Self, Process) {
        let fleet = Self::new();
        let worker = fleet.client("worker-1");
        fleet.run(&["start", "worker-1"]).exits(0);
        (fleet, worker)
    }

    /// The folder that holds everything.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The keys.
    pub fn keys(&self) -> KeyFolder {
        keys(self.path())
    }

    /// The state folder of a client.
    pub fn state_folder(&self, client: &str) -> PathBuf {
        self.path().join("state").join(client)
    }

    /// `countersign` with these arguments, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.path(), &self.broker.url());
        command.args(arguments);
        command
    }

    /// Runs `countersign` until it exits.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.spawn(arguments).wait()
    }

    /// Starts `countersign`.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        Process::spawn(self.command(arguments))
    }

    /// Starts a client, and waits until it receives commands.
    pub fn client(&self, client: &str) -> Process {
        self.client_as(client, self.command(&["client", "--name", client]))
    }

    /// Starts a client in another way, and waits until it receives commands.
    pub fn client_as(&self, client: &str, command: Command) -> Process {
        self.events.borrow_mut().so_far();
        let process = Process::spawn(command);
        // It is published after the subscriptions, on the same connection.
        let presence = self.presence(client, "unready");
        self.started.borrow_mut().insert(client.to_owned(), presence);
        process
    }

    /// Waits for the next presence of a client in a state.
    pub fn presence(&self, client: &str, state: &str) -> Value {
        let subject = format!("cs.demo.event.{client}.presence");
        let is_it = |subject_of: &str, body: &Value| subject_of == subject && body["state"] == state;
        let mut events = self.events.borrow_mut();
        events.wait_for(&format!("{client} {state}"), |event| is_it(&event.subject, &event.json())).json()
    }

    /// Waits for the next presence of a client that is what a test waits for.
    pub fn presence_that(&self, client: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let subject = format!("cs.demo.event.{client}.presence");
        let mut events = self.events.borrow_mut();
        let found = events.wait_for(&format!("{client}: {what}"), |it| it.subject == subject && fits(&it.json()));
        found.json()
    }

    /// The presence with which a client started that was started last.
    pub fn last_presence(&self, client: &str) -> Value {
        self.started.borrow()[client].clone()
    }

    /// Waits for the next event of a kind.
    pub fn event(&self, client: &str, kind: &str) -> Value {
        let subject = format!("cs.demo.event.{client}.{kind}");
        self.events.borrow_mut().wait_for(&subject, |event| event.subject == subject).json()
    }

    /// Forgets the events until now.
    pub fn forget_events(&self) {
        self.events.borrow_mut().so_far();
    }

    /// Connects and subscribes to the events again, after the broker was down.
    pub fn resubscribe(&self) {
        let mut events = self.peer(&self.keys().observer_creds());
        events.subscribe("cs.demo.event.>");
        self.events.replace(events);
    }

    /// Gives a user of the realm's account permissions of its own from its next connection on, as whoever holds the account's
    /// key can, or a broker that is not honest.
    pub fn allow(&self, creds: &Path, publish: &[&str], subscribe: &[&str]) {
        let account = accounts::key(&fs::read_to_string(self.keys().authority()).unwrap(), "realm");
        let before = fs::read_to_string(creds).unwrap();
        let user = accounts::claims(accounts::jwt_in(&before).unwrap())["name"].clone();
        let (user, seed) = (user.as_str().unwrap(), accounts::seed_in(&before));
        fs::write(creds, accounts::user(&account, user, seed, publish, subscribe)).unwrap();
        // It would be taken for the newer one.
        fs::remove_file(creds.with_extension("jwt")).unwrap();
    }

    /// A raw connection to the broker with one of its users' credentials.
    pub fn peer(&self, creds: &Path) -> Peer {
        peer(&self.broker, creds)
    }

    /// A raw connection with the observer's key, which receives everything from now on.
    pub fn observer(&self) -> Peer {
        let mut observer = self.peer(&self.keys().observer_creds());
        observer.subscribe("cs.>");
        observer
    }

    /// The result of an honest `status`, which a client must answer.
    #[track_caller]
    pub fn status(&self, client: &str) -> Value {
        self.run(&["status", client, "-o", "json", "--timeout", "30s"]).exits(0).of(client)["result"].clone()
    }

    /// Waits until a client has counted exactly these drops. A counter never falls: one that is beyond what is expected
    /// fails at once. Returns the result of the last `status`.
    #[track_caller]
    pub fn dropped(&self, client: &str, expected: &[(&str, u64)]) -> Value {
        let expected: BTreeMap<String, u64> =
            expected.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let (info, found) = self.until_dropped(client, expected.values().sum());
        assert_eq!(found, expected, "dropped, by reason");
        info
    }

    /// Waits until a client has counted this number of drops, for whatever reasons.
    #[track_caller]
    pub fn dropped_in_all(&self, client: &str, expected: u64) -> Value {
        self.until_dropped(client, expected).0
    }

    #[track_caller]
    fn until_dropped(&self, client: &str, expected: u64) -> (Value, BTreeMap<String, u64>) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let info = self.status(client);
            let found: BTreeMap<String, u64> = serde_json::from_value(info["dropped"].clone()).unwrap();
            match found.values().sum::<u64>().cmp(&expected) {
                Ordering::Equal => return (info, found),
                Ordering::Less if Instant::now() < deadline => {}
                _ => panic!("dropped {found:?}, but {expected} in all were expected"),
            }
        }
    }
}

fn keys(folder: &Path) -> KeyFolder {
    KeyFolder::new(folder.join("keys"))
}

fn peer(broker: &Broker, creds: &Path) -> Peer {
    Peer::connect(broker.port(), Some(&fs::read_to_string(creds).unwrap()))
}

fn command(folder: &Path, url: &str) -> Command {
    let mut command = Command::new(COUNTERSIGN);
    command.current_dir(folder);
    // Nothing of the test's own environment: it may name other keys, a broker, a format.
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.envs([("NATS_URL", url), ("COUNTERSIGN_KEYS", "keys"), ("COUNTERSIGN_STATE", "state"), ("NO_COLOR", "1")]);
    command
}

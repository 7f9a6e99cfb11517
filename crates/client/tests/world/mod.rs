//! A realm that lives now, with a broker, an operator who reads everything, and clients of one name.

mod live;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use countersign_client::{Client, ClientConfig, ClientError, Commands, Console, Stopped, Stopper, shutdown};
use countersign_host::clock;
use countersign_keys::{Login, Member, Seed};
use countersign_protocol::command::{ClientInfo, Command};
use countersign_protocol::envelope::{Identity, Signed, Verifier};
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::SKEW;
use countersign_protocol::reply::{Reply, State, Status};
use countersign_protocol::trust::Trust;
use countersign_testkit::broker::Broker;
use countersign_testkit::hostile::Peer;
use countersign_testkit::realm::{Draft, Realm, full_grant, to};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use self::live::{bundle, member};

pub(crate) struct World {
    broker: Broker,
    realm: Realm,
    trust: Trust,
    alice: Identity,
    worker: Identity,
    state: TempDir,
    peer: Option<Peer>,
    epoch: Option<Uuid>,
    sent: u64,
}

/// What a client says of itself, and when in which epoch.
pub(crate) struct Presence {
    pub(crate) epoch: Uuid,
    pub(crate) info: ClientInfo,
}

pub(crate) struct Running {
    stopper: Stopper,
    task: JoinHandle<Result<Stopped, ClientError>>,
    paper: Paper,
}

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

impl World {
    pub(crate) fn new() -> Self {
        let realm = Realm::new("demo");
        let trust = bundle(&realm, 1);
        let alice = member(&realm, &trust, "alice", 101, Some(full_grant()));
        let worker = member(&realm, &trust, "worker-1", 102, None);
        let state = TempDir::new().unwrap();
        let broker = Broker::start();
        let mut world = Self { broker, realm, trust, alice, worker, state, peer: None, epoch: None, sent: 0 };
        world.listen();
        world
    }

    pub(crate) fn trust_version(&mut self, version: u64) {
        self.trust = bundle(&self.realm, version);
    }

    pub(crate) fn without_broker(&mut self) {
        self.peer = None;
        self.broker.kill();
    }

    pub(crate) fn with_broker(&mut self) {
        self.broker.restart();
        self.listen();
    }

    pub(crate) fn run(&self) -> Running {
        self.run_with(Commands::standard().unwrap())
    }

    pub(crate) fn run_ready(&mut self) -> Running {
        let client = self.run();
        self.make_ready();
        client
    }

    pub(crate) fn run_with(&self, commands: Commands) -> Running {
        let login = Login::new(Seed::from_random([42; 32]).unwrap(), "");
        let inbox_prefix = "_INBOX.client-worker-1".to_owned();
        let member = Member { identity: self.worker.clone(), login, files: None, inbox_prefix };
        let mut config = ClientConfig::new(member, self.trust.clone(), self.broker.url(), self.state.path());
        let paper = Paper::default();
        config.console = Console::new(paper.clone());
        config.limits.heartbeat = 200;
        let (stopper, shutdown) = shutdown();
        let task = tokio::spawn(Client::new(config, commands).run(shutdown));
        Running { stopper, task, paper }
    }

    /// Waits until the client is there, and starts it.
    pub(crate) fn make_ready(&mut self) {
        self.presence(State::Unready);
        let start = self.command("start", json!({}));
        assert_eq!(self.final_reply(&start).status, Status::Succeeded);
    }

    pub(crate) fn sign(&mut self, command: &str, args: Value) -> Signed {
        self.sent += 1;
        let now = clock::wall();
        let draft = Draft::new(&self.alice, to("worker-1"), command, args, self.sent, now);
        match self.epoch {
            Some(epoch) => draft.epoch(epoch).sign(&self.alice),
            None => draft.sign(&self.alice),
        }
    }

    pub(crate) fn command(&mut self, name: &str, args: Value) -> Signed {
        let signed = self.sign(name, args);
        self.send(&signed);
        signed
    }

    pub(crate) fn send(&mut self, sent: &Signed) {
        self.peer().send(sent);
    }

    pub(crate) fn send_all(&mut self, messages: &[Signed]) {
        self.peer().send_all(messages);
    }

    /// The next presence that states this, and remembers its epoch for the commands that follow.
    pub(crate) fn presence(&mut self, state: State) -> Presence {
        loop {
            let message = self.peer().wait_for("a presence", |message| message.subject.ends_with(".presence"));
            let event = self.verifier().open::<Event>(&message.delivery(), clock::wall()).unwrap().into_message();
            let Ok(EventData::Presence(info)) = event.data() else { panic!("{event:?}") };
            if info.state == state {
                self.epoch = Some(event.epoch);
                return Presence { epoch: event.epoch, info: *info };
            }
        }
    }

    /// The next reply to a command, verified.
    pub(crate) fn reply(&mut self, sent: &Signed) -> Reply {
        self.next_reply(sent).0
    }

    pub(crate) fn final_reply(&mut self, sent: &Signed) -> Reply {
        loop {
            let reply = self.reply(sent);
            if reply.status.is_final() {
                return reply;
            }
        }
    }

    /// The next reply with this status, and its very bytes.
    pub(crate) fn raw_reply(&mut self, sent: &Signed, status: Status) -> (Reply, Signed) {
        loop {
            let (reply, signed) = self.next_reply(sent);
            if reply.status == status {
                return (reply, signed);
            }
        }
    }

    fn next_reply(&mut self, sent: &Signed) -> (Reply, Signed) {
        let command: Command = serde_json::from_slice(&sent.body).unwrap();
        let subject = format!("{}.worker-1", command.reply_to);
        let message = self.peer().wait_for("a reply", |message| message.subject == subject);
        let reply = self.verifier().open::<Reply>(&message.delivery(), clock::wall()).unwrap().into_message();
        (reply, message.signed())
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(Arc::new(self.trust.clone()), SKEW)
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().unwrap()
    }

    fn listen(&mut self) {
        let mut peer = Peer::connect(self.broker.port(), None);
        peer.subscribe("cs.demo.reply.>");
        peer.subscribe("cs.demo.event.>");
        self.peer = Some(peer);
    }
}

impl Running {
    pub(crate) fn stop(&self) {
        self.stopper.stop();
    }

    /// Ends it as a crash does: in the middle of whatever it does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn finished(self) -> Result<Stopped, ClientError> {
        let _asks = self.stopper;
        self.task.await.unwrap()
    }

    pub(crate) fn printed(&self) -> String {
        String::from_utf8(self.paper.0.lock().unwrap().clone()).unwrap()
    }
}

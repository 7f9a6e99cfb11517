//! A simulated operator's process: the machine, its clock, and what it sent and said.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_machine::server::{
    Audience, CommandRequest, Effect, Ignored, Now, Operator, OperatorEvent, OperatorSetup, Options, Report,
    RequestError, RequestId, Update, Verdict,
};
use countersign_protocol::command::{Call, Command, Target, Version};
use countersign_protocol::credential::Grant;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Authentic, Identity, MessageType, Payload, Signed};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply, State};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_testkit::realm::{Realm, START, full_grant, message_id, name};
use serde_json::{Value, json};

const SESSION: &str = "k3v9q2m8x7c1b5n0";
/// What the monotonic clock says at [`START`].
const MICROS: u64 = 7_000_000;

/// What tests of one realm share.
pub struct World {
    pub realm: Realm,
    pub alice: Arc<Identity>,
    pub workers: BTreeMap<&'static str, Arc<Identity>>,
}

/// An operator's process with one request, and all that came out of it.
pub struct Server {
    pub operator: Operator,
    pub request_id: Option<RequestId>,
    pub now: Now,
    pub sent: Vec<Signed>,
    pub updates: Vec<Update>,
    pub report: Option<Report>,
}

pub fn epoch(n: u8) -> Uuid {
    Uuid::from_random([n; 16])
}

pub fn ping() -> CommandRequest {
    request("ping", json!({}))
}

pub fn calculate() -> CommandRequest {
    request("calculate", json!({ "x": 60, "msg": "done" }))
}

pub fn dry_run() -> CommandRequest {
    CommandRequest::new(call("calculate", json!({ "x": 60, "msg": "done" })), true).unwrap()
}

pub fn request(command: &str, args: Value) -> CommandRequest {
    CommandRequest::new(call(command, args), false).unwrap()
}

pub fn call(command: &str, args: Value) -> Call {
    let Value::Object(args) = args else { panic!("arguments are an object") };
    Call { name: name(command), args }
}

pub fn pong() -> Outcome {
    Outcome::Succeeded(json!(1_795_485_600))
}

pub fn calculated() -> Outcome {
    Outcome::Succeeded(json!({ "x": 60.0, "msg": "done" }))
}

pub fn refused(code: ErrorCode, details: Value) -> Outcome {
    let details = serde_json::from_value(details).unwrap();
    Outcome::Refused(ErrorBody { code, message: "no".to_owned(), details })
}

/// What a client answers that is asked for the result of this command.
pub fn recorded(command: &Signed, mut value: Value) -> Outcome {
    if let Value::Object(recorded) = &mut value {
        recorded.insert("command_digest".to_owned(), json!(Digest::of(&command.body)));
        recorded.insert("operator".to_owned(), json!("alice"));
    }
    Outcome::Succeeded(value)
}

pub fn wrong_epoch(n: u8) -> Outcome {
    refused(ErrorCode::WrongEpoch, json!({ "epoch": epoch(n) }))
}

impl World {
    pub fn new() -> Self {
        Self::with_groups(&[("worker-1", &[]), ("worker-2", &[]), ("worker-3", &[])])
    }

    pub fn with_groups(workers: &[(&'static str, &[&str])]) -> Self {
        let realm = Realm::new("demo");
        let alice = realm.operator("alice", full_grant());
        let workers = workers.iter().map(|(worker, groups)| (*worker, realm.client(worker, groups))).collect();
        Self { realm, alice, workers }
    }

    /// The same where alice has this grant.
    pub fn alice_with(self, grant: Grant) -> Self {
        Self { alice: self.realm.operator("alice", grant), ..self }
    }

    /// An operator's process that has submitted no request.
    pub fn server(&self) -> Server {
        let setup = OperatorSetup {
            trust: Arc::clone(&self.realm.trust),
            identity: Arc::clone(&self.alice),
            session: SESSION.parse().unwrap(),
            enrolled: self.workers.keys().map(|worker| name(worker)).collect(),
            seed: [9; 32],
        };
        Server {
            operator: Operator::new(setup),
            request_id: None,
            now: Now { wall: START, micros: MICROS },
            sent: Vec::new(),
            updates: Vec::new(),
            report: None,
        }
    }

    pub fn request(&self, request: CommandRequest, clients: &[&str], options: Options) -> Result<Server, RequestError> {
        self.request_to(request, clients, &[], options)
    }

    /// With these presences in the roster, which the broker keeps.
    pub fn request_to(
        &self,
        request: CommandRequest,
        clients: &[&str],
        stored: &[Authentic<Event>],
        options: Options,
    ) -> Result<Server, RequestError> {
        let mut server = self.server();
        server.store(stored);
        server.submit(request, &Audience::Clients(names(clients)), options)?;
        Ok(server)
    }

    /// `ping` to `worker-1` with the default options.
    pub fn ping(&self) -> Server {
        self.request(ping(), &["worker-1"], Options::default()).unwrap()
    }

    /// `calculate` to `worker-1` with the default options.
    pub fn calculate(&self) -> Server {
        self.request(calculate(), &["worker-1"], Options::default()).unwrap()
    }

    pub fn open<M: Payload>(&self, signed: &Signed) -> Authentic<M> {
        self.realm.open(signed, START).unwrap()
    }

    pub fn command(&self, signed: &Signed) -> Command {
        self.open(signed).into_message()
    }

    /// An honest reply of the client that a command is for, to be changed until it is not.
    pub fn answer(&self, command: &Signed, outcome: Outcome) -> Answer<'_> {
        let Target::Client(client) = self.command(command).to else { panic!("to one client") };
        self.answer_of(client.as_str(), command, outcome)
    }

    /// The same of any client.
    pub fn answer_of(&self, client: &str, command: &Signed, outcome: Outcome) -> Answer<'_> {
        let digest = Digest::of(&command.body);
        let command = self.command(command);
        let client = &name(client);
        let (_, signer) = self.workers.iter().find(|(worker, _)| **worker == client.as_str()).unwrap();
        let (status, progress, result, error) = outcome.into_members();
        let reply = Reply {
            v: Version,
            id: message_id(1),
            realm: command.realm.clone(),
            from: client.clone(),
            credential: signer.credential().jti(),
            to: command.from,
            subject: subject::reply(&command.reply_to, client),
            command_id: command.id,
            command_digest: digest,
            issued_at: START,
            epoch: epoch(1),
            boot: epoch(2),
            n: 0,
            state: State::Ready,
            seq: 0,
            status,
            progress,
            result,
            error,
        };
        Answer { world: self, signer: Arc::clone(signer), reply }
    }

    /// A presence of a client, verified.
    pub fn presence(&self, client: &'static str, change: impl FnOnce(&mut Event)) -> Authentic<Event> {
        self.open(&self.signed_presence(client, change))
    }

    /// The same as it is on the wire.
    pub fn signed_presence(&self, client: &'static str, change: impl FnOnce(&mut Event)) -> Signed {
        let signer = &self.workers[client];
        let info = json!({
            "state": "ready", "epoch": epoch(1), "boot": epoch(2), "n": 0, "version": "0.1.0", "started_at": START,
            "heartbeat_ms": 10_000, "groups": [], "jobs": { "running": 0, "limit": 64 }, "dropped": {},
            "commands": [], "trust": { "version": 1, "expires_at": START },
        });
        let mut event = Event {
            v: Version,
            id: message_id(2),
            realm: self.realm.name.clone(),
            from: signer.name().clone(),
            credential: signer.credential().jti(),
            subject: subject::event(&self.realm.name, signer.name(), EventKind::Presence),
            issued_at: START,
            epoch: epoch(1),
            boot: epoch(2),
            n: 0,
            state: State::Ready,
            kind: EventKind::Presence,
            data: serde_json::from_value(info).unwrap(),
        };
        change(&mut event);
        if event.n == 0 {
            // It grows with time, where a test does not say otherwise.
            event.n = u64::try_from(event.issued_at.since(START)).unwrap_or(0);
        }
        let body = serde_json::to_vec(&event).unwrap();
        signer.sign(MessageType::Event, event.subject, body)
    }
}

/// A reply in the making.
#[derive(Clone)]
pub struct Answer<'a> {
    world: &'a World,
    signer: Arc<Identity>,
    reply: Reply,
}

impl Answer<'_> {
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Reply)) -> Self {
        change(&mut self.reply);
        self
    }

    #[must_use]
    pub fn seq(self, seq: u64) -> Self {
        self.with(|reply| reply.seq = seq)
    }

    /// Signed by another client, which is honest about its name.
    #[must_use]
    pub fn by(mut self, client: &'static str) -> Self {
        self.signer = Arc::clone(&self.world.workers[client]);
        self.reply.from = name(client);
        self.reply.credential = self.signer.credential().jti();
        let (reply_to, _) = self.reply.subject.rsplit_once('.').unwrap();
        self.reply.subject = subject::reply(reply_to, &self.reply.from);
        self
    }

    pub fn sign(&self) -> Authentic<Reply> {
        let body = serde_json::to_vec(&self.reply).unwrap();
        self.world.open(&self.signer.sign(MessageType::Reply, self.reply.subject.clone(), body))
    }
}

impl Server {
    pub fn submit(
        &mut self,
        request: CommandRequest,
        audience: &Audience,
        options: Options,
    ) -> Result<RequestId, RequestError> {
        let (request_id, effects) = self.operator.submit(request, audience, options, self.now)?;
        self.request_id = Some(request_id);
        self.report = None;
        self.apply(effects);
        Ok(request_id)
    }

    /// Takes presences that the broker keeps.
    pub fn store(&mut self, stored: &[Authentic<Event>]) {
        for presence in stored {
            let effects = self.operator.presence(presence, self.now, false);
            self.apply(effects);
        }
    }

    /// Hears an event.
    pub fn receive(&mut self, event: &Authentic<Event>) {
        let effects = self.operator.event(event, self.now);
        self.apply(effects);
    }

    pub fn interrupt(&mut self) {
        let effects = self.operator.interrupt(self.request_id.unwrap(), self.now);
        self.apply(effects);
    }

    pub fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish { message, reply } => {
                    let body: Value = serde_json::from_slice(&message.body).unwrap();
                    assert_eq!(body["reply_to"], reply);
                    assert!(self.report.is_none(), "nothing is sent after the report");
                    self.sent.push(message);
                }
                Effect::KeepTrust(_) | Effect::FetchTrust(_) | Effect::Renew(_) | Effect::KeepRenewal(_) => {}
                Effect::Emit(OperatorEvent::Update { update, .. }) => self.updates.push(update),
                Effect::Emit(OperatorEvent::Done { report, .. }) => {
                    assert!(self.report.is_none(), "there is one report");
                    self.report = Some(report);
                }
            }
        }
    }

    pub fn take(&mut self, answer: &Answer<'_>) {
        let effects = self.operator.reply(&answer.sign(), self.now);
        self.apply(effects);
    }

    /// Lets so much time pass, waking the machine whenever it wants to be woken.
    pub fn pass(&mut self, millis: u64) {
        let until = self.now.micros + millis * 1_000;
        while let Some(at) = self.operator.wake_at().filter(|at| *at <= until) {
            assert!(at >= self.now.micros, "never to be woken in the past");
            self.jump(at);
        }
        self.jump(until);
    }

    pub fn jump(&mut self, micros: u64) {
        let since_start = i64::try_from(micros - MICROS).unwrap();
        self.now = Now { wall: START.plus(since_start / 1_000), micros };
        let effects = self.operator.tick(self.now);
        self.apply(effects);
    }

    pub fn verdict(&self, client: &str) -> &Verdict {
        let report = self.report.as_ref().expect("every target has a verdict");
        &report.replies.iter().find(|reply| reply.client.as_str() == client).unwrap().verdict
    }

    pub fn word(&self, client: &str) -> &'static str {
        self.verdict(client).word()
    }

    pub fn notices(&self) -> Vec<&str> {
        fn text(update: &Update) -> Option<&str> {
            match update {
                Update::Notice { text, .. } => Some(text),
                Update::Reply { .. } | Update::ClientEvent { .. } => None,
            }
        }
        self.updates.iter().filter_map(text).collect()
    }

    pub fn alarms(&self) -> usize {
        self.updates.iter().filter(|update| matches!(update, Update::Notice { alarm: true, .. })).count()
    }

    pub fn replies(&self) -> usize {
        self.updates.iter().filter(|update| matches!(update, Update::Reply { .. })).count()
    }

    /// What a reply that must be ignored is counted as, after it has changed nothing and an honest one still counts.
    pub fn ignores(mut self, answer: &Answer<'_>, honest: &Answer<'_>) -> Ignored {
        self.take(answer);
        assert_eq!((self.replies(), self.notices().len()), (0, 1), "one visible line and nothing else");
        self.take(answer);
        assert_eq!(self.notices().len(), 1, "shown once");
        self.take(honest);
        assert_eq!(self.word("worker-1"), "succeeded");
        let ignored = self.operator.ignored();
        assert_eq!(ignored.values().collect::<Vec<_>>(), [&2], "counted");
        *ignored.keys().next().unwrap()
    }
}

pub fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|one| name(one)).collect()
}

pub fn at(millis: i64) -> Millis {
    START.plus(millis)
}

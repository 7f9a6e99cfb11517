//! The worst messages that are accepted, in floods: how much memory they bring a process to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use countersign_host::clock;
use countersign_keys::{load_member, read_key};
use countersign_machine::server::Options;
use countersign_protocol::command::{Builtin, Command};
use countersign_protocol::credential::{Claims, Commands, Confirmation, Credential, Grant, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Identity, MessageType, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{MAX_BODY, MAX_DEPTH, MAX_VALUES, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Reply, State, Status};
use countersign_protocol::subject;
use countersign_protocol::trust::Trust;
use countersign_server::Operator;
use countersign_testkit::realm::{Draft, to};
use serde_json::{Map, Value, json};

use crate::BenchResult;
use crate::processes::megabytes;
use crate::samples::short;
use crate::table::Line;
use crate::world::{TIMEOUT, WORKER, World, request, worker};

/// How many worst commands a client is sent.
const COMMANDS: u32 = 300;
/// How many shorter ones, of which many are opened at a time.
const SHORT: u32 = 4_000;
/// How many values each of these holds.
const VALUES_OF_SHORT: usize = 400;
/// How many worst replies an operator is sent.
const REPLIES: u32 = 100;
/// How many messages with nothing but headers a client is sent.
const HEADERS: usize = 150;
/// How long the header block of one is, in bytes: about what nats.conf lets a message have.
const HEADER_BLOCK: usize = 300_000;
/// What a process may take at most, in megabytes.
const AIM: f64 = 100.0;

/// The floods, each with a process of its own.
pub(crate) async fn worst() -> BenchResult<Vec<Line>> {
    Ok(vec![
        commands(COMMANDS, MAX_VALUES, true).await?,
        commands(COMMANDS, MAX_VALUES, false).await?,
        commands(SHORT, VALUES_OF_SHORT, false).await?,
        replies().await?,
        headers().await?,
    ])
}

/// A client under commands of an operator who has no right at all.
async fn commands(count: u32, values: usize, padded: bool) -> BenchResult<Line> {
    let (world, client, mut operator) = World::ready().await?;
    let nobody = nobody(&world)?;
    let command =
        |number: u32| Draft::new(&nobody, to(WORKER), "calculate", json!({}), number.into(), clock::wall()).command;
    let filling = filling(&json!(command(0)), values, padded);
    let sign = |number| {
        let command = command(number);
        let body = filled(&json!(command), r#""args":{}"#, &filling);
        nobody.sign(MessageType::Command, command.subject, body)
    };
    let flood: Vec<Signed> = (0..count).map(sign).collect();
    let before = peak(client.id())?;
    world.peer()?.send_all(&flood);
    until_answered(&mut operator).await?;
    let (size, values) = (flood.first().map_or(0, |message| message.body.len()), short(values as f64));
    let what = format!("client: {count} commands without a right, {values} values in {} bytes", short(size as f64));
    Ok(line(what, before, peak(client.id())?))
}

/// A prompt under replies of the client that it has sent a request to.
async fn replies() -> BenchResult<Line> {
    let world = World::new()?;
    let trust = world.trust()?;
    let client = load_member(&world.keys(), Role::Client, &WORKER.parse()?, &trust, clock::wall(), SKEW)?.identity;
    let mut peer = world.peer()?;
    peer.subscribe(&subject::command(trust.realm(), &to(WORKER)));
    let mut prompt = Prompt::start(&world)?;

    prompt.say("ping worker-1 --timeout 25s")?;
    let request = peer.message();
    let (command, digest): (Command, _) = (json::parse_as(&request.body)?, Digest::of(&request.body));
    let before = peak(prompt.child.id())?;
    let failed = |number: u32| {
        let mut reply = reply(&client, &command, digest, number.into())?;
        reply.status = Status::Failed;
        reply.error =
            Some(ErrorBody { details: Some(Map::new()), ..ErrorBody::new(ErrorCode::Failed, "as bad as it gets") });
        BenchResult::Ok(reply)
    };
    let filling = filling(&json!(failed(REPLIES)?), MAX_VALUES, true);
    let sign = |number| {
        let reply = failed(number)?;
        let body = filled(&json!(reply), r#""details":{}"#, &filling);
        BenchResult::Ok(client.sign(MessageType::Reply, reply.subject, body))
    };
    let flood: Vec<Signed> = (0..REPLIES).map(sign).collect::<BenchResult<_>>()?;
    peer.send_all(&flood);
    prompt.received(r#""verdict":"failed""#)?;

    // A reply that is sent after the flood is printed after the flood was processed.
    prompt.say("ping worker-1 --timeout 25s")?;
    let request = peer.message();
    let (command, digest): (Command, _) = (json::parse_as(&request.body)?, Digest::of(&request.body));
    let mut reply = reply(&client, &command, digest, REPLIES.into())?;
    reply.result = Some(json!(clock::wall().seconds()));
    peer.send(&client.sign(MessageType::Reply, reply.subject.clone(), serde_json::to_vec(&reply)?));
    prompt.received(r#""verdict":"succeeded""#)?;
    let after = peak(prompt.child.id())?;
    Ok(line(format!("prompt: {REPLIES} worst replies, as long as a body may be"), before, after))
}

/// A client under messages of somebody who has nothing but a connection.
async fn headers() -> BenchResult<Line> {
    let (world, client, mut operator) = World::ready().await?;
    let mut block = "NATS/1.0\r\n".to_owned();
    let mut number = 0;
    while block.len() < HEADER_BLOCK {
        block.push_str(&format!("{number:x}:\r\n"));
        number += 1;
    }
    block.push_str("\r\n");
    let before = peak(client.id())?;
    let peer = world.peer()?;
    let subject = subject::command(world.trust()?.realm(), &to(WORKER));
    for _ in 0..HEADERS {
        peer.publish(&subject, None, Some(block.as_bytes()), b"");
    }
    until_answered(&mut operator).await?;
    let what = format!("client: {HEADERS} unsigned messages, {} headers in {HEADER_BLOCK} bytes", short(number.into()));
    Ok(line(what, before, peak(client.id())?))
}

fn line(what: String, before: f64, after: f64) -> Line {
    Line {
        what: format!("peak memory of a {what}"),
        figure: format!("{} MB ({} before)", short(after), short(before)),
        ratio: None,
        aim: "< 100 MB",
        met: Some(after < AIM),
    }
}

/// What a process has taken at most so far, in megabytes.
fn peak(id: u32) -> BenchResult<f64> {
    megabytes(id, "VmHWM:")
}

/// Waits until the client answers a query that it was sent after a flood.
async fn until_answered(operator: &mut Operator) -> BenchResult<()> {
    let started = Instant::now();
    while started.elapsed() < TIMEOUT {
        let question = request(Builtin::Status)?;
        let report = operator.request(question, &worker()?, Options::default(), std::future::pending(), |_| {}).await?;
        if let Some(status) = report.replies.first().and_then(|reply| reply.verdict.result()) {
            // What cannot be read is not what was to be measured.
            let unfit = ["json", "envelope", "address", "credential"];
            return match unfit.iter().find(|reason| !status["dropped"][reason].is_null()) {
                Some(reason) => Err(format!("the flood was dropped as `{reason}`: {}", status["dropped"]).into()),
                None => Ok(()),
            };
        }
    }
    Err("no `status` was answered after the flood".into())
}

/// An operator with an empty grant.
fn nobody(world: &World) -> BenchResult<Identity> {
    let grant =
        Grant { commands: Commands::Only(vec![]), clients: vec![], groups: vec![], all: false, max_ttl_ms: 60_000 };
    let (trust, issuer) = (world.trust()?, read_key(&world.keys().issuer_key())?);
    issue(&trust, &issuer, "nobody".parse()?, grant)
}

fn issue(trust: &Trust, issuer: &SecretKey, name: Name, grant: Grant) -> BenchResult<Identity> {
    let (key, now) = (SecretKey::from_seed(clock::random()?), clock::wall());
    let (iss, _) = trust.issuer(&issuer.public().thumbprint()).ok_or("the issuer is unknown")?;
    let claims = Claims {
        iss: iss.clone(),
        sub: name,
        jti: Uuid::from_random(clock::random()?),
        iat: now.seconds(),
        nbf: now.seconds(),
        exp: now.seconds() + 3_600,
        realm: trust.realm().clone(),
        role: Role::Operator,
        cnf: Confirmation { jwk: key.public().jwk() },
        grant: Some(grant),
        groups: None,
    };
    let credential = Credential::verify(&Credential::issue(&claims, issuer), trust, now, SKEW)?;
    Ok(Identity::new(key, credential)?)
}

/// What an object in a body is to hold, so that the body has so many values, each of the kind that takes the most memory: an
/// object of one member. Where it is to be padded, text follows, up to the longest body.
fn filling(body: &Value, values: usize, padded: bool) -> String {
    // The list and the text are two.
    let mut left = values - json::count(body) - 2;
    let mut chains = Vec::new();
    while left > 0 {
        // Above a chain there are the body, two objects and the list.
        let length = left.min(MAX_DEPTH - 4);
        chains.push((1..length).fold("{}".to_owned(), |inner, _| format!(r#"{{"a":{inner}}}"#)));
        left -= length;
    }
    let chains = chains.join(",");
    let filling = |pad: &str| format!(r#"{{"all":[{chains}],"pad":"{pad}"}}"#);
    let length = body.to_string().len() + filling("").len();
    filling(&"p".repeat(if padded { MAX_BODY + "{}".len() - length } else { 0 }))
}

/// A body with its filling in the place of an object that is empty.
fn filled(body: &Value, empty: &str, filling: &str) -> Vec<u8> {
    let full = empty.replace("{}", filling);
    body.to_string().replacen(empty, &full, 1).into_bytes()
}

/// The reply of a client that succeeded, with a number of its own.
fn reply(client: &Identity, command: &Command, digest: Digest, n: u64) -> BenchResult<Reply> {
    let (now, boot) = (clock::wall(), Uuid::from_random([7; 16]));
    Ok(Reply {
        v: command.v,
        id: MessageId::new(now, clock::random()?),
        realm: command.realm.clone(),
        from: client.name().clone(),
        credential: client.credential().jti(),
        to: command.from.clone(),
        subject: subject::reply(&command.reply_to, client.name()),
        command_id: command.id,
        command_digest: digest,
        issued_at: now,
        epoch: boot,
        boot,
        n,
        state: State::Ready,
        seq: 0,
        status: Status::Succeeded,
        progress: None,
        result: None,
        error: None,
    })
}

/// The operator's prompt, as a script that has not come to its end.
struct Prompt {
    child: Child,
    printed: Receiver<String>,
}

impl Prompt {
    fn start(world: &World) -> BenchResult<Self> {
        let mut command = world.countersign(&["server", "-o", "ndjson"])?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (sender, printed) = channel();
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, printed })
    }

    fn say(&mut self, line: &str) -> BenchResult<()> {
        Ok(writeln!(self.child.stdin.as_mut().ok_or("no standard input")?, "{line}")?)
    }

    /// Waits for a line with a word in it.
    fn received(&self, word: &str) -> BenchResult<()> {
        while !self.printed.recv_timeout(TIMEOUT)?.contains(word) {}
        Ok(())
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

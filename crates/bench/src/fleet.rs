//! 10,000 simulated clients, which all answer one `ping`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_nats::HeaderMap;
use countersign_host::clock;
use countersign_keys::{KeyFolder, load_trust, read_key};
use countersign_machine::server::{Audience, Options};
use countersign_protocol::command::{
    Builtin, ClientInfo, Command, CommandInfo, JobsInfo, Target, True, TrustInfo, Version,
};
use countersign_protocol::credential::{Claims, Confirmation, Credential, Role};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, Identity, MessageType, SIGNATURE_HEADER, Signed};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::json;
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{HEARTBEAT, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Reply, State, Status};
use countersign_protocol::trust::Trust;
use countersign_protocol::{schema, subject};
use countersign_server::{Follow, OperatorEvent};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::part;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{self, World, request};
use crate::{BenchResult, cores};

/// How many clients are simulated.
const CLIENTS: u32 = 10_000;
/// How often they are all pinged, the first time to warm up.
const ROUNDS: usize = 6;
/// How many clients one task answers for.
const SHARE: usize = 250;

/// One `@all` `ping`, from its sending to the last verified reply.
pub(crate) async fn all(floor: &Floor) -> BenchResult<Vec<Line>> {
    let world = World::new()?;
    let _fleet = world.part(part::FLEET, &[CLIENTS.to_string()])?;
    let mut operator = world.operator(Follow::Clients(Vec::new())).await?;
    let expected = CLIENTS as usize;
    let options = Options { timeout: 20_000, ..Options::default() };
    let (mut rosters, mut times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let sent_at = Instant::now();
        operator.refresh().await?;
        let roster = sent_at.elapsed().as_secs_f64() * 1e3;
        let submitted = operator.submit(request(Builtin::Ping)?, &Audience::All, options).await?;
        let started = Instant::now();
        let report = loop {
            match operator.next().await? {
                OperatorEvent::Done { id, report } if id == submitted => break report,
                _ => {}
            }
        };
        let time = started.elapsed().as_secs_f64() * 1e3;
        if report.replies.len() != expected || report.exit_status() != 0 {
            return Err(
                format!("not {expected} verified replies: {:?}; {:?}", report.summary(), operator.ignored()).into()
            );
        }
        if round > 0 {
            rosters.push(roster);
            times.push(time);
        }
    }
    let (times, rosters) = Samples::new(times).zip(Samples::new(rosters)).ok_or("nothing was measured")?;
    let (low, high) = times.spread();
    let least = (floor.sign_us + 2.0 * floor.verify_us) * f64::from(CLIENTS) / cores() / 1e3;
    let ratio = times.median() / least;
    Ok(vec![Line {
        what: "10,000 simulated clients answer one `@all` `ping`".to_owned(),
        figure: format!(
            "{} ms ({}–{}); their roster before that {} ms",
            short(times.median()),
            short(low),
            short(high),
            short(rosters.median())
        ),
        ratio: Some(ratio),
        aim: "≤ 2.0 × (sign + 2 × verify) × 10,000 ÷ cores",
        met: Some(ratio <= 2.0),
    }])
}

/// The part of the clients: they publish their presence, and answer for ever.
pub(crate) async fn answer(url: &str, keys: &KeyFolder, words: &[String]) -> BenchResult<()> {
    let count: usize = words.first().ok_or("how many clients?")?.parse()?;
    let trust = load_trust(keys)?;
    let issuer = read_key(&keys.issuer_key())?;
    let clients: Vec<Simulated> =
        (0..count).map(|number| Simulated::new(number, &issuer, &trust)).collect::<BenchResult<_>>()?;
    let client = world::outsider(url, keys).await?;
    for one in &clients {
        publish(&client, one.presence(&trust)?).await?;
    }
    let mut commands = client.subscribe(subject::command(trust.realm(), &Target::All(True))).await?;
    client.flush().await?;
    stored(url, keys, trust.realm(), count).await?;
    part::ready()?;

    let shares: Vec<Arc<[Simulated]>> = into_shares(clients);
    while let Some(message) = commands.next().await {
        let command: Command = json::parse_as(&message.payload)?;
        let (command, digest) = (Arc::new(command), Digest::of(&message.payload));
        for share in &shares {
            let (share, command, client) = (Arc::clone(share), Arc::clone(&command), client.clone());
            tokio::spawn(async move {
                for one in share.iter() {
                    // Who waits for the reply sees that it is missing.
                    let Ok(reply) = one.reply(&command, digest) else { return };
                    if publish(&client, reply).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    Ok(())
}

/// One simulated client.
struct Simulated {
    identity: Identity,
    own: Uuid,
}

impl Simulated {
    fn new(number: usize, issuer: &SecretKey, trust: &Trust) -> BenchResult<Self> {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&u64::try_from(number)?.to_le_bytes());
        let key = SecretKey::from_seed(seed);
        let own = Uuid::from_random(clock::random()?);
        let now = clock::wall();
        let (iss, _) = trust.issuer(&issuer.public().thumbprint()).ok_or("the issuer is unknown")?;
        let claims = Claims {
            iss: iss.clone(),
            sub: format!("simulated-{number}").parse()?,
            jti: own,
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: now.seconds() + 3_600,
            realm: trust.realm().clone(),
            role: Role::Client,
            cnf: Confirmation { jwk: key.public().jwk() },
            grant: None,
            groups: Some(Vec::new()),
        };
        let credential = Credential::verify(&Credential::issue(&claims, issuer), trust, now, SKEW)?;
        Ok(Self { identity: Identity::new(key, credential)?, own })
    }

    fn name(&self) -> &Name {
        self.identity.name()
    }

    fn presence(&self, trust: &Trust) -> BenchResult<Signed> {
        let now = clock::wall();
        let info = ClientInfo {
            state: State::Ready,
            epoch: self.own,
            boot: self.own,
            n: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now,
            heartbeat_ms: HEARTBEAT.unsigned_abs(),
            groups: Vec::new(),
            jobs: JobsInfo { running: 0, limit: 64 },
            dropped: BTreeMap::new(),
            commands: Builtin::ALL.iter().map(|builtin| known(*builtin)).collect::<BenchResult<_>>()?,
            trust: TrustInfo { version: trust.version(), expires_at: trust.expires_at() },
        };
        let Value::Object(data) = serde_json::to_value(&info)? else { return Err("a client info is an object".into()) };
        let event = Event {
            v: Version,
            id: MessageId::new(now, clock::random()?),
            realm: trust.realm().clone(),
            from: self.name().clone(),
            credential: self.identity.credential().jti(),
            subject: subject::event(trust.realm(), self.name(), EventKind::Presence),
            issued_at: now,
            epoch: self.own,
            boot: self.own,
            n: 0,
            state: State::Ready,
            kind: EventKind::Presence,
            data,
        };
        let body = serde_json::to_vec(&event)?;
        Ok(self.identity.sign(MessageType::Event, event.subject, body))
    }

    fn reply(&self, command: &Command, digest: Digest) -> BenchResult<Signed> {
        let now = clock::wall();
        let reply = Reply {
            v: Version,
            id: MessageId::new(now, clock::random()?),
            realm: command.realm.clone(),
            from: self.name().clone(),
            credential: self.identity.credential().jti(),
            to: command.from.clone(),
            subject: subject::reply(&command.reply_to, self.name()),
            command_id: command.id,
            command_digest: digest,
            issued_at: now,
            epoch: self.own,
            boot: self.own,
            n: 1,
            state: State::Ready,
            seq: 0,
            status: Status::Succeeded,
            progress: None,
            result: Some(json!(now.seconds())),
            error: None,
        };
        let body = serde_json::to_vec(&reply)?;
        Ok(self.identity.sign(MessageType::Reply, reply.subject, body))
    }
}

fn known(builtin: Builtin) -> BenchResult<CommandInfo> {
    Ok(CommandInfo {
        name: builtin.name().parse()?,
        kind: builtin.kind(),
        args: schema::arguments(builtin).digest(),
        result: schema::result(builtin).digest(),
        definition: None,
    })
}

fn into_shares(clients: Vec<Simulated>) -> Vec<Arc<[Simulated]>> {
    let mut shares = Vec::new();
    let mut clients = clients.into_iter().peekable();
    while clients.peek().is_some() {
        shares.push(clients.by_ref().take(SHARE).collect());
    }
    shares
}

async fn publish(client: &async_nats::Client, message: Signed) -> BenchResult<()> {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, message.signature);
    headers.insert(CREDENTIAL_HEADER, &*message.credential);
    Ok(client.publish_with_headers(message.subject, headers, message.body).await?)
}

/// Waits until the stream stores so many presences: it answers nobody when it has stored one. It is in an account of its own,
/// which the setup key may ask.
async fn stored(url: &str, keys: &KeyFolder, realm: &Name, count: usize) -> BenchResult<()> {
    let stream = subject::presence_stream(realm);
    let options = world::login(&keys.setup_creds())?.custom_inbox_prefix("_INBOX.setup");
    let context = async_nats::jetstream::new(options.connect(url).await?);
    let deadline = Instant::now() + world::TIMEOUT;
    while Instant::now() < deadline {
        let mut stream_info = context.get_stream(&stream).await?;
        if stream_info.info().await?.state.messages >= u64::try_from(count)? {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Err(format!("the stream does not keep {count} presences").into())
}

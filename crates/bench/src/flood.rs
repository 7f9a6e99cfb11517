//! Forged commands in floods, and an honest question among them.

use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use countersign_host::clock;
use countersign_keys::{KeyFolder, load_member, load_trust};
use countersign_machine::server::{Options, Report};
use countersign_protocol::command::{Builtin, Call, Command, Target, Version};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, MessageType, SIGNATURE_HEADER, Signed};
use countersign_protocol::id::MessageId;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Session;
use countersign_protocol::subject;
use countersign_server::Operator;
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::time::sleep_until;

use crate::BenchResult;
use crate::part;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{self, World, request, worker};

/// How many forged commands come at once where the rate of verification is measured: a few fewer than a client lets wait.
const BURST: u32 = 8_000;
/// How often that is done.
const BURSTS: usize = 5;
/// How long the flood lasts in which honest questions are timed.
const POURED: Duration = Duration::from_secs(8);
/// How much of the rate of verification is poured, in hundredths.
const SHARE: f64 = 80.0;
/// Where the sender of a burst receives the confirmation that the broker has passed it on.
const PASSED: &str = "bench.passed";
/// How often a flood is topped up.
const STEP: Duration = Duration::from_millis(2);

/// An honest `status` in a flood at 80 % of what the client verifies.
pub(crate) async fn flood() -> BenchResult<Vec<Line>> {
    let (world, _worker, mut operator) = World::ready().await?;
    let rate = verified(&world, &mut operator).await?;

    let poured = (rate * SHARE / 100.0).round();
    let mut flood = world.part(part::FLOOD, &[poured.to_string(), POURED.as_millis().to_string()])?;
    let end = Instant::now() + POURED;
    let (mut times, mut unanswered) = (Vec::new(), 0);
    while Instant::now() < end {
        let sent_at = Instant::now();
        let report = status(&mut operator).await?;
        times.push(sent_at.elapsed().as_secs_f64() * 1e3);
        unanswered += usize::from(report.exit_status() != 0);
    }
    flood.wait()?;
    let times = Samples::new(times).ok_or("nothing was asked")?;
    let lost = if unanswered > 0 { format!("; {unanswered} UNANSWERED") } else { String::new() };
    Ok(vec![Line {
        what: format!("honest `status` in a forged flood, {} per second (80 % of {})", short(poured), short(rate)),
        figure: format!("{} ms, at most {}{lost}", short(times.median()), short(times.max())),
        ratio: None,
        aim: "≤ 1 s",
        met: Some(times.max() <= 1_000.0 && unanswered == 0),
    }])
}

/// How many forged commands the client verifies in a second when they come in bursts: the median.
async fn verified(world: &World, operator: &mut Operator) -> BenchResult<f64> {
    let (client, forged) = (world.outsider().await?, forge(&world.keys())?);
    let mut own = client.subscribe(PASSED).await?;
    let mut rates = Vec::new();
    let mut found = dropped(&status(operator).await?)?;
    for _ in 0..BURSTS {
        let started = Instant::now();
        for _ in 0..BURST {
            send(&client, &forged).await?;
        }
        // A request that is sent after this has passed the broker reaches the client after the burst.
        client.publish(PASSED, "".into()).await?;
        own.next().await.ok_or("the connection is lost")?;
        let now_found = dropped(&status(operator).await?)?;
        rates.push(f64::from(BURST) / started.elapsed().as_secs_f64());
        if now_found - found != u64::from(BURST) {
            return Err(format!("of {BURST} forged commands the client found {}", now_found - found).into());
        }
        found = now_found;
    }
    Ok(Samples::new(rates).ok_or("nothing was measured")?.median())
}

/// The part of the forger: so many a second, for so long.
pub(crate) async fn pour(url: &str, keys: &KeyFolder, words: &[String]) -> BenchResult<()> {
    let [rate, millis] = words else { return Err("at what rate, and for how long?".into()) };
    let (rate, time): (f64, _) = (rate.parse()?, Duration::from_millis(millis.parse()?));
    let forged = forge(keys)?;
    let client = world::outsider(url, keys).await?;
    client.flush().await?;
    part::ready()?;
    let started = Instant::now();
    let mut sent = 0.0;
    while started.elapsed() < time {
        sleep_until((Instant::now() + STEP).into()).await;
        let due = rate * started.elapsed().as_secs_f64();
        while sent < due {
            send(&client, &forged).await?;
            sent += 1.0;
        }
    }
    Ok(client.flush().await?)
}

async fn status(operator: &mut Operator) -> BenchResult<Report> {
    Ok(operator
        .request(request(Builtin::Status)?, &worker()?, Options::default(), std::future::pending(), |_| {})
        .await?)
}

/// How many forged messages a client has found, by its own status; those that it shed unseen are no measure of anything.
fn dropped(report: &Report) -> BenchResult<u64> {
    let status = report.replies.first().and_then(|reply| reply.verdict.result());
    let status = status.ok_or_else(|| format!("no status: {:?}", report.summary()))?;
    Ok(status["dropped"]["signature"].as_u64().unwrap_or(0))
}

/// An honest command but for one letter, with the genuine credential and a signature over something else: the costliest
/// thing to find wrong.
fn forge(keys: &KeyFolder) -> BenchResult<Signed> {
    let trust = load_trust(keys)?;
    let operator = keys.names(Role::Operator)?.first().cloned().ok_or("no operator")?;
    let identity = load_member(keys, Role::Operator, &operator, &trust, clock::wall(), SKEW)?.identity;
    let (id, session) = (MessageId::new(clock::wall(), clock::random()?), Session::from_random(clock::random()?));
    let to = Target::Client(world::WORKER.parse()?);
    let command = Command {
        v: Version,
        id,
        realm: trust.realm().clone(),
        from: operator.clone(),
        credential: identity.credential().jti(),
        subject: subject::command(trust.realm(), &to),
        to,
        reply_to: subject::reply_to(trust.realm(), &operator, &session, &id),
        issued_at: clock::wall(),
        expires_at: clock::wall().plus(30_000),
        epoch: None,
        dry_run: None,
        command: Call { name: Builtin::Terminate.into(), args: Map::<String, Value>::new() },
    };
    let genuine = identity.sign(MessageType::Command, command.subject.clone(), serde_json::to_vec(&command)?);
    let mut body = genuine.body.to_vec();
    body.push(b' ');
    Ok(Signed { body: body.into(), ..genuine })
}

async fn send(client: &Client, forged: &Signed) -> BenchResult<()> {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, forged.signature.as_str());
    headers.insert(CREDENTIAL_HEADER, &*forged.credential);
    Ok(client.publish_with_headers(forged.subject.clone(), headers, forged.body.clone()).await?)
}

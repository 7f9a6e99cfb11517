//! One client, pinged: one ping after another, and 128 at a time.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use countersign_keys::KeyFolder;
use countersign_machine::server::Options;
use countersign_protocol::command::Builtin;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, SIGNATURE_HEADER};
use countersign_server::OperatorEvent;
use futures_util::StreamExt;

use crate::floor::Floor;
use crate::part;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{self, World, request, worker};
use crate::{BenchResult, cores};

/// How often signed and unsigned requests take turns, so that both meet the same neighbours.
const ROUNDS: usize = 6;
/// How many of each are timed in a round.
const ROUND: usize = 500;
/// How many of each are sent before anything is timed.
const WARM_UP: usize = 200;
/// How many pings are in flight.
const IN_FLIGHT: usize = 128;
/// How many rounds are timed of them.
const BURSTS: usize = 8;
/// How many pings a round has.
const BURST: u32 = 3_000;
/// What a ping and its reply have as their bodies on average, in bytes.
const BODY: usize = 500;
/// The same of the value of the signature header.
const SIGNATURE: usize = 214;
/// The same of the value of the credential header.
const CREDENTIAL: usize = 620;
/// Where the unsigned requests go.
const ECHO: &str = "bench.echo";

/// Sequential pings, less what NATS alone takes for as many bytes.
pub(crate) async fn sequential(floor: &Floor) -> BenchResult<Vec<Line>> {
    let (world, _worker, mut operator) = World::ready().await?;
    let _echo = world.part(part::ECHO, &[])?;
    let client = world.outsider().await?;
    let to = worker()?;
    for _ in 0..WARM_UP {
        world::report(&mut operator, Builtin::Ping, &to).await?;
        round_trip(&client).await?;
    }
    let (mut pings, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for _ in 0..ROUND {
            let started = Instant::now();
            world::report(&mut operator, Builtin::Ping, &to).await?;
            pings.push(micros(started));
        }
        for _ in 0..ROUND {
            let started = Instant::now();
            round_trip(&client).await?;
            requests.push(micros(started));
        }
    }
    let (pings, requests) = Samples::new(pings).zip(Samples::new(requests)).ok_or("nothing was measured")?;
    let over = (pings.median() - requests.median()) / floor.us();
    let spread = |of: &Samples| {
        let (low, high) = of.spread();
        format!("{} µs ({}–{})", short(of.median()), short(low), short(high))
    };
    Ok(vec![Line {
        what: "sequential `ping`, less an unsigned request".to_owned(),
        figure: format!("{} less {}", spread(&pings), spread(&requests)),
        ratio: Some(over),
        aim: "≤ 1.6 × floor",
        met: Some(over <= 1.6),
    }])
}

/// Many pings at a time.
pub(crate) async fn in_flight(floor: &Floor) -> BenchResult<Vec<Line>> {
    let (_world, _worker, mut operator) = World::ready().await?;
    let (to, request) = (worker()?, request(Builtin::Ping)?);
    let mut rates = Vec::new();
    for burst in 0..=BURSTS {
        let started = Instant::now();
        let (mut to_give, mut to_come) = (BURST, BURST);
        let mut flying = 0;
        while to_come > 0 {
            if to_give > 0 && flying < IN_FLIGHT {
                operator.submit(request.clone(), &to, Options::default()).await?;
                (to_give, flying) = (to_give - 1, flying + 1);
            } else if let OperatorEvent::Done { report, .. } = operator.next().await? {
                if report.exit_status() != 0 {
                    return Err(format!("a ping had no answer: {:?}", report.summary()).into());
                }
                (to_come, flying) = (to_come - 1, flying - 1);
            }
        }
        // The first one is the warm-up.
        if burst > 0 {
            rates.push(f64::from(BURST) / started.elapsed().as_secs_f64());
        }
    }
    let rates = Samples::new(rates).ok_or("nothing was measured")?;
    let (low, high) = rates.spread();
    let of_the_floor = rates.median() / (cores() / floor.us() * 1e6);
    Ok(vec![Line {
        what: format!("{IN_FLIGHT} `ping`s in flight"),
        figure: format!("{} per second ({}–{})", short(rates.median()), short(low), short(high)),
        ratio: Some(of_the_floor),
        aim: "≥ 0.6 × cores ÷ floor",
        met: Some(of_the_floor >= 0.6),
    }])
}

/// The part of the process that answers unsigned requests, with as many bytes as a signed reply has.
pub(crate) async fn echo(url: &str, keys: &KeyFolder) -> BenchResult<()> {
    let client = world::outsider(url, keys).await?;
    let mut requests = client.subscribe(ECHO).await?;
    client.flush().await?;
    part::ready()?;
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish_with_headers(reply, headers(), body()).await?;
        }
    }
    Ok(())
}

async fn round_trip(client: &async_nats::Client) -> BenchResult<()> {
    let answer = client.request_with_headers(ECHO, headers(), body()).await?;
    if answer.payload.len() == BODY { Ok(()) } else { Err("an echo of another length".into()) }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE_HEADER, "s".repeat(SIGNATURE));
    headers.insert(CREDENTIAL_HEADER, "c".repeat(CREDENTIAL));
    headers
}

fn body() -> Bytes {
    Bytes::from_static(&[b'b'; BODY])
}

fn micros(started: Instant) -> f64 {
    Duration::as_secs_f64(&started.elapsed()) * 1e6
}

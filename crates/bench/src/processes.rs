//! The release binary as a process: how fast it is there, what it takes when it does nothing, and how large it is.

use std::fs;
use std::time::{Duration, Instant};

use countersign_protocol::limits::HEARTBEAT;
use countersign_protocol::reply::State;
use countersign_server::Follow;
use tokio::time::sleep;

use crate::BenchResult;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{self, World, until_state};

/// How many one-shot commands are timed.
const COMMANDS: usize = 40;
/// How many clients are started.
const STARTS: usize = 15;
/// How long a client has to come to rest.
const SETTLE: Duration = Duration::from_secs(5);
/// How long it is watched then.
const WATCH: Duration = Duration::from_secs(25);
/// How often the threads of an idle client may wake in a second: three times for each of the connection's own pings, every
/// 1.2 s (its timer takes two steps, and it is answered), and ten times for each heartbeat (its timer takes three, the
/// journal and the message are written, and the threads wake each other).
const AIM_WAKES: f64 = 3.0 / 1.2 + 10.0 / (HEARTBEAT as f64 / 1e3);

/// `countersign ping worker-1`, from its start to its end.
pub(crate) async fn one_shot() -> BenchResult<Vec<Line>> {
    let (world, _worker, _operator) = World::ready().await?;
    let mut times = Vec::new();
    for _ in 0..COMMANDS {
        let started = Instant::now();
        world::run(&mut world.countersign(&["ping", world::WORKER])?)?;
        times.push(millis(started.elapsed()));
    }
    milliseconds("whole process `countersign ping worker-1`", times, "≤ 40 ms", 40.0)
}

/// From the start of a client with a fresh record to its first verified presence.
pub(crate) async fn start() -> BenchResult<Vec<Line>> {
    let world = World::new()?;
    let mut operator = world.operator(Follow::Presence).await?;
    let mut times = Vec::new();
    for count in 0..STARTS {
        let client = world.client(&format!("state-{count}"))?;
        until_state(&mut operator, State::Unready).await?;
        times.push(millis(client.age()));
        client.end()?;
        until_state(&mut operator, State::Terminated).await?;
    }
    milliseconds("client from exec to verified presence", times, "≤ 100 ms", 100.0)
}

/// A client that nobody sends anything to.
pub(crate) async fn idle() -> BenchResult<Vec<Line>> {
    let world = World::new()?;
    let client = world.client("state")?;
    sleep(SETTLE).await;
    let before = wakes(client.id())?;
    let started = Instant::now();
    sleep(WATCH).await;
    let woken = (wakes(client.id())? - before) / started.elapsed().as_secs_f64();
    let memory = in_status(&format!("/proc/{}/status", client.id()), "VmRSS:")? / 1_024.0;
    Ok(vec![
        Line {
            what: "client idle: resident memory".to_owned(),
            figure: format!("{} MiB", short(memory)),
            ratio: None,
            aim: "≤ 12 MiB",
            met: Some(memory <= 12.0),
        },
        Line {
            what: "client idle: wake-ups".to_owned(),
            figure: format!("{} per second ({} allowed)", short(woken), short(AIM_WAKES)),
            ratio: None,
            aim: "heartbeats and keep-alives only",
            met: Some(woken <= AIM_WAKES),
        },
    ])
}

/// The release binary, stripped.
pub(crate) fn size() -> BenchResult<Vec<Line>> {
    let megabytes = fs::metadata(world::binary()?)?.len() as f64 / 1e6;
    Ok(vec![Line {
        what: "release binary, stripped".to_owned(),
        figure: format!("{} MB", short(megabytes)),
        ratio: None,
        aim: "≤ 12 MB",
        met: Some(megabytes <= 12.0),
    }])
}

fn milliseconds(what: &str, times: Vec<f64>, aim: &'static str, most: f64) -> BenchResult<Vec<Line>> {
    let times = Samples::new(times).ok_or("nothing was measured")?;
    let (low, high) = times.spread();
    Ok(vec![Line {
        what: what.to_owned(),
        figure: format!("{} ms ({}–{})", short(times.median()), short(low), short(high)),
        ratio: None,
        aim,
        met: Some(times.median() <= most),
    }])
}

/// How often the threads of a process have gone to sleep, and so been woken, of their own accord.
fn wakes(id: u32) -> BenchResult<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let status = thread?.path().join("status");
        sum += in_status(&status.to_string_lossy(), "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// A kind of memory of a process, in megabytes.
pub(crate) fn megabytes(id: u32, member: &str) -> BenchResult<f64> {
    Ok(in_status(&format!("/proc/{id}/status"), member)? * 1_024.0 / 1e6)
}

/// A number in a `status` file of /proc.
fn in_status(path: &str, member: &str) -> BenchResult<f64> {
    let status = fs::read_to_string(path)?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(member)).ok_or_else(|| format!("{path}: no {member}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

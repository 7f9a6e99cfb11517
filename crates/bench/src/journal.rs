//! A large journal: what it takes in memory, to load and to keep, and whether it holds anybody up to compact it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_host::clock;
use countersign_machine::server::Options;
use countersign_protocol::command::Builtin;
use countersign_protocol::digest::Digest;
use countersign_protocol::id::MessageId;
use countersign_protocol::reply::State;
use countersign_server::{Follow, Operator};
use serde_json::Value;
use tokio::time::sleep;

use crate::BenchResult;
use crate::processes::megabytes;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{TIMEOUT, WORKER, World, report, request, until_state, worker};

/// How many commands there are on record, each with its final reply: two entries of the journal.
const RECORDS: u32 = 250_000;
/// What precedes an entry in the journal: its length and its checksum.
const HEAD: usize = 8;
/// The first line of a journal.
const MAGIC: &[u8] = b"countersign-journal 1\n";
/// How long the client has to come to rest.
const SETTLE: Duration = Duration::from_secs(2);
/// How many questions are timed at rest, at least.
const AT_REST: usize = 200;

/// A client with a quarter of a million pings on record.
pub(crate) async fn journal() -> BenchResult<Vec<Line>> {
    let world = World::new()?;
    let mut operator = world.operator(Follow::Presence).await?;
    let client = world.client("state")?;
    until_state(&mut operator, State::Unready).await?;
    report(&mut operator, Builtin::Start, &worker()?).await?;
    report(&mut operator, Builtin::Ping, &worker()?).await?;
    let empty = megabytes(client.id(), "VmRSS:")?;
    client.end()?;
    until_state(&mut operator, State::Terminated).await?;

    let folder = world.state("state").join(WORKER);
    let path = folder.join("journal");
    multiply(&path)?;
    let before = fs::metadata(&path)?.ino();
    let client = world.client("state")?;
    until_state(&mut operator, State::Unready).await?;
    let loaded = megabytes(client.id(), "VmHWM:")?;
    // It is long enough to be compacted at once.
    let new = folder.join("journal.new");
    let meanwhile = time_while(&mut operator, |_| new.exists()).await?;
    if fs::metadata(&path)?.ino() == before {
        return Err("the journal was not compacted".into());
    }
    sleep(SETTLE).await;
    let resident = megabytes(client.id(), "VmRSS:")?;
    let count = meanwhile.len().max(AT_REST);
    let at_rest = time_while(&mut operator, |times| times < count).await?;

    let each = (resident - empty) * 1e6 / f64::from(RECORDS);
    let (meanwhile, at_rest) = Samples::new(meanwhile).zip(Samples::new(at_rest)).ok_or("nothing was asked")?;
    let over = meanwhile.max() - at_rest.max();
    Ok(vec![
        Line {
            what: format!("a `ping` on record, of {}: memory", short(RECORDS.into())),
            figure: format!("{} bytes ({} MB in all)", short(each), short(resident - empty)),
            ratio: None,
            aim: "< 1,000 bytes",
            met: Some(each < 1_000.0),
        },
        Line {
            what: format!("loading {} entries: peak memory, to what is kept", short((2 * RECORDS).into())),
            figure: format!("{} MB to {} MB", short(loaded), short(resident)),
            ratio: Some(loaded / resident),
            aim: "≤ 1.2",
            met: Some(loaded <= 1.2 * resident),
        },
        Line {
            what: "the longest `status` while the journal is compacted, less the longest of as many at rest".to_owned(),
            figure: format!(
                "{} ms less {} ms (medians {} and {})",
                short(meanwhile.max()),
                short(at_rest.max()),
                short(meanwhile.median()),
                short(at_rest.median())
            ),
            ratio: None,
            aim: "≤ 20 ms",
            met: Some(over <= 20.0),
        },
    ])
}

/// How long each `status` takes, in milliseconds, one after another for as long as this holds, by how many there were.
async fn time_while(operator: &mut Operator, holds: impl Fn(usize) -> bool) -> BenchResult<Vec<f64>> {
    let (started, mut times) = (Instant::now(), Vec::new());
    while holds(times.len()) {
        if started.elapsed() > TIMEOUT {
            return Err(format!("it is not done within {} s", TIMEOUT.as_secs()).into());
        }
        let sent_at = Instant::now();
        let question = request(Builtin::Status)?;
        let report = operator.request(question, &worker()?, Options::default(), std::future::pending(), |_| {}).await?;
        if report.exit_status() != 0 {
            return Err(format!("a `status` was not answered: {:?}", report.summary()).into());
        }
        times.push(sent_at.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Makes a journal of a quarter of a million pings of one that has one.
fn multiply(path: &Path) -> BenchResult<()> {
    let bytes = fs::read(path)?;
    let (started, finished) = last_ping(&bytes)?;
    let value: Value = serde_json::from_str(&started)?;
    let id = value.pointer("/started/key/id").and_then(Value::as_str).ok_or("an entry without an id")?;
    let digest = value.pointer("/started/digest").and_then(Value::as_str).ok_or("an entry without a digest")?;
    let mut file = BufWriter::new(File::options().append(true).open(path)?);
    for number in 0..RECORDS {
        let (new_id, new_digest) =
            (MessageId::new(clock::wall(), clock::random()?).to_string(), Digest::of(&number.to_le_bytes()));
        for entry in [&started, &finished] {
            let entry = entry.replace(id, &new_id).replace(digest, &new_digest.to_string());
            file.write_all(&u32::try_from(entry.len())?.to_le_bytes())?;
            file.write_all(&crc32fast::hash(entry.as_bytes()).to_le_bytes())?;
            file.write_all(entry.as_bytes())?;
        }
    }
    Ok(file.flush()?)
}

/// The two entries of the last `ping` in a journal.
fn last_ping(journal: &[u8]) -> BenchResult<(String, String)> {
    let mut rest = journal.strip_prefix(MAGIC).ok_or("the journal has another form")?;
    let (mut started, mut pair) = (None, None);
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let [a, b, c, d, ..] = *head else { break };
        let (entry, after) =
            after.split_at_checked(u32::from_le_bytes([a, b, c, d]).try_into()?).ok_or("half an entry")?;
        rest = after;
        let entry = String::from_utf8(entry.to_vec())?;
        if entry.starts_with(r#"{"started""#) {
            started = entry.contains(r#""command":"ping""#).then_some(entry);
        } else if entry.starts_with(r#"{"finished""#)
            && let Some(started) = started.take()
        {
            pair = Some((started, entry));
        }
    }
    pair.ok_or_else(|| "there is no `ping` on record".into())
}

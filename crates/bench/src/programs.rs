//! Programs as commands: what their supervision costs beside a bare fork and exec.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use countersign_machine::server::{CommandRequest, Options, Update};
use countersign_protocol::command::Call;
use countersign_protocol::digest::Digester;
use countersign_protocol::reply::Outcome;
use countersign_server::{Follow, Operator, OperatorEvent};
use serde_json::Map;

use crate::BenchResult;
use crate::processes::megabytes;
use crate::samples::{Samples, short};
use crate::table::Line;
use crate::world::{self, World, start, worker};

/// How many empty programs are run of each kind.
const RUNS: usize = 100;
/// How often much output is followed, and how much it is, in bytes.
const FOLLOWED: usize = 7;
const OUTPUT: u64 = 32 << 20;
/// How many programs run at a time while memory is measured.
const AT_ONCE: usize = 64;

/// The time until an empty program is accepted and done, how fast output is followed, and the memory of a client with many
/// programs.
pub(crate) async fn programs() -> BenchResult<Vec<Line>> {
    let world = World::new()?;
    let folder = world.state("commands.d");
    fs::create_dir(&folder)?;
    fs::write(folder.join("empty.toml"), "program = [\"/bin/true\"]\n")?;
    fs::write(folder.join("waits.toml"), "program = [\"/bin/sleep\", \"60\"]\n")?;
    let prints = format!("program = [\"/bin/sh\", \"-c\", \"{}\"]\nmax_output = \"{}B\"\n", printing(), 2 * OUTPUT);
    fs::write(folder.join("prints.toml"), prints)?;
    let mut operator = world.operator(Follow::Presence).await?;
    let folder = folder.to_str().ok_or("a path that is no text")?;
    let client = world.client_with("state", &["--commands", folder])?;
    start(&mut operator).await?;

    let to = worker()?;
    let (mut accepted, mut done, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let started = Instant::now();
        Command::new("/bin/true").stdin(Stdio::null()).status()?;
        bare.push(millis(started));
        let started = Instant::now();
        let mut accepted_after = None;
        let options = Options { timeout: 10_000, ..Options::default() };
        let report = operator.request(call("empty")?, &to, options, std::future::pending(), |update| {
            if matches!(update, Update::Reply { outcome: Outcome::Accepted, .. }) {
                accepted_after = Some(millis(started));
            }
        });
        if report.await?.exit_status() != 0 {
            return Err("an empty program did not succeed".into());
        }
        done.push(millis(started));
        accepted.extend(accepted_after);
    }
    let (followed, piped) = follow(&world)?;
    let before = megabytes(client.id(), "VmRSS:")?;
    run_at_once(&mut operator).await?;
    let with_programs = megabytes(client.id(), "VmRSS:")?;
    let samples = |of| Samples::new(of).ok_or("nothing was measured");
    let (accepted, done, bare) = (samples(accepted)?, samples(done)?, samples(bare)?);
    let over = done.median() - bare.median();
    let spread =
        |of: &Samples| format!("{} ms ({}–{})", short(of.median()), short(of.spread().0), short(of.spread().1));
    Ok(vec![
        Line {
            what: "program: until `accepted`".to_owned(),
            figure: format!("{} beside {} of fork and exec", spread(&accepted), spread(&bare)),
            ratio: Some(accepted.median() / bare.median()),
            aim: "",
            met: None,
        },
        Line {
            what: "empty program end to end, less fork and exec".to_owned(),
            figure: format!("{} less {}", spread(&done), spread(&bare)),
            ratio: Some(done.median() / bare.median()),
            aim: "≤ 5 ms more",
            met: Some(over <= 5.0),
        },
        Line {
            what: format!("`call --follow` of {} MiB of output, from its start to its end", OUTPUT >> 20),
            figure: format!(
                "{} MB a second; {} beside {} through a pipe",
                short(OUTPUT as f64 / 1e3 / followed.median()),
                spread(&followed),
                spread(&piped)
            ),
            ratio: Some(followed.median() / piped.median()),
            aim: "",
            met: None,
        },
        Line {
            what: format!("client with {AT_ONCE} running programs"),
            figure: format!("{} MB, {} MB before", short(with_programs), short(before)),
            ratio: None,
            aim: "≤ 40 MB",
            met: Some(with_programs <= 40.0),
        },
    ])
}

fn printing() -> String {
    format!("head -c {OUTPUT} /dev/zero")
}

/// How long it takes to follow a program that prints much, and to read and digest the same through a pipe.
fn follow(world: &World) -> BenchResult<(Samples, Samples)> {
    let (mut followed, mut piped) = (Vec::new(), Vec::new());
    for _ in 0..FOLLOWED {
        let started = Instant::now();
        world::run(&mut world.countersign(&["call", world::WORKER, "prints", "--follow"])?)?;
        followed.push(millis(started));
        let started = Instant::now();
        let mut bare = Command::new("/bin/sh").args(["-c", &printing()]).stdout(Stdio::piped()).spawn()?;
        let mut from = bare.stdout.take().ok_or("no standard output")?;
        let (mut digester, mut piece) = (Digester::default(), vec![0; 65_536]);
        loop {
            match from.read(&mut piece)? {
                0 => break,
                read => digester.update(&piece[..read]),
            }
        }
        std::hint::black_box(digester.digest());
        bare.wait()?;
        piped.push(millis(started));
    }
    let samples = |of| Samples::new(of).ok_or("nothing was measured");
    Ok((samples(followed)?, samples(piped)?))
}

/// Starts as many programs as there are slots, and waits until each is accepted.
async fn run_at_once(operator: &mut Operator) -> BenchResult<()> {
    for _ in 0..AT_ONCE {
        operator.submit(call("waits")?, &worker()?, Options { timeout: 10_000, ..Options::default() }).await?;
    }
    let mut accepted = 0;
    while accepted < AT_ONCE {
        if let OperatorEvent::Update { update: Update::Reply { outcome, .. }, .. } = operator.next().await? {
            match outcome {
                Outcome::Accepted => accepted += 1,
                other => return Err(format!("a program was not accepted: {other:?}").into()),
            }
        }
    }
    Ok(())
}

fn call(name: &str) -> BenchResult<CommandRequest> {
    Ok(CommandRequest::new(Call { name: name.parse()?, args: Map::new() }, false)?)
}

fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

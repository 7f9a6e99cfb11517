//! `just bench`: what Countersign costs, in one table from one run, as ratios to what its cryptography alone costs on the same
//! machine in the same run. docs/benchmarks.md says what each line means.

mod about;
mod fleet;
mod flood;
mod floor;
mod journal;
mod part;
mod pings;
mod processes;
mod programs;
mod samples;
mod table;
mod world;
mod worst;

use std::io::Write;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use floor::Floor;
use table::Line;
use tokio::time::timeout;

/// What can go wrong with a benchmark ends up in its line of the table.
pub(crate) type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The benchmarks, by the names that the command line takes.
const NAMES: [&str; 11] =
    ["sequential", "in-flight", "all", "one-shot", "start", "idle", "programs", "flood", "worst", "journal", "size"];
/// Longer than any one benchmark takes.
const TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(played) = part::play(&words).await {
        return match played {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("{}: {error}", words.first().map_or("", String::as_str)));
                // The runtime would wait for its reading of standard input, and who started this for a word.
                std::process::exit(1)
            }
        };
    }
    if let Some(unknown) = words.iter().find(|word| !NAMES.contains(&word.as_str())) {
        return complain(&format!("there is no benchmark {unknown}; there are {}", NAMES.join(", ")));
    }
    let wanted = |name: &&str| words.is_empty() || words.iter().any(|word| word == name);
    match run(&NAMES.into_iter().filter(wanted).collect::<Vec<_>>()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => complain(&format!("{failed} of the benchmarks could not be run")),
        Err(error) => complain(&error.to_string()),
    }
}

/// Runs the benchmarks and shows the table; how many could not be run.
async fn run(names: &[&'static str]) -> BenchResult<usize> {
    let about = about::machine();
    let before = Floor::measure()?;
    let mut benchmarks = Vec::new();
    for name in names {
        tell(&format!("{name}…"))?;
        let done = timeout(TIMEOUT, benchmark(name, &before)).await;
        let lines = done.unwrap_or_else(|_| Err(format!("not done within {} s", TIMEOUT.as_secs()).into()));
        benchmarks.push((*name, lines));
    }
    // The ratios are to what was measured before; that it still held afterwards, this line shows.
    let floor = before.clone().and(Floor::measure()?)?;
    benchmarks.insert(0, ("floor", floor.line()));
    let table = table::render(&benchmarks);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{about}\n\n{table}")?;
    Ok(benchmarks.iter().filter(|(_, lines)| lines.is_err()).count())
}

async fn benchmark(name: &str, floor: &Floor) -> BenchResult<Vec<Line>> {
    match name {
        "sequential" => pings::sequential(floor).await,
        "in-flight" => pings::in_flight(floor).await,
        "all" => fleet::all(floor).await,
        "one-shot" => processes::one_shot().await,
        "start" => processes::start().await,
        "idle" => processes::idle().await,
        "programs" => programs::programs().await,
        "flood" => flood::flood().await,
        "worst" => worst::worst().await,
        "journal" => journal::journal().await,
        "size" => processes::size(),
        _ => Err("there is no such benchmark".into()),
    }
}

/// The cores that the operator, the client and the broker share.
fn cores() -> f64 {
    available_parallelism().map_or(1, NonZero::get) as f64
}

fn tell(text: &str) -> BenchResult<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}

fn complain(text: &str) -> ExitCode {
    // There is nobody else to report to.
    let _ = tell(text);
    ExitCode::FAILURE
}

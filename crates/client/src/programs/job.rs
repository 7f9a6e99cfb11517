//! A job that is a program: its helper is started, listened to, and told to end it.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use countersign_host::clock;
use countersign_machine::client::ExecutionResult;
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::output::Stream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::definition::Program;
use super::helper::{self, WORD};
use super::launch::{self, CANCEL, Launch, Report, ResultFile};
use super::user::User;
use super::verdict::{Outcome, verdict};
use crate::command::JobContext;
use crate::output::JobOutput;

/// How much of a stream is read at once, in bytes.
const PIECE: usize = 16 * 1024;
/// How long output is read when nothing is left of the job: what holds it open then is none of its processes.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a helper may take beyond what its job may.
const SLACK: Duration = Duration::from_secs(15);

/// Runs a program to its end, with this as its input.
pub(crate) async fn run(
    program: Arc<Program>,
    args: Value,
    job: JobContext,
    client: Name,
    is_cancelled: watch::Receiver<bool>,
) -> ExecutionResult {
    job.output().bound(program.max_output);
    let outcome = match launch(&program, &job, &client) {
        Ok(launch) => {
            let outcome = supervised(&program, &launch, &args, &job, is_cancelled).await;
            let outcome = outcome.unwrap_or_else(|error| Outcome::HelperLost(error.to_string()));
            if matches!(outcome, Outcome::HelperLost(_)) {
                let _ = spawn_blocking(move || helper::remove(&launch.folder)).await;
            }
            outcome
        }
        Err(error) => Outcome::NotStarted(error.to_string()),
    };
    let output = job.output().clone();
    match spawn_blocking(move || output.finish()).await {
        Ok(output) => verdict(&program, outcome, &output),
        Err(error) => ExecutionResult::Broken(format!("its output cannot be finished: {error}")),
    }
}

async fn supervised(
    program: &Program,
    launch: &Launch,
    args: &Value,
    job: &JobContext,
    mut is_cancelled: watch::Receiver<bool>,
) -> io::Result<Outcome> {
    let (ours, theirs) = StdStream::pair()?;
    let mut helper = start_helper(theirs)?;
    let (stdout, stderr) = (helper.stdout.take(), helper.stderr.take());
    ours.set_nonblocking(true)?;
    let (mut reports, mut control) = UnixStream::from_std(ours)?.into_split();
    control.write_all(&launch::frame(launch)?).await?;
    control.write_all(&launch::raw_frame(&serde_json::to_vec(args)?)?).await?;

    let outputs = async {
        tokio::join!(keep(stdout, Stream::Stdout, job.output()), keep(stderr, Stream::Stderr, job.output()));
    };
    let ended = listen(&mut reports, job);
    tokio::pin!(outputs, ended);
    let (mut is_read, mut is_asked) = (false, false);
    let mut deadline = Instant::now() + program.timeout + program.grace + SLACK;
    let outcome = loop {
        tokio::select! {
            () = &mut outputs, if !is_read => is_read = true,
            outcome = &mut ended => break outcome?,
            true = asked(&mut is_cancelled), if !is_asked => {
                is_asked = true;
                control.write_all(&[CANCEL]).await?;
                deadline = deadline.min(Instant::now() + program.grace + SLACK);
            }
            () = sleep_until(deadline) => {
                // It is stopped, or stuck. Its end ends nothing of the job, so that the verdict says that it is not known.
                helper.start_kill()?;
                break Outcome::HelperLost("it did not end in time".to_owned());
            }
        }
    };
    if !is_read {
        let _ = timeout(DRAIN, &mut outputs).await;
    }
    Ok(outcome)
}

/// Waits until the job is cancelled.
async fn asked(is_cancelled: &mut watch::Receiver<bool>) -> bool {
    is_cancelled.wait_for(|is_cancelled| *is_cancelled).await.is_ok()
}

/// This program again, as the helper of one job. It ends when its channel closes.
fn start_helper(control: StdStream) -> io::Result<Child> {
    // The file that this process was started from, also where it has been replaced since.
    let mut helper = Command::new("/proc/self/exe");
    helper.arg0(WORD).arg(WORD).env_clear();
    helper.stdin(Stdio::from(std::os::fd::OwnedFd::from(control))).stdout(Stdio::piped()).stderr(Stdio::piped());
    helper.spawn()
}

fn launch(program: &Program, job: &JobContext, client: &Name) -> io::Result<Launch> {
    let user = program.user.clone().unwrap_or_else(User::own);
    let mut environment = program.environment.clone();
    let context = job.context();
    let told = [
        ("HOME", user.home.clone()),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name.clone()),
        ("COUNTERSIGN_COMMAND_ID", context.command_id.to_string()),
        ("COUNTERSIGN_OPERATOR", context.operator.to_string()),
        ("COUNTERSIGN_CLIENT", client.to_string()),
    ];
    for (name, value) in told {
        environment.entry(name.to_owned()).or_insert(value);
    }
    // Its name is drawn here: nothing that was sent becomes a path.
    let name = Uuid::from_random(clock::random().map_err(io::Error::other)?);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(Launch {
        words: program.words.clone(),
        environment,
        user: (!user.is_own()).then_some(user),
        folder: std::env::temp_dir().join(format!("countersign-{name}")),
        working_directory: program.working_directory.clone(),
        timeout_ms: millis(program.timeout),
        grace_ms: millis(program.grace),
        memory: program.memory,
        cpu_seconds: program.cpu.map(|cpu| cpu.as_secs()),
        open_files: program.open_files,
        confinement: program.confinement.clone(),
    })
}

/// Takes what the helper reports, until the end.
async fn listen(reports: &mut OwnedReadHalf, job: &JobContext) -> io::Result<Outcome> {
    loop {
        let frame = match launch::next_frame(reports).await {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Outcome::HelperLost("it was killed".to_owned()));
            }
            Err(error) => return Err(error),
        };
        match launch::parse(&frame)? {
            Report::NotStarted(why) => return Ok(Outcome::NotStarted(why)),
            Report::Progress(progress) => job.progress(progress.fraction, progress.message.as_deref()),
            Report::Ended(ended) => {
                let result = match &ended.result {
                    ResultFile::Missing => Ok(None),
                    ResultFile::Follows => Ok(Some(launch::next_frame(reports).await?)),
                    ResultFile::Unfit(why) => Err(why.clone()),
                };
                return Ok(Outcome::Ended(ended, result));
            }
        }
    }
}

/// Writes what comes to where the job's output is kept. The disk is waited for on another thread, and the program waits with it.
async fn keep(from: Option<impl AsyncRead + Unpin>, stream: Stream, output: &JobOutput) {
    let Some(mut from) = from else { return };
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let output = output.clone();
        if spawn_blocking(move || output.write(stream, &piece)).await.is_err() {
            return;
        }
    }
}

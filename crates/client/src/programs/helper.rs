//! The helper of a job: this program again, started for one job, which it outlives by nothing.
//!
//! It starts the program, is the parent of whatever loses its own, ends all of it when it is over, and reports. When the
//! client is gone it ends the job at once.

mod confined;
mod private_folder;
mod supervisor;
mod surroundings;
mod tree;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign_protocol::text::escape;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;
use rustix::stdio::{dup2_stderr, dup2_stdout, stdin};

pub(super) use self::private_folder::remove;

use self::private_folder::PrivateFolder;
use self::supervisor::Supervisor;
use super::executable::{obstacle, shown};
use super::launch::{Launch, Report, ResultFile, parse, raw_frame, read_frame, write_frame};

/// The only word of a helper's command line.
pub(super) const WORD: &str = "countersign-helper";
/// How long a program that is still being written to is tried again.
const BUSY: Duration = Duration::from_secs(1);

/// That this program can be started again as the helper of its jobs; only [`Helper::take_turn`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Helper(());

impl Helper {
    /// Call it before anything else in `main`. In the process that runs a client it returns at once; in one that was started
    /// as the helper of a job it never does.
    #[must_use]
    pub fn take_turn() -> Self {
        let mut words = std::env::args_os().skip(1);
        let (word, more) = (words.next(), words.next());
        match word.as_ref().and_then(|word| word.to_str()).filter(|_| more.is_none()) {
            Some(WORD) => exit(i32::from(run().is_err())),
            Some(confined::WORD) => exit(i32::from(confined::run().is_err())),
            _ => Self(()),
        }
    }
}

fn run() -> io::Result<()> {
    let mut control = UnixStream::from(fcntl_dupfd_cloexec(stdin(), 3)?);
    let launch: Launch = parse(&read_frame(&mut control)?)?;
    let args = read_frame(&mut control)?;
    let started = match start(&launch, &args) {
        Ok(started) => started,
        Err(why) => return write_frame(&mut control, &Report::NotStarted(why)),
    };
    let (folder, main) = started;
    // The program's streams are the program's alone: they end with it.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let supervisor = Supervisor::new(main, control.try_clone()?, &folder, &launch)?;
    let mut ended = supervisor.run();
    let mut result = None;
    ended.result = match folder.result() {
        Ok(None) => ResultFile::Missing,
        Ok(Some(bytes)) => {
            result = Some(bytes);
            ResultFile::Follows
        }
        Err(why) => ResultFile::Unfit(why),
    };
    drop(folder);
    write_frame(&mut control, &Report::Ended(ended))?;
    match result {
        Some(bytes) => control.write_all(&raw_frame(&bytes)?),
        None => Ok(()),
    }
}

/// Starts the program in surroundings of its own; an error says why not, for people.
fn start(launch: &Launch, args: &[u8]) -> Result<(PrivateFolder, Pid), String> {
    surroundings::prepare(launch).map_err(|error| format!("the surroundings of a program cannot be made: {error}"))?;
    let folder = PrivateFolder::new(&launch.folder)
        .map_err(|error| format!("the folder {} cannot be made: {error}", shown(&launch.folder)))?;
    let program = launch.words.first().ok_or("there is no program")?;
    if let Some(why) = obstacle(Path::new(program)) {
        return Err(why);
    }
    let mut launch = launch.clone();
    let told = [("COUNTERSIGN_RESULT", folder.result_path()), ("COUNTERSIGN_PROGRESS", folder.progress_path())];
    let told = told.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()));
    launch.environment.extend(told);
    launch.working_directory.get_or_insert_with(|| folder.work().to_owned());
    let started = match &launch.confinement {
        None => unconfined(&launch, args),
        Some(_) => confined::start(&launch, args),
    };
    Ok((folder, started?))
}

fn unconfined(launch: &Launch, args: &[u8]) -> Result<Pid, String> {
    let mut command = program(launch)?;
    command.process_group(0);
    // A file in memory: whether the program reads it, and when, holds nobody up.
    let child = while_it_is_written(|| command.stdin(input(args)?).spawn());
    child.map(|child| Pid::from_child(&child)).map_err(|error| not_started(launch, &error))
}

/// The program, to be started in its working directory.
fn program(launch: &Launch) -> Result<Command, String> {
    let (program, words) = launch.words.split_first().ok_or("there is no program")?;
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(&launch.environment);
    if let Some(directory) = &launch.working_directory {
        if let Err(error) = std::fs::read_dir(directory) {
            return Err(format!("the working directory {} cannot be used: {error}", shown(directory)));
        }
        command.current_dir(directory);
    }
    Ok(command)
}

/// Tries to start a program, and again for a while where its file is still open for writing.
fn while_it_is_written<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + BUSY;
    loop {
        match start() {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TXTBSY) && Instant::now() < deadline => {
                sleep(Duration::from_millis(5));
            }
            started => return started,
        }
    }
}

fn not_started(launch: &Launch, error: &io::Error) -> String {
    let program = launch.words.first().map(String::as_str).unwrap_or_default();
    format!("the system does not start {}: {error}", escape(program))
}

fn input(args: &[u8]) -> io::Result<File> {
    let mut input = File::from(memfd_create("arguments", MemfdFlags::CLOEXEC)?);
    input.write_all(args)?;
    input.rewind()?;
    Ok(input)
}

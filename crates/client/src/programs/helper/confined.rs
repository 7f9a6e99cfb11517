//! A program that its definition confines is started by one more process, which confines itself and then becomes the program.
//! The helper stays outside: the program cannot reach it.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::Pid;
use rustix::stdio::{dup2_stdin, stdin};

use super::{input, not_started, program, while_it_is_written};
use crate::programs::launch::{Launch, parse, raw_frame, read_frame, write_frame};

/// The only word of its command line.
pub(super) const WORD: &str = "countersign-confined";

/// Starts a program whose environment and folder are complete; an error says why not, for people.
pub(super) fn start(launch: &Launch, args: &[u8]) -> Result<Pid, String> {
    let error = |error: io::Error| format!("the process that confines it cannot be started: {error}");
    let (mut channel, theirs) = UnixStream::pair().map_err(error)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(WORD).arg(WORD).env_clear().process_group(0).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.spawn().map_err(error)?;
    // The other end is the child's alone.
    drop(command);
    let begun = write_frame(&mut channel, launch)
        .and_then(|()| channel.write_all(&raw_frame(args)?))
        .and_then(|()| read_frame(&mut channel));
    match begun {
        // Nothing more comes where it has become the program, which closes the channel.
        Ok(ready) if ready.is_empty() => match read_why(&mut channel) {
            None => Ok(Pid::from_child(&child)),
            Some(why) => {
                let _ = child.wait();
                Err(why)
            }
        },
        Ok(why) => {
            let _ = child.wait();
            Err(String::from_utf8_lossy(&why).into_owned())
        }
        Err(it) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error(it))
        }
    }
}

fn read_why(channel: &mut impl Read) -> Option<String> {
    read_frame(channel).ok().map(|why| String::from_utf8_lossy(&why).into_owned())
}

/// What that process does: it becomes the program, or says why not.
pub(super) fn run() -> io::Result<()> {
    let mut channel = UnixStream::from(fcntl_dupfd_cloexec(stdin(), 3)?);
    let launch: Launch = parse(&read_frame(&mut channel)?)?;
    let args = read_frame(&mut channel)?;
    let why = match become_it(&launch, &args, &mut channel) {
        Err(why) => why,
        Ok(never) => match never {},
    };
    channel.write_all(&raw_frame(why.as_bytes())?)
}

fn become_it(launch: &Launch, args: &[u8], channel: &mut UnixStream) -> Result<std::convert::Infallible, String> {
    let error = |error: io::Error| format!("the arguments cannot be handed over: {error}");
    dup2_stdin(input(args).map_err(error)?).map_err(|errno| error(errno.into()))?;
    let confinement = launch.confinement.as_ref().ok_or("nothing says how it is confined")?;
    let mut command = program(launch)?;
    confinement.apply(&launch.folder)?;
    channel.write_all(&raw_frame(&[]).map_err(error)?).map_err(error)?;
    let started = while_it_is_written(|| Err::<std::convert::Infallible, _>(command.exec()));
    started.map_err(|error| not_started(launch, &error))
}

//! What a program finds around it, whatever the client was started with.

use std::io;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getpid, set_child_subreaper, setrlimit, setsid, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::programs::launch::Launch;
use crate::programs::user::User;

/// The signals that may have been ignored from the start; none of them is to be ignored by a program.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=31;

/// Makes them for this process, which the program inherits them from.
pub(super) fn prepare(launch: &Launch) -> io::Result<()> {
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    default_signals()?;
    // Descriptors that whoever started the client left open.
    close_fds::set_fds_cloexec(3, &[]);
    umask(Mode::RWXG | Mode::RWXO);
    limit(launch)?;
    match &launch.user {
        Some(user) => become_user(user),
        None => Ok(()),
    }
}

/// A handled signal has its default effect in a program that is executed, an ignored one stays ignored. Handled, none of them
/// ends the helper, either.
fn default_signals() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _guard = runtime.enter();
    for number in SIGNALS {
        // The ones that cannot be handled cannot be ignored.
        let _ = signal(SignalKind::from_raw(number));
    }
    Ok(())
}

fn limit(launch: &Launch) -> io::Result<()> {
    let set = |resource, soft: Option<u64>, hard: Option<u64>| match soft {
        Some(_) => setrlimit(resource, Rlimit { current: soft, maximum: hard }),
        None => Ok(()),
    };
    set(Resource::Data, launch.memory, launch.memory)?;
    // SIGXCPU first, SIGKILL a second later.
    set(Resource::Cpu, launch.cpu_seconds, launch.cpu_seconds.map(|seconds| seconds.saturating_add(1)))?;
    set(Resource::Nofile, launch.open_files, launch.open_files)?;
    Ok(())
}

/// For the one thread of this process, which is all of it.
fn become_user(user: &User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

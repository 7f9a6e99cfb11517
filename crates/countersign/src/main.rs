//! The command `countersign`: signed commands and verified replies for fleets of workers over NATS.

mod args;
mod commands;
mod duration;
mod failure;
mod logs;
mod nearest;
mod orders;
mod output;
mod prompt;
mod realm;
mod traffic;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

use args::Asked;
use countersign_host::link;
use failure::{Exit, Failure};
use output::Output;

fn main() -> Exit {
    let line: Vec<_> = std::env::args_os().collect();
    if line.iter().any(|word| word == "--no-color") {
        output::no_color();
    }
    let cli = match args::parse(&line) {
        Ok(cli) => cli,
        Err(Asked::Help(help)) => return output::help(&help),
        Err(Asked::Wrong(failure)) => return output::failure(&failure),
    };
    catch_panics();
    let done = catch_unwind(AssertUnwindSafe(|| commands::run(&cli, Output::new(&cli.options))));
    let exit = done.map_or(Exit::Failed, |done| done.unwrap_or_else(|error| output::failure(&error)));
    output::print_all();
    exit
}

/// A panic is shown in three lines as any failure is, and without a backtrace.
fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let what = format!("{}{at}", panic.payload_as_str().unwrap_or("a panic"));
        if std::thread::current().name() == Some(link::THREAD) {
            // What arrived was too much for the NATS library; it is thrown away with its thread's runtime.
            tracing::warn!("the connection broke: {what}");
        } else {
            output::failure(
                &Failure::new(Exit::Failed, format!("a defect of this program: {what}"))
                    .expected("that this never happens")
                    .remedy("run it again, and report these lines"),
            );
        }
    }));
}

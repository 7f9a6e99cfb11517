//! The command `countersign`: signed commands and verified replies for fleets of workers over NATS.

mod args;
mod arguments;
mod builtin;
mod cli_error;
mod commands;
mod completions;
mod context;
mod doctor;
mod duration;
mod follow;
mod history;
mod limit;
mod logs;
mod output;
mod parsing;
mod program_report;
mod prompt;
mod realm;
mod requests;
mod short_id;
mod signals;
mod suggest;
mod text;
mod vocabulary;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

use args::ParseExit;
use cli_error::{CliError, Exit};
use completions::Shell;
use countersign_client::Helper;
use output::Output;
use signals::Signals;
use text::Place;

fn main() -> Exit {
    let helper = Helper::take_turn();
    let line: Vec<_> = std::env::args_os().collect();
    if let Some(shell) = Shell::asking() {
        return completions::answer(shell, &line);
    }
    let signals = Signals::listen();
    if line.iter().any(|word| word == "--no-color") {
        output::no_color();
    }
    catch_panics();
    let done = catch_unwind(AssertUnwindSafe(|| match args::parse(&line) {
        Ok(cli) => commands::run(&cli, Output::new(&cli.verbosity), signals, helper),
        Err(ParseExit::Help(help)) => Ok(output::help(&help)),
        Err(ParseExit::Wrong(failure)) => Err(failure),
    }));
    let failed = |error: CliError| output::failure(&error.corrected(&words::of_shell()), Place::Shell);
    let exit = done.map_or(Exit::Failed, |done| done.unwrap_or_else(failed));
    output::flush();
    exit
}

/// A panic is shown in three lines as any failure is, and without a backtrace.
fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let what = format!("{}{at}", panic.payload_as_str().unwrap_or("a panic"));
        if std::thread::current().name() == Some(countersign_link::THREAD) {
            // What arrived was too much for the NATS library; it is thrown away with its thread's runtime.
            tracing::warn!("the connection broke: {what}");
        } else {
            output::failure(
                &CliError::new(Exit::Failed, format!("a defect of this program: {what}"))
                    .expected("that this never happens")
                    .hint("run it again, and report these lines"),
                Place::Shell,
            );
        }
    }));
}

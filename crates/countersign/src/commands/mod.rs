//! What each subcommand does.

pub(crate) mod client;
pub(crate) mod clients;
mod context;
mod credential;
pub(crate) mod definitions;
mod enroll;
mod enrolment;
mod health;
pub(crate) mod history;
mod init;
mod issuer;
pub(crate) mod listing;
mod man;
pub(crate) mod schemas;
mod send;
mod setup;
mod trust;
mod watch;

use countersign_client::Helper;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Cli, Command, CommandsAction, CommandsArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::completions;
use crate::doctor;
use crate::logs;
use crate::output::Output;
use crate::prompt;
use crate::signals::Signals;

/// Executes the command line.
pub(crate) fn run(cli: &Cli, output: Output, signals: Signals, helper: Helper) -> CliResult<Exit> {
    match &cli.command {
        // What stays on this machine logs nothing.
        Command::Init(_) | Command::Credential(_) | Command::Context(_) | Command::History(_) => {}
        Command::Commands(CommandsArgs { action: Some(_), .. }) | Command::Health { .. } => {}
        Command::Schema(_) | Command::Schemas { .. } | Command::Completions { .. } | Command::Man { .. } => {}
        Command::Client(_) | Command::Issuer(_) => logs::start(&cli.verbosity, LevelFilter::INFO),
        _ => logs::start(&cli.verbosity, LevelFilter::WARN),
    }
    match &cli.command {
        Command::Init(args) => init::run(args, output),
        Command::Credential(action) => credential::run(action, output),
        Command::Enroll(args) => block_on(or_interrupted(signals, enroll::run(args, output))),
        Command::Context(action) => context::run(action, output),
        Command::Revoke(args) => block_on(or_interrupted(signals, trust::revoke_members(args, output))),
        Command::Trust(action) => block_on(or_interrupted(signals, trust::run(action, output))),
        Command::Setup(args) => block_on(or_interrupted(signals, setup::run(args, output))),
        Command::Issuer(args) => block_on(issuer::run(args, signals)),
        Command::Doctor(args) => block_on(or_interrupted(signals, doctor::run(args, output))),
        Command::Client(args) => block_on(client::run(args, signals, helper)),
        Command::Commands(CommandsArgs { action: Some(CommandsAction::Check { folder, output: format }), .. }) => {
            definitions::check(folder, format.format(), output)
        }
        Command::Commands(CommandsArgs { action: None, list }) => {
            block_on(or_interrupted(signals, listing::run(list, output)))
        }
        Command::Health { file, output: format } => health::run(file, format.format(), output),
        Command::History(args) => history::run(args, output),
        Command::Request(args) => block_on(send::run(args, output, signals)),
        Command::Clients(args) => block_on(or_interrupted(signals, clients::run(args, output))),
        Command::Server(args) => block_on(prompt::run(args, output, signals)),
        Command::Watch(args) => block_on(watch::run(args, output, signals)),
        Command::Schema(args) => {
            schemas::show(args.name.as_deref(), args.output.format(), output).map(|()| Exit::Succeeded)
        }
        Command::Completions { shell } => completions::script(*shell, output),
        Command::Man { folder } => man::run(folder, output),
        Command::Schemas { write: Some(folder), .. } => schemas::write(folder, output),
        Command::Schemas { check, .. } => schemas::check(check.as_deref().unwrap_or("schemas".as_ref()), output),
    }
}

/// Ended early by a signal.
async fn or_interrupted(mut signals: Signals, command: impl Future<Output = CliResult<Exit>>) -> CliResult<Exit> {
    tokio::select! {
        done = command => done,
        exit = signals.first() => Ok(exit),
    }
}

fn block_on<T>(future: impl Future<Output = CliResult<T>>) -> CliResult<T> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        CliError::new(Exit::Failed, format!("the process cannot start its threads: {error}"))
            .expected("a few threads and file descriptors")
            .hint("check the limits of this process (`ulimit -a`)")
    })?;
    let outcome = runtime.block_on(future);
    // A thread that is stuck, in writing to a pipe that nobody reads for instance, does not keep the process.
    runtime.shutdown_background();
    outcome
}

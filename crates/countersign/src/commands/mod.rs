//! What each subcommand does.

pub(crate) mod client;
pub(crate) mod clients;
mod health;
mod init;
pub(crate) mod schemas;
mod send;
mod setup;
mod watch;

use crate::args::{Cli, Command};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;
use crate::parsing::{self, InputContext};
use crate::prompt;
use crate::signals::Signals;

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, output: Output, signals: Signals) -> CliResult<Exit> {
    let options = &cli.options;
    match &cli.command {
        Command::Init { operator, client } => init::run(options, operator, client, output),
        Command::Setup => block_on(or_ended(signals, setup::run(options, output))),
        Command::Client(args) => block_on(client::run(options, args, signals)),
        Command::Health { file } => health::run(file, output),
        Command::Request(order) => {
            block_on(send::run(options, parsing::request(order, InputContext::Shell)?, output, signals))
        }
        Command::Clients { action } => block_on(or_ended(signals, clients::run(options, action.as_ref(), output))),
        Command::Server => block_on(prompt::run(options, output, signals)),
        Command::Watch(args) => block_on(watch::run(options, args, output, signals)),
        Command::Schema { name } => schemas::show(name.as_deref(), output),
        Command::Schemas { write: Some(folder), .. } => schemas::write(folder, output),
        Command::Schemas { check, .. } => schemas::check(check.as_deref().unwrap_or("schemas".as_ref()), output),
    }
}

/// Cut short by a signal.
async fn or_ended(mut signals: Signals, command: impl Future<Output = CliResult<Exit>>) -> CliResult<Exit> {
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

//! What each subcommand does.

mod client;
mod init;
mod schemas;
mod send;
mod setup;

use countersign_protocol::command::Builtin;

use crate::args::{Cli, Command};
use crate::failure::{Exit, Failure, Fallible};
use crate::output::Output;
use crate::words::{self, ArgsFrom};

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, output: Output) -> Fallible<Exit> {
    let options = &cli.options;
    let request = match &cli.command {
        Command::Init { operator, client } => return init::run(options, operator, client, output),
        Command::Setup => return block_on(setup::run(options, output)),
        Command::Client(args) => return block_on(client::run(options, args)),
        Command::Schema { name } => return schemas::show(name.as_deref(), output),
        Command::Schemas { write: Some(folder), .. } => return schemas::write(folder, output),
        Command::Schemas { check, .. } => {
            return schemas::check(check.as_deref().unwrap_or("schemas".as_ref()), output);
        }
        Command::Start(of) => words::plain(Builtin::Start, &of.targets),
        Command::Stop(of) => words::plain(Builtin::Stop, &of.targets),
        Command::Terminate(of) => words::plain(Builtin::Terminate, &of.targets),
        Command::Ping(of) => words::plain(Builtin::Ping, &of.targets),
        Command::Status(of) => words::plain(Builtin::Status, &of.targets),
        Command::Jobs(of) => words::plain(Builtin::Jobs, &of.targets),
        Command::Calculate { words } => words::calculate(words),
        Command::Cancel { words } => words::of_command(Builtin::Cancel, words),
        Command::Result { words } => words::of_command(Builtin::Result, words),
        Command::Call { words, args, args_file } => {
            let from = match (args, args_file) {
                (Some(text), _) => ArgsFrom::Text(text),
                (None, Some(path)) => ArgsFrom::File(path),
                (None, None) => ArgsFrom::Words,
            };
            words::any(words, from)
        }
    };
    block_on(send::run(options, request?, output))
}

fn block_on<T>(future: impl Future<Output = Fallible<T>>) -> Fallible<T> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(Exit::Failed, format!("the process cannot start its threads: {error}"))
            .expected("a few threads and file descriptors")
            .remedy("check the limits of this process (`ulimit -a`)")
    })?;
    let outcome = runtime.block_on(future);
    // A thread that is stuck, in writing to a pipe that nobody reads for instance, does not keep the process.
    runtime.shutdown_background();
    outcome
}

//! `countersign server`: commands line by line, from a person or from a script.

mod completion;
mod editor;
pub(crate) mod help;
mod interactive;
mod line;
mod script;
mod session;

use std::io::{IsTerminal, stdin, stdout};

use countersign_server::Follow;
use tracing_subscriber::filter::LevelFilter;

use crate::args::Options;
use crate::failure::{Exit, Fallible};
use crate::output::Output;
use crate::{logs, orders};
use session::Session;

/// Reads lines until there are no more.
pub(crate) async fn run(options: &Options, output: Output) -> Fallible<Exit> {
    logs::begin(options, LevelFilter::WARN);
    let mut operator = orders::connect(options, Follow::Everything).await?;
    // Without a roster, clients can be named all the same.
    if let Err(error) = operator.refresh().await {
        output.note(&format!("{error}; nobody is known but by name"));
    }
    let is_person = stdin().is_terminal() && stdout().is_terminal();
    let session = Session::new(options, operator, output, is_person);
    if is_person { interactive::run(session).await } else { script::run(session).await }
}

//! The one-shot commands: connect, send, gather, print.

use std::cell::Cell;
use std::pin::pin;

use countersign_host::clock;
use countersign_machine::server::Audience;
use countersign_server::{Follow, OperatorError};
use tracing_subscriber::filter::LevelFilter;

use crate::args::Options;
use crate::cli_error::{CliResult, Exit};
use crate::output::{Gathering, Output};
use crate::parsing::Request;
use crate::signals::Signals;
use crate::{logs, requests};

/// Sends a command to its targets, and prints one verdict for each.
pub(crate) async fn run(options: &Options, request: Request, output: Output, mut signals: Signals) -> CliResult<Exit> {
    logs::begin(options, LevelFilter::WARN);
    let Request { audience, call } = request;
    let (request, how) = (requests::request(call, options)?, requests::how(options));
    let follow = match &audience {
        Audience::Clients(clients) => Follow::Clients(clients.clone()),
        Audience::Group(_) | Audience::All => Follow::Presence,
    };
    // From here on, a signal ends the wait and not the verdicts; before anything is sent, it ends everything.
    let ended = Cell::new(None);
    let mut end = pin!(async { ended.set(Some(signals.first().await)) });
    let cut_short = || requests::interrupted(ended.get().unwrap_or(Exit::Interrupted));
    let mut operator = tokio::select! {
        operator = requests::connect(options, follow) => operator?,
        () = &mut end => return Err(cut_short()),
    };

    let mut gathering = Gathering::new(output, options.output);
    let report = operator.request(request, &audience, how, end, |update| gathering.update(&update)).await;
    let report = report.map_err(|error| {
        // What did not verify may be why nobody was found.
        requests::tell(&mut operator, &mut gathering);
        match error {
            OperatorError::Interrupted => cut_short(),
            error => requests::failure(error, Some(&operator)),
        }
    })?;
    gathering.incomplete(operator.incomplete());
    requests::tell_doubts(&mut operator, &mut gathering);
    gathering.finish(&report, clock::wall())?;
    Ok(ended.get().unwrap_or_else(|| requests::exit(&report)))
}

//! The one-shot commands: connect, send, gather, print.

use std::cell::Cell;
use std::pin::pin;

use countersign_host::clock;
use countersign_machine::server::Audience;
use countersign_server::Follow;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::args::Options;
use crate::failure::{Exit, Fallible};
use crate::output::{Gathering, Output};
use crate::words::Request;
use crate::{logs, orders};

/// Sends a command to its targets, and prints one verdict for each.
pub(crate) async fn run(options: &Options, request: Request, output: Output) -> Fallible<Exit> {
    logs::begin(options, LevelFilter::WARN);
    let Request { audience, call } = request;
    let follow = match &audience {
        Audience::Clients(clients) => Follow::Clients(clients.clone()),
        Audience::Group(_) | Audience::All => Follow::Presence,
    };
    // From here on, an interrupt ends the wait and not the verdicts; before anything is sent, it ends everything.
    let mut interrupts = signal(SignalKind::interrupt());
    let interrupted = Cell::new(false);
    let mut interrupt = pin!(async {
        match &mut interrupts {
            Ok(interrupts) => interrupts.recv().await,
            // The signal then ends the process by itself.
            Err(_) => std::future::pending().await,
        };
        interrupted.set(true);
    });
    let mut operator = tokio::select! {
        operator = orders::connect(options, follow) => operator?,
        () = &mut interrupt => return Err(orders::interrupted()),
    };

    let mut gathering = Gathering::new(output, options.output);
    let (order, how) = (orders::order(call, options), orders::how(options));
    let report = operator.dispatch(order, &audience, how, interrupt, |update| gathering.update(&update)).await;
    let report = report.map_err(|error| {
        // What did not verify may be why nobody was found.
        orders::tell(&mut operator, &mut gathering);
        orders::failure(error, Some(&operator))
    })?;
    gathering.incomplete(operator.incomplete());
    orders::tell_doubts(&mut operator, &mut gathering);
    gathering.finish(&report, clock::wall())?;
    Ok(if interrupted.get() { Exit::Interrupted } else { orders::exit(&report) })
}

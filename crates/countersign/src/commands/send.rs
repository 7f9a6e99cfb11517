//! The one-shot commands: connect, send, gather, print.

use std::cell::Cell;
use std::sync::Arc;

use countersign_host::clock;
use countersign_machine::server::{self as machine, Order};
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::Identity;
use countersign_protocol::limits::{MAX_TTL, SKEW};
use countersign_protocol::name::Name;
use countersign_server::{Operator, OperatorConfig, OperatorError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::args::Options;
use crate::duration::Span;
use crate::failure::{Exit, Failure, Fallible};
use crate::logs;
use crate::nearest::nearest;
use crate::output::{Gathering, Output};
use crate::realm::{Realm, listed};
use crate::words::Request;

/// Sends a command to each target, and prints one verdict for each.
pub(crate) async fn run(options: &Options, request: Request, output: Output) -> Fallible<Exit> {
    logs::begin(options, LevelFilter::WARN);
    let Request { targets, call } = request;
    let realm = Realm::open(options)?;
    let member = realm.member(Role::Operator, &realm.operator(options)?, SKEW)?;
    refuse_long_life(options.ttl, &member.identity)?;
    let enrolled = realm.folder.names(Role::Client);
    let config = OperatorConfig {
        url: options.nats_url.clone(),
        member,
        trust: Arc::new(realm.trust),
        follow: targets.clone(),
        enrolled: enrolled.clone(),
    };
    // Before anything is sent: from here on, an interrupt ends the wait and not the verdicts.
    let mut interrupts = signal(SignalKind::interrupt());
    let mut operator = Operator::connect(config).await.map_err(|error| failure(error, &enrolled))?;

    let mut gathering = Gathering::new(output, options.output);
    let order = Order { command: call, dry_run: options.dry_run };
    let how = machine::Options {
        timeout: options.timeout.millis(),
        ttl: options.ttl.millis(),
        detach: options.detach,
        retry: options.retry,
    };
    let interrupted = Cell::new(false);
    let interrupt = async {
        match &mut interrupts {
            Ok(interrupts) => interrupts.recv().await,
            // The signal then ends the process by itself.
            Err(_) => std::future::pending().await,
        };
        interrupted.set(true);
    };
    let report = operator.dispatch(order, &targets, how, interrupt, |update| gathering.update(&update)).await;
    let report = report.map_err(|error| failure(error, &enrolled))?;
    gathering.finish(&report, clock::wall())?;
    Ok(match report.exit_status() {
        _ if interrupted.get() => Exit::Interrupted,
        0 => Exit::Succeeded,
        3 => Exit::NoReply,
        _ => Exit::Failed,
    })
}

/// What every client would refuse is not sent.
fn refuse_long_life(ttl: Span, identity: &Identity) -> Fallible<()> {
    let granted = identity.credential().grant().map_or(MAX_TTL, |grant| grant.max_ttl_ms);
    let longest = Span::from_millis(granted.min(MAX_TTL));
    if ttl <= longest {
        return Ok(());
    }
    Err(Failure::usage(format!("--ttl {ttl} is longer than a command of {} may live", identity.name()))
        .expected(format!("at most {longest}"))
        .remedy(format!("--ttl {longest}, and --timeout for how long to wait")))
}

fn unknown_target(unknown: &Name, known: &[Name]) -> Failure {
    let near = nearest(unknown.as_str(), known.iter().map(Name::as_str));
    Failure::usage(format!("{unknown} is no client that the roster or the folder of keys knows; nothing was sent"))
        .expected(format!("one that is known: {}", listed(known)))
        .remedy(match near {
            Some(near) => format!("name {near} instead"),
            None => format!("start it with `countersign client --name {unknown}`, and `countersign setup` once"),
        })
}

fn failure(error: OperatorError, known: &[Name]) -> Failure {
    match error {
        OperatorError::Link(error) => error.into(),
        OperatorError::UnknownClient(unknown) => unknown_target(&unknown, known),
        OperatorError::Order(_) => Failure::usage(error)
            .expected("a command that its own schema allows; nothing was sent")
            .remedy("`countersign schema NAME.args` shows what a built-in command takes"),
        OperatorError::Random(_) => Failure::new(Exit::Failed, error)
            .expected("random bytes from the operating system")
            .remedy("run it again, on Linux 3.17 or later"),
    }
}

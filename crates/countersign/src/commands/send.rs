//! The one-shot commands: connect, send, gather, print.

use std::cell::Cell;
use std::pin::pin;

use countersign_host::clock;
use countersign_machine::server::{Audience, CommandRequest};
use countersign_server::{Follow, OperatorError, OperatorEvent};

use crate::args::{CommandArgs, OperatorArgs};
use crate::cli_error::{CliResult, Exit};
use crate::follow::{self, Following};
use crate::output::{Gathering, Output};
use crate::parsing::{self, InputContext, Request};
use crate::realm::Realm;
use crate::requests;
use crate::signals::Signals;

/// Sends a command to its targets, and prints one verdict for each.
pub(crate) async fn run(args: &CommandArgs<OperatorArgs>, output: Output, mut signals: Signals) -> CliResult<Exit> {
    let Request { audience, call } = parsing::request(&args.words, InputContext::Shell)?;
    let job = follow::job(&call, args.send.dry_run);
    let request = CommandRequest::new(call, args.send.dry_run)?;
    let format = args.output.format();
    follow::check_format(job.is_some() || args.follow.follow, format)?;
    let realm = Realm::open(&args.sender.realm.keys)?;
    let member = realm.operator(&args.sender)?;
    let options = requests::options(&args.send, &member.identity)?;
    let follow = match &audience {
        Audience::Clients(clients) => Follow::Clients(clients.clone()),
        Audience::Group(_) | Audience::All => Follow::Presence,
    };
    // From here on, a signal ends the wait and not the verdicts; before anything is sent, it ends everything.
    let ended = Cell::new(None);
    let mut end = pin!(async { ended.set(Some(signals.first().await)) });
    let cut_short = || requests::interrupted(ended.get().unwrap_or(Exit::Interrupted));
    let mut operator = tokio::select! {
        operator = requests::connect(&args.sender.realm.broker, realm, member, follow) => operator?,
        () = &mut end => return Err(cut_short()),
    };

    let mut gathering = Gathering::new(output, format);
    if let Some(job) = job {
        let read = async {
            let mut following = Following::of_job(&mut operator, job, &audience, options, args.follow, output).await?;
            while let Some(event) = following.next(&mut operator).await.map_err(|it| requests::failure(it, None))? {
                if let OperatorEvent::Update { update, .. } = event {
                    gathering.update(&update);
                }
            }
            following.finish()
        };
        return tokio::select! {
            exit = read => exit,
            () = end => Err(follow::interrupted(ended.get().unwrap_or(Exit::Interrupted))),
        };
    }
    let mut following = args.follow.follow.then(|| Following::of_request(output, options, &audience));
    let report = match &mut following {
        Some(following) => following.request(&mut operator, request, &audience, end, &mut gathering).await,
        None => operator.request(request, &audience, options, end, |update| gathering.update(&update)).await,
    };
    let report = report.map_err(|error| {
        // What did not verify may be why nobody was found.
        requests::show_updates(&mut operator, &mut gathering);
        match error {
            OperatorError::Interrupted => cut_short(),
            error => requests::failure(error, Some(&operator)),
        }
    })?;
    gathering.incomplete(operator.incomplete());
    requests::show_alarms(&mut operator, &mut gathering);
    let read = following.as_mut().map_or(Ok(Exit::Succeeded), Following::finish)?;
    gathering.finish(&report, clock::wall())?;
    Ok(ended.get().unwrap_or_else(|| requests::exit(&report).worse(read)))
}

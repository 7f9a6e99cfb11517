//! The one-shot commands: connect, send, gather, print.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;

use countersign_host::clock;
use countersign_machine::server::{Audience, CommandRequest, Options, Update};
use countersign_protocol::command::Call;
use countersign_server::{Follow, Operator, OperatorError, OperatorEvent};
use serde_json::{Map, Value};

use crate::args::{CommandArgs, OperatorArgs};
use crate::arguments;
use crate::cli_error::{CliResult, Exit};
use crate::follow::{self, Following};
use crate::history::History;
use crate::output::{Gathering, Output};
use crate::parsing::{self, InputContext, Request};
use crate::realm::Realm;
use crate::requests;
use crate::signals::Signals;
use crate::vocabulary::VocabularyFile;
use crate::words;

/// Sends a command to its targets, and prints one verdict for each.
pub(crate) async fn run(args: &CommandArgs<OperatorArgs>, output: Output, mut signals: Signals) -> CliResult<Exit> {
    let typed = parsing::request(&args.words, InputContext::Shell)?;
    if typed.short_id().is_none() {
        // What is wrong with it is said before anything is connected to.
        typed.command(args.send.dry_run, &BTreeMap::new())?;
    }
    let format = args.output.format();
    follow::check_format(follow::reads(&typed.call, args.send.dry_run) || args.follow.follow, format)?;
    let realm = Realm::open(&args.sender.realm.keys)?;
    let member = realm.operator(&args.sender)?;
    let options = requests::options(&args.send, &member.identity)?;
    let history = History::of(&realm, member.identity.name(), output);
    let seen = VocabularyFile::of(&realm, member.identity.name());
    let follow = match &typed.audience {
        Audience::Clients(clients) => Follow::Clients(clients.clone()),
        Audience::Group(_) | Audience::All => Follow::Presence,
    };
    // From here on, a signal ends the wait and not the verdicts; before anything is sent, it ends everything.
    let ended = Cell::new(None);
    let mut end = pin!(async { ended.set(Some(signals.first().await)) });
    let cut_short = || requests::interrupted(ended.get().unwrap_or(Exit::Interrupted));
    let mut operator = tokio::select! {
        operator = requests::connect(&args.sender.realm.broker, realm, member, follow, output) => operator?,
        () = &mut end => return Err(cut_short()),
    };

    let known = requests::known(&typed, &history);
    let mut request = match typed.short_id() {
        None => typed,
        Some(short) => {
            let jobs = operator.request(requests::jobs()?, &typed.audience, options, &mut end, |_| {}).await;
            if ended.get().is_some() {
                return Err(cut_short());
            }
            let report = jobs.map_err(|error| requests::failure(error, Some(&operator)))?;
            let id = requests::whole_id(&short, &known, &typed.audience, &report)?;
            typed.with_id(id)
        }
    };
    let mut gathering = Gathering::new(output, format);
    if !request.pairs.is_empty() {
        let typed = describe(&mut operator, &request, options, &mut gathering, &seen);
        let args = tokio::select! {
            typed = typed => typed?,
            () = &mut end => return Err(cut_short()),
        };
        request.take_args(args);
    }
    let audience = &request.audience;
    if let Some(job) = follow::job(&request.call, args.send.dry_run) {
        let read = async {
            let mut following = Following::of_job(&mut operator, job, audience, options, args.follow, output).await?;
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
    let mut following = args.follow.follow.then(|| Following::of_request(output, options, audience));
    if following.is_some() {
        gathering.following();
    }
    let options = following.as_ref().map_or(options, Following::request_options);
    let submitted = tokio::select! {
        submitted = operator.submit(request.command(args.send.dry_run, &known)?, audience, options) => submitted,
        () = &mut end => Err(OperatorError::Interrupted),
    };
    let id = submitted.map_err(|error| {
        // What did not verify may be why nobody was found.
        requests::show_updates(&mut operator, &mut gathering);
        match error {
            OperatorError::Interrupted => cut_short(),
            error => requests::failure(error, Some(&operator)),
        }
    })?;
    gathering.incomplete(operator.incomplete());
    gathering.record(requests::recording(&request, args.send.dry_run, operator.sent(id), &known, &history));
    gathering.knowing(known);
    let report = match &mut following {
        Some(following) => following.report(&mut operator, id, end, &mut gathering).await,
        None => operator.report(id, end, |update| gathering.update(&update)).await,
    };
    let report = report.map_err(|error| requests::failure(error, Some(&operator)))?;
    requests::show_alarms(&mut operator, &mut gathering);
    seen.learn(audience, &operator, &report);
    let read = following.as_mut().map_or(Ok(Exit::Succeeded), Following::finish)?;
    gathering.finish(&report, clock::wall())?;
    if let Some(meant) = requests::meant_by(&request.call, &report, &words::of_shell(), &operator) {
        output.note(meant);
    }
    Ok(ended.get().unwrap_or_else(|| requests::exit(&report).worse(read)))
}

/// The arguments by the schemas that the targets tell.
async fn describe(
    operator: &mut Operator,
    Request { audience, call: Call { name, .. }, pairs, .. }: &Request,
    options: Options,
    gathering: &mut Gathering,
    seen: &VocabularyFile,
) -> CliResult<Map<String, Value>> {
    if !matches!(audience, Audience::Clients(_)) {
        operator.refresh().await.map_err(|error| requests::failure(error, None))?;
    }
    let (call, asked) = arguments::question(operator, audience, name);
    let notices = |update| {
        if !matches!(update, Update::Reply { .. }) {
            gathering.update(&update);
        }
    };
    let request = CommandRequest::new(call, false)?;
    let report = operator.request(request, &asked, options, pending(), notices).await;
    let report = report.map_err(|error| requests::failure(error, Some(operator)))?;
    seen.update(|vocabulary| vocabulary.take_descriptions(&report));
    arguments::by_answers(name, pairs, &report).map_err(|error| requests::meant_command(error, name, operator))
}

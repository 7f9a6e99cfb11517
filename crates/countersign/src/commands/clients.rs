//! `countersign clients`: the roster.

use std::collections::BTreeSet;

use countersign_host::clock;
use countersign_keys::Login;
use countersign_machine::server::Presence;
use countersign_protocol::envelope::Expired;
use countersign_protocol::name::Name;
use countersign_server::{Follow, Operator, OperatorError, SetupError, forget};
use serde_json::json;

use crate::args::{ClientsAction, ClientsArgs, Format, OperatorArgs, RealmArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Gathering, Output, print_roster};
use crate::realm::{Realm, listed};
use crate::requests;
use crate::suggest::suggest;
use crate::text::command;
use crate::vocabulary::VocabularyFile;

/// Shows who is there, or removes those who are retired.
pub(crate) async fn run(args: &ClientsArgs<OperatorArgs>, output: Output) -> CliResult<Exit> {
    let (sender, format) = match &args.action {
        None => (&args.sender, args.output.format()),
        Some(ClientsAction::Forget { sender, output, .. }) => (sender, output.format()),
    };
    let realm = Realm::open(&sender.realm.keys)?;
    let member = realm.operator(sender)?;
    let words = VocabularyFile::of(&realm, member.identity.name());
    let mut operator = requests::connect(&sender.realm.broker, realm, member, Follow::Presence, output).await?;
    let done = match &args.action {
        None => show(&mut operator, format, output).await,
        Some(ClientsAction::Forget { names, .. }) => remove(&sender.realm, names, &mut operator, format, output).await,
    };
    // What did not verify may be why a client is missing.
    requests::show_updates(&mut operator, &mut Gathering::new(output, format));
    done?;
    words.update(|vocabulary| vocabulary.take_roster(&operator));
    Ok(Exit::Succeeded)
}

/// Prints the roster.
pub(crate) async fn show(operator: &mut Operator, format: Format, output: Output) -> CliResult<()> {
    operator.refresh().await.map_err(no_roster)?;
    print_roster(operator, format, clock::wall(), output)
}

/// Removes clients from the broker's stream. All of them are looked at before the first is removed; nobody else's presence
/// has to be readable for that, nor theirs.
pub(crate) async fn remove(
    args: &RealmArgs,
    names: &[Name],
    operator: &mut Operator,
    format: Format,
    output: Output,
) -> CliResult<()> {
    let absent = operator.find(names).await.map_err(no_roster)?;
    let now = clock::wall();
    for client in names {
        match operator.roster().entry(client) {
            // Nothing proves that it is there; if it is, its next presence lists it again.
            None if operator.roster().expired(client).is_some() => {}
            None if absent.contains(client) => {
                // Only for what else could have been meant.
                let _ = operator.refresh().await;
                return Err(not_in_the_roster(client, operator));
            }
            None => {}
            Some(presence) if presence.is_there(now) => {
                return Err(CliError::usage(format!("{client} is still there: it was seen within the last 30 s"))
                    .expected("a client that has ended, or that is silent")
                    .hint(command(format!("terminate {client}"))));
            }
            Some(_) => {}
        }
    }
    let realm = Realm::open(&args.keys)?;
    let login = Login::read(&realm.folder.setup_creds())?;
    let names: BTreeSet<Name> = names.iter().cloned().collect();
    let removed: Vec<Name> = names.iter().cloned().collect();
    match forget(args.broker.address(), realm.trust.realm(), login, &removed).await {
        Ok(()) => {}
        Err(SetupError::Link(error)) => return Err(CliError::no_broker(error, &args.broker, &realm.folder)),
        Err(error @ SetupError::Stream { .. }) => {
            return Err(CliError::new(Exit::Broker, error)
                .expected("that the setup key may remove a client from the stream")
                .hint(
                    "run `countersign setup`, and compare the broker's accounts with nats/accounts.conf of this realm",
                ));
        }
    }
    operator.remove(&names);
    match format {
        Format::Json | Format::Ndjson => output.json(&json!({ "removed": removed }))?,
        Format::Table => removed.iter().for_each(|client| {
            output.note(format!("{client} is removed from the roster; its key and credential are as they were"));
        }),
    }
    Ok(())
}

/// There is no roster to show, or to remove from.
pub(crate) fn no_roster(error: OperatorError) -> CliError {
    match error {
        OperatorError::Roster(_) => CliError::new(Exit::Broker, error)
            .expected("the stream of presences, which is the roster")
            .hint("run `countersign setup` once"),
        OperatorError::Silent(_) => CliError::new(Exit::Broker, error)
            .expected("some part of it every few seconds, however slow the line")
            .hint("run `countersign setup` once if the broker keeps no presences yet; else check the line to it"),
        error => requests::failure(error, None),
    }
}

fn not_in_the_roster(client: &Name, operator: &Operator) -> CliError {
    let roster = operator.roster();
    let expired = roster.all_expired().map(Expired::client);
    let known: Vec<Name> = roster.entries().map(Presence::client).chain(expired).cloned().collect();
    let near = suggest(client.as_str(), known.iter().map(Name::as_str));
    CliError::usage(format!("{client} is not in the roster")).expected(format!("one that is: {}", listed(&known))).hint(
        match near {
            // Not the whole command: whoever pastes it would remove a client that they did not name.
            Some(near) => format!("did you mean {near}?").into(),
            None => command("clients"),
        },
    )
}

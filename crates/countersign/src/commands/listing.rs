//! `countersign commands`: what there is to call, and where.

use std::collections::BTreeMap;

use countersign_machine::server::{Audience, Presence};
use countersign_protocol::command::{CommandInfo, CommandKind};
use countersign_protocol::digest::Digest;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_server::{Follow, Operator};
use serde::Serialize;

use super::clients::no_roster;
use crate::args::{Format, ListArgs, OperatorArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::{Gathering, Output, print_commands};
use crate::realm::Realm;
use crate::text::code;
use crate::vocabulary::VocabularyFile;
use crate::{parsing, requests};

/// One command, and who has it.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) command: Name,
    pub(crate) kind: CommandKind,
    /// The definitions, the most frequent first; more than one where clients differ.
    pub(crate) definitions: Vec<Definition>,
}

/// Clients that have a command with the same schemas, and the same definition of a program.
#[derive(Debug, Serialize)]
pub(crate) struct Definition {
    pub(crate) args: Digest,
    pub(crate) result: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) definition: Option<Digest>,
    pub(crate) clients: Vec<Name>,
}

/// Lists the commands of the clients that are there, or of some of them.
pub(crate) async fn run(args: &ListArgs<OperatorArgs>, output: Output) -> CliResult<Exit> {
    let audience = audience(&args.targets)?;
    let realm = Realm::open(&args.sender.realm.keys)?;
    let member = realm.operator(&args.sender)?;
    let (format, words) = (args.output.format(), VocabularyFile::of(&realm, member.identity.name()));
    let mut operator = requests::connect(&args.sender.realm.broker, realm, member, Follow::Presence, output).await?;
    let shown = show(&mut operator, &audience, format, output).await;
    // What did not verify may be why a client is missing.
    requests::show_updates(&mut operator, &mut Gathering::new(output, format));
    shown?;
    words.update(|vocabulary| vocabulary.take_roster(&operator));
    Ok(Exit::Succeeded)
}

/// The clients that are meant: all, where none is named.
pub(crate) fn audience(targets: &[String]) -> CliResult<Audience> {
    if targets.is_empty() { Ok(Audience::All) } else { parsing::target(targets) }
}

/// Prints the commands of an audience.
pub(crate) async fn show(
    operator: &mut Operator,
    audience: &Audience,
    format: Format,
    output: Output,
) -> CliResult<()> {
    operator.refresh().await.map_err(no_roster)?;
    let is_there = |it: &&Presence| it.state() != State::Terminated;
    let is_meant = |it: &&Presence| match audience {
        Audience::Clients(clients) => clients.contains(it.client()),
        Audience::Group(group) => it.groups().contains(group),
        Audience::All => true,
    };
    let clients: Vec<&Presence> = operator.roster().entries().filter(is_there).filter(is_meant).collect();
    if clients.is_empty() {
        return Err(CliError::usage(format!("{audience} matches no client that is there"))
            .expected("a client that has not ended: what it can do is in its presence")
            .hint(code("clients") + " shows who is there"));
    }
    let listed = list(clients.iter().map(|it| (it.client(), it.info().commands.as_slice())));
    print_commands(&listed, clients.len(), format, output)
}

/// The clients that have a command, by its two schemas and its definition.
type ByDefinition = BTreeMap<(Digest, Digest, Option<Digest>), Vec<Name>>;

/// What clients have, by command: data commands first.
fn list<'a>(clients: impl Iterator<Item = (&'a Name, &'a [CommandInfo])>) -> Vec<Listed> {
    let mut found: BTreeMap<(u8, Name), (CommandKind, ByDefinition)> = BTreeMap::new();
    for (client, commands) in clients {
        for CommandInfo { name, kind, args, result, definition } in commands {
            let rank = match kind {
                CommandKind::Data => 0,
                CommandKind::Query => 1,
                CommandKind::Control => 2,
            };
            let (_, definitions) = found.entry((rank, name.clone())).or_insert_with(|| (*kind, BTreeMap::new()));
            definitions.entry((*args, *result, *definition)).or_default().push(client.clone());
        }
    }
    let listed = found.into_iter().map(|((_, command), (kind, definitions))| {
        let definitions = definitions.into_iter();
        let mut definitions: Vec<Definition> = definitions
            .map(|((args, result, definition), clients)| Definition { args, result, definition, clients })
            .collect();
        definitions.sort_by_key(|definition| std::cmp::Reverse(definition.clients.len()));
        Listed { command, kind, definitions }
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    fn info(name: &str, kind: CommandKind, schema: &str) -> CommandInfo {
        let digest = Digest::of(schema.as_bytes());
        CommandInfo { name: name.parse().unwrap(), kind, args: digest, result: digest, definition: None }
    }

    #[test]
    fn commands_are_listed_with_who_has_them_and_where_definitions_differ() {
        use CommandKind::{Control, Data};
        let names: Vec<Name> = ["worker-1", "worker-2", "worker-3"].map(|name| name.parse().unwrap()).to_vec();
        let common = || info("start", Control, "none");
        let all = [
            vec![common(), info("report", Data, "old")],
            vec![common(), info("report", Data, "new")],
            vec![common(), info("report", Data, "new")],
        ];
        let listed = list(names.iter().zip(&all).map(|(name, commands)| (name, commands.as_slice())));
        let shown: Vec<(String, Vec<usize>)> = listed
            .iter()
            .map(|it| (it.command.to_string(), it.definitions.iter().map(|of| of.clients.len()).collect()))
            .collect();
        assert_eq!(shown, [("report".to_owned(), vec![2, 1]), ("start".to_owned(), vec![3])]);
        assert_eq!(listed[0].definitions[1].clients, names[..1]);
    }
}

//! What can be completed, at the prompt and in a shell: the names that clients have announced, and what was sent.
//!
//! A file of the operator's own keeps them for the shell, where each Tab is a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use countersign_keys::{read_own, replace_secret};
use countersign_machine::server::{Audience, Report};
use countersign_protocol::command::{Builtin, CommandKind};
use countersign_protocol::name::Name;
use countersign_protocol::schema;
use countersign_server::Operator;
use serde::{Deserialize, Serialize};

use crate::arguments::{self, is_plain};
use crate::builtin::describe;
use crate::realm::Realm;
use crate::requests;

/// How many clients, groups and commands are kept, of each; more would make Tab slow, and help nobody.
const MAX_NAMES: usize = 4_096;
/// The longest file that is read, in bytes: every name and argument that can be kept.
const MAX_FILE: usize = 4 * 1_024 * 1_024;
/// Of how many commands the arguments are kept.
const MAX_DESCRIBED: usize = 256;

/// The names that the clients of a realm have announced.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Vocabulary {
    pub(crate) clients: BTreeSet<Name>,
    pub(crate) groups: BTreeSet<Name>,
    /// The data commands that clients have.
    pub(crate) commands: BTreeSet<Name>,
    /// The arguments of commands that a client has described.
    pub(crate) args: BTreeMap<Name, BTreeSet<String>>,
}

impl Vocabulary {
    /// Takes what the roster has, in place of what it had before; arguments that were described stay.
    pub(crate) fn take_roster(&mut self, operator: &Operator) {
        let commands = operator.roster().entries().flat_map(|presence| &presence.info().commands);
        let data = commands.filter(|command| command.kind == CommandKind::Data);
        let data: BTreeSet<&Name> = data.map(|command| &command.name).collect();
        let kept = |names: BTreeSet<&Name>| names.into_iter().take(MAX_NAMES).cloned().collect();
        (self.clients, self.groups, self.commands) =
            (kept(operator.known()), kept(requests::groups(operator)), kept(data));
    }

    /// Takes the arguments that the answers to a `describe` tell.
    pub(crate) fn take_descriptions(&mut self, report: &Report) {
        for (name, keys) in arguments::described_keys(report) {
            if self.args.len() < MAX_DESCRIBED || self.args.contains_key(&name) {
                self.args.insert(name, keys);
            }
        }
    }

    /// Whatever a command may be sent to: clients, `@group`s and `@all`.
    pub(crate) fn targets(&self) -> Vec<String> {
        let groups = self.groups.iter().cloned().map(|group| Audience::Group(group).to_string());
        let mut all: Vec<String> = groups.chain([Audience::All.to_string()]).collect();
        all.sort();
        all.extend(self.clients.iter().map(ToString::to_string));
        all
    }

    /// The words that can stand after a command for clients and the words after it; `ids` are those of commands that run.
    pub(crate) fn after(&self, command: &str, words: &[&str], ids: &BTreeSet<String>) -> Vec<String> {
        let commands = || self.commands.iter().map(ToString::to_string);
        let builtin = Builtin::from_name(command);
        let takes_id = builtin.is_some_and(|builtin| describe(builtin).takes_command_id()) || command == "wait";
        match command {
            _ if takes_id => self.targets().into_iter().chain(ids.iter().cloned()).collect(),
            "call" => match words.iter().find_map(|name| self.keys(name)) {
                Some(keys) => keys.iter().map(|key| format!("{key}=")).collect(),
                None => self.targets().into_iter().chain(commands()).collect(),
            },
            "describe" => self.targets().into_iter().chain(commands()).collect(),
            _ => self.targets(),
        }
    }

    /// The arguments of a command: one that a client has described, or a built-in one.
    fn keys(&self, command: &str) -> Option<BTreeSet<String>> {
        let described = command.parse::<Name>().ok().and_then(|name| self.args.get(&name)).cloned();
        described.or_else(|| arguments::builtin_keys().find(|(name, _)| name == command).map(|(_, keys)| keys))
    }
}

/// The names of the JSON Schemas.
pub(crate) fn schemas() -> Vec<String> {
    schema::all().into_iter().map(|schema| schema.name().to_owned()).collect()
}

/// The file that keeps an operator's vocabulary of one realm.
#[derive(Debug, Clone)]
pub(crate) struct VocabularyFile {
    /// `None` where there is no place for it.
    path: Option<PathBuf>,
}

impl VocabularyFile {
    /// Of an operator of a realm. Nothing is read or written yet.
    pub(crate) fn of(realm: &Realm, operator: &Name) -> Self {
        Self { path: realm.file_of(operator, "words.json") }
    }

    /// What it holds; nothing where it cannot be used, for nothing but Tab depends on it.
    pub(crate) fn read(&self) -> Vocabulary {
        let bytes = self.path.as_ref().and_then(|path| read_own(path, MAX_FILE).ok());
        let read: Option<Vocabulary> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut read = read.unwrap_or_default();
        read.args.values_mut().for_each(|keys| keys.retain(|key| is_plain(key)));
        read
    }

    /// Takes what a request showed: the roster, where all of it was read, and what clients described.
    pub(crate) fn learn(&self, audience: &Audience, operator: &Operator, report: &Report) {
        let has_roster = !matches!(audience, Audience::Clients(_));
        let describes = report.command.as_str() == Builtin::Describe.name();
        if has_roster || describes {
            self.update(|vocabulary| {
                if has_roster {
                    vocabulary.take_roster(operator);
                }
                if describes {
                    vocabulary.take_descriptions(report);
                }
            });
        }
    }

    /// Changes what it holds. Of two processes that do so at once, one prevails.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Vocabulary)) {
        let before = self.read();
        let mut after = before.clone();
        change(&mut after);
        if let Some(path) = &self.path
            && after != before
            && let Ok(text) = serde_json::to_vec(&after)
            && let Err(error) = replace_secret(path, &text)
        {
            tracing::debug!("what Tab completes in a shell cannot be written: {}", error.what());
        }
    }
}

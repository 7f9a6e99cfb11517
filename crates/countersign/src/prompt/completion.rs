//! What Tab completes: commands, targets, options, ids.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use countersign_protocol::command::Builtin;
use countersign_protocol::schema;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::live::LivePrompt;
use crate::args;
use crate::builtin::describe;

/// The words that are known only while it runs.
#[derive(Debug, Default, Clone)]
pub(super) struct Vocabulary {
    /// Clients, `@group`s and `@all`.
    pub(super) targets: BTreeSet<String>,
    /// The ids of the commands that were sent here and run.
    pub(super) ids: BTreeSet<String>,
    /// The data commands that the clients know.
    pub(super) commands: BTreeSet<String>,
    /// The arguments of commands whose schemas are known: built in, or told by a client in this session.
    pub(super) args: BTreeMap<String, BTreeSet<String>>,
}

/// The editor's helper.
#[derive(Debug)]
pub(super) struct Completion {
    vocabulary: Arc<Mutex<Vocabulary>>,
    prompt: LivePrompt,
}

impl Completion {
    pub(super) fn new(vocabulary: Arc<Mutex<Vocabulary>>, prompt: LivePrompt) -> Self {
        Self { vocabulary, prompt }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let vocabulary = self.vocabulary.lock().map(|known| known.clone()).unwrap_or_default();
        let before = line.get(..pos).unwrap_or(line);
        let (start, candidates) = candidates(before, &vocabulary);
        // What follows an equals sign follows at once.
        let space = |word: &str| if word.ends_with('=') { "" } else { " " };
        let pair = |word: String| Pair { replacement: format!("{word}{}", space(&word)), display: word };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, is_own: bool) -> Cow<'b, str> {
        // The search in the history has a prompt of its own.
        self.prompt.shown().filter(|_| is_own).map_or(Cow::Borrowed(prompt), Cow::Owned)
    }
}

impl Validator for Completion {}
impl Helper for Completion {}

/// The words that can stand where the text ends, and where that word begins.
fn candidates(before: &str, vocabulary: &Vocabulary) -> (usize, Vec<String>) {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (earlier, word) = before.split_at(start);
    let earlier: Vec<&str> = earlier.split_whitespace().collect();
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // Whoever types `?` has typed all of it.
    let commands = || args::prompt_commands().into_iter().filter(|command| command != "?").collect();
    let takes_id = |command| Builtin::from_name(command).is_some_and(|builtin| describe(builtin).takes_command_id());
    let targets = || vocabulary.targets.iter().cloned().collect::<Vec<_>>();
    let all = match earlier.as_slice() {
        [] | ["help" | "?"] => commands(),
        [command, ..] if word.starts_with('-') => args::long_options(command),
        ["clients"] => owned(&["forget"]),
        ["clients", ..] => targets().into_iter().filter(|target| !target.starts_with('@')).collect(),
        ["schema"] => schema::all().into_iter().map(|schema| schema.name().to_owned()).collect(),
        [command, ..] if takes_id(command) => targets().into_iter().chain(vocabulary.ids.iter().cloned()).collect(),
        ["wait", ..] => targets().into_iter().chain(vocabulary.ids.iter().cloned()).collect(),
        ["call", words @ ..] => match words.iter().find_map(|name| vocabulary.args.get(*name)) {
            Some(keys) => keys.iter().map(|key| format!("{key}=")).collect(),
            None => targets().into_iter().chain(vocabulary.commands.iter().cloned()).collect(),
        },
        ["use" | "commands", ..] => targets(),
        ["describe", ..] => targets().into_iter().chain(vocabulary.commands.iter().cloned()).collect(),
        [command, ..] if Builtin::from_name(command).is_some() => targets(),
        _ => Vec::new(),
    };
    (start, all.into_iter().filter(|candidate| candidate.starts_with(word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let vocabulary = Vocabulary {
            targets: words(&["worker-1", "worker-2", "press", "@web", "@all"]),
            ids: words(&["019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90"]),
            commands: words(&["calculate", "disk_usage", "ping"]),
            args: [("disk_usage".to_owned(), words(&["path"]))].into_iter().collect(),
        };
        candidates(line, &vocabulary).1
    }

    #[test]
    fn commands_targets_options_ids_and_schemas_are_completed_where_they_can_stand() {
        assert_eq!(complete("st"), ["start", "stop", "status"]);
        assert_eq!(complete("help ca"), ["cancel", "calculate", "call"]);
        assert_eq!(complete("ping wor"), ["worker-1", "worker-2"]);
        assert_eq!(complete("ping worker-1 p"), ["press"]);
        assert_eq!(complete("use @"), ["@all", "@web"]);
        assert_eq!(complete("ping --t"), ["--timeout", "--ttl"]);
        assert_eq!(complete("ping --k"), [""; 0], "the session's own options are not");
        assert_eq!(complete("cancel worker-1 01"), ["019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90"]);
        assert_eq!(complete("call d"), ["disk_usage"]);
        assert_eq!(complete("call worker-1 p"), ["press", "ping"]);
        assert_eq!(complete("call worker-1 disk_usage p"), ["path="]);
        assert_eq!(complete("describe worker-1 d"), ["disk_usage"]);
        assert_eq!(complete("clients f"), ["forget"]);
        assert_eq!(complete("clients forget @"), [""; 0]);
        assert_eq!(complete("schema calculate.a"), ["calculate.args"]);
        assert_eq!(complete("quit "), [""; 0]);
        let all = complete("");
        assert!(args::prompt_commands().iter().all(|command| all.contains(command) != (command == "?")), "{all:?}");
    }

    #[test]
    fn a_word_begins_after_the_last_space() {
        assert_eq!(candidates("ping  wor", &Vocabulary::default()).0, 6);
        assert_eq!(candidates("ping ü", &Vocabulary::default()).0, 5);
    }
}

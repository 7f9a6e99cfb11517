//! What Tab completes: commands, targets, options, ids.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use clap::Subcommand as _;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::live::LivePrompt;
use crate::args::{self, CommandArgs, OperatorArgs};
use crate::vocabulary::{Vocabulary, schemas};

/// The words that are known only while it runs.
#[derive(Debug, Default, Clone)]
pub(super) struct Words {
    pub(super) vocabulary: Vocabulary,
    /// The ids of the commands that were sent here and run.
    pub(super) ids: BTreeSet<String>,
}

/// The editor's helper.
#[derive(Debug)]
pub(super) struct Completion {
    words: Arc<Mutex<Words>>,
    prompt: LivePrompt,
}

impl Completion {
    pub(super) fn new(words: Arc<Mutex<Words>>, prompt: LivePrompt) -> Self {
        Self { words, prompt }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let words = self.words.lock().map(|known| known.clone()).unwrap_or_default();
        let before = line.get(..pos).unwrap_or(line);
        let (start, candidates) = candidates(before, &words);
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
fn candidates(before: &str, Words { vocabulary, ids }: &Words) -> (usize, Vec<String>) {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (earlier, word) = before.split_at(start);
    let earlier: Vec<&str> = earlier.split_whitespace().collect();
    // Whoever types `?` has typed all of it.
    let commands = || args::prompt_commands().into_iter().filter(|command| command != "?").collect();
    let is_for_clients = |command: &str| CommandArgs::<OperatorArgs>::has_subcommand(command);
    let all = match earlier.as_slice() {
        [] | ["help" | "?"] => commands(),
        [command, ..] if word.starts_with('-') => args::long_options(command),
        ["clients"] => vec!["forget".to_owned()],
        ["clients", ..] => vocabulary.clients.iter().map(ToString::to_string).collect(),
        ["schema"] => schemas(),
        ["use" | "commands", ..] => vocabulary.targets(),
        [command, words @ ..] if is_for_clients(command) => vocabulary.after(command, words, ids),
        _ => Vec::new(),
    };
    (start, all.into_iter().filter(|candidate| candidate.starts_with(word)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use serde_json::json;

    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let vocabulary = json!({
            "clients": ["worker-1", "worker-2", "press"],
            "groups": ["web"],
            "commands": ["calculate", "disk_usage", "ping"],
            "args": {"disk_usage": ["path"]},
        });
        let vocabulary = serde_json::from_value(vocabulary).unwrap();
        candidates(line, &Words { vocabulary, ids: ["019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90".to_owned()].into() }).1
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
        assert_eq!(complete("call worker-1 calculate "), ["msg=", "x="]);
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
        assert_eq!(candidates("ping  wor", &Words::default()).0, 6);
        assert_eq!(candidates("ping ü", &Words::default()).0, 5);
    }
}

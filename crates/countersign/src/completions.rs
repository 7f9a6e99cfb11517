//! Completion in a shell, by clap's own engine: `countersign completions SHELL` prints a script, which has this program
//! started at each Tab, and what is printed then.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::sync::Arc;

use clap::{CommandFactory as _, Subcommand as _, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use countersign_keys::KeyFolder;
use countersign_protocol::credential::Role;
use countersign_protocol::name::Name;

use crate::args::{self, Cli, CommandArgs, OperatorArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::context;
use crate::output::Output;
use crate::realm::Realm;
use crate::vocabulary::{Vocabulary, VocabularyFile, schemas};

/// Names the shell, where this program is to complete a line.
const VARIABLE: &str = "COUNTERSIGN_COMPLETE";
/// Which word of the line is completed; without it, as in fish, the last.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// What is completed, and what is started at each Tab: that which PATH has then.
const PROGRAM: &str = "countersign";

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash 4 or later.
    Bash,
    /// zsh 5 or later.
    Zsh,
    /// fish 3 or later.
    Fish,
}

impl Shell {
    /// The one that asks for what completes a line, if any.
    pub(crate) fn asking() -> Option<Self> {
        Self::from_str(&env::var(VARIABLE).ok()?, false).ok()
    }

    fn adapter(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        }
    }
}

/// Prints the script that a shell reads at its start.
pub(crate) fn script(shell: Shell, output: Output) -> CliResult<Exit> {
    let mut script = Vec::new();
    let written = shell.adapter().write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script);
    written.map_err(|error| CliError::new(Exit::Failed, format!("the script cannot be written: {error}")))?;
    output.text(String::from_utf8_lossy(&script).trim_start())?;
    Ok(Exit::Succeeded)
}

/// Prints what completes a line, which begins after `--`. What is wrong with the line, or with the folder of keys, is no
/// error: it is still being typed.
pub(crate) fn answer(shell: Shell, arguments: &[OsString]) -> Exit {
    let line: Vec<OsString> = arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let index = env::var(INDEX).ok().and_then(|index| index.parse().ok()).unwrap_or(usize::MAX);
    let Some(last) = line.len().checked_sub(1) else { return Exit::Succeeded };
    let known = Arc::new(Known::of(line.get(..index.min(last)).unwrap_or_default()));
    let mut command = with_completers(Cli::command(), "", &known);
    let mut answer = Vec::new();
    let folder = env::current_dir().ok();
    if shell.adapter().write_complete(&mut command, line, folder.as_deref(), &mut answer).is_ok() {
        // Whoever pressed Tab may have gone.
        let _ = io::stdout().write_all(&answer);
    }
    Exit::Succeeded
}

/// What the words before the one that is completed name.
struct Known {
    line: Vec<String>,
    folder: Option<KeyFolder>,
    vocabulary: Vocabulary,
}

/// Where the values of an argument come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Targets, and what may follow them.
    Words,
    Targets,
    Clients,
    Groups,
    Commands,
    /// Members that the folder of keys has.
    Members(Option<Role>),
    Contexts,
    Schemas,
}

/// Where the values of an argument come from, by its subcommand and its id; `None` where clap knows them, or nobody does.
fn source(subcommand: &str, id: &str) -> Option<Source> {
    Some(match (subcommand, id) {
        (_, "words") => Source::Words,
        ("clients forget", "names") | ("watch", "client") => Source::Clients,
        ("client", "name") | ("credential renew client", "names") => Source::Members(Some(Role::Client)),
        ("credential renew operator", "names") | ("watch", "operator") => Source::Members(Some(Role::Operator)),
        ("revoke", "names") => Source::Members(None),
        ("context show" | "context set" | "context use" | "context remove", "name") => Source::Contexts,
        ("schema", "name") => Source::Schemas,
        (_, "operator_name") => Source::Members(Some(Role::Operator)),
        (_, "context") => Source::Contexts,
        (_, "targets" | "target") => Source::Targets,
        (_, "group") => Source::Groups,
        (_, "command") => Source::Commands,
        _ => return None,
    })
}

/// The command with what completes the values of its arguments; `path` is what was typed to get there.
fn with_completers(command: clap::Command, path: &str, known: &Arc<Known>) -> clap::Command {
    let of_arg = |arg: clap::Arg| match source(path, arg.get_id().as_str()) {
        Some(source) if arg.get_action().takes_values() => {
            let known = Arc::clone(known);
            arg.add(ArgValueCompleter::new(move |begun: &OsStr| known.candidates(source, begun)))
        }
        _ => arg,
    };
    command.mut_args(of_arg).mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        with_completers(below, path.trim_start(), known)
    })
}

impl Known {
    fn of(line: &[OsString]) -> Self {
        let realm = args::operator_in(line).and_then(|named| Some((Realm::open(&named.realm.keys).ok()?, named)));
        let file = realm.as_ref().and_then(|(realm, named)| {
            realm.operator_name(named).ok().map(|operator| VocabularyFile::of(realm, &operator))
        });
        let mut vocabulary = file.map(|file| file.read()).unwrap_or_default();
        let folder = realm.map(|(realm, _)| realm.folder);
        // Also where no roster was seen yet.
        vocabulary.clients.extend(folder.iter().flat_map(|folder| folder.names(Role::Client).unwrap_or_default()));
        let line = line.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Self { line, folder, vocabulary }
    }

    fn candidates(&self, source: Source, begun: &OsStr) -> Vec<CompletionCandidate> {
        let names = |names: &BTreeSet<Name>| names.iter().map(ToString::to_string).collect();
        let all: Vec<String> = match source {
            Source::Words => self.words(),
            Source::Targets => self.vocabulary.targets(),
            Source::Clients => names(&self.vocabulary.clients),
            Source::Groups => names(&self.vocabulary.groups),
            Source::Commands => names(&self.vocabulary.commands),
            Source::Members(role) => self.members(role),
            Source::Contexts => context::names().iter().map(ToString::to_string).collect(),
            Source::Schemas => schemas(),
        };
        let begun = begun.to_string_lossy();
        all.into_iter().filter(|word| word.starts_with(begun.as_ref())).map(CompletionCandidate::new).collect()
    }

    /// What can stand after the words of a command for clients.
    fn words(&self) -> Vec<String> {
        let is_command = |word: &String| CommandArgs::<OperatorArgs>::has_subcommand(word);
        let at = self.line.iter().position(is_command).unwrap_or_default();
        let words: Vec<&str> = self.line.iter().skip(at).map(String::as_str).collect();
        let [command, words @ ..] = words.as_slice() else { return Vec::new() };
        self.vocabulary.after(command, words, &BTreeSet::new())
    }

    fn members(&self, role: Option<Role>) -> Vec<String> {
        let roles = [Role::Operator, Role::Client].into_iter().filter(|it| role.is_none_or(|role| role == *it));
        let names =
            roles.flat_map(|role| self.folder.iter().flat_map(move |folder| folder.names(role).unwrap_or_default()));
        names.map(|name| name.to_string()).collect()
    }
}

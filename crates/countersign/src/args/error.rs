//! What clap finds wrong with a line, in the three lines of every error.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use countersign_protocol::text::echo;

use super::{Cli, known_option, prompt_commands};
use crate::cli_error::CliError;
use crate::suggest::suggest;
use crate::text::cut;

/// How much of clap's text is shown, in characters: it quotes what was typed, however long that is.
const MAX_SHOWN: usize = 256;

/// The same error for people. The command is the one that read the line.
pub(super) fn usage_error(error: &clap::Error, command: &mut clap::Command, line: &[OsString]) -> CliError {
    let context = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    // The subcommand that it is about: the innermost that was named before it went wrong.
    command.build();
    let unknown = context(ContextKind::InvalidSubcommand);
    let words = line.iter().filter_map(|word| word.to_str()).take_while(|word| Some(*word) != unknown.as_deref());
    let named = words.fold(&*command, |named, word| named.find_subcommand(word).unwrap_or(named));
    let program = named.get_bin_name().unwrap_or(named.get_name());
    let help = if program.is_empty() { "help".to_owned() } else { format!("{program} --help") };
    // Not clap's own: that counts the environment among what was typed.
    let usage = named.clone().render_usage().to_string();
    let usage: Vec<&str> = usage.trim_start_matches("Usage:").lines().map(str::trim).collect();

    let text = error.render().to_string();
    // What comes before clap's own tips: a sentence, perhaps with a list of what is missing.
    let is_tip = |line: &&str| ["tip:", "Usage:", "[", "For more"].iter().any(|tip| line.starts_with(tip));
    let what: Vec<&str> = text.lines().map(str::trim).take_while(|line| !is_tip(line)).collect();
    let is_root = named.get_name() == command.get_name();
    let foreign = (error.kind() == ErrorKind::UnknownArgument).then(|| context(ContextKind::InvalidArg)).flatten();
    let foreign = foreign.filter(|option| known_option(&Cli::command(), option).is_some());
    let failure = match (error.kind(), foreign) {
        (ErrorKind::MissingSubcommand, _) => CliError::usage("no command is named"),
        (_, Some(_)) if is_root => CliError::usage("no command is named"),
        (_, Some(option)) => return CliError::usage(format!("`{option}` means nothing to `{program}`")).hint(help),
        _ => CliError::usage(cut(what.join(" ").trim().trim_start_matches("error: "), MAX_SHOWN)),
    };

    let failure = match (error.kind(), context(ContextKind::ValidValue), context(ContextKind::Usage)) {
        (ErrorKind::InvalidSubcommand, ..) => failure.expected(format!("one of those that `{help}` lists")),
        (ErrorKind::InvalidValue, Some(values), _) => failure.expected(format!("one of {values}")),
        (_, _, Some(_)) => failure.expected(usage.join(", or ")),
        _ => failure,
    };
    // To pass it as a value is meant by `-5`, and by no `--name`.
    let is_option = context(ContextKind::InvalidArg).is_some_and(|typed| typed.starts_with("--"));
    let failure = match context(ContextKind::Suggested).filter(|_| !is_option) {
        Some(tip) => failure.hint(cut(&tip, MAX_SHOWN)),
        None => failure.hint(&help),
    };
    let (typed, candidates) = match error.kind() {
        ErrorKind::InvalidSubcommand => (unknown, named.get_subcommands().map(|it| it.get_name().to_owned()).collect()),
        ErrorKind::UnknownArgument => {
            let shown = named.get_arguments().filter(|option| !option.is_hide_set());
            (
                context(ContextKind::InvalidArg),
                shown.filter_map(|it| it.get_long()).map(|it| format!("--{it}")).collect(),
            )
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => (context(ContextKind::InvalidValue), values.clone()),
            _ => (None, Vec::new()),
        },
        _ => (None, Vec::new()),
    };
    let typed = typed.unwrap_or_default();
    match suggest(&typed, candidates.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("{program} {near}").trim_start()).meant(&typed, near),
        None => failure,
    }
}

/// The prompt has no such command.
pub(super) fn no_such_command(word: &str) -> CliError {
    if Cli::command().find_subcommand(word).is_some() {
        return CliError::usage(format!("`{word}` is not for the prompt"))
            .expected("a command for clients, or one of those that `help` lists")
            .hint(format!("in a shell: countersign {word}"));
    }
    let error = CliError::usage(format!("there is no command `{}`", echo(word)));
    let commands = prompt_commands();
    match suggest(word, commands.iter().map(String::as_str)) {
        Some(near) => error.expected("one that `help` lists").hint(near).meant(word, near),
        None => error.expected("a command, and after it its targets").hint("help"),
    }
}

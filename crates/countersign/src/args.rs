//! The command line, as clap reads it. What the words after a subcommand mean is [`crate::parsing`]'s.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use countersign_protocol::limits::MAX_ECHO;
use countersign_protocol::text::echo;

use crate::cli_error::CliError;
use crate::text::Place;

mod command;
mod context;
mod credential;
mod doctor;
mod enroll;
mod error;
mod options;
mod process;
mod request;
mod roster;
mod settings;
mod trust;

pub(crate) use command::{Command, InitArgs, PromptCommand, SetupArgs};
pub(crate) use context::{ContextAction, ContextSetArgs};
pub(crate) use credential::{
    AllowedCommand, CredentialAction, GrantArgs, IssueMember, IssuingArgs, RenewMember, WhoArgs,
};
pub(crate) use doctor::DoctorArgs;
pub(crate) use enroll::{EnrollAction, EnrollArgs, JoinArgs, NewTokenArgs};
pub(crate) use options::{Format, OutputArgs, SendArgs, VerbosityArgs};
pub(crate) use process::{ClientArgs, IssuerArgs, ServerArgs, WatchArgs};
pub(crate) use request::{
    CALL_ABOUT, CallArgs, CommandArgs, FollowArgs, WAIT, WAIT_ABOUT, WAIT_EXAMPLE, Words, words_after,
};
pub(crate) use roster::{
    ClientsAction, ClientsArgs, CommandsAction, CommandsArgs, HistoryArgs, HistoryFilter, ListArgs,
};
pub(crate) use settings::{BrokerArgs, DEFAULT_URL, KeysArgs, OperatorArgs, RealmArgs, Source};
pub(crate) use trust::{RevokeArgs, Rotation, TrustAction};

/// Signed commands and verified replies for fleets of workers over NATS.
///
/// An operator signs each command; each client checks for itself that this operator may send it this command, that
/// the command is fresh and has not run before, runs it at most once, and signs its reply. The broker in between moves bytes and is trusted with nothing else.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 80,
    after_long_help = "From nothing to a first verified reply:
  countersign init                       make keys and credentials in ./keys
  nats-server -c nats.conf -sd /tmp/cs   start the broker
  countersign setup                      make the broker's streams
  countersign client --name worker-1     run a client; in another terminal:
  countersign start worker-1
  countersign calculate worker-1 2.5 \"all done\"

Exit status:
  0    every target succeeded (or accepted, with --detach)
  1    some target failed, refused, was cancelled or interrupted; or this
       machine failed
  2    wrong usage, or arguments found invalid before anything was sent
  3    some target gave no reply or is offline, and none failed
  4    no broker, it refuses the connection, or cannot deliver
  5    keys, credentials or trust are unusable
  6    some target still runs the command (result, wait, --deadline), and
       none failed or gave no reply
  130  interrupted by Ctrl-C (SIGINT)
  143  ended by SIGTERM
`doctor` ends with 0 (fine), 1 (warnings) or 2 (something is broken)."
)]
pub(crate) struct Cli {
    /// What every subcommand takes.
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// No options.
#[derive(Debug, Args)]
pub(crate) struct NoOptions {}

/// What else a command line can come to.
pub(crate) enum ParseExit {
    /// Help or the version; help also where nothing was typed.
    Help(clap::Error),
    /// Something that is not understood.
    Wrong(CliError),
}

/// Reads the command line, the program's name first.
pub(crate) fn parse(line: &[OsString]) -> Result<Cli, ParseExit> {
    let mut command = Cli::command();
    let words = line.get(1..).unwrap_or_default();
    let line: Vec<OsString> = line.iter().take(1).cloned().chain(options_last(&command, words)).collect();
    let matches = command.try_get_matches_from_mut(&line).map_err(|error| exit(error, &mut command, &line))?;
    let matches = match settings::wanted(&matches) {
        Some((wanted, name)) => match crate::context::chosen(name).map_err(ParseExit::Wrong)? {
            Some(context) => {
                // Read once more, with the context's values where the line and the environment name none.
                let mut command = settings::with_context(Cli::command(), &context, wanted);
                command.try_get_matches_from_mut(&line).map_err(|error| exit(error, &mut command, &line))?
            }
            None => matches,
        },
        None => matches,
    };
    Cli::from_arg_matches(&matches).map_err(|error| exit(error, &mut command, &line))
}

/// The operator that a line names, which is not complete and may be wrong; `None` where nothing can be read of it.
pub(crate) fn operator_in(line: &[OsString]) -> Option<OperatorArgs> {
    let read = |command: clap::Command| command.ignore_errors(true).try_get_matches_from(line).ok();
    let mut matches = read(Cli::command())?;
    if let Some((wanted, name)) = settings::wanted(&matches)
        && let Some(context) = crate::context::chosen(name).ok().flatten()
    {
        matches = read(settings::with_context(Cli::command(), &context, wanted))?;
    }
    OperatorArgs::from_arg_matches(settings::leaf(&matches)).ok()
}

/// Reads a line of the prompt.
pub(crate) fn parse_line(words: &[String]) -> Result<PromptCommand, ParseExit> {
    let mut options = words.iter().take_while(|word| *word != "--").filter(|word| word.starts_with('-'));
    // Not left to clap, which would compare it with every option: that takes as long as the word is.
    if let Some(endless) = options.find(|word| word.split('=').next().is_some_and(|name| name.len() > MAX_ECHO)) {
        return Err(ParseExit::Wrong(
            CliError::usage(format!("there is no option `{}`", echo(endless)))
                .expected("one that the command has, or `--` before a text that begins with -")
                .hint("`help COMMAND` lists the options"),
        ));
    }
    let mut command = prompt();
    let line: Vec<OsString> = words.iter().map(Into::into).collect();
    let line = options_last(&command, &line);
    if let Some(word) = line.first().and_then(|word| word.to_str()).filter(|word| !word.starts_with('-'))
        && command.find_subcommand(word).is_none()
    {
        return Err(ParseExit::Wrong(error::no_such_command(word)));
    }
    let read = command.try_get_matches_from_mut(&line).and_then(|matches| PromptCommand::from_arg_matches(&matches));
    read.map_err(|error| exit(error, &mut command, &line))
}

/// The words that begin a line of the prompt.
pub(crate) fn prompt_commands() -> Vec<String> {
    let names =
        |it: &clap::Command| it.get_name_and_visible_aliases().into_iter().map(str::to_owned).collect::<Vec<_>>();
    prompt().get_subcommands().flat_map(names).collect()
}

/// The long options that a subcommand takes at the prompt, for completion.
pub(crate) fn long_options(subcommand: &str) -> Vec<String> {
    let prompt = prompt();
    let options = prompt.find_subcommand(subcommand).into_iter().flat_map(clap::Command::get_arguments);
    options.filter_map(|option| option.get_long().map(|long| format!("--{long}"))).collect()
}

/// The examples of a command, as they are typed there.
fn examples(place: Place, of: &[&str]) -> String {
    let heading = if of.len() == 1 { "Example:" } else { "Examples:" };
    let lines = of.iter().map(|it| format!("\n  {}", crate::text::command(it).render(place)));
    heading.to_owned() + &lines.collect::<String>()
}

fn prompt() -> clap::Command {
    let command = clap::Command::new("").no_binary_name(true).override_usage("<COMMAND> [OPTIONS]").max_term_width(80);
    PromptCommand::augment_subcommands(command).subcommand_required(true).disable_help_subcommand(true)
}

/// Options may stand before the subcommand as well: they are moved to the end of the line, where the subcommand reads them.
fn options_last(command: &clap::Command, words: &[OsString]) -> Vec<OsString> {
    let mut first = 0;
    while let Some(word) = words.get(first).and_then(|word| word.to_str())
        && word.starts_with('-')
        && let Some(option) = known_option(command, word)
    {
        let has_value = word.contains('=') || (!word.starts_with("--") && word.len() > 2);
        first += if option.get_action().takes_values() && !has_value { 2 } else { 1 };
    }
    let (options, rest) = words.split_at(first.min(words.len()));
    let end = rest.iter().position(|word| word == "--").unwrap_or(rest.len());
    let (rest, literal) = rest.split_at(end);
    [rest, options, literal].concat()
}

/// The option, of every subcommand or of one, that a word begins with.
fn known_option<'a>(command: &'a clap::Command, word: &str) -> Option<&'a clap::Arg> {
    let is_meant = |option: &&clap::Arg| match word.strip_prefix("--") {
        Some(long) => option.get_long() == long.split('=').next(),
        None => {
            word.strip_prefix('-').is_some_and(|short| !short.is_empty() && short.chars().next() == option.get_short())
        }
    };
    let of_one = command.get_subcommands().flat_map(clap::Command::get_arguments);
    command.get_arguments().chain(of_one).find(is_meant)
}

fn exit(error: clap::Error, command: &mut clap::Command, line: &[OsString]) -> ParseExit {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return ParseExit::Help(error);
    }
    ParseExit::Wrong(error::usage_error(&error, command, line))
}

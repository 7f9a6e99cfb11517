//! The command line, as clap reads it. What the words after a subcommand mean is [`crate::parsing`]'s.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use countersign_protocol::limits::MAX_ECHO;
use countersign_protocol::name::Name;
use countersign_protocol::text::echo;

use crate::cli_error::CliError;
use crate::duration::{Span, positive_span};
use crate::text::{self, Place, cut};

mod command;
mod order;

pub(crate) use command::{ClientArgs, ClientsAction, Command, WatchArgs};
pub(crate) use order::CommandArgs;

/// How much is shown of what clap says, in characters: it has what was typed in it, however long that is.
const MAX_SAID: usize = 256;

/// Signed commands and verified replies for fleets of workers over NATS.
///
/// An operator signs each command; each client proves to itself that this operator may give it this order, now and never
/// before, runs it at most once, and signs its reply. The broker in between moves bytes and is trusted with nothing else.
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
  1    some target failed, refused, was cancelled or interrupted
  2    wrong usage, or arguments found invalid before anything was sent
  3    some target gave no reply or is offline, and none failed
  4    no broker, or it refused us
  5    keys, credentials or trust are unusable
  130  interrupted by the person
  143  ended by SIGTERM"
)]
pub(crate) struct Cli {
    /// What every subcommand takes that has a use for it.
    #[command(flatten)]
    pub(crate) options: Options,
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options that stand before or after the subcommand.
#[derive(Debug, Clone, Args)]
#[command(next_display_order = 100)]
pub(crate) struct Options {
    /// The broker
    #[arg(long, global = true, env = "NATS_URL", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) nats_url: String,

    /// The folder that `countersign init` makes
    #[arg(long, global = true, env = "COUNTERSIGN_KEYS", value_name = "DIR", default_value = "keys")]
    pub(crate) keys: PathBuf,

    /// The realm; by default the one that trust.json speaks for
    #[arg(long, global = true, value_name = "NAME", value_parser = str::parse::<Name>)]
    pub(crate) realm: Option<Name>,

    /// Whose key signs; by default the only operator in the folder of keys
    #[arg(long = "as", id = "operator_name", global = true, env = "COUNTERSIGN_OPERATOR", value_name = "OPERATOR")]
    #[arg(value_parser = str::parse::<Name>)]
    pub(crate) operator: Option<Name>,

    /// How long to wait for the first reply of each target after it was sent the command; connecting and reading
    /// the roster have time limits of their own, and time without a connection does not count, up to 2 minutes
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = positive_span)]
    pub(crate) timeout: Span,

    /// How long the command stays valid: a client that gets it later does not run it, give or take the 5 s
    /// that clocks may differ
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = positive_span)]
    pub(crate) ttl: Span,

    /// Do not wait for the end of a long-running command
    #[arg(long, global = true)]
    pub(crate) detach: bool,

    /// Send the same bytes again until an answer comes; they still run at most once. A client that has begun a
    /// new epoch is sent any command but `terminate` again: it has lost the journal of what it ran before
    #[arg(long, global = true)]
    pub(crate) retry: bool,

    /// Have the clients check everything and run nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,

    /// How the outcome is printed
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,

    /// Say only what was asked for, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How the outcome is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document when all is known.
    Json,
    /// One line per reply as it arrives, and one summary line.
    Ndjson,
}

/// Whether an option means something to a subcommand: offered and taken only then.
fn meant(option: &str, subcommand: &str) -> bool {
    let local = ["init", "health", "schema", "schemas"].contains(&subcommand);
    let sends = !local && !["setup", "client", "clients", "watch"].contains(&subcommand);
    match option {
        "nats_url" => !local,
        "keys" | "realm" => !local || subcommand == "init",
        "operator_name" => sends || subcommand == "clients",
        "timeout" | "ttl" | "detach" | "retry" | "dry_run" => sends,
        "output" => sends || ["init", "clients", "watch"].contains(&subcommand),
        _ => true,
    }
}

/// What else a command line can come to.
pub(crate) enum ParseExit {
    /// Help or the version; help also where nothing was said at all.
    Help(clap::Error),
    /// Something that is not understood.
    Wrong(CliError),
}

/// Reads the command line, the program's name first.
pub(crate) fn parse(line: &[OsString]) -> Result<Cli, ParseExit> {
    read(line, &meant, Place::Shell).map(|(cli, _)| cli)
}

/// Reads a line of the prompt. The options that it does not name are as the session has them.
pub(crate) fn parse_line(words: &[String], session: &Options) -> Result<Cli, ParseExit> {
    let mut options = words.iter().take_while(|word| *word != "--").filter(|word| word.starts_with('-'));
    // Not left to clap, which would compare it with every option: that takes as long as the word is.
    if let Some(endless) = options.find(|word| word.split('=').next().is_some_and(|name| name.len() > MAX_ECHO)) {
        return Err(ParseExit::Wrong(
            CliError::usage(format!("there is no option `{}`", echo(endless)))
                .expected("one that the command has, or `--` before a text that begins with -")
                .hint("`help COMMAND` lists the options"),
        ));
    }
    let line: Vec<OsString> = words.iter().map(Into::into).collect();
    let (mut cli, given) = read(&line, &meant_at_the_prompt, Place::Prompt)?;
    let said = |option: &str| given.iter().any(|it| it == option);
    let line = cli.options;
    cli.options = Options {
        timeout: if said("timeout") { line.timeout } else { session.timeout },
        ttl: if said("ttl") { line.ttl } else { session.ttl },
        output: if said("output") { line.output } else { session.output },
        detach: line.detach || session.detach,
        retry: line.retry || session.retry,
        dry_run: line.dry_run || session.dry_run,
        ..session.clone()
    };
    Ok(cli)
}

/// Whether this is a subcommand, in a shell at least.
pub(crate) fn is_subcommand(word: &str) -> bool {
    Cli::command().find_subcommand(word).is_some()
}

/// The long options that a subcommand takes at the prompt, for completion.
pub(crate) fn long_options(subcommand: &str) -> Vec<String> {
    let command = Cli::command();
    let global = command.get_arguments().filter(|arg| meant_at_the_prompt(arg.get_id().as_str(), subcommand));
    let own = command.find_subcommand(subcommand).into_iter().flat_map(clap::Command::get_arguments);
    let long = |arg: &clap::Arg| arg.get_long().map(|long| format!("--{long}"));
    own.chain(global).filter_map(long).collect()
}

/// What belongs to the session is not for a line of it.
fn meant_at_the_prompt(option: &str, subcommand: &str) -> bool {
    ["timeout", "ttl", "detach", "retry", "dry_run", "output"].contains(&option) && meant(option, subcommand)
}

/// Reads a line, of a shell or of the prompt; tells also which of the options it names.
fn read(line: &[OsString], meant: &dyn Fn(&str, &str) -> bool, place: Place) -> Result<(Cli, Vec<String>), ParseExit> {
    let mut command = match place {
        Place::Shell => Cli::command(),
        Place::Prompt => Cli::command().no_binary_name(true).name("").override_usage("<COMMAND> [OPTIONS]"),
    };
    let options: Vec<clap::Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    for subcommand in command.get_subcommands_mut() {
        // A global option that a subcommand already has is not handed down to it: a hidden copy is how to withhold one.
        let withheld = options.iter().filter(|option| !meant(option.get_id().as_str(), subcommand.get_name()));
        let withheld: Vec<clap::Arg> = withheld.map(|option| option.clone().hide(true)).collect();
        let command = std::mem::take(subcommand).args(withheld);
        *subcommand = if place == Place::Prompt { order::at_the_prompt(command) } else { command };
    }
    let matches = command.try_get_matches_from_mut(line).map_err(|error| asked(error, &mut command, line, place))?;
    let mut named = Vec::new();
    if let Some((subcommand, given)) = matches.subcommand() {
        let on_the_line = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        for (id, long) in options.iter().map(|option| (option.get_id().as_str(), option.get_long())) {
            if !on_the_line(id) {
                continue;
            }
            if !meant(id, subcommand) {
                let program = text::command(subcommand).render(place);
                let what = format!("`--{}` means nothing to `{program}`", long.unwrap_or(id));
                return Err(ParseExit::Wrong(CliError::usage(what).hint(format!("{program} --help"))));
            }
            named.push(id.to_owned());
        }
    }
    let cli = Cli::from_arg_matches(&matches).map_err(|error| asked(error, &mut command, line, place))?;
    Ok((cli, named))
}

/// What clap has to say, in our own three lines unless it is help.
fn asked(error: clap::Error, command: &mut clap::Command, line: &[OsString], place: Place) -> ParseExit {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return ParseExit::Help(error);
    }
    let context = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    // The subcommand that it is about: the innermost that was named before it went wrong.
    command.build();
    let unknown = context(ContextKind::InvalidSubcommand);
    let words = line.iter().skip(usize::from(place == Place::Shell)).filter_map(|word| word.to_str());
    let words = words.take_while(|word| Some(*word) != unknown.as_deref());
    let named = words.fold(&*command, |named, word| named.find_subcommand(word).unwrap_or(named));
    let program = named.get_bin_name().unwrap_or(named.get_name());
    let help = if program.is_empty() { "help".to_owned() } else { format!("{program} --help") };
    // Not clap's own: that counts what the environment says among what was typed.
    let usage = named.clone().render_usage().to_string();
    let usage: Vec<&str> = usage.trim_start_matches("Usage:").lines().map(str::trim).collect();

    let text = error.render().to_string();
    // What comes before clap's own tips: a sentence, perhaps with a list of what is missing.
    let is_tip = |line: &&str| ["tip:", "Usage:", "[", "For more"].iter().any(|tip| line.starts_with(tip));
    let what: Vec<&str> = text.lines().map(str::trim).take_while(|line| !is_tip(line)).collect();
    let failure = match error.kind() {
        ErrorKind::MissingSubcommand => CliError::usage("no command is named"),
        _ => CliError::usage(cut(what.join(" ").trim().trim_start_matches("error: "), MAX_SAID)),
    };

    let failure = match (error.kind(), context(ContextKind::ValidValue), context(ContextKind::Usage)) {
        (ErrorKind::InvalidSubcommand, ..) => failure.expected(format!("one of those that `{help}` lists")),
        (ErrorKind::InvalidValue, Some(values), _) => failure.expected(format!("one of {values}")),
        (_, _, Some(_)) => failure.expected(usage.join(", or ")),
        _ => failure,
    };
    let nearest = context(ContextKind::SuggestedSubcommand).or_else(|| context(ContextKind::SuggestedArg));
    ParseExit::Wrong(match (nearest, context(ContextKind::Suggested)) {
        (Some(nearest), _) => failure.hint(format!("{program} {nearest}").trim_start()),
        (None, Some(tip)) => failure.hint(cut(&tip, MAX_SAID)),
        (None, None) => failure.hint(help),
    })
}

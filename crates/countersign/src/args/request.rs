//! The commands for clients, in a shell and at the prompt: a subcommand for each built-in command, made of its descriptor,
//! and `call` for all others.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Error, FromArgMatches, Subcommand};
use countersign_protocol::command::Builtin;

use super::options::{OutputArgs, SendArgs};
use super::settings::OperatorArgs;
use super::{NoOptions, examples};
use crate::builtin::{self, COMMAND_ID, Param};
use crate::text::{Place, Text, code};

/// What all of them take first.
const TARGET: Param = Param { name: "TARGET", about: "clients, or one @group, or @all" };

pub(crate) const WAIT: &str = "wait";
/// What `wait` does.
pub(crate) const WAIT_ABOUT: &str = "Wait for the end of a command sent before";
/// As it is typed, without the name of the program.
pub(crate) const WAIT_EXAMPLE: &str = "wait worker-1 8a2b90";

const CALL: &str = "call";
const FOLLOW: &str = "follow";
const STDERR: &str = "stderr";
const FOLLOW_ABOUT: &str = "Show what the job writes, while it runs";
/// What is typed after the targets of `call`; the last in a shell only.
const CALL_PARAMS: [Param; 3] = [
    Param { name: "NAME", about: "one of the commands that a client lists in its status" },
    Param { name: "[KEY=VALUE]...", about: "its arguments, typed by the schema that the client tells" },
    Param { name: "[-]", about: "read the command's arguments from standard input" },
];
/// What `call` does.
pub(crate) const CALL_ABOUT: &str = "Send any registered command, with its arguments";

/// A command for clients, as it was typed.
#[derive(Debug)]
pub(crate) struct CommandArgs<S> {
    pub(crate) words: Words,
    pub(crate) send: SendArgs,
    pub(crate) output: OutputArgs,
    pub(crate) follow: FollowArgs,
    /// Who sends it.
    pub(crate) sender: S,
}

/// What was typed after the subcommand, without the options.
#[derive(Debug)]
pub(crate) enum Words {
    /// The targets of a built-in command and its arguments.
    Builtin(Builtin, Vec<String>),
    /// The targets of `wait`, and the id of the command whose end it waits for.
    Wait(Vec<String>),
    /// The same of any command, by its name.
    Call(CallArgs),
}

/// How the output of jobs is read; each option is there where it means something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FollowArgs {
    /// Read to the end of the job.
    pub(crate) follow: bool,
    /// Read standard error, and not standard output.
    pub(crate) stderr: bool,
}

/// What `call` takes.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[arg(hide = true)]
    pub(crate) words: Vec<String>,
    /// The arguments, one JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "args_file")]
    pub(crate) args: Option<String>,
    /// A file with the arguments
    #[arg(long, value_name = "FILE")]
    pub(crate) args_file: Option<PathBuf>,
}

/// Who sends commands: at the prompt the session, so that no option names them.
pub(crate) trait Sender: Args {
    /// Where the commands are typed.
    const PLACE: Place;
}

impl Sender for OperatorArgs {
    const PLACE: Place = Place::Shell;
}

impl Sender for NoOptions {
    const PLACE: Place = Place::Prompt;
}

impl<S: Sender> Subcommand for CommandArgs<S> {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        command
            .subcommands(Builtin::ALL.iter().map(|it| subcommand::<S>(*it)))
            .subcommand(wait::<S>())
            .subcommand(call::<S>())
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == WAIT || name == CALL || Builtin::from_name(name).is_some()
    }
}

impl<S: Sender> FromArgMatches for CommandArgs<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let (name, matches) =
            matches.subcommand().ok_or_else(|| Error::new(clap::error::ErrorKind::MissingSubcommand))?;
        Ok(Self {
            words: match Builtin::from_name(name) {
                Some(builtin) => {
                    let words = matches.get_many("words").unwrap_or_default().cloned();
                    Words::Builtin(builtin, words.collect())
                }
                None if name == WAIT => {
                    let words = matches.get_many("words").unwrap_or_default().cloned();
                    Words::Wait(words.collect())
                }
                None => Words::Call(CallArgs::from_arg_matches(matches)?),
            },
            send: SendArgs::from_arg_matches(matches)?,
            output: OutputArgs::from_arg_matches(matches)?,
            follow: FollowArgs { follow: is_set(matches, FOLLOW), stderr: is_set(matches, STDERR) },
            sender: S::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn subcommand<S: Sender>(builtin: Builtin) -> clap::Command {
    let descriptor = builtin::describe(builtin);
    // Which of them are targets is seen only when all are known, which clap cannot express.
    let words = clap::Arg::new("words").num_args(0..).hide(true).allow_negative_numbers(true);
    let command = clap::Command::new(builtin.name()).arg(words);
    let command = match builtin {
        Builtin::Output => command
            .arg(flag(FOLLOW, "Wait for what the job writes until it ends"))
            .arg(flag(STDERR, "Show standard error in place of standard output")),
        _ if builtin.is_long_running() => command.arg(flag(FOLLOW, FOLLOW_ABOUT)),
        _ => command,
    };
    described::<S>(command, descriptor.about, descriptor.params, &descriptor.notes, descriptor.examples)
}

fn wait<S: Sender>() -> clap::Command {
    let words = clap::Arg::new("words").num_args(0..).hide(true);
    let notes = "Each target gets the verdict of the command, and the exit status is as if it had been sent now. If --deadline ends the wait, "
        .to_owned()
        + "the command goes on, and the status is 6.";
    let examples = [WAIT_EXAMPLE, "wait worker-1 8a2b90 --deadline 10m"];
    let command =
        described::<S>(clap::Command::new(WAIT).arg(words), WAIT_ABOUT, &[COMMAND_ID], &notes.into(), &examples);
    // They are about a command that is sent, and this one was.
    ["detach", "retry", "dry_run"].into_iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.hide(true)))
}

fn call<S: Sender>() -> clap::Command {
    let command = CallArgs::augment_args(clap::Command::new(CALL)).arg(flag(FOLLOW, FOLLOW_ABOUT));
    let notes = code("commands") + " lists what there is, and " + code("describe") + " what a command takes.";
    let calls = [
        "call worker-1 calculate x=2.5 msg=\"all done\"",
        "call worker-1 calculate --args '{\"x\": 2.5, \"msg\": \"done\"}'",
    ];
    match S::PLACE {
        Place::Shell => {
            let stdin = "call worker-1 calculate - < arguments.json";
            described::<S>(command, CALL_ABOUT, &CALL_PARAMS, &notes, &[calls[0], calls[1], stdin])
        }
        Place::Prompt => described::<S>(command, CALL_ABOUT, &CALL_PARAMS[..2], &notes, &calls),
    }
}

/// What is typed in a shell after a command for clients, and what it is; `None` for any other.
pub(crate) fn words_after(command: &str) -> Option<Vec<(String, &'static str)>> {
    match (Builtin::from_name(command), command) {
        (Some(builtin), _) => Some(rows(Place::Shell, builtin::describe(builtin).params)),
        (None, WAIT) => Some(rows(Place::Shell, &[COMMAND_ID])),
        (None, CALL) => Some(rows(Place::Shell, &CALL_PARAMS)),
        (None, _) => None,
    }
}

fn rows(place: Place, params: &[Param]) -> Vec<(String, &'static str)> {
    let targets = match place {
        Place::Shell => "<TARGET>...",
        Place::Prompt => "[TARGET]...",
    };
    let params = params.iter().map(|param| (param.form(), param.about));
    [(targets.to_owned(), TARGET.about)].into_iter().chain(params).collect()
}

fn flag(name: &'static str, about: &'static str) -> clap::Arg {
    clap::Arg::new(name).long(name).action(clap::ArgAction::SetTrue).help(about)
}

/// Whether an option is set; it may not be there.
fn is_set(matches: &ArgMatches, name: &str) -> bool {
    matches.try_get_one::<bool>(name).ok().flatten().is_some_and(|set| *set)
}

/// With the options that all of them have, and with the help.
fn described<S: Sender>(
    command: clap::Command,
    about: &'static str,
    params: &[Param],
    notes: &Text,
    calls: &[&str],
) -> clap::Command {
    let place = S::PLACE;
    let program = crate::text::command(command.get_name()).render(place);
    let rows = rows(place, params);
    let forms: Vec<&str> = rows.iter().map(|(form, _)| form.as_str()).collect();
    let usage = format!("{program} [OPTIONS] {}", forms.join(" "));
    let width = forms.iter().map(|form| form.len()).max().unwrap_or_default();
    let arguments: String = rows.iter().map(|(form, about)| format!("  {form:width$}  {about}\n")).collect();

    let notes = notes.render(place);
    let examples = examples(place, calls);
    let more = if notes.is_empty() { examples } else { format!("{notes}\n\n{examples}") };
    let command = OutputArgs::augment_args(SendArgs::augment_args(S::augment_args(command)));
    command.about(about).long_about(None).override_usage(usage).after_long_help(more).help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\nArguments:\n{arguments}\nOptions:\n{{options}}{{after-help}}"
    ))
}

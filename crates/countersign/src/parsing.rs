//! What the words after a subcommand mean: who is to do what.

use std::fs::File;
use std::io::{Read, stdin};

use countersign_machine::server::Audience;
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::json;
use countersign_protocol::limits::MAX_BODY;
use countersign_protocol::name::{EVERYONE, Name};
use countersign_protocol::text::echo;
use serde_json::{Map, Value};

use crate::args::{CallArgs, Words};
use crate::builtin::{self, command_id_args};
use crate::cli_error::{CliError, CliResult};
use crate::text::{code, command};

/// Who is to do what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whom it is for.
    pub(crate) audience: Audience,
    /// The command and its arguments.
    pub(crate) call: Call,
}

/// Where the words were typed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputContext<'a> {
    /// In a shell: targets are named, and standard input is the command's.
    Shell,
    /// At the prompt: a command that names nobody is for these, if there are any.
    Prompt(Option<&'a Audience>),
}

/// What the words ask for.
pub(crate) fn request(words: &Words, context: InputContext<'_>) -> CliResult<Request> {
    match words {
        Words::Builtin(builtin, words) => of_builtin(*builtin, words, context),
        Words::Call(call) => of_call(call, context),
    }
}

/// To cancel what runs, and nothing else that runs under the same id.
pub(crate) fn cancel(clients: Vec<Name>, command: CommandId) -> Request {
    Request { audience: Audience::Clients(clients), call: call(Builtin::Cancel, command_id_args(command)) }
}

/// TARGET… and a word for each parameter
fn of_builtin(builtin: Builtin, words: &[String], context: InputContext<'_>) -> CliResult<Request> {
    let descriptor = builtin::describe(builtin);
    let names: Vec<&str> = descriptor.params.iter().map(|param| param.name).collect();
    let missing = || too_few(words, &names.join(" "), descriptor.examples[0], context);
    let first = words.len().checked_sub(names.len()).ok_or_else(missing)?;
    let (targets, params) = words.split_at(first);
    let audience = audience(targets, context, missing)?;
    Ok(Request { audience, call: call(builtin, (descriptor.args)(params)?) })
}

/// TARGET… NAME [-]
fn of_call(CallArgs { words, args, args_file }: &CallArgs, context: InputContext<'_>) -> CliResult<Request> {
    let missing = || too_few(words, "NAME", "call worker-1 ping", context);
    let (words, from_stdin) = match words.as_slice() {
        [words @ .., last] if last == "-" => (words, true),
        words => (words, false),
    };
    let (name, targets) = words.split_last().ok_or_else(missing)?;
    let audience = audience(targets, context, missing)?;
    let name: Name = name.parse().map_err(|error| {
        CliError::usage(error)
            .expected("the name of a command, after the targets")
            .hint(code("status TARGET") + " lists the commands that a client knows")
    })?;
    let args = match (args, args_file, from_stdin) {
        (None, None, false) => Map::new(),
        (None, None, true) if matches!(context, InputContext::Prompt(_)) => {
            return Err(CliError::usage("standard input is the prompt's own: `-` cannot read arguments from it")
                .expected("arguments on the line, or in a file")
                .hint("--args '{\"x\": 2.5, \"msg\": \"done\"}', or --args-file FILE"));
        }
        (None, None, true) => object("standard input", &bounded("standard input", stdin().lock())?)?,
        (Some(text), _, false) => object("--args", text.as_bytes())?,
        (None, Some(path), false) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            object(&name, &bounded(&name, file)?)?
        }
        (_, _, true) => {
            return Err(CliError::usage("the arguments are given twice")
                .expected("one of --args, --args-file and `-`")
                .hint("leave one out"));
        }
    };
    Ok(Request { audience, call: Call { name, args } })
}

/// The targets that words name; where they name none, those of the prompt.
fn audience(words: &[String], context: InputContext<'_>, missing: impl FnOnce() -> CliError) -> CliResult<Audience> {
    match (words, context) {
        ([], InputContext::Prompt(Some(usual))) => Ok(usual.clone()),
        ([], InputContext::Prompt(None) | InputContext::Shell) => Err(missing()),
        _ => target(words),
    }
}

/// TARGET…: clients, each once, or one group, or all.
pub(crate) fn target(words: &[String]) -> CliResult<Audience> {
    if let [one] = words
        && let Some(group) = one.strip_prefix('@')
    {
        return match group.parse() {
            _ if group == EVERYONE => Ok(Audience::All),
            Ok(group) => Ok(Audience::Group(group)),
            Err(_) => Err(not_a_name(one, "the name of a group after the @")),
        };
    }
    let mut clients = Vec::new();
    for word in words {
        if word.starts_with('@') {
            return Err(CliError::usage(format!("`{}` stands beside other targets", echo(word)))
                .expected("the names of clients, or one @group, or @all")
                .hint("give one command to the group and another to the rest"));
        }
        let client: Name = word.parse().map_err(|_| not_a_name(word, "the name of a client, @group or @all"))?;
        if !clients.contains(&client) {
            clients.push(client);
        }
    }
    Ok(Audience::Clients(clients))
}

fn not_a_name(word: &str, what: &str) -> CliError {
    CliError::usage(format!("`{}` is not {what}", echo(word)))
        .expected("1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends")
        .hint(command("ping worker-1"))
}

#[expect(clippy::expect_used, reason = "the protocol's own names are names")]
fn call(builtin: Builtin, args: Map<String, Value>) -> Call {
    Call { name: builtin.name().parse().expect("a name"), args }
}

fn object(source: &str, bytes: &[u8]) -> CliResult<Map<String, Value>> {
    json::parse(bytes).map_err(|error| {
        CliError::usage(format!("the arguments from {source} are not valid: {error}"))
            .expected("one JSON object, no member twice, such as {\"x\": 2.5, \"msg\": \"done\"}")
            .hint(code("schema NAME.args") + " shows what a built-in command takes")
    })
}

fn bounded(source: &str, from: impl Read) -> CliResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(source, &error))?;
    if bytes.len() > MAX_BODY {
        return Err(CliError::usage(format!("the arguments from {source} are too long"))
            .expected(format!("at most {MAX_BODY} bytes for the whole command"))
            .hint("shorten them"));
    }
    Ok(bytes)
}

fn unreadable(source: &str, error: &std::io::Error) -> CliError {
    CliError::usage(format!("{source} cannot be read: {error}"))
        .expected("a file with one JSON object")
        .hint("check the name and its permissions")
}

/// There are fewer words than the targets and what follows them.
fn too_few(words: &[String], following: &str, example: &str, context: InputContext<'_>) -> CliError {
    let what = match (words, context) {
        ([], InputContext::Prompt(None)) if following.is_empty() => {
            "no target is named, and there is not exactly one client".to_owned()
        }
        ([], _) if following.is_empty() => "no target is named".to_owned(),
        ([], _) => "something is missing: nothing was given".to_owned(),
        (_, _) => format!("something is missing: only `{}` was given", echo(&words.join(" "))),
    };
    let form = match context {
        InputContext::Shell => format!("TARGET… {following}"),
        InputContext::Prompt(Some(_)) => format!("[TARGET…] {following}"),
        InputContext::Prompt(None) => {
            format!("TARGET… {following}").trim_end().to_owned()
                + "; without TARGET after `use TARGET`, or for the only client"
        }
    };
    CliError::usage(what).expected(form.trim_end()).hint(command(example))
}

//! What the words after a subcommand mean: who is to do what. Everything that can be found wrong before anything is sent
//! is found here.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use countersign_machine::server::Audience;
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::id::MessageId;
use countersign_protocol::json;
use countersign_protocol::limits::{MAX_BODY, MAX_MESSAGE, MAX_SECONDS};
use countersign_protocol::name::{EVERYONE, Name};
use countersign_protocol::text::echo;
use serde_json::{Map, Value};

use crate::args::CommandArgs;
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

/// Where the arguments of `call` come from.
#[derive(Debug, Clone, Copy)]
enum ArgsSource<'a> {
    /// There are none, unless the last word is `-`.
    Words,
    /// The option `--args`.
    Text(&'a str),
    /// The option `--args-file`.
    File(&'a Path),
}

/// Where the words were typed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputContext<'a> {
    /// In a shell: targets are named, and standard input is the command's.
    Shell,
    /// At the prompt: a command that names nobody is for these, if there are any.
    Prompt(Option<&'a Audience>),
}

/// What an order's words ask for.
pub(crate) fn request(order: &CommandArgs, context: InputContext<'_>) -> CliResult<Request> {
    match order {
        CommandArgs::Start(of) => plain(Builtin::Start, &of.targets, context),
        CommandArgs::Stop(of) => plain(Builtin::Stop, &of.targets, context),
        CommandArgs::Terminate(of) => plain(Builtin::Terminate, &of.targets, context),
        CommandArgs::Ping(of) => plain(Builtin::Ping, &of.targets, context),
        CommandArgs::Status(of) => plain(Builtin::Status, &of.targets, context),
        CommandArgs::Jobs(of) => plain(Builtin::Jobs, &of.targets, context),
        CommandArgs::Calculate { words } => calculate(words, context),
        CommandArgs::Cancel { words } => of_command(Builtin::Cancel, words, context),
        CommandArgs::Result { words } => of_command(Builtin::Result, words, context),
        CommandArgs::Call { words, args, args_file } => {
            let from = match (args, args_file) {
                (Some(text), _) => ArgsSource::Text(text),
                (None, Some(path)) => ArgsSource::File(path),
                (None, None) => ArgsSource::Words,
            };
            any(words, from, context)
        }
    }
}

/// To cancel what runs, and nothing else that runs under the same id.
pub(crate) fn cancel(clients: Vec<Name>, command: CommandId) -> Request {
    Request { audience: Audience::Clients(clients), call: of_id(Builtin::Cancel, command) }
}

/// TARGET…
fn plain(builtin: Builtin, words: &[String], context: InputContext<'_>) -> CliResult<Request> {
    // Only at the prompt: in a shell, clap asks for targets.
    let missing = || {
        CliError::usage("no target is named, and there is not exactly one client")
            .expected("TARGET: a client, several, @group or @all")
            .hint("`use TARGET` before, or `clients` to see who is there")
    };
    Ok(Request { audience: audience(words, context, missing)?, call: call(builtin, Map::new()) })
}

/// TARGET… X MSG
fn calculate(words: &[String], context: InputContext<'_>) -> CliResult<Request> {
    let missing = || too_few(words, "X MSG", "calculate worker-1 2.5 done", context);
    let [names @ .., x, msg] = words else {
        return Err(missing());
    };
    let audience = audience(names, context, missing)?;
    let wrong = |what: String| {
        CliError::usage(what)
            .expected(format!("a number of seconds from 0 to {MAX_SECONDS}, and after it the message"))
            .hint(command("calculate worker-1 2.5 \"all done\""))
    };
    let seconds: f64 = x.parse().map_err(|_| wrong(format!("X is `{}`, which is not a number", echo(x))))?;
    if !seconds.is_finite() {
        return Err(wrong(format!("X is `{}`, which is not finite", echo(x))));
    }
    if seconds < 0.0 {
        return Err(wrong(format!("X is `{}`, which is negative", echo(x))));
    }
    if seconds > MAX_SECONDS {
        return Err(wrong(format!("X is `{}`, which is too large", echo(x))));
    }
    let length = msg.chars().count();
    if length > MAX_MESSAGE {
        return Err(CliError::usage(format!("MSG is too long: {length} characters"))
            .expected(format!("at most {MAX_MESSAGE} characters"))
            .hint("shorten it"));
    }
    let mut args = Map::new();
    // The sum makes 0 of -0.
    args.insert("x".to_owned(), (seconds + 0.0).into());
    args.insert("msg".to_owned(), msg.as_str().into());
    Ok(Request { audience, call: call(Builtin::Calculate, args) })
}

/// TARGET… COMMAND-ID
fn of_command(builtin: Builtin, words: &[String], context: InputContext<'_>) -> CliResult<Request> {
    let missing = || {
        let example = format!("{builtin} worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90");
        too_few(words, "COMMAND-ID", &example, context)
    };
    let (id, names) = words.split_last().ok_or_else(missing)?;
    let audience = audience(names, context, missing)?;
    let id: MessageId = id.parse().map_err(|_| {
        CliError::usage(format!("`{}` is not the id of a command", echo(id)))
            .expected("a UUID of version 7 in lower case with hyphens, after the targets")
            .hint(code("jobs TARGET") + " lists the ids")
    })?;
    let named = CommandId { command_id: id, command_digest: None };
    Ok(Request { audience, call: of_id(builtin, named) })
}

/// TARGET… NAME [-]
fn any(words: &[String], from: ArgsSource<'_>, context: InputContext<'_>) -> CliResult<Request> {
    let missing = || too_few(words, "NAME", "call worker-1 ping", context);
    let (words, from_stdin) = match words {
        [words @ .., last] if last == "-" => (words, true),
        words => (words, false),
    };
    let (name, names) = words.split_last().ok_or_else(missing)?;
    let audience = audience(names, context, missing)?;
    let name: Name = name.parse().map_err(|error| {
        CliError::usage(error)
            .expected("the name of a command, after the targets")
            .hint(code("status TARGET") + " lists the commands that a client knows")
    })?;
    let args = match (from, from_stdin) {
        (ArgsSource::Words, false) => Map::new(),
        (ArgsSource::Words, true) if matches!(context, InputContext::Prompt(_)) => {
            return Err(CliError::usage("standard input is the prompt's own: `-` cannot read arguments from it")
                .expected("arguments on the line, or in a file")
                .hint("--args '{\"x\": 2.5, \"msg\": \"done\"}', or --args-file FILE"));
        }
        (ArgsSource::Words, true) => object("standard input", &bounded("standard input", stdin().lock())?)?,
        (ArgsSource::Text(text), false) => object("--args", text.as_bytes())?,
        (ArgsSource::File(path), false) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            object(&name, &bounded(&name, file)?)?
        }
        (ArgsSource::Text(_) | ArgsSource::File(_), true) => {
            return Err(CliError::usage("the arguments are given twice")
                .expected("one of --args, --args-file and `-`")
                .hint("leave one out"));
        }
    };
    Ok(Request { audience, call: Call { name, args } })
}

/// Whom words name: clients, each once, or one group, or all; whom it is for usually, where there are none.
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

fn of_id(builtin: Builtin, CommandId { command_id, command_digest }: CommandId) -> Call {
    let mut args = Map::new();
    args.insert("command_id".to_owned(), command_id.to_string().into());
    if let Some(digest) = command_digest {
        args.insert("command_digest".to_owned(), digest.to_string().into());
    }
    call(builtin, args)
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
    let got = if words.is_empty() { "nothing".to_owned() } else { format!("only `{}`", echo(&words.join(" "))) };
    let form = match context {
        InputContext::Shell => format!("TARGET… {following}"),
        InputContext::Prompt(Some(_)) => format!("[TARGET…] {following}"),
        InputContext::Prompt(None) => {
            format!("TARGET… {following}; without TARGET after `use TARGET`, or for the only client")
        }
    };
    CliError::usage(format!("something is missing: {got} was given")).expected(form).hint(command(example))
}

//! What the words after a subcommand mean: who is to do what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, stdin};

use countersign_machine::server::{Audience, CommandRequest};
use countersign_protocol::command::{Builtin, Call, CommandId};
use countersign_protocol::id::MessageId;
use countersign_protocol::limits::MAX_BODY;
use countersign_protocol::name::{EVERYONE, Name};
use countersign_protocol::text::echo;
use serde_json::{Map, Value, json};

use crate::args::{CallArgs, WAIT_EXAMPLE, Words};
use crate::arguments::{self, Pairs};
use crate::builtin::{self, COMMAND_ID, command_id, command_id_args};
use crate::cli_error::{CliError, CliResult};
use crate::history::SentEntry;
use crate::short_id::ShortId;
use crate::text::{code, command};

/// Who is to do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whom it is for.
    pub(crate) audience: Audience,
    /// The command and its arguments.
    pub(crate) call: Call,
    /// Arguments as `key=value`, which become JSON by a schema that a client tells; none where the call has them all.
    pub(crate) pairs: Pairs,
    /// Whether the end of the command that `call` queries is awaited.
    pub(crate) awaits: bool,
}

impl Request {
    /// Whether it names another command by its id.
    pub(crate) fn names_command(&self) -> bool {
        let builtin = Builtin::from_name(self.call.name.as_str());
        builtin.is_some_and(|builtin| builtin::describe(builtin).takes_command_id())
    }

    /// The part of an id that names the command which is meant, where not all of it was typed.
    pub(crate) fn short_id(&self) -> Option<ShortId> {
        let typed = self.call.args.get("command_id").filter(|_| self.names_command())?.as_str()?;
        typed.parse::<MessageId>().err().and_then(|_| ShortId::parse(typed).ok())
    }

    /// The command that is meant, where all of its id is there.
    pub(crate) fn command_id(&self) -> Option<MessageId> {
        self.call.args.get("command_id").filter(|_| self.names_command())?.as_str()?.parse().ok()
    }

    /// Takes the arguments that its pairs have become.
    pub(crate) fn take_args(&mut self, args: Map<String, Value>) {
        self.call.args = args;
        self.pairs.clear();
    }

    /// The same with the whole id.
    pub(crate) fn with_id(mut self, id: MessageId) -> Self {
        self.call.args.insert("command_id".to_owned(), json!(id));
        self
    }

    /// What is sent. A command that the history has is this operator's: another operator's of the same id is not waited for.
    pub(crate) fn command(&self, dry_run: bool, known: &BTreeMap<MessageId, SentEntry>) -> CliResult<CommandRequest> {
        match self.command_id() {
            Some(id) if self.awaits && known.contains_key(&id) => Ok(CommandRequest::wait(id).of_own()),
            Some(id) if self.awaits => Ok(CommandRequest::wait(id)),
            _ => Ok(CommandRequest::new(self.call.clone(), dry_run)?),
        }
    }
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
pub(crate) fn request(line: &Words, context: InputContext<'_>) -> CliResult<Request> {
    let mut pairs = Pairs::new();
    let (words, params, example) = match line {
        Words::Builtin(builtin, words) => {
            let descriptor = builtin::describe(*builtin);
            let params: Vec<&str> = descriptor.params.iter().map(|param| param.name).collect();
            (words.as_slice(), params, descriptor.examples[0])
        }
        Words::Wait(words) => (words.as_slice(), vec![COMMAND_ID.name], WAIT_EXAMPLE),
        Words::Call(CallArgs { words, .. }) => {
            let (words, typed) = arguments::split(words);
            pairs = typed;
            (words.strip_suffix(&["-".to_owned()]).unwrap_or(words), vec!["NAME"], "call worker-1 ping")
        }
    };
    let missing = || too_few(words, &params.join(" "), example, context);
    let (targets, following) = words.split_at(words.len().checked_sub(params.len()).ok_or_else(missing)?);
    let audience = match (targets, context) {
        ([], InputContext::Prompt(Some(default))) => default.clone(),
        ([], InputContext::Prompt(None) | InputContext::Shell) => return Err(missing()),
        _ => target(targets).map_err(|error| unquoted(line).unwrap_or(error))?,
    };
    let call = match line {
        Words::Builtin(builtin, _) => {
            let args =
                (builtin::describe(*builtin).args)(following).map_err(|error| unquoted(line).unwrap_or(error))?;
            Call { name: (*builtin).into(), args }
        }
        Words::Wait(_) => Call { name: Builtin::Result.into(), args: command_id(following)? },
        Words::Call(args) => {
            let name: Name = following.concat().parse().map_err(|error| {
                CliError::usage(error)
                    .expected("the name of a command, after the targets")
                    .hint(code("status TARGET") + " lists the commands that a client knows")
            })?;
            let mut call = Call { name, args: call_args(args, !pairs.is_empty(), context)? };
            if !pairs.is_empty()
                && let Some(known) = arguments::of_builtin(&call.name, &pairs)
            {
                (call.args, pairs) = (known?, Pairs::new());
            }
            call
        }
    };
    Ok(Request { audience, call, pairs, awaits: matches!(line, Words::Wait(_)) })
}

/// What is wrong with a message of several words that has no quotation marks.
fn unquoted(line: &Words) -> Option<CliError> {
    let Words::Builtin(Builtin::Calculate, words) = line else { return None };
    let x = words.iter().position(|word| word.parse::<f64>().is_ok())?;
    let message = words.get(x + 1..).filter(|message| message.len() > 1)?;
    let error = CliError::usage("the message has several words, and no quotation marks around them")
        .expected("X, and after it the message as one word")
        .hint(command("calculate worker-1 2.5 \"all done\""));
    Some(error.meant_as_one(message.to_vec(), message.join(" ")))
}

/// To cancel what runs, and nothing else that runs under the same id.
pub(crate) fn cancel(clients: Vec<Name>, command: CommandId) -> Request {
    let call = Call { name: Builtin::Cancel.into(), args: command_id_args(command) };
    Request { audience: Audience::Clients(clients), call, pairs: Pairs::new(), awaits: false }
}

/// The arguments of `call`: from one option, or from standard input.
fn call_args(
    CallArgs { words, args, args_file }: &CallArgs,
    has_pairs: bool,
    context: InputContext<'_>,
) -> CliResult<Map<String, Value>> {
    match (args, args_file, words.last().is_some_and(|word| word == "-")) {
        (None, None, false) => Ok(Map::new()),
        _ if has_pairs => Err(CliError::usage("the arguments are given twice")
            .expected("one of KEY=VALUE, --args, --args-file and `-`")
            .hint("leave one out")),
        (None, None, true) if matches!(context, InputContext::Prompt(_)) => {
            Err(CliError::usage("standard input is the prompt's own: `-` cannot read arguments from it")
                .expected("arguments on the line, or in a file")
                .hint("--args '{\"x\": 2.5, \"msg\": \"done\"}', or --args-file FILE"))
        }
        (None, None, true) => object("standard input", &bounded("standard input", stdin().lock())?),
        (Some(text), _, false) => object("--args", text.as_bytes()),
        (None, Some(path), false) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            object(&name, &bounded(&name, file)?)
        }
        (_, _, true) => Err(CliError::usage("the arguments are given twice")
            .expected("one of --args, --args-file and `-`")
            .hint("leave one out")),
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

fn object(source: &str, bytes: &[u8]) -> CliResult<Map<String, Value>> {
    countersign_protocol::json::parse(bytes).map_err(|error| {
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

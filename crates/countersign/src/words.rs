//! What the words after a subcommand mean: who is to do what. Everything that can be found wrong before anything is sent
//! is found here.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use countersign_protocol::command::{Builtin, Call};
use countersign_protocol::id::MessageId;
use countersign_protocol::json;
use countersign_protocol::limits::{MAX_BODY, MAX_MESSAGE, MAX_SECONDS};
use countersign_protocol::name::Name;
use countersign_protocol::text::echo;
use serde_json::{Map, Value};

use crate::failure::{Failure, Fallible};

/// Who is to do what.
#[derive(Debug)]
pub(crate) struct Request {
    /// The clients, each once, in the order in which they were named.
    pub(crate) targets: Vec<Name>,
    /// The command and its arguments.
    pub(crate) call: Call,
}

/// Where the arguments of `call` come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ArgsFrom<'a> {
    /// There are none, unless the last word is `-`.
    Words,
    /// The option `--args`.
    Text(&'a str),
    /// The option `--args-file`.
    File(&'a Path),
}

/// TARGET…
pub(crate) fn plain(builtin: Builtin, words: &[String]) -> Fallible<Request> {
    Ok(Request { targets: targets(words)?, call: call(builtin, Map::new()) })
}

/// TARGET… X MSG
pub(crate) fn calculate(words: &[String]) -> Fallible<Request> {
    let [names @ .., x, msg] = words else {
        return Err(too_few(words, "TARGET… X MSG", "calculate worker-1 2.5 done"));
    };
    if names.is_empty() {
        return Err(too_few(words, "TARGET… X MSG", "calculate worker-1 2.5 done"));
    }
    let wrong = |what: String| {
        Failure::usage(what)
            .expected(format!("a number of seconds from 0 to {MAX_SECONDS}, and after it the message"))
            .remedy("countersign calculate worker-1 2.5 \"all done\"")
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
        return Err(Failure::usage(format!("MSG is too long: {length} characters"))
            .expected(format!("at most {MAX_MESSAGE} characters"))
            .remedy("shorten it"));
    }
    let mut args = Map::new();
    // The sum makes 0 of -0.
    args.insert("x".to_owned(), (seconds + 0.0).into());
    args.insert("msg".to_owned(), msg.as_str().into());
    Ok(Request { targets: targets(names)?, call: call(Builtin::Calculate, args) })
}

/// TARGET… COMMAND-ID
pub(crate) fn of_command(builtin: Builtin, words: &[String]) -> Fallible<Request> {
    let Some((id, names)) = words.split_last().filter(|(_, names)| !names.is_empty()) else {
        let example = format!("{builtin} worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90");
        return Err(too_few(words, "TARGET… COMMAND-ID", &example));
    };
    let id: MessageId = id.parse().map_err(|_| {
        Failure::usage(format!("`{}` is not the id of a command", echo(id)))
            .expected("a UUID of version 7 in lower case with hyphens, after the targets")
            .remedy("`countersign jobs TARGET` lists the ids")
    })?;
    let mut args = Map::new();
    args.insert("command_id".to_owned(), id.to_string().into());
    Ok(Request { targets: targets(names)?, call: call(builtin, args) })
}

/// TARGET… NAME [-]
pub(crate) fn any(words: &[String], from: ArgsFrom<'_>) -> Fallible<Request> {
    let (words, from_stdin) = match words {
        [words @ .., last] if last == "-" => (words, true),
        words => (words, false),
    };
    let Some((name, names)) = words.split_last().filter(|(_, names)| !names.is_empty()) else {
        return Err(too_few(words, "TARGET… NAME", "call worker-1 ping"));
    };
    let name: Name = name.parse().map_err(|error| {
        Failure::usage(error)
            .expected("the name of a command, after the targets")
            .remedy("`countersign status TARGET` lists the commands that a client knows")
    })?;
    let targets = targets(names)?;
    let args = match (from, from_stdin) {
        (ArgsFrom::Words, false) => Map::new(),
        (ArgsFrom::Words, true) => object("standard input", &bounded("standard input", stdin().lock())?)?,
        (ArgsFrom::Text(text), false) => object("--args", text.as_bytes())?,
        (ArgsFrom::File(path), false) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            object(&name, &bounded(&name, file)?)?
        }
        (ArgsFrom::Text(_) | ArgsFrom::File(_), true) => {
            return Err(Failure::usage("the arguments are given twice")
                .expected("one of --args, --args-file and `-`")
                .remedy("leave one out"));
        }
    };
    Ok(Request { targets, call: Call { name, args } })
}

fn targets(words: &[String]) -> Fallible<Vec<Name>> {
    let mut targets = Vec::new();
    for word in words {
        if word.starts_with('@') {
            return Err(Failure::usage(format!("`{}`: this version sends to clients only, not to groups", echo(word)))
                .expected("the names of clients")
                .remedy("name the clients one by one"));
        }
        let target: Name = word.parse().map_err(|_| {
            Failure::usage(format!("`{}` is not the name of a client", echo(word)))
                .expected("1 to 64 of a-z, 0-9, - and _, with a letter or digit at both ends")
                .remedy("countersign ping worker-1")
        })?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

#[expect(clippy::expect_used, reason = "the protocol's own names are names")]
fn call(builtin: Builtin, args: Map<String, Value>) -> Call {
    Call { name: builtin.name().parse().expect("a name"), args }
}

fn object(source: &str, bytes: &[u8]) -> Fallible<Map<String, Value>> {
    json::parse(bytes).map_err(|error| {
        Failure::usage(format!("the arguments from {source} are not valid: {error}"))
            .expected("one JSON object, no member twice, such as {\"x\": 2.5, \"msg\": \"done\"}")
            .remedy("`countersign schema NAME.args` shows what a built-in command takes")
    })
}

fn bounded(source: &str, from: impl Read) -> Fallible<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(source, &error))?;
    if bytes.len() > MAX_BODY {
        return Err(Failure::usage(format!("the arguments from {source} are too long"))
            .expected(format!("at most {MAX_BODY} bytes for the whole command"))
            .remedy("shorten them"));
    }
    Ok(bytes)
}

fn unreadable(source: &str, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{source} cannot be read: {error}"))
        .expected("a file with one JSON object")
        .remedy("check the name and its permissions")
}

fn too_few(words: &[String], form: &str, example: &str) -> Failure {
    let got = if words.is_empty() { "nothing".to_owned() } else { format!("only `{}`", echo(&words.join(" "))) };
    Failure::usage(format!("something is missing: {got} was given"))
        .expected(form)
        .remedy(format!("countersign {example}"))
}

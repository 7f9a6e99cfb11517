//! The built-in commands as people see them: what is typed after the name, the help, and the result in one line. What they
//! are on the wire is in `countersign_protocol::command`.

use countersign_protocol::command::{
    Builtin, Calculate, Cancelled, Changed, ClientInfo, CommandId, Description, JobList, PingResult, Recorded, Stopped,
    Terminated,
};
use countersign_protocol::id::MessageId;
use countersign_protocol::json::read;
use countersign_protocol::limits::{MAX_MESSAGE, MAX_SECONDS};
use countersign_protocol::name::Name;
use countersign_protocol::output::{OutputPiece, Stream};
use countersign_protocol::reply::Progress;
use countersign_protocol::text::echo;
use countersign_protocol::time::Millis;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::cli_error::{CliError, CliResult};
use crate::output::other_result;
use crate::short_id::ShortId;
use crate::text::{Text, code, command, counted, cut, reply_error};

/// What people see of a built-in command.
pub(crate) struct Descriptor {
    /// What it does, in one line; `help` at the prompt has room for 50 characters.
    pub(crate) about: &'static str,
    /// What is typed after the targets.
    pub(crate) params: &'static [Param],
    /// The arguments of the command, from one word for each parameter.
    pub(crate) args: fn(&[String]) -> CliResult<Map<String, Value>>,
    /// The rest of its help.
    pub(crate) notes: Text,
    /// As they are typed, without the name of the program. The first one is the hint where something is missing.
    pub(crate) examples: &'static [&'static str],
    /// Its result, in one line.
    pub(crate) answer: fn(&Value) -> Option<String>,
}

/// One word after the targets.
pub(crate) struct Param {
    /// Its name; in brackets if it may be left out.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
}

/// The id of a command; after it, the prompt completes the ids that it knows.
pub(crate) const COMMAND_ID: Param =
    Param { name: "COMMAND-ID", about: "the id of a command, or its last digits, as `jobs` shows them" };

impl Param {
    /// As it stands in a usage line.
    pub(crate) fn form(&self) -> String {
        if self.name.starts_with('[') { self.name.to_owned() } else { format!("<{}>", self.name) }
    }
}

impl Descriptor {
    /// Whether it is about one command, named by its id.
    pub(crate) fn takes_command_id(&self) -> bool {
        self.params.iter().any(|param| param.name == COMMAND_ID.name)
    }
}

/// The descriptor of a built-in command.
pub(crate) fn describe(builtin: Builtin) -> Descriptor {
    match builtin {
        Builtin::Start => Descriptor {
            about: "Let clients take data commands: unready → ready",
            params: &[],
            args: none,
            notes: "A client that is ready already succeeds, and its reply says so.".into(),
            examples: &["start worker-1", "start worker-1 worker-2 -o json"],
            answer: |it| typed(it, |it: Changed| choose(it.changed, "ready", "ready already")),
        },
        Builtin::Stop => Descriptor {
            about: "Let clients refuse data commands: ready → unready",
            params: &[],
            args: none,
            notes: "Jobs that run go on; " + code("cancel") + " ends one.",
            examples: &["stop worker-1"],
            answer: |it| typed(it, stopped),
        },
        Builtin::Terminate => Descriptor {
            about: "End clients: jobs are cancelled, the process exits",
            params: &[],
            args: none,
            notes: "The process exits with 0 when the replies are sent.".into(),
            examples: &["terminate worker-1"],
            answer: |it| typed(it, |it: Terminated| format!("terminated; {} cancelled", counted(it.cancelled, "job"))),
        },
        Builtin::Cancel => Descriptor {
            about: "Cancel a job",
            params: &[COMMAND_ID],
            args: command_id,
            notes: code("jobs TARGET") + " lists the ids. A job that has ended is left as it is.",
            examples: &["cancel worker-1 8a2b90"],
            answer: |it| typed(it, |it: Cancelled| choose(it.cancelled, "cancelled", "not cancelled: it had ended")),
        },
        Builtin::Ping => Descriptor {
            about: "Ask for the client's time (needs ready)",
            params: &[],
            args: none,
            notes: Text::default(),
            examples: &["ping worker-1", "ping worker-1 worker-2 --timeout 500ms -o ndjson"],
            answer: |it| {
                typed(it, |PingResult(seconds)| format!("it is {} there", Millis::from_seconds(seconds).utc()))
            },
        },
        Builtin::Calculate => Descriptor {
            about: "Compute X seconds, then print MSG (needs ready)",
            params: &[
                Param { name: "X", about: "seconds, a number from 0 to 86400" },
                Param { name: "MSG", about: "the text that the client then prints, up to 4096 characters" },
            ],
            args: calculate,
            notes: Text::default(),
            examples: &[
                "calculate worker-1 2.5 \"all done\"",
                "calculate worker-1 worker-2 600 done --detach",
                "calculate worker-1 1 -- -starts-with-a-dash",
            ],
            answer: |it| {
                typed(it, |it: Calculate| format!("printed \"{}\" after {} s", it.msg.replace('"', "\\\""), it.x))
            },
        },
        Builtin::Status => Descriptor {
            about: "Show state, jobs, version, commands and trust",
            params: &[],
            args: none,
            notes: "Answered in every state, however many jobs run.".into(),
            examples: &["status worker-1", "status worker-1 worker-2 -o json"],
            answer: |it| typed(it, status),
        },
        Builtin::Jobs => Descriptor {
            about: "List the jobs that run and those that ended",
            params: &[],
            args: none,
            notes: Text::default(),
            examples: &["jobs worker-1"],
            answer: |it| typed(it, |it: JobList| counted(it.jobs.len() as u64, "job")),
        },
        Builtin::Result => Descriptor {
            about: "Show the recorded outcome of a command",
            params: &[COMMAND_ID],
            args: command_id,
            notes: code("jobs TARGET")
                + " lists the ids. A client remembers a job for a day after its end (`client --retain`), or less if its journal is \
                    full. While the command runs, the exit status is 6.",
            examples: &["result worker-1 8a2b90", "result worker-1 019ab2d4-7c1e-7a55-9d0b-3c1f5e8a2b90"],
            answer: |it| typed(it, recorded),
        },
        Builtin::Output => Descriptor {
            about: "Show what a job wrote, also while it runs",
            params: &[COMMAND_ID],
            args: |words| {
                let rest = [("stream".to_owned(), json!(Stream::Stdout)), ("offset".to_owned(), json!(0))];
                Ok(command_id(words)?.into_iter().chain(rest).collect())
            },
            notes: "Into a file or a pipe, what one client's job wrote is printed exactly. On a terminal control characters \
                    are escaped. Lines of several clients begin with the name of the client. At the end, what was read is \
                    compared with the digest that the client signed: the command succeeds only if it is all that the job \
                    wrote.\n\n"
                + code("jobs TARGET")
                + " lists the ids. Output is kept as long as the job is remembered: of each stream the beginning and \
                   the end, 1 MiB by default.",
            examples: &["output worker-1 8a2b90", "output @web 8a2b90 --follow --stderr"],
            answer: |it| typed(it, |it: OutputPiece| counted(it.bytes, "byte")),
        },
        Builtin::Describe => Descriptor {
            about: "Show what a command does and takes",
            params: &[Param { name: "COMMAND", about: "the name of a command" }],
            args: command_name,
            notes: Text::default(),
            examples: &["describe worker-1 calculate"],
            answer: |it| {
                typed(it, |Description { command, kind, description, .. }| match description {
                    Some(text) => format!("{command} ({kind}): {text}"),
                    None => format!("{command} ({kind})"),
                })
            },
        },
    }
}

/// The arguments that name a command.
pub(crate) fn command_id_args(CommandId { command_id, command_digest }: CommandId) -> Map<String, Value> {
    let digest = command_digest.map(|digest| ("command_digest".to_owned(), json!(digest)));
    [("command_id".to_owned(), json!(command_id))].into_iter().chain(digest).collect()
}

fn none(_: &[String]) -> CliResult<Map<String, Value>> {
    Ok(Map::new())
}

/// COMMAND-ID. A part of one is replaced by the whole before anything is sent.
pub(crate) fn command_id(words: &[String]) -> CliResult<Map<String, Value>> {
    let [id] = words else { return none(words) };
    let id = match id.parse::<MessageId>() {
        Ok(id) => json!(id),
        Err(_) => json!(ShortId::parse(id)?.as_str()),
    };
    Ok([("command_id".to_owned(), id)].into_iter().collect())
}

/// COMMAND
fn command_name(words: &[String]) -> CliResult<Map<String, Value>> {
    let [name] = words else { return none(words) };
    let command: Name = name.parse().map_err(|error| {
        CliError::usage(error)
            .expected("the name of a command, after the targets")
            .hint(code("status TARGET") + " lists the commands that a client knows")
    })?;
    Ok([("command".to_owned(), json!(command))].into_iter().collect())
}

/// X MSG
fn calculate(words: &[String]) -> CliResult<Map<String, Value>> {
    let [x, msg] = words else { return none(words) };
    let wrong = |why: &str| {
        Err(CliError::usage(format!("X is `{}`, which is {why}", echo(x)))
            .expected(format!("a number of seconds from 0 to {MAX_SECONDS}, and after it the message"))
            .hint(command("calculate worker-1 2.5 \"all done\"")))
    };
    let seconds: f64 = match x.parse() {
        Err(_) => return wrong("not a number"),
        Ok(seconds) if !f64::is_finite(seconds) => return wrong("not finite"),
        Ok(seconds) if seconds < 0.0 => return wrong("negative"),
        Ok(seconds) if seconds > MAX_SECONDS => return wrong("too large"),
        Ok(seconds) => seconds,
    };
    let length = msg.chars().count();
    if length > MAX_MESSAGE {
        return Err(CliError::usage(format!("MSG is too long: {length} characters"))
            .expected(format!("at most {MAX_MESSAGE} characters"))
            .hint("shorten it"));
    }
    // The sum makes 0 of -0.
    Ok([("x".to_owned(), json!(seconds + 0.0)), ("msg".to_owned(), json!(msg))].into_iter().collect())
}

fn stopped(it: Stopped) -> String {
    let state = choose(it.changed, "unready", "unready already");
    if it.running == 0 { state } else { format!("{state}; {} running on", counted(it.running, "job")) }
}

fn status(it: ClientInfo) -> String {
    format!("{}; {} of {} jobs; version {}", it.state, it.jobs.running, it.jobs.limit, it.version)
}

fn recorded(it: Recorded) -> String {
    let by = format!("{}'s command", it.operator);
    match (it.result, it.error) {
        (Some(result), _) => format!("{} ({by}): {}", it.status, other_result(&result)),
        (None, Some(error)) => format!("{} ({by}): {}", it.status, reply_error(it.status.as_str(), &error)),
        (None, None) if it.status.is_final() => format!("{} ({by}); no more is kept of it", it.status),
        (None, None) => match it.progress {
            Some(progress) => format!("runs ({by}): {}", progress_text(&progress)),
            None => format!("runs ({by})"),
        },
    }
}

/// How far a job is, and what it does if it says so.
pub(crate) fn progress_text(progress: &Progress) -> String {
    let percent = format!("{:.0} %", progress.fraction * 100.0);
    match &progress.message {
        Some(message) => format!("{percent}, {}", cut(message, crate::text::MAX_MESSAGE)),
        None => percent,
    }
}

fn choose(condition: bool, yes: &str, no: &str) -> String {
    if condition { yes } else { no }.to_owned()
}

fn typed<T: DeserializeOwned>(result: &Value, text: impl FnOnce(T) -> String) -> Option<String> {
    read(result).ok().map(text)
}

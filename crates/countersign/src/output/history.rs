//! The history of an operator, for people and for programs.

use std::collections::BTreeMap;

use countersign_protocol::id::MessageId;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use serde::Serialize;

use super::{Output, status, table};
use crate::args::Format;
use crate::cli_error::CliResult;
use crate::history::{SentEntry, VerdictEntry};
use crate::short_id::{short, shorten};
use crate::text::{Text, code, counted, cut};
use crate::words::pairs;

/// How much of the arguments and of the targets is shown in a list, in characters.
const MAX_TEXT: usize = 40;
/// How much of a time: the seconds and the name of the zone, which is in the head, are left out.
const MINUTES: usize = "2026-11-24 08:25".len();

#[derive(Serialize)]
struct Document<'a> {
    history: &'a [&'a SentEntry],
}

/// Prints these commands, the latest last, or all that is known of the only one. `all` are those that an id is to be told from.
pub(crate) fn print_history(
    shown: &[&SentEntry],
    all: &BTreeMap<MessageId, SentEntry>,
    is_one: bool,
    format: Format,
    now: Millis,
    output: Output,
) -> CliResult<()> {
    match (format, shown) {
        (Format::Json, _) => output.json(&Document { history: shown }),
        (Format::Ndjson, _) => shown.iter().try_for_each(|entry| output.json(entry)),
        (Format::Table, [only]) if is_one => {
            output.text(&whole(only, now))?;
            if let Some(note) = how_to_ask(only) {
                output.note(note);
            }
            Ok(())
        }
        (Format::Table, []) => output.text("no command was sent in that time"),
        (Format::Table, _) => output.text(&list(shown, all)),
    }
}

fn list(shown: &[&SentEntry], all: &BTreeMap<MessageId, SentEntry>) -> String {
    let rows = shown.iter().map(|entry| {
        let verdicts: Vec<String> = entry.summary().iter().map(|(word, count)| format!("{count} {word}")).collect();
        vec![
            entry.at.utc().chars().take(MINUTES).collect(),
            shorten(&entry.command_id, all.keys()),
            entry.command.to_string(),
            cut(&pairs(&entry.args), MAX_TEXT).into_owned(),
            cut(&entry.to, MAX_TEXT).into_owned(),
            verdicts.join(", "),
        ]
    });
    table(&["SENT (UTC)", "ID", "COMMAND", "ARGUMENTS", "TARGETS", "VERDICTS"], rows.collect())
}

/// What to type where the end of a command at some target is not in the history.
fn how_to_ask(entry: &SentEntry) -> Option<Text> {
    let is_open = |verdict: &Option<VerdictEntry>| verdict.as_ref().is_none_or(|verdict| !verdict.is_final);
    entry.targets.values().any(is_open).then(|| {
        let result = format!("result {} {}", entry.to, short(&entry.command_id));
        "how it ended is not known here for every target; " + code(result) + " asks"
    })
}

fn whole(entry: &SentEntry, now: Millis) -> String {
    let mut lines = vec![entry.command_id.to_string()];
    let targets = match entry.to.starts_with('@') {
        true => format!("{}: {}", entry.to, counted(entry.targets.len() as u64, "client")),
        false => entry.to.clone(),
    };
    for (label, value) in [
        ("command", format!("{} {}", entry.command, pairs(&entry.args))),
        ("targets", targets),
        ("sent", format!("{}, {} ago", entry.at.utc(), status::age(entry.at, now))),
    ] {
        lines.push(escape(&format!("  {label:9} {}", value.trim_end())).into_owned());
    }
    let rows = entry.targets.iter().map(|(client, verdict)| match verdict {
        Some(known) => vec![client.to_string(), known.verdict.clone(), known.text.clone(), known.at.utc()],
        None => vec![client.to_string(), "unknown".to_owned(), "no verdict was written".to_owned(), "-".to_owned()],
    });
    lines.push(String::new());
    lines.push(table(&["CLIENT", "VERDICT", "ANSWER", "WRITTEN"], rows.collect()));
    lines.join("\n")
}

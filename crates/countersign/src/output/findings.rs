//! What the doctor found, for people and for programs.

use countersign_keys::KeyFolder;
use countersign_protocol::text::escape;
use serde::Serialize;

use super::Output;
use crate::args::Format;
use crate::cli_error::CliResult;
use crate::doctor::{Finding, Findings, Level, Machine};
use crate::text::counted;

#[derive(Serialize)]
struct Document<'a> {
    keys: String,
    /// What the machine is, by the private keys in the folder.
    machine: Vec<&'static str>,
    /// The worst level: `fine`, `warning` or `broken`.
    status: Level,
    findings: &'a [Finding],
}

/// Prints everything that was found.
pub(crate) fn print_findings(
    folder: &KeyFolder,
    machine: &Machine,
    found: &Findings,
    format: Format,
    output: Output,
) -> CliResult<()> {
    let (keys, machine) = (folder.path().display().to_string(), machine.kinds());
    match format {
        Format::Json => output.json(&Document { keys, machine, status: found.worst(), findings: found.all() }),
        Format::Ndjson => found.all().iter().try_for_each(|finding| output.json(finding)),
        Format::Table => {
            let lines: Vec<String> = found
                .all()
                .iter()
                .filter(|it| !output.is_quiet() || it.level > Level::Skipped)
                .flat_map(lines)
                .collect();
            if !lines.is_empty() {
                output.text(&lines.join("\n"))?;
            }
            let count = |level| found.all().iter().filter(|it| it.level == level).count() as u64;
            let (broken, warnings) = (count(Level::Broken), counted(count(Level::Warning), "warning"));
            let machine = if machine.is_empty() {
                "no private keys".to_owned()
            } else {
                format!("keys of an {}", machine.join(", "))
            };
            output.note(format!("{broken} broken, {warnings}; the folder {keys} has {machine}"));
            Ok(())
        }
    }
}

/// A line for the finding, and below it what was expected and what to do.
fn lines(Finding { check, level, what, expected, hint }: &Finding) -> Vec<String> {
    let first = format!("{:<8} {:<12} {}", level.to_string(), check.to_string(), escape(what));
    let below = [("expected", expected), ("try", hint)];
    let below = below.into_iter().filter_map(|(label, text)| Some(format!("  {label}: {}", escape(text.as_ref()?))));
    std::iter::once(first).chain(below).collect()
}

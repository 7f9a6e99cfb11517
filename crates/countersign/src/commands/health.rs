//! `countersign health`: whether a client of this machine is well.

use std::path::Path;

use countersign_client::health::{self, HEALTHY};
use countersign_keys::{Fault, shell_word};
use serde_json::json;

use crate::args::Format;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;

/// Reads the file by which a client reports that it is connected.
pub(crate) fn run(file: &Path, format: Format, output: Output) -> CliResult<Exit> {
    let done = check(file);
    match (format, &done) {
        (Format::Table, Ok(age)) => output.text(&format!("well: it was connected {} s ago", age / 1_000))?,
        (Format::Table, Err(_)) => {}
        (Format::Json | Format::Ndjson, _) => {
            output.json(&json!({ "healthy": done.is_ok(), "age_ms": done.as_ref().ok() }))?;
        }
    }
    done.map(|_| Exit::Succeeded)
}

/// How long ago a healthy client has reported, in milliseconds.
fn check(file: &Path) -> CliResult<i64> {
    let path = file.display();
    let unhealthy = |what: String| {
        CliError::new(Exit::Failed, what)
            .expected(format!("a report that is less than {} s old", HEALTHY / 1_000))
            .hint(format!(
                "the log of `countersign client --health {}` shows why it is not connected, receives nothing, or executes \
                 nothing",
                shell_word(file)
            ))
    };
    let age = health::age(file).map_err(|error| match error.fault {
        Fault::Missing => unhealthy(format!("no client reports in {path}")),
        Fault::Writable { .. } | Fault::Foreign { .. } => {
            CliError::new(Exit::Failed, error.what()).expected(error.expected()).hint(error.hint())
        }
        _ => unhealthy(format!("{} and no client's report", error.what())),
    })?;
    match age {
        None => Err(unhealthy(format!("what is in {path} was not written since this machine started"))),
        Some(age) if age >= HEALTHY => Err(unhealthy(format!("the last report in {path} is {} s old", age / 1_000))),
        Some(age) => Ok(age),
    }
}

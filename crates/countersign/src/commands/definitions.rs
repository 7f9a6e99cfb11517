//! `countersign commands`: the programs that are commands.

use std::path::Path;

use countersign_client::{DefinitionError, Programs};
use serde_json::{Value, json};

use crate::args::Format;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;
use crate::text::command;

/// Names what is wrong with the definitions of a folder, and what in it is ignored; starts nothing.
pub(crate) fn check(folder: &Path, format: Format, output: Output) -> CliResult<Exit> {
    let read = Programs::read(folder, &[]);
    if format != Format::Table {
        output.json(&document(&read))?;
    }
    let programs = read.map_err(|errors| wrong(folder, &errors))?;
    let found: Vec<(&str, Option<String>)> =
        programs.iter().map(|program| (program.name().as_str(), program.obstacle())).collect();
    if format == Format::Table {
        for ignored in programs.ignored() {
            output.note(format!("{} is ignored: {}", ignored.name, ignored.why));
        }
    }
    let obstacles: Vec<String> =
        found.iter().filter_map(|(name, obstacle)| Some(format!("{name}: {}", obstacle.as_ref()?))).collect();
    if !obstacles.is_empty() {
        return Err(CliError::new(Exit::Failed, obstacles.join("; "))
            .expected("programs that the system would start now")
            .hint("a client starts all the same, and each such command fails"));
    }
    if format == Format::Table {
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        output.text(&names.join("\n"))?;
    }
    Ok(Exit::Succeeded)
}

/// What `-o json` prints, also where something is wrong.
fn document(read: &Result<Programs, Vec<DefinitionError>>) -> Value {
    let (programs, errors) = match read {
        Ok(programs) => (Some(programs), &[][..]),
        Err(errors) => (None, errors.as_slice()),
    };
    let commands = programs.into_iter().flat_map(Programs::iter);
    let commands = commands.map(|program| json!({ "name": program.name(), "obstacle": program.obstacle() }));
    let ignored = programs.into_iter().flat_map(Programs::ignored);
    let ignored = ignored.map(|ignored| json!({ "file": ignored.name, "why": ignored.why }));
    let errors = errors.iter().map(|DefinitionError { path, line, what, expected }| {
        json!({ "file": path.to_string_lossy(), "line": line, "error": what, "expected": expected })
    });
    json!({
        "commands": commands.collect::<Value>(), "ignored": ignored.collect::<Value>(), "errors": errors.collect::<Value>(),
    })
}

/// Every rule that the definitions of a folder break.
pub(crate) fn wrong(folder: &Path, errors: &[DefinitionError]) -> CliError {
    let each = |of: fn(&DefinitionError) -> String| errors.iter().map(of).collect::<Vec<_>>().join("; ");
    CliError::new(Exit::Failed, each(ToString::to_string))
        .expected(each(|error| error.expected.clone()))
        .hint(command(format!("commands check {}", countersign_keys::shell_word(folder))))
}

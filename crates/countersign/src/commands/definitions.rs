//! `countersign commands`: the programs that are commands.

use std::path::Path;

use countersign_client::{DefinitionError, Programs};

use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;
use crate::text::command;

/// Names what is wrong with the definitions of a folder, and what in it is ignored; starts nothing.
pub(crate) fn check(folder: &Path, output: Output) -> CliResult<Exit> {
    let programs = Programs::read(folder, &[]).map_err(|errors| wrong(&errors))?;
    for ignored in programs.ignored() {
        output.note(format!("{} is ignored: {}", ignored.name, ignored.why));
    }
    let obstacles = programs.iter().filter_map(|program| Some(format!("{}: {}", program.name(), program.obstacle()?)));
    let obstacles: Vec<String> = obstacles.collect();
    if !obstacles.is_empty() {
        return Err(CliError::new(Exit::Failed, obstacles.join("; "))
            .expected("programs that the system would start now")
            .hint("a client starts all the same, and each such command fails"));
    }
    let names: Vec<&str> = programs.iter().map(|program| program.name().as_str()).collect();
    output.text(&names.join("\n"))?;
    Ok(Exit::Succeeded)
}

/// Every rule that definitions break.
pub(crate) fn wrong(errors: &[DefinitionError]) -> CliError {
    let each = |of: fn(&DefinitionError) -> String| errors.iter().map(of).collect::<Vec<_>>().join("; ");
    let folder = errors.first().and_then(|error| error.path.parent()).unwrap_or(Path::new("commands.d"));
    CliError::new(Exit::Failed, each(ToString::to_string))
        .expected(each(|error| error.expected.clone()))
        .hint(command(format!("commands check {}", folder.display())))
}

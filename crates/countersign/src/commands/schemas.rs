//! `countersign schema` and `countersign schemas`: the JSON Schemas, generated from the types.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use countersign_keys::shell_word;
use countersign_protocol::schema::{self, Schema};
use countersign_protocol::text::echo;
use serde_json::Value;

use crate::args::Format;
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;
use crate::suggest::suggest;
use crate::text::{code, command};

/// Prints one schema, or the names of all.
pub(crate) fn show(name: Option<&str>, format: Format, output: Output) -> CliResult<()> {
    let all = schema::all();
    let names = || all.iter().map(|schema| schema.name());
    let Some(name) = name else {
        return match format {
            Format::Table => output.text(&names().collect::<Vec<_>>().join("\n")),
            Format::Json => output.json(&names().collect::<Vec<_>>()),
            Format::Ndjson => names().try_for_each(|name| output.json(&name)),
        };
    };
    let Some(schema) = all.iter().find(|schema| schema.name() == name) else {
        let error = CliError::usage(format!("there is no schema `{}`", echo(name)))
            .expected("one of those that " + code("schema") + " lists")
            .hint(command("schema"));
        return Err(match suggest(name, names()) {
            Some(near) => error.meant(name, near),
            None => error,
        });
    };
    match format {
        Format::Table => output.text(schema.text()),
        Format::Json | Format::Ndjson => {
            let document: Value = serde_json::from_str(schema.text())
                .map_err(|error| CliError::new(Exit::Failed, format!("the schema is no JSON: {error}")))?;
            output.json(&document)
        }
    }
}

/// Writes every schema to its file in a folder.
pub(crate) fn write(folder: &Path, output: Output) -> CliResult<Exit> {
    let all = schema::all();
    write_files(folder, all.iter().map(|schema| (file_name(schema), schema.text().into())))?;
    output.note(format!("{} schemas are in {}", all.len(), folder.display()));
    Ok(Exit::Succeeded)
}

/// Writes files into a folder, which is made if it is missing.
pub(super) fn write_files<'a>(folder: &Path, mut files: impl Iterator<Item = (String, Cow<'a, str>)>) -> CliResult<()> {
    let written = fs::create_dir_all(folder)
        .and_then(|()| files.try_for_each(|(name, text)| fs::write(folder.join(name), text.as_bytes())));
    written.map_err(|error| {
        CliError::new(Exit::Failed, format!("{} cannot be written to: {error}", folder.display()))
            .expected("a folder of yours")
            .hint("check its permissions and the disk")
    })
}

/// Names what in a folder is missing, differs or does not belong; changes nothing.
pub(crate) fn check(folder: &Path, output: Output) -> CliResult<Exit> {
    let all = schema::all();
    let mut wrong = Vec::new();
    for schema in &all {
        let file = file_name(schema);
        match fs::read(folder.join(&file)) {
            Ok(text) if text == schema.text().as_bytes() => {}
            Ok(_) => wrong.push(format!("{file} differs")),
            Err(_) => wrong.push(format!("{file} is missing")),
        }
    }
    let expected: BTreeSet<String> = all.iter().map(|schema| file_name(schema)).collect();
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut extra: Vec<String> = found
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|file| file.ends_with(".json") && !expected.contains(file))
        .map(|file| format!("{} does not belong", echo(&file)))
        .collect();
    extra.sort();
    wrong.extend(extra);
    if wrong.is_empty() {
        output.note(format!("all {} schemas in {} are as the types have them", all.len(), folder.display()));
        return Ok(Exit::Succeeded);
    }
    Err(CliError::new(Exit::Failed, format!("in {}: {}", folder.display(), wrong.join(", ")))
        .expected("the schemas of this version's types, and nothing else")
        .hint(format!("`countersign schemas --write {}`, and remove what does not belong", shell_word(folder))))
}

fn file_name(schema: &Schema) -> String {
    format!("{}.json", schema.name())
}

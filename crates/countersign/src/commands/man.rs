//! `countersign man`: the manual pages, made of the helps.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use countersign_keys::shell_word;

use super::schemas::write_files;
use crate::args::{Cli, words_after};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::output::Output;

/// Writes a page for the program and for each of its subcommands.
pub(crate) fn run(folder: &Path, output: Output) -> CliResult<Exit> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // It gives each subcommand the whole name that is typed.
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages)
        .map_err(|error| CliError::new(Exit::Failed, format!("a page cannot be made: {error}")))?;
    let count = pages.len();
    write_files(folder, pages.into_iter().map(|(name, text)| (name, text.into())))?;
    output.note(format!(
        "{count} pages are in {}; `man -l {}` shows the first",
        folder.display(),
        shell_word(&folder.join("countersign.1"))
    ));
    Ok(Exit::Succeeded)
}

fn add_pages(command: &Command, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let page = page(command)?;
    pages.push((Man::new(command.clone()).get_filename(), page));
    command.get_subcommands().try_for_each(|below| add_pages(below, pages))
}

/// One page. Unlike clap's own it has the words of commands for clients, which are options to nobody, and examples with their
/// line breaks.
fn page(command: &Command) -> io::Result<String> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let typed = command.get_bin_name().and_then(|name| name.strip_prefix("countersign "));
    if let Some(words) = typed.and_then(words_after) {
        let mut arguments = Roff::new();
        arguments.control("SH", ["ARGUMENTS"]);
        for (form, about) in words {
            arguments.control("TP", []).text([bold(form)]).text([roman(about)]);
        }
        arguments.to_writer(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(more) = command.get_after_long_help() {
        let mut notes = Roff::new();
        notes.control("SH", ["NOTES AND EXAMPLES"]).control("nf", []);
        for line in more.to_string().lines() {
            notes.text([roman(line)]);
        }
        notes.control("fi", []).to_writer(&mut page)?;
    }
    String::from_utf8(page).map_err(io::Error::other)
}

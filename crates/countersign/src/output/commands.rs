//! The commands of a fleet, for people and for programs.

use countersign_protocol::name::Name;
use serde::Serialize;

use super::{Output, table};
use crate::args::Format;
use crate::cli_error::CliResult;
use crate::commands::listing::Listed;
use crate::text::counted;

/// How many clients are named; of more their number is shown.
const MAX_NAMED: usize = 4;

#[derive(Serialize)]
struct Document<'a> {
    commands: &'a [Listed],
}

/// Prints the commands of so many clients.
pub(crate) fn print_commands(listed: &[Listed], clients: usize, format: Format, output: Output) -> CliResult<()> {
    match format {
        Format::Table => output.text(&for_people(listed, clients)),
        Format::Json => output.json(&Document { commands: listed }),
        Format::Ndjson => listed.iter().try_for_each(|it| output.json(it)),
    }
}

fn for_people(listed: &[Listed], clients: usize) -> String {
    let rows = listed.iter().map(|it| {
        let having = it.definitions.iter().map(|definition| definition.clients.len()).sum::<usize>();
        let having = if having == clients { format!("all {clients}") } else { format!("{having} of {clients}") };
        let others = it.definitions.iter().skip(1).flat_map(|definition| &definition.clients);
        let others: Vec<&Name> = others.collect();
        let note = match others.as_slice() {
            [] => String::new(),
            few if few.len() <= MAX_NAMED => {
                let names: Vec<&str> = few.iter().map(|name| name.as_str()).collect();
                format!("another definition at {}", names.join(", "))
            }
            many => format!("another definition at {}", counted(many.len() as u64, "client")),
        };
        vec![it.command.to_string(), it.kind.to_string(), having, note]
    });
    table(&["COMMAND", "KIND", "CLIENTS", "NOTE"], rows.collect())
}

//! `countersign init`: has the realm made or renewed, and lists the changes.

use countersign_protocol::name::Name;
use countersign_provisioning::{Action, FileChange, ProvisionRequest, Provisioned, provision};
use serde::Serialize;

use crate::args::{Format, InitArgs};
use crate::cli_error::{CliResult, Exit};
use crate::output::{Output, changes_table};

/// Makes what is missing, renews what is due, and lists what it did and left.
pub(crate) fn run(args: &InitArgs, output: Output) -> CliResult<Exit> {
    let (realm, operators, clients) = (args.keys.realm.as_deref().cloned(), args.operator.clone(), args.client.clone());
    report(&provision(&args.keys.keys, &ProvisionRequest { realm, operators, clients })?, args, output)?;
    Ok(Exit::Succeeded)
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Document<'a> {
    realm: &'a Name,
    keys: String,
    files: &'a [FileChange],
}

fn report(Provisioned { realm, files }: &Provisioned, args: &InitArgs, output: Output) -> CliResult<()> {
    let changed = files.iter().any(|change| change.did != Action::Left);
    let keys = args.keys.keys.display().to_string();
    match args.output.format() {
        Format::Json => output.json(&Document { realm, keys, files }),
        Format::Ndjson => files.iter().try_for_each(|change| output.json(change)),
        Format::Table => {
            output.text(&changes_table(files))?;
            output.note(&if changed {
                format!("the realm {realm} is in {keys}; `countersign --help` shows what comes next")
            } else {
                format!("the realm {realm} is in {keys}, and nothing was due")
            });
            Ok(())
        }
    }
}

//! What a worker has beside its keys: its folder of state, and programs that are commands.

use std::path::{Path, PathBuf};

use countersign_client::{Programs, StateReport, look_at_state};
use countersign_protocol::credential::Role;

use super::{Check, Findings, Level, Machine};
use crate::args::DoctorArgs;
use crate::cli_error::CliResult;
use crate::commands::client::default_state;
use crate::commands::definitions::wrong;
use crate::realm::Realm;

/// The folder of all states.
pub(super) fn state(args: &DoctorArgs) -> CliResult<PathBuf> {
    args.state.clone().map_or_else(default_state, Ok)
}

/// Looks at the folders of the clients whose keys are here, and returns them.
pub(super) fn examine(realm: &Realm, machine: &Machine, state: &Path, found: &mut Findings) -> Vec<StateReport> {
    let mut reports = Vec::new();
    for name in machine.of_role(Role::Client) {
        match look_at_state(state, name) {
            Ok(Some(report)) => {
                room(&report, found);
                trust(&report, realm, found);
                reports.push(report);
            }
            Ok(None) => {}
            Err(error) => found.add(Check::State, Level::Broken, error.to_string(), error.expected(), error.hint()),
        }
    }
    let runs = reports.iter().filter(|report| report.is_held).count();
    match reports.len() {
        _ if !found.is_clean(Check::State) => {}
        0 if machine.of_role(Role::Client).next().is_some() => found.skipped(
            Check::State,
            format!("no client of this folder has run with {}; --state names another folder", state.display()),
        ),
        0 => {}
        count => {
            let folders = crate::text::counted(count as u64, "folder");
            found.fine(
                Check::State,
                format!("{folders} below {} with room; {runs} in use by a running client", state.display()),
            );
        }
    }
    reports
}

fn room(report: &StateReport, found: &mut Findings) {
    if report.free < report.ample {
        found.add(
            Check::State,
            Level::Warning,
            format!("the disk of {} has {} KiB left", report.path.display(), report.free / 1024),
            format!(
                "{} KiB at least: with less, the output of jobs is not kept, and then no command starts",
                report.ample / 1024
            ),
            format!("df -h {}", countersign_keys::shell_word(&report.path)),
        );
    }
}

/// What a client has accepted, it starts with: it must be whole, and of this realm's chain.
fn trust(report: &StateReport, realm: &Realm, found: &mut Findings) {
    if let Err(error) = report.trust(&realm.trust) {
        found.file(Check::Trust, &error);
    }
}

/// Looks at the folder of programs, if one is named.
pub(super) fn examine_commands(folder: Option<&Path>, found: &mut Findings) {
    let Some(folder) = folder else { return };
    let programs = match Programs::read(folder, &[]) {
        Ok(programs) => programs,
        Err(errors) => return found.error(Check::Commands, Level::Broken, &wrong(folder, &errors)),
    };
    for program in programs.iter() {
        if let Some(why) = program.obstacle() {
            found.add(
                Check::Commands,
                Level::Warning,
                format!("the command {} cannot be started now: {why}", program.name()),
                "a program that the system would start: until then each call of it fails",
                format!("countersign commands check {}", countersign_keys::shell_word(folder)),
            );
        }
    }
    if found.is_clean(Check::Commands) {
        let ignored = programs.ignored().len();
        let more = if ignored == 0 { String::new() } else { format!("; {ignored} files are ignored") };
        let count = programs.iter().count() as u64;
        found.fine(
            Check::Commands,
            format!("{} in {}{more}", crate::text::counted(count, "definition"), folder.display()),
        );
    }
}

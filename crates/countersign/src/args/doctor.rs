//! What `doctor` takes.

use std::path::PathBuf;

use clap::Args;

use super::options::OutputArgs;
use super::settings::OperatorArgs;

/// What `doctor` takes.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where the journals of the clients of this machine are; by default $XDG_STATE_HOME/countersign
    #[arg(long, env = "COUNTERSIGN_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// A folder of programs that are commands, as `client --commands` takes it
    #[arg(long, env = "COUNTERSIGN_COMMANDS", value_name = "DIR")]
    pub(crate) commands: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sender: OperatorArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

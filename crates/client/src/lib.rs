//! The worker's side of Countersign: it listens for signed commands, runs those that its machine allows, and answers.
//!
//! A program that embeds it registers its own data commands beside `ping` and `calculate`, which use the same interface
//! (section 4); `examples/disk_usage.rs` is such a program:
//!
//! ```no_run
//! # use countersign_client::{Client, ClientConfig, Commands, shutdown};
//! # async fn example(config: ClientConfig) -> Result<(), Box<dyn std::error::Error>> {
//! let commands = Commands::standard()?;
//! let (stopper, shutdown) = shutdown();
//! Client::new(config, commands).run(shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Programs in any language can be commands beside them (section 13). Each runs under a helper, which is the embedding program
//! started again; `main` begins with [`Helper::take_turn`]:
//!
//! ```no_run
//! # use countersign_client::{Commands, Helper, Programs, RegistrationError};
//! # fn main() -> Result<(), RegistrationError> {
//! let helper = Helper::take_turn();
//! let secrets = ["keys".into(), "state".into()];
//! let programs = Programs::read("commands.d".as_ref(), &secrets).unwrap_or_default();
//! let commands = Commands::standard()?.programs(programs, helper)?;
//! # Ok(())
//! # }
//! ```
//!
//! What is decided lives in `countersign-machine`; here are the connection, the journal on disk, the jobs, and the one loop
//! that joins them: [`Client::run`].

pub mod commands;
pub mod health;

mod command;
mod console;
mod error;
mod executor;
mod journal;
mod output;
mod programs;
mod registry;
mod shell;
mod shutdown;

pub use countersign_machine::client::Limits;
pub use countersign_protocol::output::{OutputReport, Stream, StreamReport};

pub use self::command::{Context, DataCommand, Failure, Immediate, JobContext, LongRunning};
pub use self::console::Console;
pub use self::error::ClientError;
pub use self::journal::{JournalError, LockedStateDir, StateReport, look_at_state};
pub use self::output::{JobOutput, MAX_OUTPUT};
pub use self::programs::{DefinitionError, Helper, Ignored, Program, Programs};
pub use self::registry::{Commands, RegistrationError};
pub use self::shell::{Client, ClientConfig, Stopped};
pub use self::shutdown::{Shutdown, Stopper, shutdown};

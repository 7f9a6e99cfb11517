//! Programs as commands (section 13): a file of ten lines for each, read as a whole set by [`Programs::read`].

mod confinement;
mod definition;
mod executable;
mod folder;
mod helper;
mod job;
mod launch;
mod units;
mod user;
mod verdict;

pub use self::definition::Program;
pub use self::folder::{DefinitionError, Ignored, Programs};
pub use self::helper::Helper;

pub(crate) use self::job::run;

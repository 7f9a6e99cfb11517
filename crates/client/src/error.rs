//! Why a client does not run.

use countersign_host::clock::RandomError;
use countersign_keys::KeyFileError;
use countersign_link::LinkError;
use countersign_machine::client::StartError;

use crate::journal::JournalError;
use crate::registry::RegistrationError;

/// Why a client does not run, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Its commands cannot be registered.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// Its record cannot be used.
    #[error(transparent)]
    Record(#[from] JournalError),
    /// The trust bundle that was accepted before cannot be used.
    #[error("{}", .0.what())]
    Trust(KeyFileError),
    /// The machine does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The link cannot be set up. A broker that is not there is no such error: a client waits for it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl From<KeyFileError> for ClientError {
    fn from(error: KeyFileError) -> Self {
        Self::Trust(error)
    }
}

impl ClientError {
    /// What was expected.
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Registration(_) => "names of data commands that are free",
            Self::Record(error) => error.expected(),
            Self::Trust(error) => error.expected(),
            Self::Start(StartError::OldTrust { .. }) => "the trust bundle that was accepted last, or a later one",
            Self::Link(error) => error.expected(),
            Self::Random(_) => "the system call `getrandom`",
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Registration(_) => "rename the command".to_owned(),
            Self::Record(error) => error.hint(),
            Self::Trust(error) => error.hint(),
            Self::Start(StartError::OldTrust { .. }) => "put the latest trust.json into the keys folder".to_owned(),
            Self::Link(error) => error.hint().to_owned(),
            Self::Random(_) => "run on Linux 3.17 or later, and allow the system call".to_owned(),
        }
    }
}

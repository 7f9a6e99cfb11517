use std::fmt;

use countersign_keys::KeyFileError;

/// Why a realm could not be made or renewed: what happened, what was expected, and what to do. Nothing of it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionError {
    fault: ProvisionFault,
    what: String,
    expected: Option<String>,
    hint: Option<String>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionFault {
    /// What was asked for contradicts itself or the folder.
    Request,
    /// A key, a credential or a trust bundle is unusable or missing.
    Keys,
    /// The system has no randomness.
    System,
}

impl ProvisionError {
    fn new(fault: ProvisionFault, what: impl fmt::Display) -> Self {
        Self { fault, what: what.to_string(), expected: None, hint: None }
    }

    pub(crate) fn request(what: impl fmt::Display) -> Self {
        Self::new(ProvisionFault::Request, what)
    }

    pub(crate) fn keys(what: impl fmt::Display) -> Self {
        Self::new(ProvisionFault::Keys, what)
    }

    pub(crate) fn system(what: impl fmt::Display) -> Self {
        Self::new(ProvisionFault::System, what)
    }

    pub(crate) fn expecting(mut self, expected: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self
    }

    pub(crate) fn hinting(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> ProvisionFault {
        self.fault
    }

    /// What was expected.
    pub fn expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for ProvisionError {}

impl From<KeyFileError> for ProvisionError {
    fn from(error: KeyFileError) -> Self {
        Self::keys(error.what()).expecting(error.expected()).hinting(error.hint())
    }
}

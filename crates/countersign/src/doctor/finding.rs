//! What was found: each with what it means, and what to do.

use std::fmt;

use countersign_keys::KeyFileError;
use serde::Serialize;

use crate::cli_error::{CliError, Exit};
use crate::text::Place;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Check {
    /// Key files: mode, owner, path, and pairs that fit.
    Keys,
    /// Which keys lie together.
    Places,
    /// The trust bundle, and the versions before it.
    Trust,
    /// Credentials.
    Credentials,
    /// What logs in to the broker.
    Logins,
    /// A client's folder of state.
    State,
    /// The broker: reachable, TLS, account.
    Broker,
    /// What each user may do there.
    Rights,
    /// The broker's streams.
    Streams,
    /// The clocks.
    Clock,
    /// The clients.
    Clients,
    /// Programs that are commands.
    Commands,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "keys",
            Self::Places => "places",
            Self::Trust => "trust",
            Self::Credentials => "credentials",
            Self::Logins => "logins",
            Self::State => "state",
            Self::Broker => "broker",
            Self::Rights => "rights",
            Self::Streams => "streams",
            Self::Clock => "clock",
            Self::Clients => "clients",
            Self::Commands => "commands",
        })
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It is as it should be.
    Fine,
    /// It was not looked at, and why.
    Skipped,
    /// It works, and somebody should see to it.
    Warning,
    /// It does not work.
    Broken,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Broken => "broken",
        })
    }
}

/// One thing that was found. Nothing of it is escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    pub(crate) level: Level,
    pub(crate) what: String,
    /// What was expected, and what it means that it is not so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<String>,
    /// What to do.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding; one thing that several checks stumble over is found once.
    pub(crate) fn add(
        &mut self,
        check: Check,
        level: Level,
        what: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (expected, hint) = (Some(expected.into()), Some(hint.into()));
        self.push(Finding { check, level, what: what.into(), expected, hint });
    }

    /// Something is as it should be.
    pub(crate) fn fine(&mut self, check: Check, what: impl Into<String>) {
        self.push(Finding { check, level: Level::Fine, what: what.into(), expected: None, hint: None });
    }

    /// Something was not looked at.
    pub(crate) fn skipped(&mut self, check: Check, why: impl Into<String>) {
        self.push(Finding { check, level: Level::Skipped, what: why.into(), expected: None, hint: None });
    }

    /// What keeps another command from its work.
    pub(crate) fn error(&mut self, check: Check, level: Level, error: &CliError) {
        let mut lines = error.lines(Place::Shell).map(|(_, line)| line);
        let what = lines.next().unwrap_or_default();
        self.push(Finding { check, level, what, expected: lines.next(), hint: lines.next() });
    }

    /// What is wrong with a file.
    pub(crate) fn file(&mut self, check: Check, error: &KeyFileError) {
        self.add(check, Level::Broken, error.what(), error.expected(), error.hint());
    }

    /// Whether a check found nothing but what is fine.
    pub(crate) fn is_clean(&self, check: Check) -> bool {
        self.0.iter().all(|finding| finding.check != check || finding.level <= Level::Skipped)
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Finding] {
        &self.0
    }

    /// The worst level.
    pub(crate) fn worst(&self) -> Level {
        let found = self.0.iter().map(|finding| finding.level).filter(|level| *level > Level::Skipped);
        found.max().unwrap_or(Level::Fine)
    }

    /// The status that the command ends with: 0, 1 for warnings, 2 for what is broken.
    pub(crate) fn exit(&self) -> Exit {
        match self.worst() {
            Level::Fine | Level::Skipped => Exit::Succeeded,
            Level::Warning => Exit::Failed,
            Level::Broken => Exit::Usage,
        }
    }

    fn push(&mut self, finding: Finding) {
        if !self.0.iter().any(|known| known.what == finding.what) {
            self.0.push(finding);
        }
    }
}

//! How the command ends: its exit statuses, and its errors.

use std::process::{ExitCode, Termination};

use countersign_keys::{FolderKind, KeyFileError, KeyFolder};
use countersign_link::{LinkError, Obstacle};
use countersign_provisioning::{ProvisionError, ProvisionFault};

use crate::args::{BrokerArgs, Source};
use crate::text::{Place, Text};

/// The exit statuses that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Every target succeeded, or accepted with `--detach`.
    Succeeded = 0,
    /// Some target failed, refused, was cancelled or interrupted; or this machine could not do its part.
    Failed = 1,
    /// Wrong usage, or arguments that were found invalid before anything was sent.
    Usage = 2,
    /// Some target gave no reply or is offline, and none failed.
    NoReply = 3,
    /// Some target still runs a command whose end was awaited or asked for, and none failed or gave no reply.
    NotEnded = 6,
    /// No broker, or it refuses the connection.
    Broker = 4,
    /// Keys, credentials or trust are unusable.
    Keys = 5,
    /// Interrupted by the person: SIGINT.
    Interrupted = 130,
    /// Told to end by SIGTERM before it was done.
    Terminated = 143,
}

impl Exit {
    /// The worse of two: a script ends with the worst.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Succeeded => 0,
            // Nothing is known to have failed.
            Self::NotEnded => 1,
            Self::NoReply => 2,
            Self::Failed => 3,
            Self::Usage => 4,
            Self::Broker => 5,
            Self::Keys => 6,
            Self::Interrupted => 7,
            Self::Terminated => 8,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// What went wrong, for a person: what happened, what was expected, what to do; at most three lines.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    what: Text,
    expected: Option<Text>,
    hint: Option<Text>,
}

/// What every step of the binary returns.
pub(crate) type CliResult<T> = Result<T, CliError>;

impl CliError {
    /// What happened, without the rest.
    pub(crate) fn what(&self) -> String {
        self.what.render(Place::Shell)
    }

    /// A failure that ends the command with this status.
    pub(crate) fn new(exit: Exit, what: impl Into<Text>) -> Self {
        Self { exit, what: what.into(), expected: None, hint: None }
    }

    /// Wrong usage, or invalid arguments.
    pub(crate) fn usage(what: impl Into<Text>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Keys, credentials or trust that are unusable.
    pub(crate) fn keys(what: impl Into<Text>) -> Self {
        Self::new(Exit::Keys, what)
    }

    /// Says what was expected.
    #[must_use]
    pub(crate) fn expected(mut self, expected: impl Into<Text>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<Text>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where the value comes from that it is about, unless it was typed.
    #[must_use]
    pub(crate) fn of_setting(mut self, what: &str, source: &Source) -> Self {
        if let Source::Variable(_) | Source::Context(_) = source {
            self.what = self.what + format!("; {what} is from {source}");
        }
        self
    }

    /// Says where it went wrong.
    #[must_use]
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.what = Text::from(format!("{place}: ")) + self.what;
        self
    }

    /// The status that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The lines, each with its label, with commands as they are typed there; not yet escaped.
    pub(crate) fn lines(&self, place: Place) -> impl Iterator<Item = (&'static str, String)> {
        let lines = [("error", Some(&self.what)), ("expected", self.expected.as_ref()), ("try", self.hint.as_ref())];
        lines.into_iter().filter_map(move |(label, line)| Some((label, line?.render(place))))
    }
}

impl From<KeyFileError> for CliError {
    fn from(error: KeyFileError) -> Self {
        Self::keys(error.what()).expected(error.expected()).hint(error.hint())
    }
}

impl From<ProvisionError> for CliError {
    fn from(error: ProvisionError) -> Self {
        let exit = match error.fault() {
            ProvisionFault::Request => Exit::Usage,
            ProvisionFault::Keys => Exit::Keys,
            ProvisionFault::System => Exit::Failed,
        };
        let (expected, hint) = (error.expected().map(Text::from), error.hint().map(Text::from));
        Self { expected, hint, ..Self::new(exit, &error) }
    }
}

impl CliError {
    /// No connection to the broker that these options name; the folder of keys says what could be done about a key that it does
    /// not know.
    pub(crate) fn no_broker(error: LinkError, broker: &BrokerArgs, folder: &KeyFolder) -> Self {
        if let LinkError::TlsFile { file, .. } = &error
            && let Some(source) = broker.source_of(file)
        {
            let error = Self::from(error).of_setting("the file", source);
            return match source {
                Source::Context(name) => error.hint(format!("correct the context {name}, or the file's permissions")),
                _ => error,
            };
        }
        let source = broker.nats_url.source();
        let which = match source {
            Source::Default => "no --nats-url, NATS_URL or context names a broker".to_owned(),
            source => format!("the URL is from {source}"),
        };
        let is_strange = matches!(error, LinkError::Refused { obstacle: Obstacle::Key, .. });
        let is_absent = matches!(error, LinkError::NoBroker { obstacle: Obstacle::Absent, .. });
        let error = Self::from(error).of_setting("the URL", source);
        if is_absent && *source == Source::Default {
            return error.hint(format!("start the server, or name another: {which}"));
        }
        if !is_strange {
            return error;
        }
        error.hint(match folder.kind() {
            FolderKind::Issuer => format!(
                "check that it is this realm's broker ({which}); if it is, `countersign init`, which renews what has \
                 expired, and see whether the broker has the present nats/accounts.conf"
            ),
            _ => format!(
                "check that it is this realm's broker ({which}); if it is, ask whoever has issuer.pem for another .creds file"
            ),
        })
    }
}

impl From<LinkError> for CliError {
    fn from(error: LinkError) -> Self {
        let exit = match error {
            LinkError::Url { .. } => Exit::Usage,
            LinkError::TlsFile { .. } => Exit::Keys,
            LinkError::NoBroker { .. } | LinkError::Refused { .. } => Exit::Broker,
            LinkError::System(_) => Exit::Failed,
        };
        Self::new(exit, &error).expected(error.expected()).hint(error.hint())
    }
}

//! How the command ends: its exit statuses, and its errors.

use std::fmt::Display;
use std::process::{ExitCode, Termination};

use countersign_keys::{FolderKind, KeyFileError, KeyFolder};
use countersign_link::{LinkError, Obstacle};
use countersign_provisioning::{ProvisionError, ProvisionFault};

use crate::args::{BrokerArgs, Source};
use crate::requests;
use crate::text::{Place, Text, command};
use crate::words;

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
    /// What in the line that was typed is to be another way.
    correction: Option<Box<Correction>>,
}

/// How a line becomes the one that may have been meant.
#[derive(Debug)]
enum Correction {
    /// These words become one other.
    Instead(Vec<String>, String),
    /// These words are added.
    Also(Vec<String>),
}

/// The longest line that is shown corrected, in characters.
const MAX_CORRECTED: usize = 512;

/// What every step of the binary returns.
pub(crate) type CliResult<T> = Result<T, CliError>;

impl CliError {
    /// What happened, without the rest.
    pub(crate) fn what(&self) -> String {
        self.what.render(Place::Shell)
    }

    /// A failure that ends the command with this status.
    pub(crate) fn new(exit: Exit, what: impl Into<Text>) -> Self {
        Self { exit, what: what.into(), expected: None, hint: None, correction: None }
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

    /// Says what may have been meant by a word of the line: the hint becomes the whole line with it, where that is known.
    #[must_use]
    pub(crate) fn meant(self, wrong: impl Display, right: impl Display) -> Self {
        self.meant_as_one(vec![wrong.to_string()], right)
    }

    /// The same of words that follow each other and are one.
    #[must_use]
    pub(crate) fn meant_as_one(mut self, wrong: Vec<String>, right: impl Display) -> Self {
        self.correction = Some(Box::new(Correction::Instead(wrong, right.to_string())));
        self
    }

    /// Says which words the line lacks.
    #[must_use]
    pub(crate) fn lacks(mut self, words: &[&str]) -> Self {
        self.correction = Some(Box::new(Correction::Also(words.iter().map(|word| (*word).to_owned()).collect())));
        self
    }

    /// The same with the corrected line as its hint, where it is known what was meant. The words are without the program's name.
    #[must_use]
    pub(crate) fn corrected(mut self, typed: &[String]) -> Self {
        let words = match self.correction.take().map(|correction| *correction) {
            Some(Correction::Instead(wrong, right)) => words::replaced(typed, &wrong, &right),
            Some(Correction::Also(more)) => {
                let end = typed.iter().position(|word| word == "--").unwrap_or(typed.len());
                let (before, after) = typed.split_at(end);
                Some([before, &more, after].concat())
            }
            None => None,
        };
        let line = words.map(|words| words::line(words.iter().map(String::as_str)));
        if let Some(line) = line.filter(|line| line.chars().count() <= MAX_CORRECTED) {
            self.hint = Some(command(line));
        }
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
            let start = if requests::is_clone() { "`./just up` starts one here" } else { "start the server" };
            return error.hint(format!("{start}, or name another: {which}"));
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

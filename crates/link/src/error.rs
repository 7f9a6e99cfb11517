//! Why there is no link.

use crate::Obstacle;

/// Why there is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The URL is none.
    #[error("`{url}` is not the URL of a NATS server: {why}")]
    Url {
        /// What was given, escaped.
        url: String,
        /// Why it is not.
        why: String,
    },
    /// A file of TLS cannot be read.
    #[error("{file} cannot be read: {why}")]
    TlsFile {
        /// The file, escaped.
        file: String,
        /// Why not.
        why: String,
    },
    /// Nobody answers there, or not as a broker does.
    #[error("no NATS server answers at {at}: {why}")]
    NoBroker {
        /// Host and port.
        at: String,
        /// Why not, escaped.
        why: String,
        /// What that comes to.
        obstacle: Obstacle,
    },
    /// The broker is there and does not let us in.
    #[error("the NATS server at {at} refuses us: {why}")]
    Refused {
        /// Host and port.
        at: String,
        /// The broker's error, escaped.
        why: String,
        /// What that comes to.
        obstacle: Obstacle,
    },
    /// The operating system does not give us what a connection needs.
    #[error("the connection cannot be set up: {0}")]
    System(String),
}

impl LinkError {
    /// What was expected.
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Url { .. } => "nats://host:port or tls://host:port, or several with commas between",
            Self::NoBroker { obstacle, .. } | Self::Refused { obstacle, .. } => obstacle.expected(),
            Self::TlsFile { .. } => "a file in PEM, for TLS to the broker",
            Self::System(_) => "a thread and a few file descriptors",
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Url { .. } => "correct the URL (`--nats-url`, NATS_URL)",
            Self::NoBroker { obstacle, .. } | Self::Refused { obstacle, .. } => obstacle.hint(),
            Self::TlsFile { .. } => "correct --tls-ca, --tls-cert or --tls-key, or the file's permissions",
            Self::System(_) => "check the limits of this process",
        }
    }

    /// How much it explains, compared with the failures at other servers.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::System(_) => 0,
            Self::TlsFile { .. } | Self::Url { .. } | Self::NoBroker { .. } => 1,
            Self::Refused { .. } => 2,
        }
    }
}

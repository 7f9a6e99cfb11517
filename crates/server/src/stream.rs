//! The broker's streams, and what the setup key may do with them.

use countersign_keys::Login;
use countersign_link::{BrokerAccess, BrokerAddress, LinkError, StreamContent, StreamError, make_stream, purge_stream};
use countersign_protocol::event::EventKind;
use countersign_protocol::name::Name;
use countersign_protocol::{subject, text};

/// The longest presence that is stored, in bytes, its headers included: one with thousands of groups or commands still fits.
pub const MAX_PRESENCE: i32 = 65_536;
/// Below which subject the broker answers the setup key.
const INBOX_PREFIX: &str = "_INBOX.setup";

/// The stream of presences, as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceStream {
    /// Its name at the broker.
    pub name: String,
    /// How many servers keep it.
    pub replicas: usize,
    /// Why a cluster does not keep it on three of its servers, where it does not; escaped.
    pub has_fewer: Option<String>,
}

/// Why the stream could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker does not make or change the stream: as a rule it runs without JetStream, or the key is not the setup key.
    #[error("the broker does not {what} the stream {stream}: {why}")]
    Stream {
        /// What it was to do.
        what: &'static str,
        /// The stream.
        stream: String,
        /// The broker's error, escaped.
        why: String,
    },
}

/// Makes the stream of presences, or makes it again what it should be: the last message of each client's presence subject,
/// read by Direct Get. Nothing longer than [`MAX_PRESENCE`] is stored. A cluster stores it on three of its servers if it has as
/// many; a stream that is on three stays there.
pub async fn setup(broker: impl Into<BrokerAddress>, realm: &Name, login: Login) -> Result<PresenceStream, SetupError> {
    let stream = subject::presence_stream(realm);
    let access = BrokerAccess { broker: broker.into(), login, inbox_prefix: INBOX_PREFIX };
    let content = StreamContent { subjects: vec![subject::every_presence(realm)], max_message: MAX_PRESENCE };
    let made = make_stream(access, &stream, content).await.map_err(|error| failed("make", &stream, error))?;
    let has_fewer = made.has_fewer.map(|why| text::escape(&why).into_owned());
    Ok(PresenceStream { replicas: made.replicas, has_fewer, name: stream })
}

/// Removes retired clients from the stream of presences, and so from every operator's roster. A client that is still there
/// comes back with its next heartbeat. After an error some of them may be removed; removing them again does no harm.
pub async fn forget(
    broker: impl Into<BrokerAddress>,
    realm: &Name,
    login: Login,
    clients: &[Name],
) -> Result<(), SetupError> {
    let stream = subject::presence_stream(realm);
    let access = BrokerAccess { broker: broker.into(), login, inbox_prefix: INBOX_PREFIX };
    let presences = clients.iter().map(|client| subject::event(realm, client, EventKind::Presence));
    let presences: Vec<String> = presences.collect();
    purge_stream(access, &stream, &presences).await.map_err(|error| failed("change", &stream, error))
}

fn failed(what: &'static str, stream: &str, error: StreamError) -> SetupError {
    match error {
        StreamError::Link(error) => error.into(),
        StreamError::Refused(why) => {
            SetupError::Stream { what, stream: stream.to_owned(), why: text::escape(&why).into_owned() }
        }
    }
}

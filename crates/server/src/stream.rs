//! The broker's streams, and what the setup key may do with them.

use countersign_keys::Login;
use countersign_link::{
    BrokerAccess, BrokerAddress, LinkError, StreamContent, StreamError, StreamState, look_at_stream, make_stream,
    purge_stream,
};
use countersign_protocol::event::EventKind;
use countersign_protocol::name::Name;
use countersign_protocol::trust::MAX_TRUST;
use countersign_protocol::{subject, text};

/// The longest presence that is stored, in bytes, its headers included: one with thousands of groups or commands still fits.
pub const MAX_PRESENCE: i32 = 65_536;
/// Below which subject the broker answers the setup key.
const INBOX_PREFIX: &str = "_INBOX.setup";

/// How many versions of the trust bundle are stored, at most.
pub const MAX_VERSIONS: i64 = 1_024;

/// A stream, as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeStream {
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

/// Makes the two streams, or makes them again what they should be: the last message of each client's presence subject, and
/// every version of the trust bundle. Nothing longer than [`MAX_PRESENCE`], or than a bundle may be, is stored. A cluster stores
/// a stream on three of its servers if it has as many; one that is on three stays there.
pub async fn setup(
    broker: impl Into<BrokerAddress>,
    realm: &Name,
    login: Login,
) -> Result<[MadeStream; 2], SetupError> {
    let broker = broker.into();
    let [(presences, of_presences), (trust, of_trust)] = streams(realm);
    let presences = make(broker.clone(), login.clone(), presences, of_presences).await?;
    Ok([presences, make(broker, login, trust, of_trust).await?])
}

/// Looks whether the two streams are what [`setup`] makes of them; the state is `None` where there is none. Nothing is changed.
pub async fn look_at_streams(
    broker: impl Into<BrokerAddress>,
    realm: &Name,
    login: Login,
) -> Result<Vec<(String, Option<StreamState>)>, SetupError> {
    let broker = broker.into();
    let mut found = Vec::new();
    for (stream, content) in streams(realm) {
        let access = BrokerAccess { broker: broker.clone(), login: login.clone(), inbox_prefix: INBOX_PREFIX };
        let state = look_at_stream(access, &stream, &content).await;
        let state = state.map_err(|error| failed("show", &stream, error))?;
        found.push((stream, state));
    }
    Ok(found)
}

/// The two streams, by name.
fn streams(realm: &Name) -> [(String, StreamContent); 2] {
    let presences =
        StreamContent { subjects: vec![subject::every_presence(realm)], max_message: MAX_PRESENCE, max_messages: None };
    let trust = StreamContent {
        subjects: vec![subject::every_trust_bundle(realm)],
        max_message: i32::try_from(MAX_TRUST).unwrap_or(i32::MAX),
        max_messages: Some(MAX_VERSIONS),
    };
    [(subject::presence_stream(realm), presences), (subject::trust_stream(realm), trust)]
}

async fn make(
    broker: BrokerAddress,
    login: Login,
    stream: String,
    content: StreamContent,
) -> Result<MadeStream, SetupError> {
    let access = BrokerAccess { broker, login, inbox_prefix: INBOX_PREFIX };
    let made = make_stream(access, &stream, content).await.map_err(|error| failed("make", &stream, error))?;
    let has_fewer = made.has_fewer.map(|why| text::escape(&why).into_owned());
    Ok(MadeStream { replicas: made.replicas, has_fewer, name: stream })
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

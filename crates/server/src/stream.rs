//! The broker's streams, and what the setup key may do with them.

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use countersign_host::keys::Seed;
use countersign_host::link::{self, Link, LinkConfig, LinkError};
use countersign_protocol::event::EventKind;
use countersign_protocol::name::Name;
use countersign_protocol::{subject, text};

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
        /// What the broker says, escaped.
        why: String,
    },
}

/// Makes the stream of presences, or makes it again what it should be: the last message of each client's presence subject,
/// read by Direct Get. It asks the broker to update this stream or to create it, and for nothing else.
///
/// Returns the stream's name.
pub async fn setup(url: &str, realm: &Name, seed: Seed) -> Result<String, SetupError> {
    let stream = presence_stream(realm);
    let (_link, client) = connect(url, &stream, seed, "make").await?;
    let config = Config {
        name: stream.clone(),
        subjects: vec![subject::every_presence(realm)],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        no_ack: true,
        allow_direct: true,
        ..Config::default()
    };
    let made = async_nats::jetstream::new(client).create_or_update_stream(config).await;
    made.map_err(|error| failed("make", &stream, &error.to_string()))?;
    Ok(stream)
}

/// Strikes retired clients from the stream of presences, and so from every operator's roster. A client that is still there
/// comes back with its next heartbeat. After an error some of them may be struck; to strike them again does no harm.
pub async fn forget(url: &str, realm: &Name, seed: Seed, clients: &[Name]) -> Result<(), SetupError> {
    let stream = presence_stream(realm);
    let (_link, connection) = connect(url, &stream, seed, "change").await?;
    let failed = |error: String| failed("change", &stream, &error);
    let context = async_nats::jetstream::new(connection);
    let kept = context.get_stream(&stream).await.map_err(|error| failed(error.to_string()))?;
    for client in clients {
        let presence = subject::event(realm, client, EventKind::Presence);
        kept.purge().filter(presence).await.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// The stream that keeps the last presence of every client.
pub(crate) fn presence_stream(realm: &Name) -> String {
    format!("cs-{realm}-presence")
}

async fn connect(url: &str, stream: &str, seed: Seed, what: &'static str) -> Result<(Link, Client), SetupError> {
    let (link, _events) = Link::connect(LinkConfig {
        url: url.to_owned(),
        name: "setup".to_owned(),
        seed,
        inbox_prefix: "_INBOX.setup".to_owned(),
        subscriptions: Vec::new(),
        max_waiting: link::MAX_WAITING,
        wait: false,
    })
    .await?;
    let client = link.client().ok_or_else(|| failed(what, stream, "the connection broke"))?;
    Ok((link, client))
}

fn failed(what: &'static str, stream: &str, why: &str) -> SetupError {
    SetupError::Stream { what, stream: stream.to_owned(), why: text::escape(why).into_owned() }
}

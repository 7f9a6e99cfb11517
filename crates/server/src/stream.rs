//! The broker's streams.

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use countersign_host::keys::Seed;
use countersign_host::link::{Link, LinkConfig, LinkError};
use countersign_protocol::event::EventKind;
use countersign_protocol::name::Name;
use countersign_protocol::text;

/// Why the streams could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker does not make the stream: as a rule it runs without JetStream, or the key is not the setup key.
    #[error("the broker does not make the stream {stream}: {why}")]
    Stream {
        /// The stream.
        stream: String,
        /// What the broker says, escaped.
        why: String,
    },
}

/// Makes the stream of presences, or makes it again what it should be: the last message of each client's presence subject,
/// read by Direct Get. Of the broker it asks no more than the setup user may: to update and to create this stream.
///
/// Returns the stream's name.
pub async fn setup(url: &str, realm: &Name, seed: Seed) -> Result<String, SetupError> {
    let stream = presence_stream(realm);
    let (link, _events) = Link::connect(LinkConfig {
        url: url.to_owned(),
        name: "setup".to_owned(),
        seed,
        inbox_prefix: "_INBOX.setup".to_owned(),
        // A link without any subscription takes itself for broken.
        subscriptions: vec!["_INBOX.setup.link".to_owned()],
        wait: false,
    })
    .await?;
    let failed = |why: &str| SetupError::Stream { stream: stream.clone(), why: text::escape(why).into_owned() };
    let client = link.client().ok_or_else(|| failed("the connection broke"))?;
    let config = Config {
        name: stream.clone(),
        subjects: vec![format!("cs.{realm}.event.*.{}", EventKind::Presence)],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        no_ack: true,
        allow_direct: true,
        ..Config::default()
    };
    let made = async_nats::jetstream::new(client).create_or_update_stream(config).await;
    made.map_err(|error| failed(&error.to_string()))?;
    Ok(stream)
}

/// The stream that keeps the last presence of every client.
pub(crate) fn presence_stream(realm: &Name) -> String {
    format!("cs-{realm}-presence")
}

//! The broker's streams, and what the setup key may do with them.

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use countersign_host::keys::Seed;
use countersign_host::link::{self, Link, LinkConfig, LinkError};
use countersign_protocol::event::EventKind;
use countersign_protocol::name::Name;
use countersign_protocol::{subject, text};

/// The longest presence that is kept, in bytes, its headers included: one with thousands of groups or commands still fits.
pub const MAX_PRESENCE: i32 = 65_536;
/// On how many servers of a cluster the stream is kept, so that it outlives the loss of one.
const REPLICAS: usize = 3;

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
        /// What the broker says, escaped.
        why: String,
    },
}

/// Makes the stream of presences, or makes it again what it should be: the last message of each client's presence subject,
/// read by Direct Get. Nothing longer than [`MAX_PRESENCE`] is kept. A cluster keeps it on three of its servers if it has as
/// many; a stream that is on three stays there. It asks the broker to update this stream or to create it, and for nothing
/// else.
pub async fn setup(url: &str, realm: &Name, seed: Seed) -> Result<PresenceStream, SetupError> {
    let stream = subject::presence_stream(realm);
    let (_link, client) = connect(url, &stream, seed, "make").await?;
    let in_cluster = client.server_info().cluster.is_some();
    let context = async_nats::jetstream::new(client);
    let config = |replicas| Config {
        name: stream.clone(),
        subjects: vec![subject::every_presence(realm)],
        max_messages_per_subject: 1,
        max_message_size: MAX_PRESENCE,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        no_ack: true,
        allow_direct: true,
        num_replicas: replicas,
        ..Config::default()
    };
    let mut made = Err("it is no cluster".to_owned());
    if in_cluster {
        made = context.create_or_update_stream(config(REPLICAS)).await.map_err(|error| error.to_string());
    }
    let mut has_fewer = None;
    if let Err(why) = &made {
        has_fewer = in_cluster.then(|| text::escape(why).into_owned());
        let present = context.get_stream(&stream).await.map(|it| it.cached_info().config.num_replicas);
        let replicas = present.unwrap_or(1).max(1);
        made = context.create_or_update_stream(config(replicas)).await.map_err(|error| error.to_string());
    }
    let replicas = made.map_err(|error| failed("make", &stream, &error))?.config.num_replicas;
    Ok(PresenceStream { name: stream, replicas, has_fewer })
}

/// Strikes retired clients from the stream of presences, and so from every operator's roster. A client that is still there
/// comes back with its next heartbeat. After an error some of them may be struck; to strike them again does no harm.
pub async fn forget(url: &str, realm: &Name, seed: Seed, clients: &[Name]) -> Result<(), SetupError> {
    let stream = subject::presence_stream(realm);
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

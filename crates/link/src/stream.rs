//! The one stream that is stored at the broker: the last message on each of some subjects (section 10).

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use countersign_keys::Login;

use super::{BrokerAddress, Link, LinkConfig, LinkError, MAX_WAITING, lock};

/// On how many servers of a cluster a stream is stored, so that it outlives the loss of one.
const REPLICAS: usize = 3;

/// Who asks the broker for something, and where.
#[derive(Debug)]
pub struct BrokerAccess<'a> {
    /// The broker.
    pub broker: BrokerAddress,
    /// What logs in.
    pub login: Login,
    /// Below which subject the broker answers.
    pub inbox_prefix: &'a str,
}

/// What a stream stores: the last message on each subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamContent {
    /// The subjects.
    pub subjects: Vec<String>,
    /// The longest message that is stored, in bytes, its headers included.
    pub max_message: i32,
    /// How many messages are stored, at most; `None` for no bound. The oldest goes first.
    pub max_messages: Option<i64>,
}

/// A stream as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReplicas {
    /// How many servers keep it.
    pub replicas: usize,
    /// Why a cluster does not keep it on three of its servers, where it does not; not escaped.
    pub has_fewer: Option<String>,
}

/// Why a stream could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker's error; not escaped.
    #[error("{0}")]
    Refused(String),
}

/// Makes a stream, or makes it again what it should be, read by Direct Get. A cluster keeps it on three of its servers if it
/// has as many; a stream that is on three stays there. It asks the broker to update this stream or to create it, and for
/// nothing else.
pub async fn make_stream(
    access: BrokerAccess<'_>,
    name: &str,
    content: StreamContent,
) -> Result<StreamReplicas, StreamError> {
    let (_link, client) = connect("setup", access).await?;
    let is_cluster = client.server_info().cluster.is_some();
    let context = async_nats::jetstream::new(client);
    let config = |replicas| Config {
        name: name.to_owned(),
        subjects: content.subjects.clone(),
        max_messages_per_subject: 1,
        max_messages: content.max_messages.unwrap_or(-1),
        max_message_size: content.max_message,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        no_ack: true,
        allow_direct: true,
        num_replicas: replicas,
        ..Config::default()
    };
    let mut made = Err("it is no cluster".to_owned());
    if is_cluster {
        made = context.create_or_update_stream(config(REPLICAS)).await.map_err(|error| error.to_string());
    }
    let mut has_fewer = None;
    if let Err(why) = &made {
        has_fewer = is_cluster.then(|| why.clone());
        let present = context.get_stream(name).await.map(|it| it.cached_info().config.num_replicas);
        let replicas = present.unwrap_or(1).max(1);
        made = context.create_or_update_stream(config(replicas)).await.map_err(|error| error.to_string());
    }
    let replicas = made.map_err(StreamError::Refused)?.config.num_replicas;
    Ok(StreamReplicas { replicas, has_fewer })
}

/// Removes from a stream what it stores of these subjects. After an error some of them may be removed; to remove them again
/// does no harm.
pub async fn purge_stream(access: BrokerAccess<'_>, name: &str, subjects: &[String]) -> Result<(), StreamError> {
    let (_link, client) = connect("setup", access).await?;
    let refused = |error: String| StreamError::Refused(error);
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream(name).await.map_err(|error| refused(error.to_string()))?;
    for subject in subjects {
        stream.purge().filter(subject).await.map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

/// Connects under a name for the broker's own monitoring.
pub(super) async fn connect(name: &str, access: BrokerAccess<'_>) -> Result<(Link, Client), LinkError> {
    let (link, _events) = Link::connect(LinkConfig {
        broker: access.broker,
        name: name.to_owned(),
        login: access.login,
        inbox_prefix: access.inbox_prefix.to_owned(),
        subscriptions: Vec::new(),
        max_waiting: MAX_WAITING,
        wait: false,
    })
    .await?;
    let client = lock(&link.shared.client).clone();
    let client = client.ok_or_else(|| LinkError::System("the connection broke at once".to_owned()))?;
    Ok((link, client))
}

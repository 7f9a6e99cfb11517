//! The streams that are stored at the broker: the last message on each of some subjects (section 10).

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use bytes::Bytes;
use countersign_keys::Login;
use countersign_protocol::time::Millis;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::stored::NO_STREAM;
use super::{BrokerAddress, Link, LinkConfig, LinkError, MAX_WAITING, lock};

/// On how many servers of a cluster a stream is stored, so that it outlives the loss of one.
const REPLICAS: usize = 3;

/// How long the broker may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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

/// A stream as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// What of it is not as it should be; empty where all is.
    pub differs: Vec<&'static str>,
    /// How many servers keep it.
    pub replicas: usize,
    /// The broker's clock when it answered, where it says so.
    pub clock: Option<Millis>,
}

/// Why a stream could not be made, changed or looked at.
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
    let mut made = Err("it is no cluster".to_owned());
    if is_cluster {
        let wanted = config(name, &content, REPLICAS);
        made = context.create_or_update_stream(wanted).await.map_err(|error| error.to_string());
    }
    let mut has_fewer = None;
    if let Err(why) = &made {
        has_fewer = is_cluster.then(|| why.clone());
        let present = context.get_stream(name).await.map(|it| it.cached_info().config.num_replicas);
        let replicas = present.unwrap_or(1).max(1);
        let wanted = config(name, &content, replicas);
        made = context.create_or_update_stream(wanted).await.map_err(|error| error.to_string());
    }
    let replicas = made.map_err(StreamError::Refused)?.config.num_replicas;
    Ok(StreamReplicas { replicas, has_fewer })
}

/// What a stream should be.
fn config(name: &str, content: &StreamContent, replicas: usize) -> Config {
    Config {
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
    }
}

/// Looks whether a stream is what [`make_stream`] makes of it; `None` where there is none. Nothing is changed.
pub async fn look_at_stream(
    access: BrokerAccess<'_>,
    name: &str,
    content: &StreamContent,
) -> Result<Option<StreamState>, StreamError> {
    let (_link, client) = connect("setup", access).await?;
    let request = client.request(format!("$JS.API.STREAM.INFO.{name}"), Bytes::new());
    let answer = timeout(ANSWER_TIMEOUT, request).await.map_err(|_| {
        StreamError::Refused(format!("no answer within {} s: the request timed out", ANSWER_TIMEOUT.as_secs()))
    })?;
    let answer = answer.map_err(|error| StreamError::Refused(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    if let Some(error) = answer.get("error") {
        let code = error.get("err_code").and_then(Value::as_u64);
        let why = error.get("description").and_then(Value::as_str).unwrap_or("an error");
        return if code == Some(NO_STREAM) { Ok(None) } else { Err(StreamError::Refused(why.to_owned())) };
    }
    let StreamInfo { config: present, ts } = serde_json::from_value(answer)
        .map_err(|error| StreamError::Refused(format!("its answer is not understood: {error}")))?;
    let wanted = config(name, content, present.num_replicas);
    let differs = [
        ("its subjects", present.subjects == wanted.subjects),
        (
            "how many messages of a subject it keeps",
            present.max_messages_per_subject == wanted.max_messages_per_subject,
        ),
        ("how many messages it keeps", present.max_messages == wanted.max_messages),
        ("the longest message", present.max_message_size == wanted.max_message_size),
        ("what it removes when it is full", present.discard == wanted.discard),
        ("where it is stored", present.storage == wanted.storage),
        ("its acknowledgements", present.no_ack == wanted.no_ack),
        ("Direct Get", present.allow_direct == wanted.allow_direct),
    ];
    let differs = differs.into_iter().filter_map(|(what, is_so)| (!is_so).then_some(what)).collect();
    let clock = ts.and_then(|ts| ts.parse::<Timestamp>().ok()).map(|ts| Millis::new(ts.as_millisecond()));
    Ok(Some(StreamState { differs, replicas: present.num_replicas, clock }))
}

/// What is read of the broker's answer about a stream.
#[derive(Deserialize)]
struct StreamInfo {
    config: Config,
    /// The broker's clock, from version 2.10 on.
    ts: Option<String>,
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

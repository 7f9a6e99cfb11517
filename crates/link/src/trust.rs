//! Versions of the trust bundle at the broker: asked for by everybody, published by one (sections 7 and 10).

use std::time::Duration;

use countersign_keys::Login;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::trust::{MAX_TRUST, StoredTrust, Trust};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::stored::{StoredError, stored_message};
use super::{BrokerAddress, Link, LinkConfig, LinkError, MAX_WAITING, lock};

/// How long the broker may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a bundle that was published may take to be stored.
const STORING: Duration = Duration::from_secs(10);
/// How often that is looked up.
const LOOK: Duration = Duration::from_millis(20);
/// Below which subject the broker answers who publishes bundles.
const INBOX_PREFIX: &str = "_INBOX.trust";

/// Why a bundle is not known to be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It does not store what was published; the text is escaped.
    #[error("the broker does not store version {version} of the trust bundle: {why}")]
    NotStored {
        /// The version.
        version: u64,
        /// Why not.
        why: String,
    },
    /// It stores another bundle that the chain vouches for.
    #[error("the broker stores another version {version} of the trust bundle, signed by the same roots")]
    Fork {
        /// The version.
        version: u64,
    },
}

impl Link {
    /// Asks the broker for a version of the trust bundle.
    pub async fn stored_trust(&self, realm: &Name, version: u64) -> StoredTrust {
        let subject = subject::trust(realm, version);
        let ask = async {
            let mut inbox = self.inbox().await?;
            let request = json!({ "last_by_subj": subject });
            inbox.request(subject::trust_get(realm), "trust", &request).await?;
            inbox.next().await
        };
        let answer = match timeout(TIMEOUT, ask).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return StoredTrust::Failed("the connection broke".to_owned()),
            Err(_) => return StoredTrust::Failed(format!("nothing came for {} s", TIMEOUT.as_secs())),
        };
        match stored_message(&answer, MAX_TRUST + 4_096) {
            Ok(None) => StoredTrust::Absent,
            Ok(Some(stored)) if stored.delivery.subject() == subject => {
                StoredTrust::Bundle(version, stored.delivery.body().to_vec())
            }
            Ok(Some(_)) => StoredTrust::Failed("it answers with another message".to_owned()),
            Err(StoredError::NoStream) => {
                StoredTrust::Failed("it keeps none (`countersign setup` makes the stream)".to_owned())
            }
            Err(error) => StoredTrust::Failed(error.to_string()),
        }
    }
}

/// A request for a version of the trust bundle, while one is under way.
#[derive(Debug, Default)]
pub struct TrustRequest(Option<JoinHandle<StoredTrust>>);

impl TrustRequest {
    /// Asks. A request that is under way is given up.
    pub fn begin(&mut self, link: &Link, realm: &Name, version: u64) {
        let (link, realm) = (link.clone(), realm.clone());
        let request = tokio::spawn(async move { link.stored_trust(&realm, version).await });
        if let Some(before) = self.0.replace(request) {
            before.abort();
        }
    }

    /// The answer; never, where nothing is under way. Nothing is lost when this is dropped while it waits.
    pub async fn answer(&mut self) -> StoredTrust {
        let Some(request) = &mut self.0 else { return std::future::pending().await };
        let answer = request.await.unwrap_or_else(|error| StoredTrust::Failed(error.to_string()));
        self.0 = None;
        answer
    }
}

/// Who publishes versions of the trust bundle, connected.
#[derive(Debug)]
pub struct TrustPublisher {
    link: Link,
    realm: Name,
}

impl TrustPublisher {
    /// Connects with the key that publishes bundles. Fails at once where no broker answers.
    pub async fn connect(broker: BrokerAddress, realm: &Name, login: Login) -> Result<Self, LinkError> {
        let config = LinkConfig {
            broker,
            name: "trust".to_owned(),
            login,
            inbox_prefix: INBOX_PREFIX.to_owned(),
            subscriptions: Vec::new(),
            max_waiting: MAX_WAITING,
            wait: false,
        };
        let (link, _events) = Link::connect(config).await?;
        Ok(Self { link, realm: realm.clone() })
    }

    /// What the broker stores of a version.
    pub async fn stored(&self, version: u64) -> StoredTrust {
        self.link.stored_trust(&self.realm, version).await
    }

    /// Publishes a version that follows `before`, unless the broker has it, and waits until it is stored. `true` where it was
    /// published now.
    pub async fn publish(&self, before: Option<&Trust>, bundle: &Trust) -> Result<bool, PublishError> {
        let version = bundle.version();
        let not_stored = |why: String| PublishError::NotStored { version, why };
        match self.stored(version).await {
            StoredTrust::Bundle(_, stored) if stored == bundle.bytes() => return Ok(false),
            StoredTrust::Bundle(_, stored) if before.is_some_and(|before| before.successor(&stored).is_ok()) => {
                return Err(PublishError::Fork { version });
            }
            // What nobody accepts is in the way of nobody.
            StoredTrust::Bundle(..) | StoredTrust::Absent => {}
            StoredTrust::Failed(why) => return Err(not_stored(why)),
        }
        let client = lock(&self.link.shared.client).clone();
        let client = client.ok_or_else(|| not_stored("the connection broke".to_owned()))?;
        let subject = subject::trust(&self.realm, version);
        let sent = client.publish(subject, bundle.bytes().to_vec().into()).await;
        sent.map_err(|error| not_stored(error.to_string()))?;
        let deadline = Instant::now() + STORING;
        let stored = async {
            while self.stored(version).await != StoredTrust::Bundle(version, bundle.bytes().to_vec()) {
                sleep(LOOK).await;
            }
        };
        timeout_at(deadline, stored)
            .await
            .map_err(|_| not_stored(format!("it is not there {} s after it was published", STORING.as_secs())))?;
        Ok(true)
    }
}

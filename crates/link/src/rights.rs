//! What somebody may do at the broker, tried for real: NATS tells nobody their permissions, and confirms no subscription.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Link, LinkEvent, LinkEvents, lock};

/// How long after the broker's answer its refusals may take: the library reports them beside it.
const SETTLE: Duration = Duration::from_millis(250);
/// How long that answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Link {
    /// Publishes an empty message on each of these subjects, and returns what the broker refused of them and of the
    /// subscriptions of this link since its beginning: its errors, escaped, each of which names a subject. `None` where the
    /// connection broke. Nobody takes an empty message for anything, for it has no signature; an observer sees it.
    pub async fn try_rights(&self, events: &mut LinkEvents, publish: &[String]) -> Option<Vec<String>> {
        let client = lock(&self.shared.client).clone()?;
        for subject in publish {
            client.publish(subject.clone(), Bytes::new()).await.ok()?;
        }
        timeout_at(Instant::now() + ANSWER_TIMEOUT, client.flush()).await.ok()?.ok()?;
        let (settled, mut refused) = (Instant::now() + SETTLE, Vec::new());
        while let Ok(event) = timeout_at(settled, events.recv()).await {
            match event? {
                LinkEvent::Denied { why } => refused.push(why),
                LinkEvent::Disconnected { .. } => return None,
                _ => {}
            }
        }
        Some(refused)
    }
}

//! What is subscribed to, and what of it the broker refuses: that is tried again for as long as the connection lasts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::lock;

/// How long after a refusal a subscription is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// After how long without another refusal it stands. NATS confirms no subscription; a broker that has not answered for this
/// long has lost its connection.
const SETTLED: Duration = Duration::from_secs(4);

/// The subscriptions of a link, and those of them that the broker of the present connection refuses.
#[derive(Debug)]
pub(super) struct Subscriptions {
    wanted: Mutex<Vec<String>>,
    refused: Mutex<BTreeMap<String, Refused>>,
    changed: Notify,
    /// Others are wanted than on the present connection.
    replaced: Notify,
}

#[derive(Debug)]
struct Refused {
    why: String,
    times: u64,
}

impl Subscriptions {
    pub(super) fn new(wanted: Vec<String>) -> Self {
        let (wanted, refused) = (Mutex::new(wanted), Mutex::new(BTreeMap::new()));
        Self { wanted, refused, changed: Notify::new(), replaced: Notify::new() }
    }

    pub(super) fn wanted(&self) -> Vec<String> {
        lock(&self.wanted).clone()
    }

    /// Wants these from the next connection on, for which the present one is given up if they are others.
    pub(super) fn replace(&self, wanted: Vec<String>) {
        if std::mem::replace(&mut *lock(&self.wanted), wanted.clone()) != wanted {
            self.replaced.notify_one();
        }
    }

    /// Ends when others are wanted than before.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// What is refused now, with the broker's error.
    pub(super) fn refused(&self) -> BTreeMap<String, String> {
        lock(&self.refused).iter().map(|(subject, refused)| (subject.clone(), refused.why.clone())).collect()
    }

    /// Takes an error of the broker. Returns whether it is new: not if it only refuses again what it refused before.
    pub(super) fn on_error(&self, text: &str, why: &str) -> bool {
        let all_in_doubt = text.to_lowercase().contains("maximum subscriptions exceeded");
        let named = named(text);
        let is_meant = |subject: &&String| all_in_doubt || named == Some(subject.as_str());
        let wanted = self.wanted();
        let mut refused = lock(&self.refused);
        let (mut ours, mut new) = (false, false);
        for subject in wanted.iter().filter(is_meant) {
            ours = true;
            let entry = refused.entry(subject.clone()).or_insert_with(|| {
                new = true;
                Refused { why: why.to_owned(), times: 0 }
            });
            entry.times = entry.times.saturating_add(1);
        }
        if ours {
            self.changed.notify_one();
        }
        new || !ours
    }

    /// The connection is gone, and with it what its broker refused.
    pub(super) fn forget(&self) {
        lock(&self.refused).clear();
    }

    /// Tries again what is refused, with pauses, until the library's task ends. The new subscriptions take the place of the
    /// refused ones; `stands` is called for each that is refused no longer.
    pub(super) async fn keep(
        &self,
        client: &Client,
        renewed: impl Fn(String, Subscriber),
        stands: impl Fn(String),
    ) -> String {
        loop {
            if lock(&self.refused).is_empty() {
                self.changed.notified().await;
                continue;
            }
            sleep(AGAIN).await;
            let tried: Vec<(String, u64)> =
                lock(&self.refused).iter().map(|(subject, refused)| (subject.clone(), refused.times)).collect();
            for (subject, _) in &tried {
                let Ok(subscriber) = client.subscribe(subject.clone()).await else {
                    return "the connection's task ended".to_owned();
                };
                renewed(subject.clone(), subscriber);
            }
            sleep(SETTLED).await;
            for (subject, times) in tried {
                if self.settle(&subject, times) {
                    stands(subject);
                }
            }
        }
    }

    /// Removes a subscription from those that are refused, if it was not refused again.
    fn settle(&self, subject: &str, times: u64) -> bool {
        let mut refused = lock(&self.refused);
        refused.get(subject).is_some_and(|refused| refused.times == times) && refused.remove(subject).is_some()
    }
}

/// The subject of a subscription that the broker does not permit, from its error: `Permissions Violation for Subscription
/// to "SUBJECT"`, and perhaps more after it.
fn named(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once('"')?;
    let (subject, _) = rest.split_once('"')?;
    before.to_lowercase().contains("permissions violation for subscription").then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[&str]) -> Vec<String> {
        let subscriptions = Subscriptions::new(["a.b", "a.b.c", "a.>"].map(str::to_owned).to_vec());
        text.iter().for_each(|text| {
            subscriptions.on_error(text, text);
        });
        subscriptions.refused().into_keys().collect()
    }

    #[test]
    fn the_refused_subscription_is_recognised_however_the_broker_puts_it() {
        for text in [
            r#"nats: Permissions Violation for Subscription to "a.b""#,
            r#"nats: permissions violation for subscription to "a.b" (sid "7")"#,
            r#"nats: Permissions Violation for Subscription to "a.b" using queue "q""#,
        ] {
            assert_eq!(refused(&[text]), ["a.b"], "{text}");
        }
        assert_eq!(refused(&["maximum subscriptions exceeded"]), ["a.>", "a.b", "a.b.c"]);
        for text in [
            r#"nats: Permissions Violation for Publish to "a.b""#,
            r#"nats: Permissions Violation for Subscription to "a.b.d""#,
            r#"nats: Permissions Violation for Subscription to "a.b"#,
            "nats: Permissions Violation for Subscription to a.b",
            "",
        ] {
            assert_eq!(refused(&[text]), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_subscription_stands_only_if_it_was_not_refused_again_and_only_news_is_reported() {
        let subscriptions = Subscriptions::new(vec!["a.b".to_owned()]);
        let text = r#"Permissions Violation for Subscription to "a.b""#;
        assert!(subscriptions.on_error(text, "why"));
        assert!(!subscriptions.on_error(text, "why"), "it is known");
        assert!(
            subscriptions.on_error("Permissions Violation for Publish to \"x\"", "why"),
            "it is about something else"
        );
        assert!(!subscriptions.settle("a.b", 1), "it was refused a second time");
        assert!(subscriptions.settle("a.b", 2));
        assert!(!subscriptions.settle("a.b", 2) && subscriptions.refused().is_empty());
        assert!(subscriptions.on_error(text, "why"));
        subscriptions.forget();
        assert!(subscriptions.refused().is_empty());
    }
}

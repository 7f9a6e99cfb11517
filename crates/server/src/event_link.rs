//! The connection that events come over. Any connection key may publish there what breaks a connection, so that it is not
//! the one of the requests.

use std::time::Duration;

use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents};
use countersign_protocol::envelope::Delivery;
use countersign_protocol::subject;
use tokio::time::timeout;

use crate::operator::{BATCH, Operator, now};

/// How many events wait, at most, of 4 KiB each on average: a fleet of 40,000 sends as many in a second. What is lost comes
/// again.
const MAX_EVENTS: usize = 4_096;
/// How long the first request waits for the connection of the events, at most.
const FIRST_CONNECTION: Duration = Duration::from_millis(500);
/// How long, in microseconds, no second notice reports that the connection of the events broke.
const NOTICE_PAUSE: u64 = 60_000_000;

/// The connection, and what came over it.
#[derive(Debug)]
pub(crate) struct EventLink {
    _link: Link,
    pub(crate) events: LinkEvents,
    /// What arrived and was not looked at yet.
    pub(crate) arrived: Vec<LinkEvent>,
    /// Why it broke, as long as there is no other.
    lost: Option<String>,
    /// Whether the connection of the requests broke too: that is reported, and explains this one.
    pub(crate) excused: bool,
    /// When a notice last reported that it broke.
    notified_at: Option<u64>,
}

impl Operator {
    /// Looks at what came over the connection of the events: its messages are verified with the rest.
    pub(crate) fn collect_events(&mut self, deliveries: &mut Vec<Delivery>) {
        for event in std::mem::take(&mut self.event_link.arrived) {
            match event {
                LinkEvent::Message(delivery) => match subject::trust_version(&self.realm, delivery.subject()) {
                    // In force before anything else that came with it is opened.
                    Some(version) => {
                        let effects = self.machine.trust_bundle(version, delivery.body(), now());
                        self.apply(effects);
                    }
                    None => deliveries.push(delivery),
                },
                // Nothing is published here, so that only a client can have sent this.
                LinkEvent::NoResponders { .. } | LinkEvent::Unsent { .. } => {}
                LinkEvent::Allowed { subject } => {
                    self.up_to_date.clear();
                    self.notice(false, format!("the broker now allows what it refused: {subject}"));
                }
                LinkEvent::Connected => {
                    self.up_to_date.clear();
                    self.machine.trust_missed(now());
                    let lost = self.event_link.lost.take();
                    let is_excused = std::mem::take(&mut self.event_link.excused);
                    let notified_at = self.event_link.notified_at.unwrap_or(0);
                    let is_recent = self.event_link.notified_at.is_some()
                        && now().micros.saturating_sub(notified_at) < NOTICE_PAUSE;
                    if let Some(why) = lost.filter(|_| !is_excused && !is_recent) {
                        self.event_link.notified_at = Some(now().micros);
                        let what = "events may be missing: the connection that they come over broke";
                        self.notice(true, format!("{what} ({why}); commands are not affected"));
                    }
                }
                LinkEvent::Disconnected { why } => {
                    self.up_to_date.clear();
                    self.event_link.lost = Some(why);
                }
                LinkEvent::Denied { why } => self.notice(true, format!("the broker does not allow it: {why}")),
                LinkEvent::Shed(count) => {
                    self.up_to_date.clear();
                    self.machine.trust_missed(now());
                    self.notice(false, format!("{count} messages were lost: more arrived than could be taken"));
                }
            }
        }
    }
}

impl EventLink {
    /// Connects, and waits a moment for it: what clients publish from now on is to be received. Without it requests are
    /// sent all the same.
    pub(crate) async fn connect(config: &LinkConfig, subscriptions: Vec<String>) -> Result<Self, LinkError> {
        let name = format!("{}-events", config.name);
        let (link, mut events) =
            Link::connect(LinkConfig { name, subscriptions, max_waiting: MAX_EVENTS, wait: true, ..config.clone() })
                .await?;
        let mut arrived = Vec::with_capacity(BATCH);
        // The first thing is that it is connected, or that it is not.
        let _ = timeout(FIRST_CONNECTION, events.recv_many(&mut arrived, 1)).await;
        Ok(Self { _link: link, events, arrived, lost: None, excused: false, notified_at: None })
    }
}

//! What the connection brings: messages, and news of itself.

use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_link::LinkEvent;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::limits::MIN_MAX_PAYLOAD;
use countersign_protocol::subject;

use super::{Shell, now};

impl Shell {
    /// What arrived: verified together, then taken one by one in the order of arrival, recorded by one write.
    pub(super) fn receive(&mut self, arrived: impl Iterator<Item = LinkEvent>) {
        let mut steps = Vec::new();
        let mut deliveries = Vec::new();
        for event in arrived {
            match event {
                LinkEvent::Message(delivery) if delivery.subject() == self.answers => {
                    steps.push(self.machine.renewal_answer(&delivery, now()));
                }
                LinkEvent::Message(delivery) => match subject::trust_version(&self.realm, delivery.subject()) {
                    // In force before anything else that came with it is opened.
                    Some(version) => {
                        steps.push(self.machine.trust_bundle(version, delivery.body(), now()));
                        self.commit(std::mem::take(&mut steps));
                    }
                    None => deliveries.push(delivery),
                },
                // A message with a status line is not ours, and is counted as such.
                LinkEvent::NoResponders { subject, .. } => {
                    deliveries.push(Delivery::new(&subject, true, [], bytes::Bytes::new()));
                }
                LinkEvent::Shed(count) => steps.push(self.machine.shed(count, now())),
                LinkEvent::Connected => {
                    if self.link.is_readable_by_others() && !std::mem::replace(&mut self.has_warned, true) {
                        tracing::warn!("{}", countersign_link::READABLE);
                    }
                    self.connected();
                }
                LinkEvent::Disconnected { why } => {
                    self.is_connected = false;
                    self.machine.disconnected();
                    self.judge_health();
                    tracing::warn!("not connected: {why}; trying again");
                }
                LinkEvent::Denied { why } => {
                    self.judge_health();
                    tracing::warn!("the broker does not allow it: {why}");
                }
                LinkEvent::Allowed { subject } => {
                    self.judge_health();
                    tracing::info!("the broker now allows what it refused: {subject}");
                }
                LinkEvent::Unsent { message } => steps.push(self.machine.unsent(&message, now())),
            }
        }
        let (verifier, at) = (&self.verifier, self.machine.time(now()));
        let opened = open_all(&deliveries, self.threads, |delivery| verifier.open(delivery, at));
        for opened in opened {
            steps.push(match opened {
                Ok(command) => self.machine.receive(command, now()),
                Err(rejected) => self.machine.rejected(&rejected, now()),
            });
        }
        self.commit(steps);
    }

    fn connected(&mut self) {
        self.is_connected = true;
        self.judge_health();
        tracing::info!("connected");
        self.machine.connected(now());
        if let Some(limit) = self.link.max_payload() {
            self.machine.broker_takes(limit);
            if limit < MIN_MAX_PAYLOAD {
                tracing::warn!("{}", countersign_link::too_little(limit));
            }
        }
    }

    /// A client that cannot subscribe to one of its subjects, that cannot publish its presence, or whose credential is not
    /// in force is not well, although it is connected.
    pub(super) fn judge_health(&mut self) {
        let is_well = self.is_connected
            && self.link.refused().is_empty()
            && self.machine.is_presentable()
            && self.machine.is_in_force();
        self.sign.follow(is_well, clock::since_boot());
    }
}

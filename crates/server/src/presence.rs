//! The last presence of a client, as the broker keeps it: verified like any other.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use countersign_host::clock;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::operator::Operator;
use crate::stream::presence_stream;

/// How long the broker may take to tell the last presences. What it does not tell is not known, and that is no error.
const PATIENCE: Duration = Duration::from_millis(500);

impl Operator {
    /// Takes the last presences of clients into the roster, as far as the broker has them and they hold.
    pub(crate) async fn look_up(&mut self, clients: &[Name]) {
        if let Some(client) = self.link.client() {
            // In time or not, and with or without a stream: what was found is in the roster.
            let _ = timeout(PATIENCE, self.ask_for_presence(&client, clients)).await;
        }
    }

    /// One request for each client, and one inbox for all answers: its last token says whose presence was asked for.
    async fn ask_for_presence(&mut self, client: &Client, clients: &[Name]) -> Option<()> {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(format!("{inbox}.*")).await.ok()?;
        let stream = presence_stream(&self.realm);
        let mut awaited: BTreeMap<&str, &Name> = clients.iter().map(|name| (name.as_str(), name)).collect();
        for name in awaited.values() {
            let kept = subject::event(&self.realm, name, EventKind::Presence);
            let request = format!("$JS.API.DIRECT.GET.{stream}.{kept}");
            client.publish_with_reply(request, format!("{inbox}.{name}"), Bytes::new()).await.ok()?;
        }
        while !awaited.is_empty() {
            let answer = answers.next().await?;
            if let Some(name) = answer.subject.rsplit('.').next().and_then(|token| awaited.remove(token)) {
                self.take_kept(name, &answer);
            }
        }
        Some(())
    }

    /// The answer carries the event's own headers and body; the subject that it was kept under is the client's.
    fn take_kept(&mut self, name: &Name, answer: &Message) {
        let headers = answer.headers.iter().flat_map(|headers| headers.iter()).flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| (name, value.as_str()))
        });
        let kept = subject::event(&self.realm, name, EventKind::Presence);
        let delivery = Delivery::new(&kept, answer.status.is_some(), headers, answer.payload.clone());
        if let Ok(event) = self.verifier.open::<Event>(&delivery, clock::wall()) {
            self.verifier.remember(event.credential());
            self.roster.take(&event, clock::wall(), SKEW);
        }
    }
}

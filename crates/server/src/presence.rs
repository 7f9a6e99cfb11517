//! The last presence of each client, as the broker keeps it: verified like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::text::echo;
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use crate::operator::{Operator, OperatorError, now};
use crate::stream::presence_stream;

/// How long the broker may take to tell the last presences of clients that are named. What it does not tell is not known, and
/// that is no error.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it may take to tell the whole roster.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(10);
/// How many presences are asked for at a time.
const PAGE: usize = 512;
/// How many clients the broker may name in all; what comes beyond is its invention.
const MAX_CLIENTS: usize = 1_048_576;

impl Operator {
    /// Takes the last presence of every client into the roster, as far as it holds, and strikes those clients that the broker
    /// keeps none of and that were not heard lately: whoever retired a client struck it there.
    pub async fn refresh(&mut self) -> Result<(), OperatorError> {
        let client = self.link.client().ok_or_else(|| OperatorError::Roster("the connection is lost".to_owned()))?;
        match timeout(PATIENCE_FOR_ALL, self.ask_for_all(&client)).await {
            Ok(told) => told.map_err(OperatorError::Roster),
            Err(_) => Err(OperatorError::Roster(format!("not within {} s", PATIENCE_FOR_ALL.as_secs()))),
        }
    }

    /// Takes the last presences of clients into the roster, as far as the broker has them and they hold. Those that were looked
    /// up before, and are heard since, are not looked up again.
    pub(crate) async fn look_up(&mut self, clients: &[Name]) {
        let unheard: Vec<Name> = clients.iter().filter(|client| !self.up_to_date.contains(*client)).cloned().collect();
        if let Some(client) = self.link.client().filter(|_| !unheard.is_empty()) {
            // In time or not, and with or without a stream: what was found is in the roster.
            if let Ok(Some(())) = timeout(PATIENCE, self.ask_for_some(&client, &unheard)).await {
                let followed: Vec<Name> = unheard.into_iter().filter(|client| self.follows(client)).collect();
                self.up_to_date.extend(followed);
            }
        }
    }

    /// Page after page, by the numbers that the stream gives its messages.
    async fn ask_for_all(&mut self, client: &Client) -> Result<(), String> {
        let shown = |error: &dyn std::fmt::Display| echo(&error.to_string());
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| shown(&error))?;
        let stream = presence_stream(&self.realm);
        let subjects = subject::every_presence(&self.realm);
        let (mut kept, mut told, mut from) = (BTreeSet::new(), 0, 1_u64);
        loop {
            let page = json!({ "seq": from, "batch": PAGE, "next_by_subj": subjects }).to_string();
            let request = format!("$JS.API.DIRECT.GET.{stream}");
            client.publish_with_reply(request, inbox.clone(), page.into()).await.map_err(|error| shown(&error))?;
            let mut deliveries = Vec::new();
            let last = loop {
                let answer = answers.next().await.ok_or("the connection is lost")?;
                match answer.status.map(|status| status.as_u16()) {
                    None => {}
                    // The end of a page, and of all where no more is pending.
                    Some(204) if number(&answer, "Nats-Num-Pending") == Some(0) => break None,
                    Some(204) => break number(&answer, "Nats-Last-Sequence").or(Some(from)),
                    Some(404) => break None,
                    Some(503) => return Err("it keeps none (`countersign setup` makes the stream)".to_owned()),
                    Some(status) => {
                        let why = answer.description.as_deref().unwrap_or_default();
                        return Err(format!("it answers {status} {}", echo(why)));
                    }
                }
                told += 1;
                if told > MAX_CLIENTS {
                    return Err(format!("it names more than {MAX_CLIENTS} clients"));
                }
                // It says itself under which subject it was kept; whether that is true, its signature says.
                let subject = answer.headers.as_ref().and_then(|it| it.get("Nats-Subject")).map(|it| it.as_str());
                deliveries.push(delivery(subject.unwrap_or_default(), &answer));
            };
            self.take_kept(&deliveries, &mut kept);
            match last {
                None => break,
                Some(last) if last >= from => from = last.saturating_add(1),
                Some(_) => return Err("its pages run backwards".to_owned()),
            }
        }
        self.machine.keep_only(&kept, now());
        Ok(())
    }

    /// One request for each client, and one inbox for all answers: its last token says whose presence was asked for.
    async fn ask_for_some(&mut self, client: &Client, clients: &[Name]) -> Option<()> {
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
            if let Some(name) = answer.subject.rsplit('.').next().and_then(|token| awaited.remove(token))
                && answer.status.is_none()
            {
                let kept = subject::event(&self.realm, name, EventKind::Presence);
                self.take_kept(&[delivery(&kept, &answer)], &mut BTreeSet::new());
            }
        }
        Some(())
    }

    fn take_kept(&mut self, deliveries: &[Delivery], kept: &mut BTreeSet<Name>) {
        let (verifier, wall) = (&self.verifier, clock::wall());
        for opened in open_all(deliveries, self.threads, |delivery| verifier.open::<Event>(delivery, wall)) {
            let effects = match opened {
                Ok(event) => {
                    kept.insert(event.message().from.clone());
                    self.machine.kept(&event, now())
                }
                Err(rejected) => self.machine.rejected(&rejected),
            };
            self.carry_out(effects);
        }
    }
}

/// An answer carries the kept message's own headers and body.
fn delivery(subject: &str, answer: &Message) -> Delivery {
    let headers = answer.headers.iter().flat_map(|headers| headers.iter()).flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    });
    Delivery::new(subject, answer.status.is_some(), headers, answer.payload.clone())
}

fn number(answer: &Message, header: &str) -> Option<u64> {
    answer.headers.as_ref()?.get(header)?.as_str().parse().ok()
}

//! The last presence of each client, as the broker keeps it: verified like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::limits::MAX_BODY;
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::text::echo;
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use crate::operator::{Operator, OperatorError, now};
use crate::stream::presence_stream;

/// How long the broker may say nothing while it tells the last presences of clients that are named: more than a slow way
/// there and back. What it does not tell is not known, and that is no error.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may say nothing while it tells the whole roster. As long as something comes, a slow line may take its time.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(10);
/// How many presences are asked for at a time, and verified in one go.
const PAGE: usize = 512;
/// How long an answer may be, in bytes: the longest body, and the subjects and headers that come with it.
const MAX_ANSWER: usize = MAX_BODY + 16_384;
/// How many clients the broker may name in all; what comes beyond is its invention.
const MAX_CLIENTS: usize = 1_048_576;

impl Operator {
    /// Takes the last presence of every client into the roster, as far as it holds, and strikes those clients that the broker
    /// keeps none of and that were not heard lately: whoever retired a client struck it there.
    pub async fn refresh(&mut self) -> Result<(), OperatorError> {
        let client = self.link.client().ok_or(OperatorError::Lost)?;
        self.ask_for_all(&client).await
    }

    /// Takes the last presences of clients into the roster, as far as the broker has them and they hold. Those that were looked
    /// up before, and are heard since, are not looked up again.
    pub(crate) async fn look_up(&mut self, clients: &[Name]) {
        let unheard: Vec<Name> = clients.iter().filter(|client| !self.up_to_date.contains(*client)).cloned().collect();
        if let Some(client) = self.link.client().filter(|_| !unheard.is_empty()) {
            // In time or not, and with or without a stream: what was found is in the roster.
            if let Some(()) = self.ask_for_some(&client, &unheard).await {
                let followed: Vec<Name> = unheard.into_iter().filter(|client| self.follows(client)).collect();
                self.up_to_date.extend(followed);
            }
        }
    }

    /// Page after page, by the numbers that the stream gives its messages.
    async fn ask_for_all(&mut self, client: &Client) -> Result<(), OperatorError> {
        let (mut kept, mut told, mut next) = (BTreeSet::new(), 0, Some(1));
        while let Some(from) = next {
            let (page, following) = self.ask_for_page(client, from).await?;
            told += page.presences.len();
            if told > MAX_CLIENTS {
                return Err(OperatorError::Roster(format!("it names more than {MAX_CLIENTS} clients")));
            }
            self.take_kept(&page.presences, &mut kept);
            next = following;
        }
        self.machine.keep_only(&kept, now());
        Ok(())
    }

    /// The page that begins with a number, and the number that the next one begins with. Nothing more arrives afterwards,
    /// since the subscription ends here: to verify a page takes a while, and meanwhile nobody bounds what would wait.
    async fn ask_for_page(&self, client: &Client, from: u64) -> Result<(Page, Option<u64>), OperatorError> {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| OperatorError::Lost)?;
        let subjects = subject::every_presence(&self.realm);
        let question = json!({ "seq": from, "batch": PAGE, "next_by_subj": subjects }).to_string();
        let request = format!("$JS.API.DIRECT.GET.{}", presence_stream(&self.realm));
        client.publish_with_reply(request, inbox, question.into()).await.map_err(|_| OperatorError::Lost)?;
        let mut page = Page { from, presences: Vec::new() };
        loop {
            let answer = timeout(PATIENCE_FOR_ALL, answers.next()).await;
            let answer = answer.map_err(|_| OperatorError::Silent(PATIENCE_FOR_ALL))?.ok_or(OperatorError::Lost)?;
            if let ControlFlow::Break(next) = page.take(&answer).map_err(OperatorError::Roster)? {
                return Ok((page, next));
            }
        }
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
            let answer = timeout(PATIENCE, answers.next()).await.ok()??;
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

/// What the broker answers to one question. Whatever it sends, that is bounded.
#[derive(Debug)]
struct Page {
    /// The number that it begins with.
    from: u64,
    presences: Vec<Delivery>,
}

impl Page {
    /// Takes an answer. The last one ends the page, and tells where the next begins, if there is one.
    fn take(&mut self, answer: &Message) -> Result<ControlFlow<Option<u64>>, String> {
        match answer.status.map(|status| status.as_u16()) {
            None if self.presences.len() == PAGE => Err(format!("a page of {PAGE} has more than that")),
            None if answer.payload.len() > MAX_BODY || answer.length > MAX_ANSWER => {
                Err(format!("an answer is {} bytes long", answer.length))
            }
            None => {
                // It says itself under which subject it was kept; whether that is true, its signature says.
                let subject = answer.headers.as_ref().and_then(|it| it.get("Nats-Subject")).map(|it| it.as_str());
                self.presences.push(delivery(subject.unwrap_or_default(), answer));
                Ok(ControlFlow::Continue(()))
            }
            Some(204) if number(answer, "Nats-Num-Pending") == Some(0) => Ok(ControlFlow::Break(None)),
            Some(204) => {
                let last = number(answer, "Nats-Last-Sequence").unwrap_or(self.from);
                let next = last.checked_add(1).filter(|next| *next > self.from);
                Ok(ControlFlow::Break(Some(next.ok_or("its pages run backwards")?)))
            }
            Some(404) => Ok(ControlFlow::Break(None)),
            Some(503) => Err("it keeps none (`countersign setup` makes the stream)".to_owned()),
            Some(status) => {
                let why = answer.description.as_deref().unwrap_or_default();
                Err(format!("it answers {status} {}", echo(why)))
            }
        }
    }
}

/// An answer carries the kept message's own headers and body. The body is copied: the library hands out a slice of all that
/// arrived with it, and would keep all of that alive.
fn delivery(subject: &str, answer: &Message) -> Delivery {
    let headers = answer.headers.iter().flat_map(|headers| headers.iter()).flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    });
    Delivery::new(subject, answer.status.is_some(), headers, Bytes::copy_from_slice(&answer.payload))
}

fn number(answer: &Message, header: &str) -> Option<u64> {
    answer.headers.as_ref()?.get(header)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use async_nats::{HeaderMap, StatusCode};

    use super::*;

    fn page() -> Page {
        Page { from: 7, presences: Vec::new() }
    }

    /// An answer with this body and so many bytes in all.
    fn presence(body: usize, length: usize) -> Message {
        Message {
            subject: "_INBOX.x".into(),
            reply: None,
            payload: vec![0; body].into(),
            headers: None,
            status: None,
            description: None,
            length,
        }
    }

    /// What an answer with a status comes to, which has these headers.
    fn end(status: u16, headers: &[(&str, &str)]) -> Result<ControlFlow<Option<u64>>, String> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let status = StatusCode::from_u16(status).ok();
        page().take(&Message { status, headers: Some(map), ..presence(0, 0) })
    }

    #[test]
    fn a_page_has_no_more_answers_than_were_asked_for() {
        let mut page = page();
        for _ in 0..PAGE {
            assert_eq!(page.take(&presence(1, 1)), Ok(ControlFlow::Continue(())));
        }
        assert_eq!(page.take(&presence(1, 1)), Err("a page of 512 has more than that".to_owned()));
        assert_eq!(page.presences.len(), PAGE);
    }

    #[test]
    fn an_answer_that_is_longer_than_any_presence_is_an_error() {
        let mut page = page();
        assert!(page.take(&presence(MAX_BODY, MAX_ANSWER)).is_ok());
        for (body, length) in [(MAX_BODY + 1, MAX_BODY + 1), (0, MAX_ANSWER + 1)] {
            assert_eq!(page.take(&presence(body, length)), Err(format!("an answer is {length} bytes long")));
        }
        assert_eq!(page.presences.len(), 1);
    }

    #[test]
    fn each_page_begins_beyond_the_one_before() {
        let last = |number| end(204, &[("Nats-Num-Pending", "1"), ("Nats-Last-Sequence", number)]);
        assert_eq!(last("7"), Ok(ControlFlow::Break(Some(8))));
        assert_eq!(last("900"), Ok(ControlFlow::Break(Some(901))));
        assert_eq!(last("no number"), Ok(ControlFlow::Break(Some(8))));
        for number in ["6", "0", "18446744073709551615"] {
            assert_eq!(last(number), Err("its pages run backwards".to_owned()), "{number}");
        }
    }

    #[test]
    fn the_last_page_says_that_it_is_and_an_empty_stream_has_none() {
        assert_eq!(end(204, &[("Nats-Num-Pending", "0")]), Ok(ControlFlow::Break(None)));
        assert_eq!(end(404, &[]), Ok(ControlFlow::Break(None)));
        assert_eq!(end(503, &[]).unwrap_err(), "it keeps none (`countersign setup` makes the stream)");
        assert_eq!(end(408, &[]).unwrap_err(), "it answers 408 ");
    }
}

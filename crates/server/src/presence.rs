//! The last presence of each client, as the broker stores it: verified like any other.
//!
//! What a client had stored may break the connection that reads it: the NATS library gives up at a header block that it
//! cannot parse. So pages come over connections that serve nothing else. Where one breaks, the next message is requested
//! on its own, in JSON, which nothing in it can break, and the next page begins after it. Where too many break, all the rest
//! is requested like that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_link::{Inbox, Link, LinkConfig, StoredMessage};
use countersign_machine::server::RequestError;
use countersign_protocol::envelope::Delivery;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::text::echo;
use serde_json::json;
use tokio::time::timeout;

use crate::config::OperatorError;
use crate::operator::{Operator, now};
use crate::stored::{PAGE, Page, stored_presence};

/// How long the broker may take to answer for the last presences of named clients: more than a slow round trip. A presence
/// that does not arrive is not known, which is no error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long may pass between two answers while the whole roster is read: a slow line may take its time.
const ROSTER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the whole roster may take, even if something comes all the time.
const LONGEST_READING: Duration = Duration::from_secs(300);
/// How many clients the broker may name in all; what comes beyond is its invention.
const MAX_CLIENTS: usize = 1_048_576;
/// How many pages may break. Whoever holds that many stolen connection keys makes the rest of the roster slow: it is read
/// one by one, which breaks nothing.
const MAX_BROKEN: usize = 64;
/// How many of the clients that are left out a notice names.
const NAMED: usize = 8;

/// How far the roster was read.
#[derive(Debug, Default)]
struct Reading {
    count: usize,
    stored: BTreeSet<Name>,
    broken: usize,
    /// The subjects of what is stored and is no readable presence of its client.
    left_out: Vec<String>,
}

impl Reading {
    /// Why the roster is not complete, if it is not.
    fn missing(&self, failed: Option<&OperatorError>) -> Option<String> {
        if self.left_out.is_empty() && failed.is_none() {
            return None;
        }
        let mut subjects: Vec<String> = self.left_out.iter().take(NAMED).map(|subject| echo(subject)).collect();
        if self.left_out.len() > NAMED {
            subjects.push(format!("{} more", self.left_out.len() - NAMED));
        }
        let left_out =
            (!subjects.is_empty()).then(|| format!("what the broker keeps is not readable: {}", subjects.join(", ")));
        Some(left_out.into_iter().chain(failed.map(ToString::to_string)).collect::<Vec<_>>().join("; "))
    }
}

/// The next answer, or an error where it takes too long.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, OperatorError> {
    timeout(ROSTER_TIMEOUT, answer).await.map_err(|_| OperatorError::Silent(ROSTER_TIMEOUT))
}

impl Operator {
    /// Takes the last presence of every client into the roster, as far as it verifies, and removes those clients of which the
    /// broker stores nothing and from which nothing arrived lately: a retired client was removed there. What is no readable
    /// presence of its client is left out; then [`incomplete`](Self::incomplete) says so, and a notice too. Where the roster
    /// could not be read completely no client is removed. It is an error only where nothing could be read.
    pub async fn refresh(&mut self) -> Result<(), OperatorError> {
        if self.machine.is_cut_off() {
            return Err(RequestError::Disconnected.into());
        }
        let mut reading = Reading::default();
        let read = timeout(LONGEST_READING, self.read_all(&mut reading)).await;
        let late = |_| Err(OperatorError::Roster(format!("not within {} s", LONGEST_READING.as_secs())));
        let failed = read.unwrap_or_else(late).err();
        if reading.stored.is_empty()
            && reading.left_out.is_empty()
            && let Some(error) = failed
        {
            return Err(error);
        }
        self.incomplete = reading.missing(failed.as_ref());
        if failed.is_none() {
            // What is left out is stored all the same.
            reading.stored.extend(reading.left_out.iter().filter_map(|subject| subject::event_client(subject)));
            self.machine.keep_only(&reading.stored);
        }
        if let Some(why) = &self.incomplete {
            self.notice(true, format!("the roster is incomplete: {why}"));
        }
        Ok(())
    }

    /// Why the roster was not read completely, if it was not when it was last read: by [`refresh`](Self::refresh), or for a
    /// request to a group or to all. `None` after a request to clients that are named.
    pub fn incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    /// Takes the last presences of clients into the roster, as far as the broker has them and they verify; returns the
    /// clients of which it stores nothing. An error where it does not answer.
    pub async fn find(&mut self, clients: &[Name]) -> Result<BTreeSet<Name>, OperatorError> {
        let inbox = self.link.inbox().await.ok_or(RequestError::Disconnected)?;
        let mut found = Found::default();
        let sent = self.fetch_each(inbox, clients, &mut found).await;
        sent.ok_or(OperatorError::Silent(TIMEOUT))?;
        found.refused.map_or(Ok(found.absent), |why| Err(OperatorError::Roster(why)))
    }

    /// Removes clients from the roster here that were [removed](crate::forget) at the broker, unless something arrives from
    /// them.
    pub fn remove(&mut self, clients: &BTreeSet<Name>) {
        let stored = self.roster().entries().map(|presence| presence.client().clone());
        let stored = stored.filter(|client| !clients.contains(client)).collect();
        self.machine.keep_only(&stored);
    }

    /// Page after page, by the numbers that the stream gives its messages.
    async fn read_all(&mut self, reading: &mut Reading) -> Result<(), OperatorError> {
        let (mut reader, mut next) = (self.reader().await?, Some(1));
        while let Some(from) = next {
            if reading.count > MAX_CLIENTS {
                return Err(OperatorError::Roster(format!("it names more than {MAX_CLIENTS} clients")));
            }
            if reading.broken > MAX_BROKEN {
                let stored = self.fetch_next(&reader, from).await?;
                next = stored.and_then(|stored| self.take_one(stored, reading));
                continue;
            }
            let mut page = Page::from(from);
            let end = self.fetch_page(&reader, &mut page).await?;
            reading.count += page.presences.len() + page.too_long.len();
            self.take_stored(&page.presences, reading);
            reading.left_out.append(&mut page.too_long);
            next = match end {
                ControlFlow::Break(next) => next,
                ControlFlow::Continue(()) => {
                    reading.broken += 1;
                    reader = self.reader().await?;
                    let following = self.fetch_next(&reader, page.last.saturating_add(1)).await?;
                    following.and_then(|stored| self.take_one(stored, reading))
                }
            };
        }
        Ok(())
    }

    /// Takes what may have broken a page; the number that the next page begins with.
    fn take_one(&mut self, stored: StoredMessage, reading: &mut Reading) -> Option<u64> {
        reading.count += 1;
        self.take_stored(&[stored.delivery], reading);
        stored.sequence.checked_add(1)
    }

    /// A connection for pages. Each break costs it, and no other.
    async fn reader(&self) -> Result<Link, OperatorError> {
        let config = LinkConfig {
            name: format!("{}-roster", self.config.name),
            subscriptions: Vec::new(),
            max_waiting: countersign_link::MAX_WAITING,
            ..self.config.clone()
        };
        let (link, _events) = Link::connect(config).await?;
        Ok(link)
    }

    /// Fills a page. Nothing more arrives afterwards, since the subscription ends here: to verify a page takes a while, and
    /// meanwhile nobody bounds what would wait. `Continue` where the connection broke before the page had its end.
    async fn fetch_page(&self, reader: &Link, page: &mut Page) -> Result<ControlFlow<Option<u64>>, OperatorError> {
        let subjects = subject::every_presence(&self.realm);
        let request = json!({ "seq": page.last.saturating_add(1), "batch": PAGE, "next_by_subj": subjects });
        let mut inbox = reader.inbox().await.ok_or(RequestError::Disconnected)?;
        let sent = inbox.request(subject::roster_page(&self.realm), "page", &request).await;
        sent.ok_or(RequestError::Disconnected)?;
        while let Some(answer) = in_time(inbox.next()).await? {
            let end = page.take(&answer).map_err(OperatorError::Roster)?;
            if end.is_break() {
                return Ok(end);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The message of this number or the one after it, alone.
    async fn fetch_next(&self, reader: &Link, number: u64) -> Result<Option<StoredMessage>, OperatorError> {
        let request = json!({ "seq": number, "next_by_subj": subject::every_presence(&self.realm) });
        let mut inbox = reader.inbox().await.ok_or(RequestError::Disconnected)?;
        let sent = inbox.request(subject::roster_message(&self.realm), "message", &request).await;
        sent.ok_or(RequestError::Disconnected)?;
        let stored = stored_presence(&in_time(inbox.next()).await?.ok_or(RequestError::Disconnected)?)
            .map_err(OperatorError::Roster)?;
        match stored {
            Some(stored) if stored.sequence < number => {
                Err(OperatorError::Roster("its pages run backwards".to_owned()))
            }
            stored => Ok(stored),
        }
    }

    /// One request for each client, and one inbox for all answers: its last token names the client.
    pub(crate) async fn fetch_each(&mut self, mut inbox: Inbox, clients: &[Name], found: &mut Found) -> Option<()> {
        let mut awaited: BTreeMap<&str, &Name> = clients.iter().map(|name| (name.as_str(), name)).collect();
        for name in awaited.values() {
            let request = json!({ "last_by_subj": subject::event(&self.realm, name, EventKind::Presence) });
            inbox.request(subject::roster_message(&self.realm), name.as_str(), &request).await?;
        }
        while !awaited.is_empty() {
            let answer = timeout(TIMEOUT, inbox.next()).await.ok()??;
            if let Some(name) = awaited.remove(answer.token.as_str()) {
                match stored_presence(&answer) {
                    Ok(Some(stored)) => self.take_stored(&[stored.delivery], &mut Reading::default()),
                    Ok(None) => drop(found.absent.insert(name.clone())),
                    Err(why) => found.refused = Some(why),
                }
            }
        }
        Some(())
    }

    /// Takes what is stored into the roster. What is not a presence of the client that its subject names is left out.
    fn take_stored(&mut self, deliveries: &[Delivery], reading: &mut Reading) {
        let (verifier, wall) = (&self.verifier, clock::wall());
        let opened = open_all(deliveries, self.threads, |delivery| verifier.open::<Event>(delivery, wall));
        for (opened, delivery) in opened.into_iter().zip(deliveries) {
            let (client, effects) = match opened {
                Ok(event) => {
                    let (message, is_presence) = (event.message(), event.message().kind == EventKind::Presence);
                    (is_presence.then(|| message.from.clone()), self.machine.presence(&event, now(), false))
                }
                // A client whose credential has expired stays in the roster, but takes no requests.
                Err(rejected) => {
                    (rejected.expired.as_ref().map(|it| it.client().clone()), self.machine.rejected(&rejected))
                }
            };
            let own = |client: &Name| subject::event(&self.realm, client, EventKind::Presence) == delivery.subject();
            match client.filter(own) {
                Some(client) => drop(reading.stored.insert(client)),
                None => reading.left_out.push(delivery.subject().to_owned()),
            }
            self.apply(effects);
        }
    }
}

/// What came of the requests for single clients, besides what went into the roster.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The broker stores nothing of these.
    absent: BTreeSet<Name>,
    /// Why it does not answer.
    refused: Option<String>,
}

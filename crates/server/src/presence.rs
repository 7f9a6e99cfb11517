//! The last presence of each client, as the broker keeps it: verified like any other.
//!
//! What a client had stored may break the connection that reads it: the NATS library gives up at a header block that it
//! cannot parse. So pages come over connections that serve nothing else. Where one breaks, the message that is next is asked
//! for on its own, in JSON, which nothing in it can break, and the next page begins after it. Where too many break, all the rest
//! is asked for like that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_link::{Inbox, Link, LinkConfig};
use countersign_protocol::envelope::Delivery;
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::name::Name;
use countersign_protocol::subject;
use countersign_protocol::text::echo;
use serde_json::json;
use tokio::time::timeout;

use crate::kept::{Kept, PAGE, Page, single};
use crate::operator::{Follow, Operator, OperatorError, now};

/// How long the broker may say nothing while it tells the last presences of clients that are named: more than a slow way
/// there and back. What it does not tell is not known, and that is no error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may say nothing while it tells the whole roster. As long as something comes, a slow line may take its time.
const ROSTER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the whole roster may take, even if something comes all the time.
const LONGEST_READING: Duration = Duration::from_secs(300);
/// How many clients the broker may name in all; what comes beyond is its invention.
const MAX_CLIENTS: usize = 1_048_576;
/// How many pages may break. Whoever holds that many stolen connection keys makes the rest of the roster slow: it is asked for
/// one by one, which breaks nothing.
const MAX_BROKEN: usize = 64;
/// How many of the clients that are left out a notice names.
const NAMED: usize = 8;

/// How far the roster was read.
#[derive(Debug, Default)]
struct Reading {
    told: usize,
    kept: BTreeSet<Name>,
    broken: usize,
    /// The subjects of what is kept and is no readable presence of its client.
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

/// The next answer, unless the broker says nothing for too long.
async fn heard<T>(answer: impl Future<Output = T>) -> Result<T, OperatorError> {
    timeout(ROSTER_TIMEOUT, answer).await.map_err(|_| OperatorError::Silent(ROSTER_TIMEOUT))
}

impl Operator {
    /// Takes the last presence of every client into the roster, as far as it holds, and strikes those clients that the broker
    /// keeps nothing of and that were not heard lately: whoever retired a client struck it there. What is no readable presence
    /// of its client is left out; then [`incomplete`](Self::incomplete) says so, and a notice too. Where the reading did not
    /// come to its end nobody is struck. It is an error only where nothing could be read.
    pub async fn refresh(&mut self) -> Result<(), OperatorError> {
        let mut reading = Reading::default();
        let read = timeout(LONGEST_READING, self.read_all(&mut reading)).await;
        let late = |_| Err(OperatorError::Roster(format!("not within {} s", LONGEST_READING.as_secs())));
        let failed = read.unwrap_or_else(late).err();
        if reading.kept.is_empty()
            && reading.left_out.is_empty()
            && let Some(error) = failed
        {
            return Err(error);
        }
        self.incomplete = reading.missing(failed.as_ref());
        if failed.is_none() {
            // What is left out is kept all the same.
            reading.kept.extend(reading.left_out.iter().filter_map(|subject| subject::event_client(subject)));
            self.machine.keep_only(&reading.kept);
        }
        if let Some(why) = &self.incomplete {
            self.notice(true, format!("the roster is incomplete: {why}"));
        }
        Ok(())
    }

    /// Why the roster was not read completely, if it was not when it was last read: by [`refresh`](Self::refresh), or for an
    /// request to a group or to all. `None` after a request to clients that are named.
    pub fn incomplete(&self) -> Option<&str> {
        self.incomplete.as_deref()
    }

    /// Takes the last presences of clients into the roster, as far as the broker has them and they hold; those clients that it
    /// keeps nothing of. An error where it does not tell what it keeps.
    pub async fn find(&mut self, clients: &[Name]) -> Result<BTreeSet<Name>, OperatorError> {
        let inbox = self.link.inbox().await.ok_or(OperatorError::Disconnected)?;
        let mut found = Found::default();
        let asked = self.ask_for_some(inbox, clients, &mut found).await;
        asked.ok_or(OperatorError::Silent(TIMEOUT))?;
        found.untold.map_or(Ok(found.absent), |why| Err(OperatorError::Roster(why)))
    }

    /// Strikes clients from the roster here that were [struck](crate::forget) at the broker, unless they are heard.
    pub fn strike(&mut self, clients: &BTreeSet<Name>) {
        let kept = self.roster().entries().map(|presence| presence.client().clone());
        let kept = kept.filter(|client| !clients.contains(client)).collect();
        self.machine.keep_only(&kept);
    }

    /// Takes the last presences of clients into the roster. Those that were looked up before, and are heard since, are not
    /// looked up again.
    pub(crate) async fn look_up(&mut self, clients: &[Name]) {
        let unheard: Vec<Name> = clients.iter().filter(|client| !self.up_to_date.contains(*client)).cloned().collect();
        if !unheard.is_empty()
            && let Some(inbox) = self.link.inbox().await
            && let Some(()) = self.ask_for_some(inbox, &unheard, &mut Found::default()).await
        {
            // In time or not, and with or without a stream: what was found is in the roster.
            let is_followed =
                |client: &Name| !matches!(&self.follow, Follow::Clients(clients) if !clients.contains(client));
            self.up_to_date.extend(unheard.into_iter().filter(is_followed));
        }
    }

    /// Page after page, by the numbers that the stream gives its messages.
    async fn read_all(&mut self, reading: &mut Reading) -> Result<(), OperatorError> {
        let (mut reader, mut next) = (self.reader().await?, Some(1));
        while let Some(from) = next {
            if reading.told > MAX_CLIENTS {
                return Err(OperatorError::Roster(format!("it names more than {MAX_CLIENTS} clients")));
            }
            if reading.broken > MAX_BROKEN {
                let kept = self.ask_for_next(&reader, from).await?;
                next = kept.and_then(|kept| self.take_alone(kept, reading));
                continue;
            }
            let mut page = Page::from(from);
            let end = self.ask_for_page(&reader, &mut page).await?;
            reading.told += page.presences.len() + page.too_long.len();
            self.take_kept(&page.presences, reading);
            reading.left_out.append(&mut page.too_long);
            next = match end {
                ControlFlow::Break(next) => next,
                ControlFlow::Continue(()) => {
                    reading.broken += 1;
                    reader = self.reader().await?;
                    let following = self.ask_for_next(&reader, page.last.saturating_add(1)).await?;
                    following.and_then(|kept| self.take_alone(kept, reading))
                }
            };
        }
        Ok(())
    }

    /// Takes what may have broken a page; the number that the next page begins with.
    fn take_alone(&mut self, kept: Kept, reading: &mut Reading) -> Option<u64> {
        reading.told += 1;
        self.take_kept(&[kept.delivery], reading);
        kept.sequence.checked_add(1)
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
    async fn ask_for_page(&self, reader: &Link, page: &mut Page) -> Result<ControlFlow<Option<u64>>, OperatorError> {
        let subjects = subject::every_presence(&self.realm);
        let question = json!({ "seq": page.last.saturating_add(1), "batch": PAGE, "next_by_subj": subjects });
        let mut inbox = reader.inbox().await.ok_or(OperatorError::Disconnected)?;
        let asked = inbox.ask(subject::roster_page(&self.realm), "page", &question).await;
        asked.ok_or(OperatorError::Disconnected)?;
        while let Some(answer) = heard(inbox.next()).await? {
            let end = page.take(&answer).map_err(OperatorError::Roster)?;
            if end.is_break() {
                return Ok(end);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The message of this number or the one after it, alone.
    async fn ask_for_next(&self, reader: &Link, number: u64) -> Result<Option<Kept>, OperatorError> {
        let question = json!({ "seq": number, "next_by_subj": subject::every_presence(&self.realm) });
        let mut inbox = reader.inbox().await.ok_or(OperatorError::Disconnected)?;
        let asked = inbox.ask(subject::roster_message(&self.realm), "message", &question).await;
        asked.ok_or(OperatorError::Disconnected)?;
        let kept =
            single(&heard(inbox.next()).await?.ok_or(OperatorError::Disconnected)?).map_err(OperatorError::Roster)?;
        match kept {
            Some(kept) if kept.sequence < number => Err(OperatorError::Roster("its pages run backwards".to_owned())),
            kept => Ok(kept),
        }
    }

    /// One request for each client, and one inbox for all answers: its last token says whose presence was asked for.
    async fn ask_for_some(&mut self, mut inbox: Inbox, clients: &[Name], found: &mut Found) -> Option<()> {
        let mut awaited: BTreeMap<&str, &Name> = clients.iter().map(|name| (name.as_str(), name)).collect();
        for name in awaited.values() {
            let question = json!({ "last_by_subj": subject::event(&self.realm, name, EventKind::Presence) });
            inbox.ask(subject::roster_message(&self.realm), name.as_str(), &question).await?;
        }
        while !awaited.is_empty() {
            let answer = timeout(TIMEOUT, inbox.next()).await.ok()??;
            if let Some(name) = awaited.remove(answer.token.as_str()) {
                match single(&answer) {
                    Ok(Some(kept)) => self.take_kept(&[kept.delivery], &mut Reading::default()),
                    Ok(None) => drop(found.absent.insert(name.clone())),
                    Err(why) => found.untold = Some(why),
                }
            }
        }
        Some(())
    }

    /// Takes what is kept into the roster. What is not a presence of the client that its subject names is left out.
    fn take_kept(&mut self, deliveries: &[Delivery], reading: &mut Reading) {
        let (verifier, wall) = (&self.verifier, clock::wall());
        let opened = open_all(deliveries, self.threads, |delivery| verifier.open::<Event>(delivery, wall));
        for (opened, delivery) in opened.into_iter().zip(deliveries) {
            let (client, effects) = match opened {
                Ok(event) => {
                    let (message, is_presence) = (event.message(), event.message().kind == EventKind::Presence);
                    (is_presence.then(|| message.from.clone()), self.machine.presence(&event, now(), false))
                }
                // One whose credential has expired is kept, and is not there for requests.
                Err(rejected) => {
                    (rejected.expired.as_ref().map(|it| it.client().clone()), self.machine.rejected(&rejected))
                }
            };
            let own = |client: &Name| subject::event(&self.realm, client, EventKind::Presence) == delivery.subject();
            match client.filter(own) {
                Some(client) => drop(reading.kept.insert(client)),
                None => reading.left_out.push(delivery.subject().to_owned()),
            }
            self.apply(effects);
        }
    }
}

/// What came of questions for single clients, besides what went into the roster.
#[derive(Debug, Default)]
struct Found {
    /// The broker keeps nothing of these.
    absent: BTreeSet<Name>,
    /// Why it does not tell.
    untold: Option<String>,
}

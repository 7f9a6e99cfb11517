//! The connection to the broker, supervised (sections 1 and 9, and docs/threat-model.md).
//!
//! What the NATS library does of its own accord is not enough for a peer that means harm: a header block that it cannot
//! parse ends the connection or panics the task that owns it, a full subscription drops its newest messages, and a dead
//! connection is noticed after minutes. So the library lives on a thread of its own, in a runtime that is thrown away
//! with everything in it as soon as anything looks wrong, and is built again; see `supervisor`. What arrives goes into a
//! bounded queue that sheds its oldest messages, and what is to be published waits in another until it is written.

mod account;
mod address;
mod broker;
mod certificate;
mod enrolment;
mod error;
mod inbox;
mod obstacle;
mod pump;
mod queue;
mod rights;
mod stored;
mod stream;
mod subscriptions;
mod supervisor;
mod trust;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, Delivery, SIGNATURE_HEADER, Signed};
use countersign_protocol::limits::{MAX_BODY, MIN_MAX_PAYLOAD};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

pub use self::account::{AccountUpdateError, update_account};
pub use self::broker::{BrokerAddress, READABLE, TlsFiles, is_loopback};
pub use self::certificate::certificate_end;
pub use self::enrolment::{EnrolmentLink, Heard};
pub use self::error::LinkError;
pub use self::inbox::{Answer, Inbox};
pub use self::obstacle::Obstacle;
use self::queue::Shedding;
pub use self::stored::{StoredError, StoredMessage, stored_message};
pub use self::stream::{
    BrokerAccess, StreamContent, StreamError, StreamReplicas, StreamState, look_at_stream, make_stream, purge_stream,
};
use self::subscriptions::Subscriptions;
pub use self::trust::{PublishError, TrustPublisher, TrustRequest};
use countersign_keys::Login;

/// The name of the thread that the NATS library runs on. Hostile headers make the library panic there; that is expected and
/// recovered from, and a panic hook may say so instead of showing a backtrace.
pub const THREAD: &str = "countersign-link";

/// How many received messages wait to be verified where nobody has reason to let more wait: what a client verifies in well
/// under a second.
pub const MAX_WAITING: usize = 8_192;
/// How many bytes they may hold, at most, for each of them that may wait.
const WAITING_BYTES: usize = 4_096;
/// How many bytes all of them may hold, at most. This is one of the bounds by which a flood, of whatever it may consist,
/// brings a process to less than 100 MB. At the same time there may be, in megabytes:
///
/// | | client | operator |
/// |---|---|---|
/// | the process at rest | 12.5 | 12.5 |
/// | what waits to be opened: this bound, and 16 MiB of events at an operator | 21 | 21 + 16.8 |
/// | what is taken at a time and opened ([`MAX_TAKEN`]): a body of 16,384 values, as it is parsed and as it is read | 22 | 22 |
/// | the message that the NATS library parses ([`pump`]), at each connection: 320 KB of headers, 36 times their size | 11.7 | 23.4 |
/// | what waits to be published ([`MAX_UNSENT_BYTES`]); an operator's are its own requests, and not counted | 16.8 | |
/// | in all | 84 | 95.7 |
///
/// `just bench worst` measures it. What is on record, and the presences of a fleet, are not part of a flood, and comes on top.
const MAX_WAITING_BYTES: usize = 20 * 1_024 * 1_024;
/// How many messages wait to be published, at most, while the broker is away; older ones are shed.
const MAX_UNSENT: usize = 8_192;
/// How many bytes they may hold, at most.
const MAX_UNSENT_BYTES: usize = 16 * 1024 * 1024;
/// How many changes of the connection wait to be read, at most; older ones are forgotten.
const MAX_NOTICES: usize = 32;
/// How many bytes the messages hold, at most, that are taken at a time; one that is heavier is taken alone. All of them are
/// open at once, and a body of nothing but small objects takes up to 112 times its size then: that is 7.3 MB, or 11 MB of
/// one that is alone and has all the values that it may have. It is some 40 commands.
const MAX_TAKEN: usize = 64 * 1_024;
/// What a waiting message holds besides its texts, in bytes, roughly.
const OVERHEAD: usize = 256;

/// Stands in for every body that is too long: nobody needs to keep one to refuse it. Made when one is needed, or else the
/// binary would hold as many zeros.
static TOO_LONG: LazyLock<Bytes> = LazyLock::new(|| vec![0; MAX_BODY + 1].into());

/// How to connect.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The broker.
    pub broker: BrokerAddress,
    /// What the broker's own monitoring calls the connection.
    pub name: String,
    /// What logs in; a newer JWT is taken from its file for each connection.
    pub login: Login,
    /// What inboxes begin with; the broker's permissions of this user must allow it.
    pub inbox_prefix: String,
    /// What is subscribed to, plainly, on every connection.
    pub subscriptions: Vec<String>,
    /// How many received messages wait to be verified, at most; older ones are shed (section 9). They hold at most 4 KiB each
    /// on average, and 20 MiB in all.
    pub max_waiting: usize,
    /// What happens where no broker answers at first: `true` waits for one and says so by [`LinkEvent::Disconnected`], as a
    /// client does; `false` fails at once, as an operator's command does.
    pub wait: bool,
}

/// What comes over the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A message. The body of one that is too long is cut, and is still too long.
    Message(Delivery),
    /// The broker's "no responders" (status 503, no body): a hint, which anybody can forge (section 1).
    NoResponders {
        /// The subject that it arrived on: the reply subject of what was published.
        subject: String,
        /// The subject that nobody listens on, where the broker names it.
        about: Option<String>,
    },
    /// So many messages were shed, because more arrived than was taken.
    Shed(u64),
    /// There is a connection, and the subscriptions are on their way before everything that is published from now on.
    Connected,
    /// There is no connection; the next one is being made. The text is escaped.
    Disconnected {
        /// Why.
        why: String,
    },
    /// The broker does not allow something: as a rule a subscription or a subject to publish on. The text is escaped. A
    /// subscription is tried again while the connection lasts ([`Link::refused`]), and reported once.
    Denied {
        /// The broker's error.
        why: String,
    },
    /// A subscription that the broker refused stands now. What was published meanwhile did not arrive.
    Allowed {
        /// What is subscribed to.
        subject: String,
    },
    /// A message was not published, and will not be: it is larger than the broker takes ([`Link::max_payload`]).
    Unsent {
        /// The message.
        message: Signed,
    },
}

/// A handle of the connection; clones share it. It ends with [`Link::close`], or when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
    closing: Arc<watch::Sender<bool>>,
}

/// The receiving end of the link.
#[derive(Debug)]
pub struct LinkEvents {
    shared: Arc<Shared>,
}

impl Link {
    /// Connects, or starts to where [`LinkConfig::wait`] says so.
    pub async fn connect(config: LinkConfig) -> Result<(Self, LinkEvents), LinkError> {
        let servers = address::parse(&config.broker.url)?;
        config.broker.tls.check()?;
        let shared = Arc::new(Shared::new(config.max_waiting, config.subscriptions.clone()));
        let (closing, closing_seen) = watch::channel(false);
        let (first, first_connected) = oneshot::channel();
        let wait = config.wait;
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                let run = || supervisor::run(&config, &servers, &for_thread, closing_seen, first);
                // A defect here must not leave anybody waiting for what will never come.
                for_thread.end(catch_unwind(AssertUnwindSafe(run)).unwrap_or(false));
            })
            .map_err(|error| LinkError::System(error.to_string()))?;
        if !wait {
            first_connected.await.unwrap_or_else(|_| Err(LinkError::System("its thread ended".to_owned())))?;
        }
        Ok((Self { shared: Arc::clone(&shared), closing: Arc::new(closing) }, LinkEvents { shared }))
    }

    /// Publishes a message, with a NATS reply subject where one is given. It waits while there is no connection; what waits
    /// is bounded, and the oldest is shed. What was not known to be written when a connection broke is published again on
    /// the next: a copy of a signed message is harmless (section 8).
    pub fn publish(&self, message: Signed, reply: Option<String>) {
        let weight = weight(&message);
        let mut unsent = lock(&self.shared.unsent);
        unsent.push(Unsent { message, reply }, weight);
        let shed = unsent.take_shed();
        drop(unsent);
        if shed > 0 {
            tracing::warn!(shed, "more is waiting to be published than fits; the oldest was dropped");
        }
        self.shared.to_send.notify_one();
    }

    /// Waits until everything that was published before is written to the broker's connection, but not longer than this;
    /// says whether it is.
    pub async fn flush(&self, within: Duration) -> bool {
        let target = lock(&self.shared.unsent).next();
        let mut written = self.shared.written.subscribe();
        timeout(within, written.wait_for(|written| *written >= target)).await.is_ok_and(|found| found.is_ok())
    }

    /// Publishes what is still waiting, unsubscribes, lets the broker take everything, and closes the connection; says
    /// whether all of that came to its end within this time. The handles are useless afterwards.
    pub async fn close(&self, within: Duration) -> bool {
        // There may be no receiver left: then it is closed already.
        let _ = self.closing.send(true);
        let mut ended = self.shared.ended.subscribe();
        let drained = timeout(within, ended.wait_for(Option::is_some)).await;
        matches!(drained, Ok(Ok(state)) if *state == Some(true))
    }

    /// What the broker takes of one message, headers and body, in bytes (`max_payload`, section 10); of the last connection
    /// where there is none now, and `None` before the first.
    pub fn max_payload(&self) -> Option<usize> {
        Some(self.shared.max_payload.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Whether the present connection, or the last one, has no TLS and leaves this machine: whoever can listen can read.
    pub fn is_readable_by_others(&self) -> bool {
        self.shared.is_readable.load(Ordering::Relaxed)
    }

    /// Subscribes to these in the place of those until now. Where they are others, the connection is made again, with the JWT that is
    /// on the disk then: what may be subscribed to stands in it (section 10).
    pub fn resubscribe(&self, subscriptions: Vec<String>) {
        self.shared.subscriptions.replace(subscriptions);
    }

    /// Whether the present connection, or the last one, has TLS.
    pub fn has_tls(&self) -> bool {
        self.shared.has_tls.load(Ordering::Relaxed)
    }

    /// The subscriptions that the broker refuses on the present connection, and its errors.
    pub fn refused(&self) -> BTreeMap<String, String> {
        self.shared.subscriptions.refused()
    }
}

impl LinkEvents {
    /// The next event; `None` when the link is closed and everything was taken.
    pub async fn recv(&mut self) -> Option<LinkEvent> {
        let mut events = Vec::with_capacity(1);
        self.recv_many(&mut events, 1).await;
        events.pop()
    }

    /// Waits for events and takes at least one and at most so many, of 64 KiB or one event; 0 when the link is closed and
    /// everything was taken. Nothing is lost when this is dropped while it waits.
    pub async fn recv_many(&mut self, into: &mut Vec<LinkEvent>, at_most: usize) -> usize {
        loop {
            let (taken, ended) = self.take(into, at_most);
            if taken > 0 || ended {
                return taken;
            }
            self.shared.arrived.notified().await;
        }
    }

    fn take(&self, into: &mut Vec<LinkEvent>, at_most: usize) -> (usize, bool) {
        let before = into.len();
        let full = before.saturating_add(at_most);
        let mut inbound = lock(&self.shared.inbound);
        let shed = inbound.messages.take_shed();
        if shed > 0 {
            inbound.notices.push_back(LinkEvent::Shed(shed));
        }
        let mut weight = 0_usize;
        while into.len() < full {
            let Some(event) = inbound.notices.pop_front().or_else(|| {
                weight = weight.saturating_add(inbound.messages.next_weight()?);
                if weight > MAX_TAKEN && into.len() > before { None } else { inbound.messages.pop() }
            }) else {
                break;
            };
            into.push(event);
        }
        (into.len() - before, inbound.ended)
    }
}

/// What the handles and the thread share.
#[derive(Debug)]
struct Shared {
    inbound: Mutex<Inbound>,
    arrived: Notify,
    unsent: Mutex<Shedding<Unsent>>,
    to_send: Notify,
    written: watch::Sender<u64>,
    ended: watch::Sender<Option<bool>>,
    client: Mutex<Option<async_nats::Client>>,
    subscriptions: Subscriptions,
    /// 0 before the first connection.
    max_payload: AtomicUsize,
    is_readable: AtomicBool,
    has_tls: AtomicBool,
}

#[derive(Debug)]
struct Inbound {
    messages: Shedding<LinkEvent>,
    notices: VecDeque<LinkEvent>,
    ended: bool,
}

#[derive(Debug, Clone)]
struct Unsent {
    message: Signed,
    reply: Option<String>,
}

impl Shared {
    fn new(max_waiting: usize, subscriptions: Vec<String>) -> Self {
        let messages = Shedding::new(max_waiting, max_waiting.saturating_mul(WAITING_BYTES).min(MAX_WAITING_BYTES));
        Self {
            inbound: Mutex::new(Inbound { messages, notices: VecDeque::new(), ended: false }),
            arrived: Notify::new(),
            unsent: Mutex::new(Shedding::new(MAX_UNSENT, MAX_UNSENT_BYTES)),
            to_send: Notify::new(),
            written: watch::Sender::new(0),
            ended: watch::Sender::new(None),
            client: Mutex::new(None),
            subscriptions: Subscriptions::new(subscriptions),
            max_payload: AtomicUsize::new(0),
            is_readable: AtomicBool::new(false),
            has_tls: AtomicBool::new(false),
        }
    }

    /// Takes in a message as the library parsed it. Its parts are copied: what the library hands out is a slice of the whole
    /// buffer that it arrived in, and would keep all of that alive.
    fn message(&self, message: &Message) {
        let subject = message.subject.as_str();
        let ours = |name: &str| name == SIGNATURE_HEADER || name == CREDENTIAL_HEADER;
        let headers = headers(message);
        let no_responders = message.status.is_some_and(|status| status.as_u16() == 503) && message.payload.is_empty();
        let weight;
        let event = if no_responders {
            let about = headers.clone().find(|(name, _)| *name == "Nats-Subject").map(|(_, value)| value.to_owned());
            weight = OVERHEAD + subject.len() + about.as_ref().map_or(0, String::len);
            LinkEvent::NoResponders { subject: subject.to_owned(), about }
        } else {
            // All that are too long share one body, which weighs nothing.
            let (body, length) = match message.payload.len() {
                length if length > MAX_BODY => (TOO_LONG.clone(), 0),
                length => (Bytes::copy_from_slice(&message.payload), length),
            };
            let header_bytes: usize =
                headers.clone().filter(|(name, _)| ours(name)).map(|(_, value)| value.len()).sum();
            weight = OVERHEAD + subject.len() + header_bytes + length;
            LinkEvent::Message(Delivery::new(subject, message.status.is_some(), headers, body))
        };
        lock(&self.inbound).messages.push(event, weight);
        self.arrived.notify_one();
    }

    fn notice(&self, event: LinkEvent) {
        let mut inbound = lock(&self.inbound);
        if inbound.notices.len() >= MAX_NOTICES {
            inbound.notices.pop_front();
        }
        inbound.notices.push_back(event);
        drop(inbound);
        self.arrived.notify_one();
    }

    /// Gives back what cannot be published. It goes among the messages, since there may be more of it than notices are kept.
    fn unsent(&self, message: Signed) {
        let weight = weight(&message);
        lock(&self.inbound).messages.push(LinkEvent::Unsent { message }, weight);
        self.arrived.notify_one();
    }

    fn end(&self, drained: bool) {
        lock(&self.inbound).ended = true;
        self.arrived.notify_one();
        self.ended.send_replace(Some(drained));
    }
}

/// The headers of a message, those of one name in their order.
fn headers(message: &Message) -> impl Iterator<Item = (&str, &str)> + Clone {
    message.headers.iter().flat_map(|headers| headers.iter()).flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    })
}

/// A lock that a panic elsewhere does not spoil: every change under it is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text about a broker whose `max_payload` is too small for the protocol (section 10).
pub fn too_little(limit: usize) -> String {
    format!(
        "the broker takes messages of {limit} bytes at most (max_payload); the protocol needs {MIN_MAX_PAYLOAD}, and what is larger \
         than the broker takes fails"
    )
}

/// Refuses what is not the URL of a broker; nothing is connected to.
pub fn check_url(url: &str) -> Result<(), LinkError> {
    address::parse(url).map(|_| ())
}

/// The broker's URL without the user and password that may be in it.
pub fn without_secrets(url: &str) -> String {
    let hosts = url.split(',').map(|one| one.rsplit_once('@').map_or(one, |(_, host)| host).trim());
    hosts.collect::<Vec<_>>().join(", ")
}

/// What a message holds that waits to be published, in bytes; the credential is shared.
fn weight(message: &Signed) -> usize {
    OVERHEAD + message.subject.len() + message.signature.len() + message.body.len()
}

#[cfg(test)]
mod tests;

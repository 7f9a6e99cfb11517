//! The thread that owns the connection: it connects, pumps, and on the least sign of trouble throws the library's runtime
//! away, with every task in it, and begins anew.

use std::error::Error as _;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subscriber};
use countersign_protocol::envelope::{CREDENTIAL_HEADER, SIGNATURE_HEADER};
use countersign_protocol::text::escape;
use futures_util::stream::{StreamExt, once, select_all};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::{interval, sleep, timeout};

use super::{LinkConfig, LinkError, LinkEvent, Shared, Unsent, lock};
use crate::clock;

/// The pause before the first attempt to connect anew, and its share of chance: a fleet must not come back as one.
const FIRST_PAUSE: Duration = Duration::from_millis(80);
/// The longest pause between attempts. Section 9 asks for a client that is back within 5 seconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// How long one server may take to let us in.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long all servers together may take, the resolution of their names included.
const ATTEMPT: Duration = Duration::from_secs(12);
/// How often a silent connection is tried; the library gives it up at the third time, after 3.6 seconds at most.
const PING: Duration = Duration::from_millis(1_200);
/// How long the connection may take to take a batch of messages.
const STALL: Duration = Duration::from_secs(5);
/// How long a close may take once everything is written.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many messages are written at once, and published again where it is not known that they were.
const BATCH: usize = 64;
/// How often the library is asked whether it is still connected, once its event of that may have been lost.
const GLANCE: Duration = Duration::from_millis(500);
/// How many messages of one subscription the library holds until the pump has its turn. The two take turns on one thread,
/// and one turn's reading is bounded to some megabytes; what does not fit is shed.
const HELD: usize = 65_536;

/// How one connection ended.
enum End {
    /// It was wanted; whether everything was written first.
    Closed(bool),
    /// There was one, and it broke.
    Lost(String),
    /// There was none.
    Failed(LinkError),
}

/// Runs until the link is closed or its last handle is dropped; says whether everything was written by then.
pub(super) fn run(
    config: &LinkConfig,
    servers: &[ServerAddr],
    shared: &Arc<Shared>,
    mut closing: watch::Receiver<bool>,
    first: oneshot::Sender<Result<(), LinkError>>,
) -> bool {
    let mut first = Some(first);
    let mut pause = Duration::ZERO;
    let mut said = String::new();
    loop {
        let end = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let end = runtime.block_on(connection(config, servers, shared, &mut closing, &mut first, pause));
                // Not dropped: that would wait for the resolution of a name.
                runtime.shutdown_background();
                end
            }
            Err(error) => {
                std::thread::sleep(pause);
                End::Failed(LinkError::System(error.to_string()))
            }
        };
        lock(&shared.client).take();
        let why = match end {
            End::Closed(drained) => return drained,
            End::Failed(error) if !config.wait && first.is_some() => {
                if let Some(first) = first.take() {
                    // The caller has given up where nobody takes it.
                    let _ = first.send(Err(error));
                }
                return false;
            }
            End::Failed(error) => {
                pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                error.to_string()
            }
            End::Lost(why) => {
                pause = FIRST_PAUSE;
                said.clear();
                why
            }
        };
        if why != said {
            shared.notice(LinkEvent::Disconnected { why: why.clone() });
            said = why;
        }
    }
}

/// One connection from its beginning to its end.
async fn connection(
    config: &LinkConfig,
    servers: &[ServerAddr],
    shared: &Arc<Shared>,
    closing: &mut watch::Receiver<bool>,
    first: &mut Option<oneshot::Sender<Result<(), LinkError>>>,
    pause: Duration,
) -> End {
    let events = Arc::new(Events::default());
    let made = async {
        sleep(pause.mul_f64(0.5 + chance() / 2.0)).await;
        connect(config, servers, shared, &events).await
    };
    let (client, subscribers) = tokio::select! {
        made = made => match made {
            Ok(made) => made,
            Err(error) => return End::Failed(error),
        },
        // An error means that the last handle is gone.
        _ = closing.wait_for(|closing| *closing) => return End::Closed(false),
    };
    *lock(&shared.client) = Some(client.clone());
    shared.notice(LinkEvent::Connected);
    if let Some(first) = first.take() {
        // Nobody waits for it where the configuration says so.
        let _ = first.send(Ok(()));
    }
    let streams = subscribers.into_iter().map(|subscriber| subscriber.map(Some).chain(once(ready(None))));
    let mut messages = select_all(streams);
    // Without a bound on its turn: it empties what the library has read before the library reads on.
    let pump = unconstrained(async {
        if messages.is_empty() {
            pending::<()>().await;
        }
        while let Some(Some(message)) = messages.next().await {
            shared.message(&message);
        }
        // The senders die with the library's task: a panic of it looks like this.
        "what arrived broke the connection's task".to_owned()
    });
    tokio::select! {
        why = pump => return End::Lost(why),
        why = write(&client, shared) => return End::Lost(why),
        why = watch_over(&client, &events) => return End::Lost(why),
        () = closed_and_written(closing, shared) => {}
    }
    drop(messages);
    End::Closed(farewell(&client, &events).await)
}

/// What the library tells of its connection.
#[derive(Default)]
struct Events {
    lost: Notify,
    closed: Notify,
    other: Notify,
}

async fn connect(
    config: &LinkConfig,
    servers: &[ServerAddr],
    shared: &Arc<Shared>,
    events: &Arc<Events>,
) -> Result<(Client, Vec<Subscriber>), LinkError> {
    let at = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect::<Vec<_>>().join(", ");
    let connected = Arc::new(AtomicBool::new(false));
    let reconnecting = Arc::clone(&connected);
    let (for_events, for_shared) = (Arc::clone(events), Arc::clone(shared));
    let options = ConnectOptions::with_nkey(config.seed.as_str().to_owned())
        .name(&config.name)
        .custom_inbox_prefix(&config.inbox_prefix)
        .connection_timeout(HANDSHAKE)
        .ping_interval(PING)
        .subscription_capacity(HELD)
        .client_capacity(BATCH)
        // Every connection begins with what was configured, and a broker cannot send us elsewhere.
        .ignore_discovered_servers()
        // The library's own reconnecting is put off for ever: this thread does it, and the library goes.
        .reconnect_delay_callback(
            move |_| if reconnecting.load(Ordering::Relaxed) { Duration::MAX } else { Duration::ZERO },
        )
        .event_callback(move |event| {
            heed(&event, &for_events, &for_shared);
            ready(())
        });
    let client = match timeout(ATTEMPT, options.connect(servers)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(explain(&error, at)),
        Err(_) => return Err(LinkError::NoBroker { at, why: format!("no answer within {} s", ATTEMPT.as_secs()) }),
    };
    connected.store(true, Ordering::Relaxed);
    let broken = |why: String| LinkError::NoBroker { at: at.clone(), why };
    let mut subscribers = Vec::with_capacity(config.subscriptions.len());
    for subject in &config.subscriptions {
        subscribers.push(client.subscribe(subject.clone()).await.map_err(|error| broken(error.to_string()))?);
    }
    match timeout(STALL, client.flush()).await {
        Ok(Ok(())) => Ok((client, subscribers)),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken(format!("it takes no subscription within {} s", STALL.as_secs()))),
    }
}

fn heed(event: &Event, events: &Events, shared: &Shared) {
    match event {
        Event::Disconnected => return events.lost.notify_one(),
        Event::Closed => return events.closed.notify_one(),
        Event::Connected => return,
        // One such event for each message that the library dropped.
        Event::SlowConsumer(_) => lock(&shared.inbound).messages.count_shed(1),
        Event::ServerError(error) => shared.notice(LinkEvent::Denied { why: shown(&error.to_string()) }),
        Event::LameDuckMode | Event::Draining | Event::ClientError(_) => {}
    }
    events.other.notify_one();
}

/// Tells a broker that refuses us from one that is not there.
fn explain(error: &async_nats::ConnectError, at: String) -> LinkError {
    let said = error.source().and_then(|source| source.downcast_ref::<ServerError>());
    let why = shown(&error.source().map_or_else(|| error.to_string(), ToString::to_string));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => LinkError::Refused { at, why },
        _ if said.is_some() => LinkError::Refused { at, why },
        _ => LinkError::NoBroker { at, why },
    }
}

/// Writes what waits to be published, batch by batch; ends when the connection does not take it.
async fn write(client: &Client, shared: &Shared) -> String {
    loop {
        let (batch, next) = lock(&shared.unsent).peek(BATCH);
        if batch.is_empty() {
            shared.to_send.notified().await;
            continue;
        }
        match timeout(STALL, hand_over(client, batch)).await {
            Ok(Ok(())) => {
                let mut unsent = lock(&shared.unsent);
                unsent.drop_before(next);
                shared.written.send_replace(next);
            }
            Ok(Err(why)) => return why,
            Err(_) => return format!("the broker has taken nothing for {} s", STALL.as_secs()),
        }
    }
}

async fn hand_over(client: &Client, batch: Vec<Unsent>) -> Result<(), String> {
    for Unsent { message, reply } in batch {
        let subject = message.subject;
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_HEADER, &*message.signature);
        headers.insert(CREDENTIAL_HEADER, &*message.credential);
        let sent = match reply {
            Some(reply) => client.publish_with_reply_and_headers(subject.clone(), reply, headers, message.body).await,
            None => client.publish_with_headers(subject.clone(), headers, message.body).await,
        };
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == PublishErrorKind::Send => {
                return Err("the connection's task ended".to_owned());
            }
            // Another connection would not take it either.
            Err(error) => tracing::warn!(%subject, %error, "a message cannot be published"),
        }
    }
    client.flush().await.map_err(|error| error.to_string())
}

/// Ends when the library says, or shows, that it has no connection.
async fn watch_over(client: &Client, events: &Events) -> String {
    // Of many events at once the library loses some, and that of a broken connection may be among them. Where there are none
    // it loses none, and an idle client is left to sleep.
    let shown = async {
        events.other.notified().await;
        let mut glances = interval(GLANCE);
        while client.connection_state() == State::Connected {
            glances.tick().await;
        }
    };
    tokio::select! {
        () = events.lost.notified() => {}
        () = shown => {}
    }
    "the connection broke".to_owned()
}

/// Waits until the link is to be closed, and everything that was published by then is written.
async fn closed_and_written(closing: &mut watch::Receiver<bool>, shared: &Shared) {
    // An error means that the last handle is gone.
    let _ = closing.wait_for(|closing| *closing).await;
    let target = lock(&shared.unsent).next();
    // Its sender is `shared` itself.
    let _ = shared.written.subscribe().wait_for(|written| *written >= target).await;
}

/// Lets the library leave when the broker has answered. The subscriptions are gone by now: the library leaves on the next
/// thing that arrives after the drain's own ping, and nothing else should arrive, for to close a socket with something unread
/// in it takes back what was just written.
async fn farewell(client: &Client, events: &Events) -> bool {
    let left = async { client.flush().await.is_ok() && client.drain().await.is_ok() };
    let closed = async { left.await && timeout(FAREWELL, events.closed.notified()).await.is_ok() };
    timeout(STALL, closed).await.unwrap_or(false)
}

/// Text from the broker, or from the operating system about it.
fn shown(text: &str) -> String {
    escape(&text.chars().take(256).collect::<String>()).into_owned()
}

/// A number from 0 to 1. Without randomness there is none to spread, and the longest pause is the safe one.
fn chance() -> f64 {
    clock::random::<4>().map_or(1.0, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

//! The thread that owns the connection: it connects, pumps, and on the least sign of an error throws the library's runtime
//! away, with every task in it, and begins again.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, HeaderMap, ServerAddr, Subscriber};
use countersign_keys::Login;
use countersign_protocol::envelope::{CREDENTIAL_HEADER, SIGNATURE_HEADER};
use countersign_protocol::text::escape;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{interval, sleep, timeout};

use super::address::{addresses, named, place, race, shuffled};
use super::broker::leaves_this_machine;
use super::pump::Pump;
use super::{LinkConfig, LinkError, LinkEvent, Obstacle, Shared, Unsent, lock};
use countersign_host::clock;

/// The pause before the first attempt to connect again, and its share of chance: a fleet must not come back as one.
const FIRST_PAUSE: Duration = Duration::from_millis(80);
/// The longest pause between attempts. Section 9 asks for a client that is back within 5 seconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// The shortest pause after a broker has refused us: half of it is left to chance, so that it is a second at least.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How long a broker may refuse us before we ask it less often: whoever was revoked, or whose time is over, must not keep it busy.
const PATIENT_AFTER: Duration = Duration::from_secs(60);
/// The pause then; half of it is left to chance, so that it is 10 seconds at least.
const PATIENT_PAUSE: Duration = Duration::from_secs(20);
/// How long one address may take to let us in, and the name service to resolve a server's name, at first.
const FIRST_HANDSHAKE: Duration = Duration::from_secs(3);
/// The same at most: it doubles with each attempt that fails, since the way may be a slow one. An operator's command has only
/// one attempt, and this is its time. A way of one second, six of which a connection with TLS takes, is within it; and it is
/// short enough for section 9's 5 seconds, because the system itself tries an address again within 4 of them.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(8);
/// How often a silent connection is tried; the library gives it up at the third time, after 3.6 seconds at most.
const PING: Duration = Duration::from_millis(1_200);
/// How long the connection may take to take a batch of messages.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a close may take once everything is written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many messages are written at once, and published again where it is not known that they were.
const BATCH: usize = 64;
/// How often the library is asked whether it is still connected, once its event of that may have been lost.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How many messages of one subscription the library holds, at most; what does not fit is shed. Of what is subscribed to
/// here it holds none (see [`Pump`]), so that this is for what the broker answers to requests of ours, up to a page of the
/// roster.
const HELD: usize = 8_192;

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
    let mut handshake = if config.wait { FIRST_HANDSHAKE } else { LONGEST_HANDSHAKE };
    let mut reported = String::new();
    // How long the brokers have refused us, without a break.
    let mut refused_since: Option<Instant> = None;
    loop {
        let end = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let end =
                    runtime.block_on(connection(config, servers, shared, &mut closing, &mut first, (pause, handshake)));
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
        shared.subscriptions.forget();
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
                let is_refusal = matches!(error, LinkError::Refused { .. });
                refused_since = is_refusal.then(|| refused_since.unwrap_or_else(Instant::now));
                pause = next_pause(pause, refused_since.map(|since| since.elapsed()));
                handshake = (handshake * 2).min(LONGEST_HANDSHAKE);
                error.to_string()
            }
            End::Lost(why) => {
                pause = FIRST_PAUSE;
                refused_since = None;
                reported.clear();
                why
            }
        };
        if why != reported {
            shared.notice(LinkEvent::Disconnected { why: why.clone() });
            reported = why;
        }
    }
}

/// The pause after another attempt that failed: it doubles, and is long where the brokers have refused us for long.
fn next_pause(pause: Duration, refused_for: Option<Duration>) -> Duration {
    match refused_for {
        Some(refused_for) if refused_for >= PATIENT_AFTER => PATIENT_PAUSE,
        Some(_) => REFUSED_PAUSE,
        None => (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
    }
}

/// One connection from its beginning to its end.
async fn connection(
    config: &LinkConfig,
    servers: &[ServerAddr],
    shared: &Arc<Shared>,
    closing: &mut watch::Receiver<bool>,
    first: &mut Option<oneshot::Sender<Result<(), LinkError>>>,
    (pause, handshake): (Duration, Duration),
) -> End {
    let events = Arc::new(Events::default());
    let made = async {
        sleep(jittered(pause, chance())).await;
        connect(config, servers, shared, &events, handshake).await
    };
    let (client, subscribers) = tokio::select! {
        made = made => match made {
            Ok(made) => made,
            Err(error) => return End::Failed(error),
        },
        // An error means that the last handle is gone.
        _ = closing.wait_for(|closing| *closing) => return End::Closed(false),
    };
    shared.max_payload.store(client.max_payload(), Ordering::Relaxed);
    *lock(&shared.client) = Some(client.clone());
    shared.notice(LinkEvent::Connected);
    if let Some(first) = first.take() {
        // Nobody waits for it where the configuration says so.
        let _ = first.send(Ok(()));
    }
    let pump = Pump::start(subscribers, shared);
    let stands = |subject| shared.notice(LinkEvent::Allowed { subject });
    tokio::select! {
        // A panic of the library's task looks like this.
        () = pump.ended() => return End::Lost("what arrived broke the connection's task".to_owned()),
        why = write(&client, shared) => return End::Lost(why),
        why = watch_over(&client, &events) => return End::Lost(why),
        () = shared.subscriptions.replaced() => return End::Lost("other subjects are subscribed to".to_owned()),
        why = shared.subscriptions.keep(&client, |subject, subscriber| pump.take(subject, subscriber), stands) => return End::Lost(why),
        () = closed_and_written(closing, shared) => {}
    }
    drop(pump);
    End::Closed(farewell(&client, &events).await)
}

/// The library's events about its connection.
#[derive(Default)]
struct Events {
    /// Whether the broker has said that what we logged in with has ended: it ends the connection then.
    has_expired: AtomicBool,
    lost: Notify,
    closed: Notify,
    other: Notify,
}

/// Connects to the first server that lets us in: all addresses of all servers, each with its own time.
async fn connect(
    config: &LinkConfig,
    servers: &[ServerAddr],
    shared: &Arc<Shared>,
    events: &Arc<Events>,
    handshake: Duration,
) -> Result<(Client, Vec<(String, Subscriber)>), LinkError> {
    let one = |address: ServerAddr| introduce(config, address, shared, events, (handshake, handshake));
    let client = race(shuffled(servers), async |server: ServerAddr| {
        let addresses = addresses(&server, handshake).await?;
        // A certificate is for the name: the library itself must look it up, and goes through the addresses one by one.
        let all = handshake * u32::try_from(addresses.len()).unwrap_or(1).saturating_add(1);
        let by_name = || introduce(config, server.clone(), shared, events, (handshake, all));
        if server.tls_required() || config.broker.tls.require() {
            return by_name().await;
        }
        match race(addresses, one).await {
            Err(LinkError::NoBroker { obstacle: Obstacle::Tls, .. }) => by_name().await,
            Err(LinkError::NoBroker { why, obstacle, .. }) => {
                Err(LinkError::NoBroker { at: place(&server), why, obstacle })
            }
            Err(LinkError::Refused { why, obstacle, .. }) => {
                Err(LinkError::Refused { at: place(&server), why, obstacle })
            }
            made => made,
        }
    });
    let client = client.await.map_err(|error| match error {
        LinkError::NoBroker { why, obstacle, .. } => LinkError::NoBroker { at: named(servers), why, obstacle },
        error => error,
    })?;
    let broken = |why: String| LinkError::NoBroker { at: named(servers), why, obstacle: Obstacle::Silent };
    let mut subscribers = Vec::with_capacity(config.subscriptions.len());
    for subject in shared.subscriptions.wanted() {
        let subscriber = client.subscribe(subject.clone()).await.map_err(|error| broken(error.to_string()))?;
        subscribers.push((subject.clone(), subscriber));
    }
    match timeout(WRITE_TIMEOUT, client.flush()).await {
        Ok(Ok(())) => Ok((client, subscribers)),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken(format!("it takes no subscription within {} s", WRITE_TIMEOUT.as_secs()))),
    }
}

/// Connects to one server: each of its addresses may take so long, and all together so long.
async fn introduce(
    config: &LinkConfig,
    server: ServerAddr,
    shared: &Arc<Shared>,
    events: &Arc<Events>,
    (each, all): (Duration, Duration),
) -> Result<Client, LinkError> {
    let connected = Arc::new(AtomicBool::new(false));
    let reconnecting = Arc::clone(&connected);
    let (for_events, for_shared) = (Arc::clone(events), Arc::clone(shared));
    let (login, jwt) = (config.login.clone(), config.login.latest_jwt());
    let options = ConnectOptions::with_auth_callback(move |nonce| ready(answer(&login, &jwt, &nonce)))
        .name(&config.name)
        .custom_inbox_prefix(&config.inbox_prefix)
        .connection_timeout(each)
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
            process_events(&event, &for_events, &for_shared);
            ready(())
        });
    let options = config.broker.tls.apply(options);
    let at = place(&server);
    let (asks_for_tls, leaves) = (server.tls_required() || config.broker.tls.require(), leaves_this_machine(&server));
    match timeout(all, options.connect(server)).await {
        Ok(Ok(client)) => {
            let has_tls = asks_for_tls || client.server_info().tls_required;
            shared.is_readable.store(leaves && !has_tls, Ordering::Relaxed);
            shared.has_tls.store(has_tls, Ordering::Relaxed);
            connected.store(true, Ordering::Relaxed);
            Ok(client)
        }
        Ok(Err(error)) => Err(match Obstacle::of(&error) {
            (Obstacle::Silent, ..) => silent(at, each),
            (obstacle, why, true) => LinkError::Refused { at, why, obstacle },
            (obstacle, why, false) => LinkError::NoBroker { at, why, obstacle },
        }),
        Err(_) => Err(silent(at, all)),
    }
}

/// How we log in. The public key goes along for a broker that has a list of such keys and no accounts.
pub(super) fn answer(login: &Login, jwt: &str, nonce: &[u8]) -> Result<Auth, AuthError> {
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.to_owned());
    auth.nkey = login.seed().public_key();
    auth.signature = Some(login.sign(nonce).ok_or_else(|| AuthError::new("the connection key does not sign"))?);
    Ok(auth)
}

fn silent(at: String, within: Duration) -> LinkError {
    LinkError::NoBroker { at, why: format!("no answer within {} s", within.as_secs()), obstacle: Obstacle::Silent }
}

fn process_events(event: &Event, events: &Events, shared: &Shared) {
    match event {
        Event::Disconnected => return events.lost.notify_one(),
        Event::Closed => return events.closed.notify_one(),
        Event::Connected => return,
        // One such event for each message that the library dropped.
        Event::SlowConsumer(_) => lock(&shared.inbound).messages.count_shed(1),
        Event::ServerError(error) => {
            let text = error.to_string();
            if text.to_lowercase().contains("authentication expired") {
                events.has_expired.store(true, Ordering::Relaxed);
                return events.other.notify_one();
            }
            let why = shown(&text);
            if shared.subscriptions.on_error(&text, &why) {
                shared.notice(LinkEvent::Denied { why });
            }
        }
        Event::LameDuckMode | Event::Draining | Event::ClientError(_) => {}
    }
    events.other.notify_one();
}

/// Writes what waits to be published, batch by batch; ends when the connection does not take it.
async fn write(client: &Client, shared: &Shared) -> String {
    loop {
        let (batch, next) = lock(&shared.unsent).peek(BATCH);
        if batch.is_empty() {
            shared.to_send.notified().await;
            continue;
        }
        match timeout(WRITE_TIMEOUT, hand_over(client, shared, batch)).await {
            Ok(Ok(())) => {
                let mut unsent = lock(&shared.unsent);
                unsent.drop_before(next);
                shared.written.send_replace(next);
            }
            Ok(Err(why)) => return why,
            Err(_) => return format!("the broker has taken nothing for {} s", WRITE_TIMEOUT.as_secs()),
        }
    }
}

async fn hand_over(client: &Client, shared: &Shared, batch: Vec<Unsent>) -> Result<(), String> {
    for Unsent { message, reply } in batch {
        if message.size() > client.max_payload() {
            shared.unsent(message);
            continue;
        }
        let subject = message.subject;
        let mut headers = HeaderMap::new();
        // A document has its signatures in it.
        if !message.signature.is_empty() {
            headers.insert(SIGNATURE_HEADER, &*message.signature);
            headers.insert(CREDENTIAL_HEADER, &*message.credential);
        }
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

/// Ends when the library reports, or shows, that it has no connection.
async fn watch_over(client: &Client, events: &Events) -> String {
    // Of many events at once the library loses some, and that of a broken connection may be among them. Where there are none
    // it loses none, and an idle client is left to sleep.
    let shown = async {
        events.other.notified().await;
        let mut glances = interval(POLL_INTERVAL);
        while client.connection_state() == State::Connected {
            glances.tick().await;
        }
    };
    tokio::select! {
        () = events.lost.notified() => {}
        () = shown => {}
    }
    let has_expired = events.has_expired.load(Ordering::Relaxed);
    if has_expired { "what it logged in with has ended" } else { "the connection broke" }.to_owned()
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
    let closed = async { left.await && timeout(CLOSE_TIMEOUT, events.closed.notified()).await.is_ok() };
    timeout(WRITE_TIMEOUT, closed).await.unwrap_or(false)
}

/// Text from the broker, or from the operating system about it.
pub(super) fn shown(text: &str) -> String {
    escape(&text.chars().take(256).collect::<String>()).into_owned()
}

/// A pause of which half is left to chance, a number from 0 to 1.
fn jittered(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.5 + chance / 2.0)
}

/// A number from 0 to 1. Without randomness there is none to spread, and the longest pause is the safe one.
fn chance() -> f64 {
    clock::random::<4>().map_or(1.0, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_minute_asks_less_than_once_in_10_seconds_and_who_finds_no_broker_goes_on_as_before() {
        let minute = Duration::from_secs(60);
        for (refused_for, expected) in
            [(None, LONGEST_PAUSE), (Some(minute / 2), REFUSED_PAUSE), (Some(minute), PATIENT_PAUSE)]
        {
            assert_eq!(next_pause(LONGEST_PAUSE, refused_for), expected);
        }
        assert_eq!(next_pause(PATIENT_PAUSE, None), LONGEST_PAUSE, "the broker went away meanwhile");
        assert_eq!([0.0, 1.0].map(|chance| jittered(PATIENT_PAUSE, chance).as_secs()), [10, 20]);
    }

    #[test]
    fn two_hundred_whose_login_is_refused_for_an_hour_try_each_a_second_apart_and_after_a_minute_ten_and_never_as_one()
    {
        let mut at_once: std::collections::BTreeMap<u64, u32> = std::collections::BTreeMap::new();
        for client in 0..200_u32 {
            let (mut now, mut pause, mut tries) = (Duration::ZERO, Duration::ZERO, 0_u32);
            while now < Duration::from_secs(3_600) {
                // What is left to chance, spread over clients and tries.
                let chance = f64::from((client * 7_919 + tries * 104_729) % 1_000) / 1_000.0;
                let after = jittered(pause, chance);
                if tries > 0 {
                    let least = if now >= PATIENT_AFTER { 10 } else { 1 };
                    assert!(after >= Duration::from_secs(least), "client {client}, after {now:?}: {after:?}");
                }
                now += after;
                tries += 1;
                *at_once.entry(now.as_secs()).or_default() += 1;
                pause = next_pause(pause, Some(now));
            }
            assert!(tries <= 60 + 354, "client {client} tries {tries} times");
        }
        let busiest = at_once.range(120..).map(|(_, tries)| *tries).max().unwrap_or(0);
        assert!(busiest < 60, "{busiest} tries in one second");
    }
}

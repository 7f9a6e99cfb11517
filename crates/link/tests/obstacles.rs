//! The link where something is in its way: slow lines, dead addresses, and what the broker does not allow or take.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::net::TcpListener;
use std::time::Duration;

use countersign_keys::{Login, Seed};
use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents, MAX_WAITING, Obstacle};
use countersign_protocol::envelope::{MessageType, Signed};
use countersign_testkit::broker::{Broker, TIMEOUT, local};
use countersign_testkit::realm::{Realm, full_grant};
use countersign_testkit::slow::{Slow, slow_way};
use tokio::time::timeout;

const SUBJECT: &str = "cs.demo.cmd.group.web";

fn seed() -> Seed {
    Seed::from_random([1; 32]).unwrap()
}

fn config(url: &str) -> LinkConfig {
    LinkConfig {
        broker: url.into(),
        name: "test".to_owned(),
        login: Login::new(seed(), ""),
        inbox_prefix: "_INBOX.test".to_owned(),
        subscriptions: vec!["cs.demo.cmd.all".to_owned(), SUBJECT.to_owned()],
        max_waiting: MAX_WAITING,
        wait: false,
    }
}

/// A signed message with a body of so many bytes.
fn message(length: usize) -> Signed {
    let alice = Realm::new("demo").operator("alice", full_grant());
    alice.sign(MessageType::Command, SUBJECT.to_owned(), vec![b'x'; length])
}

async fn next(events: &mut LinkEvents) -> LinkEvent {
    timeout(TIMEOUT, events.recv()).await.unwrap().unwrap()
}

async fn body(events: &mut LinkEvents) -> usize {
    loop {
        if let LinkEvent::Message(delivery) = next(events).await {
            return delivery.body().len();
        }
    }
}

#[tokio::test]
async fn a_way_of_700_ms_each_way_connects_and_carries_messages_at_the_first_attempt_or_after_some() {
    let broker = Broker::start();
    let url = slow_way(broker.port(), Slow { delay: Duration::from_millis(700), rate: u32::MAX });
    for wait in [false, true] {
        let (link, mut events) = Link::connect(LinkConfig { wait, ..config(&url) }).await.unwrap();
        link.publish(message(10), None);
        assert_eq!(body(&mut events).await, 10);
    }
}

#[tokio::test]
async fn a_server_that_answers_is_found_among_many_that_accept_and_say_nothing() {
    let broker = Broker::start();
    let silent: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind(local(0)).unwrap()).collect();
    let dead = silent.iter().map(|silent| silent.local_addr().unwrap().to_string());
    let url = dead.chain([broker.url()]).collect::<Vec<_>>().join(",");
    let (link, mut events) = Link::connect(config(&url)).await.unwrap();
    link.publish(message(10), None);
    assert_eq!(body(&mut events).await, 10);
}

#[tokio::test]
async fn a_server_that_sends_nothing_is_distinguished_from_one_that_is_not_there_and_from_a_wrong_port() {
    let silent = TcpListener::bind(local(0)).unwrap();
    for (url, expected) in [
        (silent.local_addr().unwrap().to_string(), Obstacle::Silent),
        ("nats://127.0.0.1:1".to_owned(), Obstacle::Absent),
        ("nats://no-such-host.invalid:4222".to_owned(), Obstacle::Name),
    ] {
        let error = Link::connect(config(&url)).await.err().unwrap();
        let LinkError::NoBroker { obstacle, .. } = error else { panic!("{error:?}") };
        assert_eq!(obstacle, expected, "{url}");
    }
}

#[tokio::test]
async fn a_broker_that_is_full_is_not_taken_for_one_that_does_not_know_the_key() {
    let broker = Broker::configured("max_connections: 1\n");
    let (_first, _events) = Link::connect(config(&broker.url())).await.unwrap();
    let error = Link::connect(config(&broker.url())).await.err().unwrap();
    assert!(matches!(error, LinkError::Refused { obstacle: Obstacle::Full, .. }), "{error:?}");
    assert!(error.hint().contains("max_connections"), "{}", error.hint());
}

#[tokio::test]
async fn a_subscription_that_was_refused_is_reported_once_and_stands_as_soon_as_the_broker_allows_it() {
    let key = seed().public_key().unwrap();
    let allowing = |subjects: &str| {
        format!(
            "authorization: {{ users: [ {{ nkey: {key}, permissions: {{ subscribe: [{subjects}], publish: \">\" }} }} ] }}\n"
        )
    };
    let broker = Broker::configured(&allowing("\"cs.demo.cmd.all\""));
    let (link, mut events) = Link::connect(config(&broker.url())).await.unwrap();
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
    let LinkEvent::Denied { why } = next(&mut events).await else { panic!("no word of it") };
    assert!(why.contains(SUBJECT), "{why}");
    assert_eq!(link.refused().into_keys().collect::<Vec<_>>(), [SUBJECT]);
    broker.reconfigure(&allowing("\"cs.demo.cmd.>\""));
    loop {
        match next(&mut events).await {
            LinkEvent::Allowed { subject } => break assert_eq!(subject, SUBJECT),
            // Whether a reload costs the connection is the broker's choice; then nothing is refused on the next.
            LinkEvent::Disconnected { .. } => {}
            LinkEvent::Connected => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(link.refused().is_empty());
    link.publish(message(10), None);
    assert_eq!(body(&mut events).await, 10);
}

#[tokio::test]
async fn what_is_larger_than_the_broker_takes_is_given_back_and_what_just_fits_is_delivered() {
    let fits = message(2_000);
    let broker = Broker::configured(&format!("max_payload: {}\n", fits.size()));
    let (link, mut events) = Link::connect(config(&broker.url())).await.unwrap();
    assert_eq!(link.max_payload(), Some(fits.size()));
    let larger = message(2_001);
    link.publish(larger.clone(), None);
    link.publish(fits, None);
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
    let LinkEvent::Unsent { message } = next(&mut events).await else { panic!("no word of it") };
    assert_eq!(message, larger);
    assert_eq!(body(&mut events).await, 2_000);
    assert!(link.flush(TIMEOUT).await);
}

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use async_nats::{ConnectOptions, HeaderMap};
use countersign_testkit::broker::{Broker, TIMEOUT};
use countersign_testkit::hostile::Peer;

use super::pump::Pump;
use super::*;

const SUBJECT: &str = "cs.demo.cmd.client.worker-1";

fn message(body: usize) -> Message {
    Message {
        subject: SUBJECT.into(),
        reply: None,
        payload: vec![b'x'; body].into(),
        headers: None,
        status: None,
        description: None,
        length: body,
    }
}

/// A link without a connection: what arrives is the test's.
fn link(max_waiting: usize) -> (Arc<Shared>, LinkEvents) {
    let shared = Arc::new(Shared::new(max_waiting, Vec::new()));
    (Arc::clone(&shared), LinkEvents { shared })
}

/// The bodies' lengths of what is taken at once, after how much was shed.
async fn take(events: &mut LinkEvents) -> (u64, Vec<usize>) {
    let (mut taken, mut shed, mut lengths) = (Vec::new(), 0, Vec::new());
    assert!(events.recv_many(&mut taken, 1_000_000).await > 0);
    for event in taken {
        match event {
            LinkEvent::Message(delivery) => lengths.push(delivery.body().len()),
            LinkEvent::Shed(count) => shed += count,
            other => panic!("{other:?}"),
        }
    }
    (shed, lengths)
}

#[tokio::test]
async fn what_is_taken_at_a_time_is_bounded_in_bytes_and_what_is_heavier_is_taken_alone() {
    let (shared, mut events) = link(MAX_WAITING);
    let each = 1_000 + OVERHEAD + SUBJECT.len();
    let fit = MAX_TAKEN / each;
    (0..fit + 1).for_each(|_| shared.message(&message(1_000)));
    shared.message(&message(MAX_BODY));
    shared.message(&message(MAX_BODY));
    shared.message(&message(7));
    assert_eq!(take(&mut events).await, (0, vec![1_000; fit]));
    for length in [1_000, MAX_BODY, MAX_BODY, 7] {
        assert_eq!(take(&mut events).await, (0, vec![length]));
    }
}

#[tokio::test]
async fn of_long_messages_no_more_wait_than_the_bound_in_bytes_allows_and_the_oldest_are_shed_and_counted() {
    const SENT: usize = 200;
    let (shared, mut events) = link(1_000_000);
    // By its length one sees which it is.
    (0..SENT).for_each(|number| shared.message(&message(MAX_BODY - number)));
    let (shed, mut waited) = take(&mut events).await;
    let shed = usize::try_from(shed).unwrap();
    while waited.len() < SENT - shed {
        let (more_shed, more) = take(&mut events).await;
        assert_eq!((more_shed, more.len()), (0, 1), "each is heavy enough to be taken alone");
        waited.extend(more);
    }
    assert_eq!(waited, (shed..SENT).map(|number| MAX_BODY - number).collect::<Vec<_>>(), "all but the oldest");
    let weight: usize = waited.iter().map(|length| length + OVERHEAD + SUBJECT.len()).sum();
    assert!(weight <= MAX_WAITING_BYTES, "{weight} bytes");
    assert!(weight + MAX_BODY + OVERHEAD + SUBJECT.len() > MAX_WAITING_BYTES, "no more are shed than must be");
}

#[tokio::test]
async fn bodies_that_are_too_long_and_headers_that_are_not_ours_take_no_room() {
    let (shared, mut events) = link(MAX_WAITING);
    let mut headers = HeaderMap::new();
    (0..1_000).for_each(|number| headers.insert(format!("Other-{number}"), "x".repeat(1_000)));
    for _ in 0..100 {
        shared.message(&Message { headers: Some(headers.clone()), ..message(MAX_BODY + 1) });
    }
    assert_eq!(take(&mut events).await, (0, vec![MAX_BODY + 1; 100]), "still too long, and light");
}

/// With room for one message in the library's queue, whoever is not woken for each of a flood loses nearly all of it.
#[tokio::test]
async fn the_pump_takes_each_message_as_soon_as_the_library_has_parsed_it() {
    const SENT: usize = 5_000;
    let broker = Broker::start();
    let (shared, mut events) = link(SENT);
    let lost = Arc::clone(&shared);
    let options = ConnectOptions::new().subscription_capacity(1).event_callback(move |event| {
        if let async_nats::Event::SlowConsumer(_) = event {
            lock(&lost.inbound).messages.count_shed(1);
        }
        std::future::ready(())
    });
    let client = options.connect(broker.url()).await.unwrap();
    let subscriber = client.subscribe(SUBJECT).await.unwrap();
    client.flush().await.unwrap();
    let _pump = Pump::start(vec![(SUBJECT.to_owned(), subscriber)], &shared);
    let flood = format!("PUB {SUBJECT} 1\r\nx\r\n").repeat(SENT);
    let peer = Peer::connect(broker.port(), None);
    peer.write(flood.as_bytes());
    let mut arrived = 0;
    while arrived < SENT {
        let (shed, lengths) = timeout(TIMEOUT, take(&mut events)).await.unwrap();
        assert_eq!(shed, 0, "lost in the library, after {arrived}");
        arrived += lengths.len();
    }
}

//! The link against a real nats-server, and against one that means harm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use countersign_keys::{Login, Seed};
use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents, MAX_WAITING};
use countersign_protocol::command::Command;
use countersign_protocol::envelope::{Delivery, Reason, Rejected, Signed};
use countersign_protocol::limits::MAX_BODY;
use countersign_testkit::broker::{Broker, TIMEOUT, local};
use countersign_testkit::hostile::{
    FakeBroker, Peer, header_block, hostile_header_blocks, message_frame, signed_frame,
};
use countersign_testkit::realm::{Draft, Realm, START, full_grant, message_id, to};
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::time::timeout;

const SUBJECT: &str = "cs.demo.cmd.client.worker-1";

/// Honest commands of one operator, by number.
fn honest(realm: &Realm) -> impl Fn(u64) -> Signed + use<> {
    let alice = realm.operator("alice", full_grant());
    move |number| Draft::new(&alice, to("worker-1"), "ping", json!({}), number, START).sign(&alice)
}

fn seed(number: u8) -> Seed {
    Seed::from_random([number; 32]).unwrap()
}

/// For a broker that has a list of keys, or lets everybody in.
fn login(number: u8) -> Login {
    Login::new(seed(number), "")
}

fn config(url: &str, subscriptions: &[&str]) -> LinkConfig {
    LinkConfig {
        broker: url.into(),
        name: "test".to_owned(),
        login: login(1),
        inbox_prefix: "_INBOX.test".to_owned(),
        subscriptions: subscriptions.iter().map(|subject| (*subject).to_owned()).collect(),
        max_waiting: MAX_WAITING,
        wait: false,
    }
}

async fn connect(url: &str, subscriptions: &[&str]) -> (Link, LinkEvents) {
    let (link, mut events) = Link::connect(config(url, subscriptions)).await.unwrap();
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
    (link, events)
}

/// A link that is subscribed to the subject for all who publish there: what it publishes itself comes back.
async fn subscribed(broker: &Broker, realm: &Realm) -> (Link, LinkEvents) {
    let (link, mut events) = connect(&broker.url(), &[SUBJECT]).await;
    link.publish(honest(realm)(u64::MAX), None);
    assert_eq!(next_message(&mut events, realm).await.unwrap().id, message_id(u64::MAX));
    (link, events)
}

/// An address where nobody listens, for as long as the socket is kept.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(local(0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn refused(config: LinkConfig) -> LinkError {
    Link::connect(config).await.err().unwrap()
}

async fn next(events: &mut LinkEvents) -> LinkEvent {
    timeout(TIMEOUT, events.recv()).await.unwrap().unwrap()
}

/// The number of the next honest command, or what is wrong with the next message; what the connection does meanwhile is
/// passed over.
async fn next_message(events: &mut LinkEvents, realm: &Realm) -> Result<Command, Rejected> {
    loop {
        if let LinkEvent::Message(delivery) = next(events).await {
            return realm.verifier().open::<Command>(&delivery, START).map(|command| command.into_message());
        }
    }
}

fn is_honest(realm: &Realm, number: u64, delivery: &Delivery) -> bool {
    let opened = realm.verifier().open::<Command>(delivery, START);
    opened.is_ok_and(|command| command.message().id == message_id(number))
}

#[tokio::test]
async fn what_is_published_arrives_as_it_was_signed() {
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let message = honest(&realm);
    let (link, mut events) = connect(&broker.url(), &[SUBJECT]).await;
    for number in 0..100 {
        link.publish(message(number), None);
    }
    for number in 0..100 {
        assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(number));
    }
}

#[tokio::test]
async fn where_nobody_listens_the_broker_says_so_and_about_what() {
    let broker = Broker::start();
    let message = honest(&Realm::new("demo"));
    let (link, mut events) = connect(&broker.url(), &["cs.demo.reply.>"]).await;
    link.publish(message(1), Some("cs.demo.reply.alice".to_owned()));
    let LinkEvent::NoResponders { subject, about } = next(&mut events).await else { panic!("no word of it") };
    assert_eq!((subject.as_str(), about.as_deref()), ("cs.demo.reply.alice", Some(SUBJECT)));
}

#[tokio::test]
async fn a_status_with_a_body_from_a_peer_is_a_message_that_is_not_ours() {
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let (_link, mut events) = subscribed(&broker, &realm).await;
    Peer::connect(broker.port(), None).publish(SUBJECT, None, Some(b"NATS/1.0 503\r\n\r\n"), b"body");
    assert_eq!(next_message(&mut events, &realm).await.unwrap_err().reason, Reason::Headers);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_kept_and_one_byte_more_is_still_too_long() {
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let (_link, mut events) = subscribed(&broker, &realm).await;
    let peer = Peer::connect(broker.port(), None);
    for (length, reason) in [(MAX_BODY, Reason::Headers), (MAX_BODY + 1, Reason::Size), (1_000_000, Reason::Size)] {
        peer.publish(SUBJECT, None, Some(&header_block(&[])), &vec![b'a'; length]);
        assert_eq!(next_message(&mut events, &realm).await.unwrap_err().reason, reason, "{length} bytes");
    }
}

#[tokio::test]
async fn no_broker_and_a_broker_that_refuses_us_are_distinguished() {
    let (_kept, nobody) = nobody();
    let error = refused(config(&format!("nats://user:secret@{nobody}"), &[])).await;
    assert!(matches!(&error, LinkError::NoBroker { at, .. } if *at == nobody.to_string()), "{error:?}");
    let error = refused(config("not a url", &[])).await;
    assert!(matches!(&error, LinkError::Url { .. }), "{error:?}");

    let broker = Broker::configured(&users(&[2], ""));
    let error = refused(config(&broker.url(), &[])).await;
    assert!(matches!(&error, LinkError::Refused { .. }), "{error:?}");
    let mut config = config(&broker.url(), &[]);
    config.login = login(2);
    assert!(Link::connect(config).await.is_ok());
}

#[tokio::test]
async fn any_of_several_brokers_will_do() {
    let broker = Broker::start();
    let (_kept, nobody) = nobody();
    let url = format!("nats://{nobody}, {}", broker.url());
    connect(&url, &[SUBJECT]).await;
}

#[tokio::test]
async fn when_a_broker_is_lost_another_of_the_list_takes_its_place() {
    let realm = Realm::new("demo");
    let (first, second) = (Broker::start(), Broker::start());
    let (link, mut events) = connect(&format!("{},{}", first.url(), second.url()), &[SUBJECT]).await;
    // Each broker is told another message: the one that arrives says where the link is.
    let message = honest(&realm);
    for (broker, number) in [(&first, 1), (&second, 2)] {
        let (peer, _) = connect(&broker.url(), &[]).await;
        peer.publish(message(number), None);
        assert!(peer.flush(TIMEOUT).await);
    }
    let is_at_first = next_message(&mut events, &realm).await.unwrap().id == message_id(1);
    let (mut lost, _left) = if is_at_first { (first, second) } else { (second, first) };
    lost.kill();
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    link.publish(honest(&realm)(7), None);
    while !matches!(next(&mut events).await, LinkEvent::Connected) {}
    assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(7));
}

#[tokio::test]
async fn what_the_broker_does_not_allow_is_reported() {
    let permissions = r#", permissions: { subscribe: "cs.demo.cmd.all", publish: "nothing" }"#;
    let broker = Broker::configured(&users(&[1], permissions));
    let (link, mut events) = connect(&broker.url(), &[SUBJECT]).await;
    let LinkEvent::Denied { why } = next(&mut events).await else { panic!("no word of the subscription") };
    assert!(why.contains("Subscription") && why.contains(SUBJECT), "{why}");
    link.publish(honest(&Realm::new("demo"))(1), None);
    let LinkEvent::Denied { why } = next(&mut events).await else { panic!("no word of the publishing") };
    assert!(why.contains("Publish") && why.contains(SUBJECT), "{why}");
}

#[tokio::test]
async fn a_client_waits_for_its_broker_and_reports_it_once() {
    let mut broker = Broker::start();
    broker.kill();
    let realm = Realm::new("demo");
    let config = LinkConfig { wait: true, ..config(&broker.url(), &[SUBJECT]) };
    let (link, mut events) = Link::connect(config).await.unwrap();
    link.publish(honest(&realm)(7), None);
    let LinkEvent::Disconnected { why } = next(&mut events).await else { panic!("no word of the broker") };
    assert!(why.contains("no NATS server answers at 127.0.0.1"), "{why}");
    assert!(!link.flush(Duration::from_millis(500)).await, "nothing can have been written");
    assert!(link.inbox().await.is_none());
    broker.restart();
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
    assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(7));
    assert!(link.flush(TIMEOUT).await);
}

#[tokio::test]
async fn after_a_restart_of_the_broker_the_subscriptions_are_there_again() {
    let mut broker = Broker::start();
    let realm = Realm::new("demo");
    let message = honest(&realm);
    let (link, mut events) = connect(&broker.url(), &[SUBJECT]).await;
    assert!(link.inbox().await.is_some());
    broker.kill();
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    link.publish(message(1), None);
    broker.restart();
    assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(1));
    link.publish(message(2), None);
    assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(2));
}

#[tokio::test]
async fn other_subscriptions_take_the_place_of_those_until_now_over_a_connection_that_is_made_again() {
    let (broker, realm) = (Broker::start(), Realm::new("demo"));
    let (link, mut events) = subscribed(&broker, &realm).await;
    link.resubscribe(vec![SUBJECT.to_owned()]);
    link.publish(honest(&realm)(1), None);
    let received = next_message(&mut events, &realm).await.unwrap();
    assert_eq!(received.id, message_id(1), "the same ones need no other connection");

    link.resubscribe(vec!["cs.demo.cmd.client.worker-2".to_owned()]);
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
    link.publish(honest(&realm)(2), None);
    let alice = realm.operator("alice", full_grant());
    link.publish(Draft::new(&alice, to("worker-2"), "ping", json!({}), 3, START).sign(&alice), None);
    assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(3), "and nothing of the former");
}

#[tokio::test]
async fn a_link_that_subscribes_to_nothing_stays_until_its_broker_goes() {
    let mut broker = Broker::start();
    let (link, mut events) = connect(&broker.url(), &[]).await;
    link.publish(honest(&Realm::new("demo"))(1), None);
    assert!(link.flush(TIMEOUT).await);
    broker.kill();
    let LinkEvent::Disconnected { why } = next(&mut events).await else { panic!("no word of the broker") };
    assert_eq!(why, "the connection broke");
}

#[tokio::test]
async fn a_client_whose_key_is_withdrawn_gets_the_error_and_comes_back_when_it_is_not() {
    let broker = Broker::configured(&users(&[1], ""));
    let (_link, mut events) = connect(&broker.url(), &[SUBJECT]).await;
    broker.reconfigure(&users(&[2], ""));
    loop {
        match next(&mut events).await {
            LinkEvent::Disconnected { why } if why.contains("refuses us") => break,
            LinkEvent::Disconnected { .. } | LinkEvent::Denied { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    broker.reconfigure(&users(&[1, 2], ""));
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
}

#[tokio::test]
async fn everything_that_was_published_before_a_close_is_delivered_once() {
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let message = honest(&realm);
    let (_reader, mut events) = subscribed(&broker, &realm).await;
    // It hears its own messages, too: they must not get into the way of the last ones.
    let (link, mut own) = connect(&broker.url(), &[SUBJECT]).await;
    for number in 0..500 {
        link.publish(message(number), None);
    }
    assert!(link.close(TIMEOUT).await);
    for number in 0..500 {
        assert_eq!(next_message(&mut events, &realm).await.unwrap().id, message_id(number));
    }
    while timeout(TIMEOUT, own.recv()).await.unwrap().is_some() {}
}

#[tokio::test]
async fn each_message_of_a_flood_is_delivered_or_counted_as_shed() {
    const SENT: u64 = 20_000;
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let (_link, mut events) = subscribed(&broker, &realm).await;
    let mut peer = Peer::connect(broker.port(), None);
    let flood: String = (0..SENT).map(|number| format!("PUB {SUBJECT} 8\r\n{number:08}\r\n")).collect();
    peer.write(flood.as_bytes());
    peer.send(&honest(&realm)(7));
    peer.flush();
    let (mut shed, mut messages) = (0, 0);
    loop {
        match next(&mut events).await {
            LinkEvent::Shed(count) => shed += count,
            LinkEvent::Message(delivery) => {
                messages += 1;
                if is_honest(&realm, 7, &delivery) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shed + messages, SENT + 1);
}

#[tokio::test]
async fn hostile_headers_through_a_real_broker_do_not_keep_the_link_away() {
    let broker = Broker::start();
    let realm = Realm::new("demo");
    let message = honest(&realm);
    let mut peer = Peer::connect(broker.port(), None);
    let (link, mut events) = subscribed(&broker, &realm).await;
    for (number, (what, headers)) in (0..).zip(hostile_header_blocks()) {
        peer.publish(SUBJECT, None, Some(&headers), b"x");
        peer.send(&message(number));
        peer.flush();
        loop {
            match next(&mut events).await {
                LinkEvent::Message(delivery) if is_honest(&realm, number, &delivery) => break,
                // What was sent while the link was away is lost. It is there again now, and hears what it publishes itself.
                LinkEvent::Connected => link.publish(message(number), None),
                LinkEvent::Message(_) | LinkEvent::Disconnected { .. } => {}
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

/// What a broker that means harm sends to a subscription, one after the other.
fn hostile_frames(sid: &str) -> Vec<(&'static str, Vec<u8>)> {
    let (subject, headers) = (SUBJECT.as_bytes(), header_block(&[]));
    let mut frames: Vec<_> = hostile_header_blocks()
        .into_iter()
        .map(|(what, headers)| (what, message_frame(subject, sid, &headers, b"x")))
        .collect();
    frames.extend([
        ("a subject that is not UTF-8", message_frame(b"cs.demo.\xff\xfe", sid, &headers, b"x")),
        ("such a subject without headers", [b"MSG cs.\xff ", sid.as_bytes(), b" 1\r\nx\r\n"].concat()),
        ("another subject", message_frame(b"$SYS.REQ.SERVER.PING", sid, &headers, b"x")),
        ("an empty header block", message_frame(subject, sid, b"", b"x")),
        ("sizes that do not fit", b"HMSG cs.demo 1 20 10\r\n0123456789\r\n".to_vec()),
        ("a size that is no number", b"MSG cs.demo 1 x\r\nx\r\n".to_vec()),
        ("a size beyond all numbers", b"MSG cs.demo 1 99999999999999999999999\r\nx\r\n".to_vec()),
        ("an unknown operation", b"NONSENSE\r\n".to_vec()),
        ("INFO that is no JSON", b"INFO {\r\n".to_vec()),
        ("an error that is not UTF-8", b"-ERR '\xff'\r\n".to_vec()),
        ("an error and nothing else", b"-ERR 'Slow Consumer'\r\n".to_vec()),
    ]);
    frames
}

#[tokio::test]
async fn whatever_a_hostile_broker_sends_the_next_honest_message_arrives() {
    let broker = FakeBroker::start("nonce");
    let realm = Realm::new("demo");
    let message = honest(&realm);
    let config = LinkConfig { wait: true, ..config(&broker.url(), &[SUBJECT]) };
    let (_link, mut events) = Link::connect(config).await.unwrap();
    let mut session = broker.accept();
    let cases = hostile_frames("0").len();
    for case in 0..cases {
        let number = u64::try_from(case).unwrap();
        let sid = session.subscription(SUBJECT);
        let (what, frame) = hostile_frames(&sid).swap_remove(case);
        session.send(&[frame, signed_frame(&sid, &message(number))].concat());
        loop {
            match next(&mut events).await {
                LinkEvent::Message(delivery) if is_honest(&realm, number, &delivery) => break,
                LinkEvent::Disconnected { .. } => {
                    session = broker.accept();
                    session.deliver(&message(number));
                }
                LinkEvent::Message(_) | LinkEvent::Connected | LinkEvent::Denied { .. } => {}
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up_and_made_again() {
    let url = answers_with("PONG");
    let (_link, mut events) = connect(&url, &[SUBJECT]).await;
    assert!(matches!(next(&mut events).await, LinkEvent::Disconnected { .. }));
    assert!(matches!(next(&mut events).await, LinkEvent::Connected));
}

#[tokio::test]
async fn a_broker_that_gives_any_other_reason_refuses_us_too() {
    let error = refused(config(&answers_with("-ERR 'maximum connections\x1b exceeded'"), &[])).await;
    let LinkError::Refused { why, .. } = error else { panic!("{error:?}") };
    assert!(why.contains("maximum connections\\u{1b} exceeded"), "{why}");
}

/// The address of a broker that answers whoever introduces itself with one line, and says nothing more.
fn answers_with(line: &'static str) -> String {
    let listener = TcpListener::bind(local(0)).unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n").unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"PING\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                seen.extend(byte);
            }
            stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
            silent.push(stream);
        }
    });
    url
}

/// A configuration with the users of these seeds.
fn users(numbers: &[u8], more: &str) -> String {
    let users = numbers.iter().map(|number| format!("{{ nkey: {}{more} }}", seed(*number).public_key().unwrap()));
    format!("authorization: {{ users: [ {} ] }}\n", users.collect::<Vec<_>>().join(", "))
}

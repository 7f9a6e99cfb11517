//! The operator's shell on a real broker.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::future::{pending, ready};
use std::time::Duration;

use async_nats::HeaderMap;
use countersign_link::LinkError;
use countersign_machine::server::{
    Audience, ClientEvent, CommandRequest, Ignored, Options, Report, RequestError, Update, Verdict,
};
use countersign_protocol::command::Call;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Reason;
use countersign_protocol::json::JsonText;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, State};
use countersign_server::{Operator, OperatorError, OperatorEvent, SetupError, forget, setup};
use countersign_testkit::broker::TIMEOUT;
use countersign_testkit::hostile::{FakeBroker, Peer, header_block, message_frame};
use countersign_testkit::realm::name;
use countersign_testkit::slow::{Slow, slow_way};
use serde_json::{Value, json};
use support::{Demo, login, seed, uuid};
use tokio::time::timeout;

/// How many clients a roster has that takes long to tell.
const CLIENTS: u16 = 160;

fn request(command: &str, args: Value) -> CommandRequest {
    let args = serde_json::from_value(args).unwrap();
    CommandRequest::new(Call { name: name(command), args }, false).unwrap()
}

fn long_timeout() -> Options {
    Options { timeout: 30_000, ..Options::default() }
}

async fn ping(operator: &mut Operator) -> Report {
    let request = request("ping", json!({}));
    let clients = Audience::Clients(vec![name("worker-1")]);
    let report = operator.request(request, &clients, long_timeout(), pending(), |_| ());
    timeout(TIMEOUT, report).await.unwrap().unwrap()
}

/// Waits for an update.
async fn until(operator: &mut Operator, is_it: impl Fn(&Update) -> bool) {
    let received = async {
        while !matches!(operator.next().await.unwrap(), OperatorEvent::Update { update, .. } if is_it(&update)) {}
    };
    timeout(TIMEOUT, received).await.unwrap();
}

fn verdict(report: &Report) -> &Verdict {
    &report.replies[0].verdict
}

#[tokio::test]
async fn a_verified_reply_is_the_verdict_and_is_reported_at_once() {
    let demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        assert_eq!((command.command.name.as_str(), command.epoch), ("ping", None), "no stream, no epoch");
        let reply = worker.reply(&command, digest, Outcome::Succeeded(json!(1_795_485_600)));
        worker.publish(&reply).await;
    });
    let mut received = Vec::new();
    let request = request("ping", json!({}));
    let clients = Audience::Clients(vec![name("worker-1")]);
    let dispatch = operator.request(request, &clients, long_timeout(), pending(), |update| received.push(update));
    let report = timeout(TIMEOUT, dispatch).await.unwrap().unwrap();
    answering.await.unwrap();
    assert_eq!(verdict(&report), &Verdict::Succeeded { result: Some(JsonText::from(&json!(1_795_485_600))) });
    assert_eq!(report.replies[0].state, Some(State::Ready));
    let [Update::Reply { client, outcome, .. }] = received.as_slice() else { panic!("one reply: {received:?}") };
    assert_eq!((client.as_str(), outcome), ("worker-1", &Outcome::Succeeded(json!(1_795_485_600))));
}

#[tokio::test]
async fn nothing_is_sent_where_the_broker_does_not_let_the_operator_subscribe_to_replies() {
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let mut worker = demo.worker().await;
    worker.present(uuid(30), State::Ready).await;
    let mut denied = demo.connect(&demo.broker.url(), login(14)).await.unwrap();
    for audience in [Audience::Clients(vec![name("worker-1")]), Audience::All] {
        let submitted = denied.submit(request("ping", json!({})), &audience, long_timeout()).await;
        let Err(OperatorError::ReplySubscriptionDenied(why)) = submitted else { panic!("{submitted:?}") };
        assert!(why.contains("cs.demo.reply.alice."), "{why}");
    }
    let mut operator = demo.operator().await;
    // Who answers takes the first that came.
    let (report, ()) = tokio::join!(ping(&mut operator), worker.pong(uuid(30)));
    assert_eq!(verdict(&report).word(), "succeeded");
}

#[tokio::test]
async fn an_operator_hears_replies_again_as_soon_as_the_broker_allows_it() {
    let demo = Demo::start();
    let mut denied = demo.connect(&demo.broker.url(), login(14)).await.unwrap();
    let clients = Audience::Clients(vec![name("worker-1")]);
    let submitted = denied.submit(request("ping", json!({})), &clients, long_timeout()).await;
    assert!(matches!(submitted, Err(OperatorError::ReplySubscriptionDenied(_))), "{submitted:?}");
    demo.allow_everything();
    until(
        &mut denied,
        |update| matches!(update, Update::Notice { text, .. } if text.contains("allows") || text.contains("back")),
    )
    .await;
    denied.submit(request("ping", json!({})), &clients, long_timeout()).await.unwrap();
}

#[tokio::test]
async fn a_roster_that_comes_slowly_is_read_to_its_end_however_long_that_takes() {
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let worker = demo.worker().await;
    for number in 0..CLIENTS {
        worker.publish(&demo.presence_of(number)).await;
    }
    worker.client.flush().await.unwrap();
    // Longer in all than the broker may be silent.
    let slow = Slow { delay: Duration::from_millis(50), rate: 20_000 };
    let mut operator = demo.connect(&slow_way(demo.broker.port(), slow), login(10)).await.unwrap();
    operator.refresh().await.unwrap();
    assert_eq!(operator.roster().entries().count(), usize::from(CLIENTS));
}

#[tokio::test]
async fn the_stream_can_be_made_again_and_its_presence_gives_the_epoch() {
    let demo = Demo::start();
    for _ in 0..2 {
        assert_eq!(
            setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap().map(|it| it.name),
            ["cs-demo-presence", "cs-demo-trust"]
        );
    }
    let mut worker = demo.worker().await;
    worker.present(uuid(30), State::Unready).await;
    worker.present(uuid(31), State::Ready).await;
    let mut operator = demo.operator().await;
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        assert_eq!(command.epoch, Some(uuid(31)), "that of the last presence");
        let reply = worker.reply(&command, digest, Outcome::Succeeded(json!(1)));
        worker.publish(&reply).await;
    });
    assert_eq!(verdict(&ping(&mut operator).await).word(), "succeeded");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_followed_client_is_looked_up_once_for_each_connection_and_its_epoch_is_known_all_the_same() {
    let mut demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let mut worker = demo.worker().await;
    worker.present(uuid(30), State::Ready).await;
    let mut operator = demo.operator().await;
    let mut questions = demo.questions().await;
    for requested in [1, 0] {
        let (report, ()) = tokio::join!(ping(&mut operator), worker.pong(uuid(30)));
        assert_eq!((verdict(&report).word(), questions.count().await), ("succeeded", requested));
    }
    worker.present(uuid(31), State::Unready).await;
    let is_unready = |event: &ClientEvent| matches!(event, ClientEvent::State { to: State::Unready, .. });
    until(&mut operator, |update| matches!(update, Update::ClientEvent { event, .. } if is_unready(event))).await;
    let (report, ()) = tokio::join!(ping(&mut operator), worker.pong(uuid(31)));
    assert_eq!((verdict(&report).word(), questions.count().await), ("succeeded", 0));

    demo.broker.kill();
    demo.broker.restart();
    until(&mut operator, |update| matches!(update, Update::Notice { text, .. } if text.ends_with("is back"))).await;
    let (mut worker, mut questions) = (demo.worker().await, demo.questions().await);
    let (report, ()) = tokio::join!(ping(&mut operator), worker.pong(uuid(31)));
    assert_eq!((verdict(&report).word(), questions.count().await), ("succeeded", 1));
}

#[tokio::test]
async fn a_presence_that_its_client_did_not_sign_gives_no_epoch() {
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let mut worker = demo.worker().await;
    worker
        .client
        .publish("cs.demo.event.worker-1.presence", json!({ "epoch": uuid(66) }).to_string().into())
        .await
        .unwrap();
    worker.client.flush().await.unwrap();
    let mut operator = demo.operator().await;
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        assert_eq!(command.epoch, None);
        let reply = worker.reply(&command, digest, Outcome::Succeeded(json!(1)));
        worker.publish(&reply).await;
    });
    assert_eq!(verdict(&ping(&mut operator).await).word(), "succeeded");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_ended_is_offline_as_soon_as_nobody_listens() {
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let mut worker = demo.worker().await;
    worker.present(uuid(30), State::Terminated).await;
    worker.client.drain().await.unwrap();
    drop(worker);
    let report = ping(&mut demo.operator().await).await;
    assert_eq!((verdict(&report).word(), report.exit_status()), ("offline", 3));
}

#[tokio::test]
async fn copies_of_a_reply_are_counted_as_repeats_and_keep_no_verdict_away() {
    const COPIES: u64 = 500;
    let demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        let other = worker.reply(&command, Digest::of(b"other bytes"), Outcome::Succeeded(json!(1)));
        for _ in 0..COPIES {
            worker.publish(&other).await;
        }
        let honest = worker.reply(&command, digest, Outcome::Succeeded(json!(2)));
        worker.publish(&honest).await;
    });
    let report = ping(&mut operator).await;
    answering.await.unwrap();
    assert_eq!(verdict(&report), &Verdict::Succeeded { result: Some(JsonText::from(&json!(2))) });
    let ignored = operator.ignored();
    let (opened, repeated) = (ignored[&Ignored::OtherBytes], ignored[&Ignored::Rejected(Reason::Repeat)]);
    assert_eq!(opened + repeated, COPIES);
    assert!(opened < COPIES, "ten in a second: {opened}");
}

#[tokio::test]
async fn forged_and_stripped_messages_on_the_reply_subject_change_nothing() {
    let demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        let honest = worker.reply(&command, digest, Outcome::Succeeded(json!(1)));
        let forged = worker.reply(&command, digest, Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "forged")));
        // Another body under an honest signature, no headers at all, and a status line that is no hint.
        worker.publish(&countersign_protocol::envelope::Signed { body: forged.body.clone(), ..honest.clone() }).await;
        worker.client.publish(forged.subject.clone(), forged.body.clone()).await.unwrap();
        for body in [forged.body, "".into()] {
            let mut headers = HeaderMap::new();
            headers.insert("Status", "503");
            headers.insert("Nats-Subject", "cs.demo.cmd.client.worker-1");
            worker.client.publish_with_headers(forged.subject.clone(), headers, body).await.unwrap();
        }
        worker.publish(&honest).await;
    });
    let report = ping(&mut operator).await;
    answering.await.unwrap();
    assert_eq!(verdict(&report), &Verdict::Succeeded { result: Some(JsonText::from(&json!(1))) });
    let reasons: Vec<Ignored> = operator.ignored().into_keys().collect();
    assert_eq!(reasons, [Ignored::Rejected(Reason::Headers), Ignored::Rejected(Reason::Signature)]);
}

#[tokio::test]
async fn what_was_accepted_is_queried_when_the_broker_is_back() {
    let mut demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let (received, mut updates) = tokio::sync::mpsc::unbounded_channel();
    let answering = tokio::spawn(async move {
        let (command, of_command) = worker.command().await;
        let accepted = worker.reply(&command, of_command, Outcome::Accepted);
        worker.publish(&accepted).await;
        updates.recv().await.unwrap();
        demo.broker.kill();
        demo.broker.restart();
        let (question, digest) = worker.command().await;
        assert_eq!(question.command.name.as_str(), "result");
        assert_eq!(
            Value::Object(question.command.args.clone()),
            json!({ "command_id": command.id, "command_digest": of_command })
        );
        let recorded = json!({
            "command_digest": of_command, "operator": "alice", "status": "succeeded",
            "result": { "x": 60.0, "msg": "done" },
        });
        let answer = worker.reply(&question, digest, Outcome::Succeeded(recorded));
        worker.publish(&answer).await;
        demo
    });
    let calculate = request("calculate", json!({ "x": 60, "msg": "done" }));
    let clients = Audience::Clients(vec![name("worker-1")]);
    let update = |_| {
        // Nobody is left to hear of what comes after the answer.
        let _ = received.send(());
    };
    let dispatch = operator.request(calculate, &clients, long_timeout(), pending(), update);
    let report = timeout(TIMEOUT, dispatch).await.unwrap().unwrap();
    answering.await.unwrap();
    assert_eq!(
        verdict(&report),
        &Verdict::Succeeded { result: Some(JsonText::from(&json!({ "x": 60.0, "msg": "done" }))) }
    );
}

#[tokio::test]
async fn an_interrupted_wait_ends_with_what_is_known() {
    let demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let clients = Audience::Clients(vec![name("worker-1")]);
    let received = async { drop(worker.command().await) };
    let dispatch = operator.request(request("ping", json!({})), &clients, long_timeout(), received, |_| ());
    let report = timeout(TIMEOUT, dispatch).await.unwrap().unwrap();
    assert_eq!(verdict(&report).word(), "no_reply");
}

#[tokio::test]
async fn what_is_interrupted_before_anything_was_sent_has_no_verdict() {
    let demo = Demo::start();
    let mut operator = demo.operator().await;
    let clients = Audience::Clients(vec![name("worker-1")]);
    let dispatch = operator.request(request("ping", json!({})), &clients, long_timeout(), ready(()), |_| ());
    let refused = timeout(TIMEOUT, dispatch).await.unwrap();
    assert!(matches!(refused, Err(OperatorError::Interrupted)), "{refused:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_name_that_neither_the_keys_nor_the_roster_know() {
    let demo = Demo::start();
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let request = request("ping", json!({}));
    let clients = Audience::Clients(vec![name("worker-1"), name("worker-l")]);
    let refused = operator.request(request, &clients, long_timeout(), pending(), |_| ()).await;
    assert!(
        matches!(&refused, Err(OperatorError::Request(RequestError::UnknownClient(it))) if it.as_str() == "worker-l"),
        "{refused:?}"
    );
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        let reply = worker.reply(&command, digest, Outcome::Succeeded(json!(1)));
        worker.publish(&reply).await;
        command.id
    });
    let report = ping(&mut operator).await;
    assert_eq!(answering.await.unwrap(), report.command_id, "the first that arrived");
}

#[tokio::test]
async fn a_broker_that_is_not_there_and_one_that_refuses_are_distinguished() {
    let demo = Demo::start();
    let nobody = demo.connect("nats://127.0.0.1:1", login(10)).await.err();
    assert!(matches!(nobody, Some(OperatorError::Link(LinkError::NoBroker { .. }))), "{nobody:?}");
    let stranger = demo.connect(&demo.broker.url(), login(99)).await.err();
    assert!(matches!(stranger, Some(OperatorError::Link(LinkError::Refused { .. }))), "{stranger:?}");
}

#[tokio::test]
async fn a_broker_without_jetstream_makes_no_stream_and_still_takes_commands() {
    let demo = Demo::with(false);
    let refused = setup(&demo.broker.url(), &name("demo"), login(12)).await;
    assert!(matches!(&refused, Err(SetupError::Stream { stream, .. }) if stream == "cs-demo-presence"), "{refused:?}");
    let (mut operator, mut worker) = (demo.operator().await, demo.worker().await);
    let answering = tokio::spawn(async move {
        let (command, digest) = worker.command().await;
        let reply = worker.reply(&command, digest, Outcome::Succeeded(json!(1)));
        worker.publish(&reply).await;
    });
    assert_eq!(verdict(&ping(&mut operator).await).word(), "succeeded");
    answering.await.unwrap();
}

#[tokio::test]
async fn the_whole_roster_is_found_page_after_page_and_in_it_only_what_verifies() {
    const CLIENTS: u16 = 1_100;
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let worker = demo.worker().await;
    for number in 0..CLIENTS {
        let mut presence = demo.presence_of(number);
        if number == 7 {
            presence.body = demo.presence_of(8).body;
        }
        worker.publish(&presence).await;
    }
    let mut operator = demo.operator().await;
    operator.refresh().await.unwrap();
    let found: Vec<String> = operator.roster().entries().map(|it| it.client().to_string()).collect();
    let mut expected: Vec<String> =
        (0..CLIENTS).filter(|it| *it != 7).map(|number| format!("client-{number}")).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert!(operator.roster().entries().all(|it| it.groups() == [name("web")]));
    let event = timeout(TIMEOUT, operator.next()).await.unwrap().unwrap();
    let OperatorEvent::Update { update: Update::Notice { text, .. }, .. } = event else { panic!("{event:?}") };
    assert!(text.contains("signature"), "{text}");
}

#[tokio::test]
async fn the_roster_is_read_to_its_end_however_many_in_it_cannot_be_read() {
    const THIEVES: usize = 70;
    let demo = Demo::start();
    setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
    let mut thief = Peer::connect(demo.broker.port(), Some(seed(11).as_str()));
    for number in 0..THIEVES {
        let subject = format!("cs.demo.event.thief-{number}.presence");
        thief.publish(&subject, None, Some(b"NATS/1.0\r\nA: b\rc\r\n\r\n"), b"{}");
    }
    thief.flush();
    let worker = demo.worker().await;
    for number in 0..3 {
        worker.publish(&demo.presence_of(number)).await;
    }
    let mut operator = demo.operator().await;
    timeout(TIMEOUT, operator.refresh()).await.unwrap().unwrap();
    let found: Vec<&str> = operator.roster().entries().map(|it| it.client().as_str()).collect();
    assert_eq!(found, ["client-0", "client-1", "client-2"]);
    let why = operator.incomplete().unwrap();
    assert!(why.contains(": cs.demo.event.thief-0.presence, ") && why.ends_with(", 62 more"), "{why}");
}

#[tokio::test]
async fn a_roster_that_a_hostile_broker_makes_up_is_bounded_and_given_up() {
    let demo = Demo::start();
    for (answers, body, why) in [(513, 100, "a page of 512 has more than that"), (0, 0, "its pages run backwards")] {
        let fake = FakeBroker::start("nonce");
        let url = fake.url();
        let telling = std::thread::spawn(move || {
            // The connections of the requests and of the events; the roster comes over one of its own.
            let _others = fake.accept_operator();
            let mut session = fake.accept();
            let question = session.published(|it| it.subject == "cs.demo.roster.get").unwrap();
            let inbox = question.reply.unwrap();
            let (prefix, _) = inbox.rsplit_once('.').unwrap();
            let sid = session.subscription(&format!("{prefix}.*"));
            let answer = message_frame(inbox.as_bytes(), &sid, &header_block(&[]), &vec![b' '; body]);
            session.send(&answer.repeat(answers));
            let end = b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 9\r\nNats-Last-Sequence: 0\r\n\r\n";
            session.send(&message_frame(inbox.as_bytes(), &sid, end, b""));
            session
        });
        let mut operator = demo.connect(&url, login(10)).await.unwrap();
        let refused = timeout(TIMEOUT, operator.refresh()).await.unwrap();
        assert!(matches!(&refused, Err(OperatorError::Roster(it)) if it.ends_with(why)), "{refused:?}");
        telling.join().unwrap();
    }
}

#[tokio::test]
async fn a_client_that_was_removed_is_in_no_roster_any_more_and_only_the_setup_key_removes() {
    let demo = Demo::start();
    let (url, realm) = (demo.broker.url(), name("demo"));
    setup(&url, &realm, login(12)).await.unwrap();
    let mut worker = demo.worker().await;
    worker.present(uuid(30), State::Terminated).await;
    let mut operator = demo.operator().await;
    operator.refresh().await.unwrap();
    assert!(operator.roster().entry(&name("worker-1")).is_some());

    let retired = [name("worker-1"), name("worker-2")];
    let refused = forget(&url, &realm, login(11), &retired).await;
    assert!(matches!(refused, Err(SetupError::Stream { what: "change", .. })), "{refused:?}");
    operator.refresh().await.unwrap();
    assert!(operator.roster().entry(&name("worker-1")).is_some());
    for _ in 0..2 {
        forget(&url, &realm, login(12), &retired).await.unwrap();
    }
    operator.refresh().await.unwrap();
    assert!(operator.roster().entry(&name("worker-1")).is_none(), "also where it was known before");
}

#[tokio::test]
async fn nothing_is_sent_to_all_where_the_broker_does_not_tell_who_is_there() {
    for (jetstream, made) in [(true, true), (true, false), (false, false)] {
        let demo = Demo::with(jetstream);
        if made {
            setup(&demo.broker.url(), &name("demo"), login(12)).await.unwrap();
        }
        let mut operator = demo.operator().await;
        let refused = operator.submit(request("ping", json!({})), &Audience::All, long_timeout()).await;
        let nobody = matches!(refused, Err(OperatorError::Request(RequestError::Nobody { .. })));
        let withheld = matches!(refused, Err(OperatorError::Roster(_)));
        assert_eq!((nobody, withheld), (made, !made), "{refused:?}");
    }
}

//! Which silence is `offline`: what the verified roster says, and the broker's hint that nobody listens (section 1).

use countersign_machine::server::{CommandRequest, Options, Verdict};
use countersign_protocol::reply::State;
use countersign_testkit::realm::message_id;
use serde_json::json;

use super::common::{Server, World, at, ping, pong, request, wrong_epoch};

/// A request to a client whose last presence is so many milliseconds old.
pub fn gone(world: &World, request: CommandRequest, options: Options, age: i64, state: State) -> Server {
    let stored = world.presence("worker-1", |event| {
        event.issued_at = at(-age);
        event.state = state;
    });
    world.request_to(request, &["worker-1"], &[stored], options).unwrap()
}

pub fn nobody_listens(server: &mut Server) {
    let effects = server.operator.no_responders("cs.demo.cmd.client.worker-1", server.now);
    server.apply(effects);
}

#[test]
fn a_client_whose_last_presence_says_that_it_ended_is_offline_and_that_is_a_guess() {
    let world = World::new();
    let mut server = gone(&world, ping(), Options::default(), 1_000, State::Terminated);
    server.pass(5_000);
    let Verdict::Offline { text } = server.verdict("worker-1") else { panic!("offline") };
    assert!(text.contains("probably not run") && text.contains("guess"), "{text}");
    assert_eq!(server.report.unwrap().exit_status(), 3);

    // That a query was not answered says nothing of what runs, or ran, there.
    let mut query = gone(&world, request("jobs", json!({})), Options::default(), 1_000, State::Terminated);
    query.pass(5_000);
    let Verdict::Offline { text } = query.verdict("worker-1") else { panic!("offline") };
    assert_eq!(text, "it has ended, by its last presence: probably not there, but that is a guess");
    let wait = CommandRequest::wait(message_id(77));
    let mut wait = gone(&world, wait, Options::default(), 1_000, State::Terminated);
    wait.pass(5_000);
    let Verdict::NoReply { text } = wait.verdict("worker-1") else { panic!("no reply") };
    assert_eq!(text, "it has ended, by its last presence: whether it ran, and how it ended, is unknown");
}

#[test]
fn a_client_silent_for_long_is_offline_at_the_time_out_and_at_once_if_nobody_listens() {
    let world = World::new();
    let mut silent = gone(&world, ping(), Options::default(), 30_001, State::Ready);
    silent.pass(4_999);
    assert!(silent.report.is_none(), "it may answer yet");
    silent.pass(1);
    let Verdict::Offline { text } = silent.verdict("worker-1") else { panic!("offline") };
    assert!(text.contains("its last presence is 35 s old") && text.contains("guess"), "{text}");

    let mut recent = gone(&world, ping(), Options::default(), 20_000, State::Ready);
    recent.pass(5_000);
    assert_eq!(recent.word("worker-1"), "no_reply", "it was there a moment ago");

    let mut unheard = gone(&world, ping(), Options::default(), 30_001, State::Ready);
    let effects = unheard.operator.no_responders("cs.demo.cmd.client.worker-2", unheard.now);
    assert_eq!(effects, [], "that is another's subject");
    nobody_listens(&mut unheard);
    assert_eq!(unheard.word("worker-1"), "offline", "at once");
}

#[test]
fn that_nobody_listens_ends_no_wait_for_a_client_that_was_there_a_moment_ago() {
    let world = World::new();
    let mut server = gone(&world, ping(), Options::default(), 1_000, State::Ready);
    nobody_listens(&mut server);
    assert!(server.report.is_none());
    server.take(&world.answer(&server.sent[0], pong()));
    assert_eq!(server.word("worker-1"), "succeeded", "a forged hint is never taken for a reply");

    let mut unknown = world.ping();
    nobody_listens(&mut unknown);
    unknown.pass(5_000);
    assert_eq!(unknown.word("worker-1"), "no_reply", "the roster does not say that it is gone");
}

#[test]
fn a_client_that_was_seen_since_is_not_offline() {
    let world = World::new();
    let terminate = request("terminate", json!({}));
    let mut server = gone(&world, terminate, Options::default(), 31_000, State::Ready);
    server.receive(&world.presence("worker-1", |event| (event.n, event.state) = (1, State::Terminated)));
    nobody_listens(&mut server);
    server.pass(5_000);
    assert_eq!(server.word("worker-1"), "no_reply", "it may have ended because of the command");
}

#[test]
fn a_client_that_refused_with_another_epoch_is_there_and_not_offline() {
    let world = World::new();
    let mut server = gone(&world, ping(), Options::default(), 1_000, State::Terminated);
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    nobody_listens(&mut server);
    server.pass(5_000);
    assert_eq!((server.sent.len(), server.word("worker-1")), (2, "no_reply"));
}

//! Section 8: a request that was published before its client had subscribed.

use countersign_machine::server::{Audience, CommandRequest, Options, Update};
use countersign_protocol::command::Target;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::Event;
use countersign_protocol::reply::{ErrorCode, Outcome, State};
use countersign_testkit::realm::name;
use serde_json::json;

use super::common::{Server, World, at, calculate, epoch, ping, pong, refused, request};

/// The process that appears after the request went out.
const NEW: u8 = 9;
/// One that was there before.
const OLD: u8 = 2;

fn start() -> CommandRequest {
    request("start", json!({}))
}

/// A presence of a process that started at a moment.
fn presence(world: &World, client: &'static str, boot: u8, started: i64, issued: i64) -> Authentic<Event> {
    world.presence(client, |event| {
        (event.boot, event.epoch, event.issued_at) = (epoch(boot), epoch(boot), at(issued));
        event.state = State::Unready;
        event.data.insert("started_at".to_owned(), json!(at(started)));
    })
}

/// The first presence of a process that has just started.
fn first(world: &World, client: &'static str) -> Authentic<Event> {
    presence(world, client, NEW, 90, 100)
}

/// A request to worker-1, of which nothing is known.
fn submitted(world: &World, request: CommandRequest) -> Server {
    let server = world.request(request, &["worker-1"], Options::default()).unwrap();
    assert_eq!(server.sent.len(), 1);
    server
}

#[test]
fn what_may_be_repeated_is_reissued_to_a_client_that_appears_before_anything_has_answered() {
    let world = World::new();
    for what in [start(), ping(), request("stop", json!({}))] {
        let mut server = submitted(&world, what);
        server.pass(100);
        server.receive(&first(&world, "worker-1"));
        assert_eq!(server.sent.len(), 2);
        assert_eq!(world.command(&server.sent[1]).epoch, Some(epoch(NEW)));
        // It goes on saying that it is there.
        server.receive(&presence(&world, "worker-1", NEW, 90, 200));
        assert_eq!(server.sent.len(), 2, "once for each process");
    }
    let mut server = submitted(&world, ping());
    server.receive(&first(&world, "worker-1"));
    let done = world.answer(&server.sent[1], pong());
    server.take(&done.with(|reply| reply.boot = epoch(NEW)));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn what_may_not_be_repeated_goes_to_it_in_the_same_bytes_which_never_run_twice() {
    let world = World::new();
    for what in [calculate(), request("terminate", json!({})), request("status", json!({}))] {
        let mut server = submitted(&world, what);
        server.pass(100);
        for issued in [100, 200] {
            server.receive(&presence(&world, "worker-1", NEW, 90, issued));
        }
        let [before, after] = server.sent.as_slice() else { panic!("twice") };
        assert_eq!((&before.body, &before.subject), (&after.body, &after.subject));
    }
    let mut server = submitted(&world, calculate());
    server.receive(&first(&world, "worker-1"));
    let starting = world.answer(&server.sent[1], refused(ErrorCode::Starting, json!({ "epoch": epoch(NEW) })));
    server.take(&starting.with(|reply| reply.boot = epoch(NEW)));
    assert_eq!(server.word("worker-1"), "refused", "and that is known at once");
}

#[test]
fn nothing_is_sent_again_to_a_process_that_was_there_or_for_one_that_may_still_answer() {
    let world = World::new();
    for (boot, started) in [(OLD, -60_000), (NEW, -60_000)] {
        let stored = presence(&world, "worker-1", OLD, -60_000, -1_000);
        let mut server = world.request_to(start(), &["worker-1"], &[stored], Options::default()).unwrap();
        server.receive(&presence(&world, "worker-1", boot, started, 100));
        assert_eq!(server.sent.len(), 1, "{boot}");
    }
    // One that has answered has heard it; one that says that it has ended does not.
    let mut server = submitted(&world, calculate());
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.receive(&first(&world, "worker-1"));
    assert_eq!(server.sent.len(), 1);
    let mut server = submitted(&world, start());
    server.receive(&world.presence("worker-1", |event| (event.boot, event.state) = (epoch(NEW), State::Terminated)));
    assert_eq!(server.sent.len(), 1);
}

#[test]
fn nothing_is_sent_again_after_a_later_control_command_or_without_a_connection() {
    let world = World::new();
    let mut server = submitted(&world, start());
    let stop = request("stop", json!({}));
    server.submit(stop, &Audience::Clients(vec![name("worker-1")]), Options::default()).unwrap();
    server.receive(&first(&world, "worker-1"));
    let after: Vec<_> = server.sent[2..].iter().map(|it| world.command(it).command.name).collect();
    assert_eq!(after, [name("stop")], "only the later one");
    let mut server = submitted(&world, start());
    server.operator.disconnected(server.now);
    server.receive(&first(&world, "worker-1"));
    assert_eq!(server.sent.len(), 1);
}

#[test]
fn of_a_request_to_many_only_what_may_be_repeated_goes_to_who_appears_and_to_it_alone() {
    let world = World::new();
    for (what, is_sent) in
        [(start(), true), (ping(), true), (calculate(), false), (request("terminate", json!({})), false)]
    {
        let mut server = world.server();
        server.store(&["worker-1", "worker-2"].map(|client| presence(&world, client, OLD, -60_000, -1_000)));
        server.submit(what, &Audience::All, Options::default()).unwrap();
        server.receive(&first(&world, "worker-1"));
        assert_eq!(server.sent.len(), 1 + usize::from(is_sent));
        if is_sent {
            let reissued = world.command(&server.sent[1]);
            assert_eq!((reissued.to, reissued.epoch), (Target::Client(name("worker-1")), Some(epoch(NEW))));
            // What it says to the first one comes late.
            let late = world.answer_of(
                "worker-1",
                &server.sent[0],
                refused(ErrorCode::Starting, json!({ "epoch": epoch(NEW) })),
            );
            server.take(&late.with(|reply| reply.boot = epoch(NEW)));
            assert_eq!(server.sent.len(), 2);
        }
    }
    let mut server = world.server();
    server.store(&[presence(&world, "worker-1", OLD, -60_000, -1_000)]);
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    server.receive(&first(&world, "worker-1"));
    let done = world.answer(&server.sent[1], pong());
    server.take(&done.with(|reply| reply.boot = epoch(NEW)));
    assert_eq!(server.word("worker-1"), "succeeded");
    assert!(server.updates.iter().any(|it| matches!(it, Update::Notice { text, .. } if text.contains("sent again"))));
}

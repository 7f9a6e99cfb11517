//! Commands to a group and to all: who is expected, who counts, and what is sent to one alone.

use countersign_machine::server::{Audience, Options, RequestError, Update};
use countersign_protocol::command::{Target, True};
use countersign_protocol::credential::Grant;
use countersign_protocol::digest::Digest;
use countersign_protocol::reply::{ErrorCode, Outcome, State};
use countersign_testkit::realm::{full_grant, name};
use serde_json::json;

use super::common::{
    Answer, Server, World, at, calculate, calculated, epoch, names, ping, pong, refused, request, wrong_epoch,
};

/// worker-1 and worker-2 are in `web`, and the roster knows all three.
fn world() -> World {
    World::with_groups(&[("worker-1", &["web"]), ("worker-2", &["web", "db"]), ("worker-3", &[])])
}

fn to(world: &World, audience: &Audience, options: Options) -> Result<Server, RequestError> {
    let mut server = world.server();
    server.store(&["worker-1", "worker-2", "worker-3"].map(|worker| world.presence(worker, |_| ())));
    server.submit(ping(), audience, options).map(|_| server)
}

fn web() -> Audience {
    Audience::Group(name("web"))
}

fn clients(server: &Server) -> Vec<&str> {
    server.report.as_ref().unwrap().replies.iter().map(|reply| reply.client.as_str()).collect()
}

fn pong_of<'a>(world: &'a World, server: &Server, client: &'static str) -> Answer<'a> {
    world.answer_of(client, &server.sent[0], pong())
}

#[test]
fn one_command_goes_to_all_without_an_epoch_and_every_expected_client_gets_a_verdict() {
    let world = world();
    let mut server = to(&world, &Audience::All, Options::default()).unwrap();
    let [sent] = server.sent.as_slice() else { panic!("one command") };
    let command = world.command(sent);
    assert_eq!((command.to, command.epoch), (Target::All(True), None));
    assert_eq!(command.subject, "cs.demo.cmd.all");
    server.take(&pong_of(&world, &server, "worker-3"));
    server.take(&pong_of(&world, &server, "worker-1"));
    assert!(server.report.is_none());
    server.pass(5_000);
    assert_eq!(clients(&server), ["worker-1", "worker-2", "worker-3"]);
    assert_eq!(["worker-1", "worker-2", "worker-3"].map(|it| server.word(it)), ["succeeded", "no_reply", "succeeded"]);
}

#[test]
fn of_a_group_those_are_expected_that_the_issuer_put_in_it() {
    let world = world();
    let mut server = to(&world, &web(), Options::default()).unwrap();
    assert_eq!(world.command(&server.sent[0]).subject, "cs.demo.cmd.group.web");
    server.take(&pong_of(&world, &server, "worker-1"));
    server.take(&pong_of(&world, &server, "worker-2"));
    assert_eq!(clients(&server), ["worker-1", "worker-2"]);
}

#[test]
fn a_reply_to_a_group_of_a_client_whose_credential_does_not_have_it_is_ignored() {
    let world = world();
    let mut server = to(&world, &web(), Options::default()).unwrap();
    server.take(&pong_of(&world, &server, "worker-3"));
    assert_eq!((server.replies(), server.notices().len()), (0, 1), "{:?}", server.notices());
    server.pass(5_000);
    assert_eq!(clients(&server), ["worker-1", "worker-2"]);
}

#[test]
fn a_client_that_was_addressed_and_not_expected_gets_a_verdict_like_the_others() {
    let world = world();
    let mut server = world.server();
    server.store(&[world.presence("worker-1", |_| ())]);
    server.submit(calculate(), &web(), Options::default()).unwrap();
    server.take(&world.answer_of("worker-2", &server.sent[0], Outcome::Accepted));
    server.take(&world.answer_of("worker-1", &server.sent[0], calculated()));
    assert!(server.report.is_none(), "worker-2 has accepted");
    server.take(&world.answer_of("worker-2", &server.sent[0], calculated()).seq(1));
    assert_eq!(clients(&server), ["worker-1", "worker-2"]);
    assert_eq!(server.word("worker-2"), "succeeded");
}

#[test]
fn a_reply_to_other_bytes_does_not_make_its_client_a_target() {
    let world = world();
    let mut server = world.server();
    server.store(&[world.presence("worker-1", |_| ())]);
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    let forged = pong_of(&world, &server, "worker-2").with(|it| it.command_digest = Digest::of(b"other"));
    server.take(&forged);
    server.take(&world.answer_of("worker-2", &server.sent[0], Outcome::Succeeded(json!("unfit"))));
    server.take(&pong_of(&world, &server, "worker-1"));
    assert_eq!(clients(&server), ["worker-1"]);
}

#[test]
fn who_has_ended_or_is_out_of_reach_is_not_expected() {
    let world = world().alice_with(Grant { all: false, clients: names(&["worker-1", "worker-3"]), ..full_grant() });
    let mut server = world.server();
    let ended = world.presence("worker-3", |event| event.state = State::Terminated);
    server.store(&[world.presence("worker-1", |_| ()), world.presence("worker-2", |_| ()), ended]);
    server.submit(ping(), &Audience::All, Options::default()).unwrap();
    server.take(&pong_of(&world, &server, "worker-1"));
    assert_eq!(clients(&server), ["worker-1"]);
}

#[test]
fn nothing_is_sent_where_nobody_is_expected_and_the_error_says_why() {
    let world = world();
    let nobody = |audience: Audience, ended, out_of_reach| Some(RequestError::Nobody { audience, ended, out_of_reach });
    assert_eq!(world.server().submit(ping(), &Audience::All, Options::default()).err(), nobody(Audience::All, 0, 0));
    let audience = Audience::Group(name("press"));
    assert_eq!(to(&world, &audience, Options::default()).err(), nobody(audience, 0, 0));

    let mut server = world.server();
    server.store(&[world.presence("worker-1", |event| event.state = State::Terminated)]);
    assert_eq!(server.submit(ping(), &web(), Options::default()).err(), nobody(web(), 1, 0));

    let world = world.alice_with(Grant { all: false, clients: vec![], groups: vec![], ..full_grant() });
    let error = to(&world, &web(), Options::default()).err().unwrap();
    assert_eq!(Some(&error), nobody(web(), 0, 2).as_ref());
    assert!(error.to_string().contains("out of reach of the operator's grant (2)"), "{error}");
}

#[test]
fn after_another_epoch_only_the_client_that_refused_is_sent_the_request_again() {
    let world = world();
    let mut server = to(&world, &Audience::All, Options::default()).unwrap();
    server.take(&world.answer_of(
        "worker-2",
        &server.sent[0],
        refused(ErrorCode::Starting, json!({ "epoch": epoch(9) })),
    ));
    let [first, reissued] = server.sent.as_slice() else { panic!("sent again once") };
    let (first, command) = (world.command(first), world.command(reissued));
    assert_eq!((command.to, command.epoch), (Target::Client(name("worker-2")), Some(epoch(9))));
    assert_ne!(command.id, first.id);
    assert_eq!(command.expires_at, first.expires_at);
    server.take(&pong_of(&world, &server, "worker-1"));
    server.take(&pong_of(&world, &server, "worker-3"));
    server.take(&world.answer(&server.sent[1], pong()));
    assert_eq!(server.word("worker-2"), "succeeded");
}

#[test]
fn any_command_is_reissued_to_a_client_that_was_in_the_refused_epoch_before_it_was_issued() {
    let world = world();
    let mut server = world.server();
    server.store(&["worker-1", "worker-2"].map(|worker| world.presence(worker, |_| ())));
    server.submit(calculate(), &web(), Options::default()).unwrap();
    let starting = |n| refused(ErrorCode::Starting, json!({ "epoch": epoch(n) }));
    server.take(&world.answer_of("worker-1", &server.sent[0], starting(1)));
    server.take(&world.answer_of("worker-2", &server.sent[0], starting(2)));
    let [_, reissued] = server.sent.as_slice() else { panic!("sent again to the one whose epoch was known") };
    let command = world.command(reissued);
    assert_eq!((command.to, command.epoch), (Target::Client(name("worker-1")), Some(epoch(1))));
    assert_eq!(server.notices().len(), 1, "{:?}", server.notices());
    server.take(&world.answer(&server.sent[1], calculated()));
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("succeeded", "refused"));
}

#[test]
fn a_retry_sends_the_one_command_again_while_somebody_has_not_answered() {
    let world = world();
    let options = Options { retry: true, ..Options::default() };
    let mut server = to(&world, &web(), options).unwrap();
    server.take(&pong_of(&world, &server, "worker-1"));
    server.pass(700);
    assert_eq!(server.sent.len(), 2);
    assert_eq!(server.sent[0], server.sent[1], "the same bytes");
    server.take(&pong_of(&world, &server, "worker-2"));
    assert!(server.report.is_some());
    server.pass(60_000);
    assert_eq!(server.sent.len(), 2);
}

#[test]
fn what_runs_is_queried_one_by_one() {
    let world = world();
    let mut server = world.server();
    server.store(&["worker-1", "worker-2"].map(|worker| world.presence(worker, |_| ())));
    server.submit(calculate(), &web(), Options::default()).unwrap();
    for client in ["worker-1", "worker-2"] {
        server.take(&world.answer_of(client, &server.sent[0], Outcome::Accepted));
    }
    server.pass(10_000);
    let questions: Vec<_> = server.sent[1..].iter().map(|it| world.command(it)).collect();
    let [first, second] = questions.as_slice() else { panic!("one question to each: {questions:?}") };
    assert_eq!([&first.to, &second.to], [&Target::Client(name("worker-1")), &Target::Client(name("worker-2"))]);
    assert!(questions.iter().all(|it| it.command.name.as_str() == "result" && it.epoch.is_none()));
}

#[test]
fn two_requests_at_once_each_get_their_own_replies() {
    let world = world();
    let mut server = world.server();
    server.store(&["worker-1", "worker-2"].map(|worker| world.presence(worker, |_| ())));
    let first = server.submit(calculate(), &Audience::Clients(names(&["worker-1"])), Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    assert_eq!(server.operator.running(first).into_values().flatten().collect::<Vec<_>>(), names(&["worker-1"]));
    let second = server.submit(ping(), &Audience::All, Options::default()).unwrap();
    assert!(first < second && server.operator.awaits_first_reply(second) && !server.operator.awaits_first_reply(first));
    for client in ["worker-1", "worker-2"] {
        server.take(&world.answer_of(client, &server.sent[1], pong()));
    }
    assert_eq!(server.report.take().unwrap().command.as_str(), "ping");
    server.take(&world.answer(&server.sent[0], calculated()).seq(1));
    assert_eq!(server.report.take().unwrap().command.as_str(), "calculate");
    assert!(server.updates.iter().all(|it| matches!(it, Update::Reply { late: false, .. })), "{:?}", server.updates);
}

#[test]
fn what_a_later_control_command_has_overtaken_is_not_sent_anew() {
    for (later, to_all) in [("stop", false), ("stop", true), ("ping", false)] {
        let world = world();
        let mut server = world.server();
        server.store(&[world.presence("worker-1", |_| ()), world.presence("worker-2", |_| ())]);
        let one = Audience::Clients(names(&["worker-1"]));
        server.submit(request("start", json!({})), &one, Options::default()).unwrap();
        server
            .submit(request(later, json!({})), if to_all { &Audience::All } else { &one }, Options::default())
            .unwrap();
        server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
        let reissued = server.sent[2..].iter().filter(|it| world.command(it).command.name.as_str() == "start").count();
        assert_eq!(reissued, usize::from(later == "ping"), "after a later {later}");
    }
}

#[test]
fn a_later_control_command_to_another_client_overtakes_nothing() {
    let world = world();
    let mut server = world.server();
    server.submit(request("start", json!({})), &Audience::Clients(names(&["worker-1"])), Options::default()).unwrap();
    server.submit(request("stop", json!({})), &Audience::Clients(names(&["worker-2"])), Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!(world.command(server.sent.last().unwrap()).command.name.as_str(), "start");
    assert_eq!(server.sent.len(), 3);
}

#[test]
fn a_silent_client_of_a_group_is_offline_and_one_that_was_there_a_moment_ago_is_not() {
    let world = world();
    let mut server = world.server();
    let old = world.presence("worker-2", |event| event.issued_at = at(-60_000));
    server.store(&[world.presence("worker-1", |_| ()), old]);
    server.submit(ping(), &web(), Options::default()).unwrap();
    server.pass(5_000);
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("no_reply", "offline"));
}

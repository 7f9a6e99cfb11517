//! Section 8 and the contract of the command: no wait lasts for ever, and what was not heard is not guessed at.

use countersign_machine::server::{Options, Verdict};
use countersign_protocol::command::Command;
use countersign_protocol::digest::Digest;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, State};
use countersign_testkit::realm::START;
use serde_json::{Value, json};

use super::common::{
    Server, World, at, calculate, calculated, epoch, ping, pong, recorded, refused, request, wrong_epoch,
};
use super::offline::{gone, nobody_listens};

/// A `calculate` that `worker-1` has accepted.
fn accepted(world: &World) -> Server {
    let mut server = world.calculate();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server
}

fn last_command(world: &World, server: &Server) -> Command {
    world.command(server.sent.last().unwrap())
}

#[test]
fn silence_until_the_time_out_is_no_reply_and_says_that_the_outcome_is_unknown() {
    let world = World::new();
    let mut server = world.ping();
    server.pass(4_999);
    assert!(server.report.is_none());
    server.pass(1);
    let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("no reply") };
    assert!(text.starts_with("no reply within 5 s") && text.contains("unknown"), "{text}");
    assert_eq!(server.report.unwrap().exit_status(), 3);
}

#[test]
fn each_target_has_its_own_time_out() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.pass(5_000);
    assert!(server.report.is_none());
    server.take(&world.answer(&server.sent[0], calculated()).seq(1));
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("succeeded", "no_reply"));
}

#[test]
fn a_reply_after_the_time_out_still_counts_while_others_are_awaited() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.pass(6_000);
    server.take(&world.answer(&server.sent[1], calculated()));
    server.take(&world.answer(&server.sent[0], calculated()).seq(1));
    assert_eq!((server.word("worker-1"), server.word("worker-2")), ("succeeded", "succeeded"));
}

#[test]
fn the_result_of_what_was_accepted_is_queried_every_ten_seconds() {
    let world = World::new();
    let mut server = accepted(&world);
    let queried = world.command(&server.sent[0]).id;
    for question in 1..=2 {
        server.pass(9_999);
        assert_eq!(server.sent.len(), question);
        server.pass(1);
        let command = last_command(&world, &server);
        assert_eq!(command.command.name.as_str(), "result");
        assert_eq!(
            Value::Object(command.command.args),
            json!({ "command_id": queried, "command_digest": Digest::of(&server.sent[0].body) })
        );
        assert_ne!(command.id, queried);
        assert_eq!(command.issued_at, server.now.wall);
    }
}

#[test]
fn a_live_client_that_never_reports_the_outcome_ends_the_wait() {
    let world = World::new();
    let mut server = accepted(&world);
    let present = |server: &mut Server| {
        let wall = server.now.wall;
        server.receive(&world.presence("worker-1", |event| event.issued_at = wall));
    };
    for _ in 0..6 {
        server.pass(9_000);
        present(&mut server);
        server.pass(1_000);
        let forbidden = refused(ErrorCode::Forbidden, json!(null));
        server.take(&world.answer(server.sent.last().unwrap(), forbidden));
        assert!(server.report.is_none());
    }
    server.pass(10_000);
    let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("no reply") };
    assert!(text.contains("reports no outcome") && text.contains("unknown"), "{text}");
}

#[test]
fn a_long_command_whose_client_says_that_it_runs_is_awaited_to_its_end() {
    let world = World::new();
    let mut server = accepted(&world);
    for _ in 0..30 {
        server.pass(10_000);
        server.take(
            &world.answer(server.sent.last().unwrap(), recorded(&server.sent[0], json!({ "status": "accepted" }))),
        );
    }
    assert!(server.report.is_none());
    server.take(&world.answer(&server.sent[0], calculated()).seq(1));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn a_process_that_was_held_reads_what_came_meanwhile_before_it_believes_in_silence() {
    let world = World::new();
    let mut waiting = world.ping();
    let answer = world.answer(&waiting.sent[0], pong());
    let late = waiting.now.micros + 60_000_000;
    waiting.jump(late);
    assert!(waiting.report.is_none());
    waiting.take(&answer);
    assert_eq!(waiting.word("worker-1"), "succeeded");

    let mut running = accepted(&world);
    let late = running.now.micros + 60_000_000;
    running.jump(late);
    assert!(running.report.is_none());
    assert_eq!(last_command(&world, &running).command.name.as_str(), "result", "it is asked for");
    running.take(&world.answer(&running.sent[0], calculated()).seq(1));
    assert_eq!(running.word("worker-1"), "succeeded");

    let mut silent = world.ping();
    let late = silent.now.micros + 60_000_000;
    silent.jump(late);
    silent.pass(1_000);
    assert_eq!(silent.word("worker-1"), "no_reply", "a second later nothing had come");
}

#[test]
fn the_result_of_what_was_accepted_is_queried_on_every_reconnect() {
    let world = World::new();
    let mut server = accepted(&world);
    for question in 2..=3 {
        let effects = server.operator.reconnected(server.now);
        server.apply(effects);
        assert_eq!(server.sent.len(), question);
        assert_eq!(last_command(&world, &server).command.name.as_str(), "result");
    }
}

#[test]
fn a_reply_that_was_lost_with_the_connection_is_queried_when_it_is_back() {
    let world = World::new();
    let lost = |recorded_as: Option<serde_json::Value>| {
        let mut server = world.ping();
        let effects = server.operator.reconnected(server.now);
        server.apply(effects);
        assert_eq!(last_command(&world, &server).command.name.as_str(), "result");
        let outcome = match recorded_as {
            Some(value) => recorded(&server.sent[0], value),
            None => Outcome::Failed(ErrorBody::new(ErrorCode::NotFound, "no")),
        };
        server.take(&world.answer(server.sent.last().unwrap(), outcome));
        server
    };
    assert_eq!(lost(Some(json!({ "status": "succeeded", "result": 1 }))).word("worker-1"), "succeeded");
    let mut server = lost(Some(json!({ "status": "accepted" })));
    server.pass(10_000);
    assert_eq!(last_command(&world, &server).command.name.as_str(), "result", "it runs, and is asked for again");
    let mut server = lost(None);
    server.pass(10_000);
    assert_eq!(server.word("worker-1"), "no_reply", "not on record may mean on its way");
}

#[test]
fn a_recorded_outcome_is_the_verdict() {
    let error = json!({ "code": "failed", "message": "no" });
    let table = [
        (json!({ "status": "succeeded", "result": { "x": 60.0, "msg": "done" } }), "succeeded"),
        (json!({ "status": "succeeded" }), "succeeded"),
        (json!({ "status": "failed", "error": error }), "failed"),
        (json!({ "status": "cancelled" }), "cancelled"),
        (json!({ "status": "interrupted" }), "interrupted"),
    ];
    for (value, word) in table {
        let world = World::new();
        let mut server = accepted(&world);
        server.pass(10_000);
        let stored = value.get("result").cloned();
        server.take(&world.answer(&server.sent[1], recorded(&server.sent[0], value)));
        assert_eq!(server.word("worker-1"), word);
        assert_eq!(server.verdict("worker-1").result(), stored);
        assert_eq!(
            server.verdict("worker-1").error().is_some(),
            word != "succeeded",
            "a failed target carries an error"
        );
    }
}

#[test]
fn a_recorded_result_that_does_not_fit_the_command_is_ignored() {
    let world = World::new();
    for unfit in [json!({ "status": "succeeded", "result": 5 }), json!({ "status": "done" }), json!(5)] {
        let mut server = accepted(&world);
        server.pass(10_000);
        server.take(&world.answer(&server.sent[1], recorded(&server.sent[0], unfit)));
        assert!(server.report.is_none());
        assert_eq!(server.notices().len(), 1);
    }
}

#[test]
fn a_client_that_has_lost_its_record_ends_the_wait() {
    let not_found = Outcome::Failed(ErrorBody::new(ErrorCode::NotFound, "no"));
    for answer in [not_found, wrong_epoch(9)] {
        let world = World::new();
        let mut server = accepted(&world);
        server.pass(10_000);
        assert_eq!(last_command(&world, &server).epoch, None, "it may have the journal and another epoch");
        server.take(&world.answer(&server.sent[1], answer));
        let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("no reply") };
        assert!(text.contains("lost its record") && text.contains("unknown"), "{text}");
    }
}

#[test]
fn a_client_that_falls_silent_after_accepting_ends_in_no_reply() {
    let world = World::new();
    let mut server = accepted(&world);
    server.pass(29_999);
    assert!(server.report.is_none());
    server.pass(1);
    let Verdict::NoReply { text } = server.verdict("worker-1") else { panic!("no reply") };
    assert!(text.starts_with("accepted, then silent for 30 s") && text.contains("unknown"), "{text}");
}

#[test]
fn presence_and_answers_keep_the_wait_alive() {
    let world = World::new();
    let mut server = accepted(&world);
    server.pass(20_000);
    server.receive(&world.presence("worker-1", |_| ()));
    server.pass(20_000);
    assert!(server.report.is_none());
    server.take(&world.answer(server.sent.last().unwrap(), recorded(&server.sent[0], json!({ "status": "accepted" }))));
    server.pass(29_999);
    assert!(server.report.is_none());
    server.pass(1);
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn the_presence_of_another_client_keeps_nothing_alive() {
    let world = World::new();
    let mut server = accepted(&world);
    server.pass(20_000);
    server.receive(&world.presence("worker-2", |_| ()));
    server.pass(10_000);
    assert_eq!(server.word("worker-1"), "no_reply");
}

fn retry() -> Options {
    Options { retry: true, ..Options::default() }
}

#[test]
fn a_retry_sends_the_same_bytes_at_doubled_pauses_until_the_request_expires() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1"], retry()).unwrap();
    let mut times = vec![server.now.micros];
    while let Some(at) = server.operator.wake_at() {
        server.jump(at);
        if server.sent.len() > times.len() {
            times.push(at);
        }
    }
    assert!(server.sent.iter().all(|sent| *sent == server.sent[0]), "the same bytes");
    let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    assert_eq!(pauses.len(), 5, "0.5, 1, 2, 4 and 8 s, and not 16: {pauses:?}");
    assert_ne!(pauses, [500, 1_000, 2_000, 4_000, 8_000], "spread by chance");
    for (pause, nominal) in pauses.iter().zip([500, 1_000, 2_000, 4_000, 8_000]) {
        assert!((nominal * 8 / 10..=nominal * 12 / 10).contains(pause), "{pauses:?}");
    }
    assert_eq!(server.now.wall, at(30_000), "until the expiry");
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn a_retry_sends_nothing_after_the_expiry_however_long_it_waits() {
    let world = World::new();
    let options = Options { timeout: 60_000, ttl: 1_000, ..retry() };
    let mut server = world.request(calculate(), &["worker-1"], options).unwrap();
    server.pass(60_000);
    assert_eq!((server.sent.len(), server.word("worker-1")), (2, "no_reply"));
}

#[test]
fn a_retry_ends_with_the_first_answer() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1"], retry()).unwrap();
    server.pass(700);
    assert_eq!(server.sent.len(), 2);
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.pass(9_000);
    assert_eq!(server.sent.len(), 2);
}

#[test]
fn a_retry_goes_on_although_nobody_listens() {
    let world = World::new();
    let mut server = gone(&world, ping(), retry(), 1_000, State::Terminated);
    nobody_listens(&mut server);
    server.pass(700);
    assert_eq!(server.sent.len(), 2);
    server.take(&world.answer(&server.sent[0], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn after_another_epoch_control_commands_and_ping_are_reissued_by_themselves() {
    let world = World::new();
    for command in ["start", "stop", "ping"] {
        for code in [ErrorCode::Starting, ErrorCode::WrongEpoch] {
            let request = request(command, json!({}));
            let mut server = world.request(request, &["worker-1", "worker-2"], Options::default()).unwrap();
            let first = world.command(&server.sent[0]);
            server.pass(1_000);
            server.take(&world.answer(&server.sent[0], refused(code, json!({ "epoch": epoch(9) }))));
            assert_eq!(server.sent.len(), 3, "to that client alone");
            let reissued = last_command(&world, &server);
            assert_eq!((reissued.to, reissued.epoch), (first.to, Some(epoch(9))));
            assert_ne!(reissued.id, first.id);
            assert_eq!((reissued.issued_at, reissued.expires_at), (at(1_000), first.expires_at));
            assert_eq!(reissued.command, first.command);
        }
    }
}

#[test]
fn the_report_names_the_id_under_which_a_target_was_sent_the_request_last() {
    let world = World::new();
    for clients in [&["worker-1"][..], &["worker-1", "worker-2"]] {
        let mut server = world.request(ping(), clients, Options::default()).unwrap();
        let first = world.command(&server.sent[0]).id;
        server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
        let reissued = last_command(&world, &server).id;
        server.take(&world.answer(server.sent.last().unwrap(), pong()));
        if clients.len() > 1 {
            server.take(&world.answer(&server.sent[1], pong()));
        }
        let report = server.report.unwrap();
        assert_eq!(report.command_id, if clients.len() == 1 { reissued } else { first });
        assert_eq!(report.replies[0].command_id, reissued);
        assert!(report.replies[1..].iter().all(|reply| reply.command_id == first));
    }
}

#[test]
fn other_commands_are_reissued_only_by_a_retry() {
    let world = World::new();
    let mut server = world.calculate();
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!((server.sent.len(), server.word("worker-1")), (1, "refused"));
    assert!(server.notices()[0].contains("only a retry"), "and it says so: {:?}", server.notices());

    let mut server = world.request(calculate(), &["worker-1"], retry()).unwrap();
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!(last_command(&world, &server).epoch, Some(epoch(9)));
    server.take(&world.answer(server.sent.last().unwrap(), calculated()));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn a_refusal_again_of_the_command_before_sends_nothing_more() {
    let world = World::new();
    let mut server = world.ping();
    let refusal = world.answer(&server.sent[0], wrong_epoch(9));
    server.take(&refusal);
    server.take(&refusal);
    assert_eq!(server.sent.len(), 2);
    server.take(&world.answer(&server.sent[1], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn what_was_accepted_once_is_never_reissued() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], retry()).unwrap();
    for client in 0..2 {
        server.take(&world.answer(&server.sent[client], Outcome::Accepted));
    }
    server.pass(20_000);
    server.receive(&world.presence("worker-2", |_| ()));
    server.pass(10_000);
    let sent = server.sent.len();
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!(server.sent.len(), sent);
    server.pass(20_000);
    assert_eq!((server.word("worker-1"), server.sent.len()), ("no_reply", sent + 1), "only worker-2 was asked");
}

#[test]
fn the_first_final_reply_wins_also_when_the_request_was_reissued() {
    let world = World::new();
    let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    server.take(&world.answer(&server.sent[0], Outcome::Succeeded(json!(1))));
    server.take(&world.answer(&server.sent[2], Outcome::Succeeded(json!(2))));
    server.take(&world.answer(&server.sent[1], pong()));
    assert_eq!(server.verdict("worker-1").result(), Some(json!(1)));
}

#[test]
fn a_client_that_keeps_naming_other_epochs_is_not_followed_for_ever() {
    let world = World::new();
    let mut server = world.ping();
    for n in 9..13 {
        server.take(&world.answer(server.sent.last().unwrap(), wrong_epoch(n)));
    }
    assert_eq!((server.sent.len(), server.word("worker-1")), (4, "refused"));
}

#[test]
fn the_epoch_that_was_refused_already_is_not_tried_again() {
    let world = World::new();
    let stored = [world.presence("worker-1", |_| ())];
    let mut server = world.request_to(ping(), &["worker-1"], &stored, Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], wrong_epoch(1)));
    assert_eq!((server.sent.len(), server.word("worker-1")), (1, "refused"));
}

#[test]
fn nothing_is_reissued_once_the_request_has_expired() {
    let world = World::new();
    let options = Options { timeout: 60_000, ttl: 1_000, ..Options::default() };
    let mut server = world.request(ping(), &["worker-1"], options).unwrap();
    server.pass(1_000);
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!((server.sent.len(), server.word("worker-1")), (1, "refused"));
}

#[test]
fn what_was_reissued_has_its_own_time_out() {
    let world = World::new();
    let mut server = world.ping();
    server.pass(4_000);
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    server.pass(4_999);
    assert!(server.report.is_none());
    server.pass(1);
    assert_eq!(server.word("worker-1"), "no_reply");
}

#[test]
fn a_clock_that_is_off_is_shown_by_the_refusal() {
    let world = World::new();
    let table = [
        (ErrorCode::Expired, 95_500, "1 min 35 s behind that of worker-1"),
        (ErrorCode::NotYetValid, -6_000, "6 s ahead of that of worker-1"),
    ];
    for (code, theirs, expected) in table {
        let mut server = world.calculate();
        server.take(&world.answer(&server.sent[0], refused(code, json!({ "now": at(theirs) }))));
        let [notice] = server.notices()[..] else { panic!("one notice") };
        assert!(notice.contains(expected), "{notice}");
    }
    let mut slow = world.calculate();
    slow.take(&world.answer(&slow.sent[0], refused(ErrorCode::Expired, json!({ "now": START }))));
    assert_eq!(slow.notices(), [""; 0], "the delivery was slow, the clocks agree");
}

#[test]
fn an_interrupted_wait_ends_with_what_is_known() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2", "worker-3"], Options::default()).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    server.take(&world.answer(&server.sent[1], calculated()));
    server.interrupt();
    let words = ["worker-1", "worker-2", "worker-3"].map(|client| server.word(client));
    assert_eq!(words, ["accepted", "succeeded", "no_reply"]);
}

//! Section 5: which replies count, and what they decide.

use countersign_machine::server::{Ignored, NOT_RUN, Options, Update, Verdict};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Reason, Rejected};
use countersign_protocol::json::JsonText;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress, State};
use countersign_testkit::realm::{message_id, name};
use serde_json::json;

use super::common::{World, calculate, calculated, dry_run, ping, pong, refused, request, wrong_epoch};

fn progress(fraction: f64) -> Outcome {
    Outcome::Progress(Progress { fraction, message: None })
}

#[test]
fn a_verified_reply_is_the_verdict() {
    let world = World::new();
    let mut server = world.ping();
    server.now.micros += 410;
    server.take(&world.answer(&server.sent[0], pong()));
    let report = server.report.unwrap();
    assert_eq!((report.command.as_str(), report.exit_status()), ("ping", 0));
    assert_eq!(report.command_id, world.command(&server.sent[0]).id);
    let [reply] = report.replies.as_slice() else { panic!("one target") };
    assert_eq!(reply.verdict, Verdict::Succeeded { result: Some(JsonText::from(&json!(1_795_485_600))) });
    assert_eq!((reply.state, reply.latency_ms), (Some(State::Ready), Some(0.41)));
    let latency_ms = 0.41;
    let (client, outcome, state) = (name("worker-1"), pong(), State::Ready);
    let update = Update::Reply { client, command_id: report.command_id, outcome, state, latency_ms, late: false };
    assert_eq!(server.updates, [update]);
}

#[test]
fn a_reply_to_another_operator_is_ignored() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    assert_eq!(server.ignores(&honest.clone().with(|it| it.to = name("bob")), &honest), Ignored::Elsewhere);
}

#[test]
fn a_reply_to_another_session_is_ignored() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    let moved = honest.clone().with(|it| it.subject = it.subject.replace("k3v9q2m8x7c1b5n0", "k3v9q2m8x7c1b5n1"));
    assert_eq!(server.ignores(&moved, &honest), Ignored::Elsewhere);
}

#[test]
fn a_reply_whose_subject_names_another_client_is_ignored() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    let moved = honest.clone().with(|it| it.subject = it.subject.replace("worker-1", "worker-2"));
    assert_eq!(server.ignores(&moved, &honest), Ignored::Elsewhere);
}

#[test]
fn a_reply_to_a_command_that_is_not_pending_is_ignored() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    let replayed = honest.clone().with(|it| {
        let id = message_id(77);
        it.subject = it.subject.replace(&it.command_id.to_string(), &id.to_string());
        it.command_id = id;
    });
    assert_eq!(server.ignores(&replayed, &honest), Ignored::NotPending);
}

#[test]
fn a_reply_of_a_client_that_is_no_target_is_ignored() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    assert_eq!(server.ignores(&honest.clone().by("worker-2"), &honest), Ignored::NotAddressed);
}

#[test]
fn a_reply_to_other_bytes_is_ignored_also_when_they_went_to_another_target() {
    let world = World::new();
    let server = world.ping();
    let honest = world.answer(&server.sent[0], pong());
    let wrong = honest.clone().with(|it| it.command_digest = Digest::of(b"something else"));
    assert_eq!(server.ignores(&wrong, &honest), Ignored::OtherBytes);

    let mut both = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
    let other = world.answer(&both.sent[1], pong());
    both.take(&other.clone().by("worker-1"));
    both.take(&other);
    assert!(both.report.is_none(), "worker-1 has not answered what it was sent");
    both.take(&world.answer(&both.sent[0], pong()));
    assert_eq!(both.operator.ignored(), [(Ignored::OtherBytes, 1)].into());
}

#[test]
fn a_result_that_does_not_fit_the_command_is_ignored() {
    for unfit in [json!("now"), json!(1.5), json!({ "changed": true }), json!({ "dry_run": true }), json!(null)] {
        let world = World::new();
        let server = world.ping();
        let unfit = world.answer(&server.sent[0], Outcome::Succeeded(unfit));
        let honest = world.answer(&server.sent[0], pong());
        assert_eq!(server.ignores(&unfit, &honest), Ignored::Unfit);
    }
}

#[test]
fn only_dry_run_true_is_the_result_of_a_dry_run() {
    let world = World::new();
    let dry = dry_run();
    for unfit in [json!({ "x": 60.0, "msg": "done" }), json!({ "dry_run": false }), json!({ "dry_run": true, "x": 1 })]
    {
        let server = world.request(dry.clone(), &["worker-1"], Options::default()).unwrap();
        let honest = world.answer(&server.sent[0], Outcome::Succeeded(json!({ "dry_run": true })));
        let unfit = world.answer(&server.sent[0], Outcome::Succeeded(unfit));
        assert_eq!(server.ignores(&unfit, &honest), Ignored::Unfit);
    }
}

#[test]
fn what_was_not_authentic_is_counted_by_reason_and_shown_once_for_each_signer() {
    let world = World::new();
    let mut server = world.ping();
    let unsigned = Rejected::new(Reason::Signature, None, "not signed");
    let replayed = Rejected::new(Reason::Address, Some(name("worker-2")), "arrived elsewhere");
    for rejected in [&unsigned, &unsigned, &replayed, &unsigned] {
        let effects = server.operator.rejected(rejected);
        server.apply(effects);
    }
    assert_eq!(server.notices().len(), 2, "{:?}", server.notices());
    server.take(&world.answer(&server.sent[0], pong()));
    let ignored = server.operator.ignored();
    assert_eq!(ignored, [(Ignored::Rejected(Reason::Signature), 3), (Ignored::Rejected(Reason::Address), 1)].into());
}

#[test]
fn the_first_final_reply_wins_and_a_different_second_one_is_an_alarm() {
    let world = World::new();
    let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
    let first = world.answer(&server.sent[0], pong());
    server.take(&first);
    server.take(&first);
    assert_eq!((server.replies(), server.notices().len()), (1, 0), "the same bytes again are nothing new");
    let second = world.answer(&server.sent[0], Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "no")));
    server.take(&second);
    server.take(&second);
    assert_eq!((server.replies(), server.alarms(), server.notices().len()), (1, 1, 1));
    server.take(&world.answer(&server.sent[1], pong()));
    assert_eq!(server.word("worker-1"), "succeeded");
    assert_eq!(server.operator.ignored(), [(Ignored::Conflict, 2)].into());
}

#[test]
fn a_different_second_answer_to_a_query_is_no_alarm() {
    let world = World::new();
    let jobs = request("jobs", json!({}));
    let mut server = world.request(jobs, &["worker-1", "worker-2"], Options::default()).unwrap();
    for more in [false, true] {
        server.take(&world.answer(&server.sent[0], Outcome::Succeeded(json!({ "jobs": [], "more": more }))));
    }
    assert_eq!((server.replies(), server.notices().len()), (1, 0));
    server.pass(5_000);
    assert_eq!(server.verdict("worker-1").result(), Some(json!({ "jobs": [], "more": false })));
}

#[test]
fn a_final_reply_is_taken_at_once_and_the_missing_ones_are_counted() {
    let world = World::new();
    let mut server = world.calculate();
    let command = server.sent[0].clone();
    server.take(&world.answer(&command, Outcome::Accepted));
    server.take(&world.answer(&command, progress(0.5)).seq(3));
    server.take(&world.answer(&command, calculated()).seq(5));
    assert_eq!(server.word("worker-1"), "succeeded");
    assert_eq!(server.report.unwrap().gaps, 3, "numbers 1, 2 and 4");
}

#[test]
fn interim_replies_that_come_late_or_again_are_not_shown() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1", "worker-2"], Options::default()).unwrap();
    let command = server.sent[0].clone();
    server.take(&world.answer(&command, progress(0.5)).seq(2));
    server.take(&world.answer(&command, progress(0.2)).seq(1));
    server.take(&world.answer(&command, progress(0.5)).seq(2));
    assert_eq!(server.replies(), 1);
    server.take(&world.answer(&command, calculated()).seq(3));
    server.take(&world.answer(&command, progress(0.9)).seq(4));
    assert_eq!((server.replies(), server.notices().len()), (2, 0));
}

#[test]
fn a_refusal_of_one_delivery_gives_way_to_a_reply_that_is_for_good() {
    let world = World::new();
    for code in
        [ErrorCode::Busy, ErrorCode::Expired, ErrorCode::Forbidden, ErrorCode::IdConflict, ErrorCode::NotRecorded]
    {
        let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
        server.take(&world.answer(&server.sent[0], refused(code, json!(null))));
        server.take(&world.answer(&server.sent[0], pong()));
        server.take(&world.answer(&server.sent[0], refused(code, json!(null))));
        server.take(&world.answer(&server.sent[1], pong()));
        assert_eq!((server.word("worker-1"), server.notices().len()), ("succeeded", 0), "{code}");
    }
}

#[test]
fn a_refusal_of_one_delivery_does_not_end_what_was_accepted() {
    let world = World::new();
    let mut server = world.calculate();
    let command = server.sent[0].clone();
    server.take(&world.answer(&command, Outcome::Accepted));
    server.take(&world.answer(&command, wrong_epoch(9)));
    server.take(&world.answer(&command, refused(ErrorCode::Busy, json!(null))));
    assert!(server.report.is_none());
    server.take(&world.answer(&command, calculated()).seq(1));
    assert_eq!(server.word("worker-1"), "succeeded");
}

#[test]
fn what_was_not_run_by_this_delivery_is_reported_so() {
    let world = World::new();
    for code in ErrorCode::ALL.iter().copied().filter(|code| !code.is_recorded()) {
        let mut server = world.calculate();
        server.take(&world.answer(&server.sent[0], refused(code, json!(null))));
        assert_eq!(
            (server.word("worker-1"), server.verdict("worker-1").remark()),
            ("refused", Some(NOT_RUN)),
            "{code}"
        );
    }
    let mut server = world.calculate();
    server.take(&world.answer(&server.sent[0], refused(ErrorCode::NotReady, json!(null))));
    assert_eq!(server.verdict("worker-1").remark(), None, "that one is for good");
}

#[test]
fn detached_an_acceptance_is_a_verdict() {
    let world = World::new();
    let options = Options { detach: true, ..Options::default() };
    let mut server = world.request(calculate(), &["worker-1"], options).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    assert_eq!((server.word("worker-1"), server.report.unwrap().exit_status()), ("accepted", 0));
}

#[test]
fn what_comes_after_the_report_is_reported_as_late_and_changes_no_verdict() {
    let world = World::new();
    let mut server = world.ping();
    server.pass(5_000);
    assert_eq!(server.word("worker-1"), "no_reply");
    let honest = world.answer(&server.sent[0], pong());
    server.take(&honest);
    server.take(&honest);
    let late = |it: &Update| matches!(it, Update::Reply { late: true, outcome, .. } if *outcome == pong());
    assert_eq!(server.updates.iter().filter(|it| late(it)).count(), 1, "{:?}", server.updates);
    server.take(&world.answer(&server.sent[0], Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "no"))));
    assert_eq!((server.replies(), server.alarms()), (1, 1), "a second, different one is an alarm still");
    server.pass(60_000);
    assert_eq!((server.sent.len(), server.operator.wake_at()), (1, None));
}

#[test]
fn interim_replies_after_the_report_are_not_reported() {
    let world = World::new();
    let mut server = world.request(calculate(), &["worker-1"], Options { detach: true, ..Options::default() }).unwrap();
    server.take(&world.answer(&server.sent[0], Outcome::Accepted));
    assert_eq!((server.word("worker-1"), server.replies()), ("accepted", 1));
    server.take(&world.answer(&server.sent[0], progress(0.5)).seq(1));
    assert_eq!(server.replies(), 1);
    server.take(&world.answer(&server.sent[0], calculated()).seq(2));
    assert_eq!(server.replies(), 2, "the end is told");
}

#[test]
fn a_late_refusal_of_one_delivery_reissues_nothing() {
    let world = World::new();
    let mut server = world.ping();
    server.pass(5_000);
    server.take(&world.answer(&server.sent[0], wrong_epoch(9)));
    assert_eq!(server.sent.len(), 1);
}

#[test]
fn the_exit_status_is_the_worst_that_a_script_must_know() {
    let world = World::new();
    let failed = || Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "no"));
    let run = |first: Option<Outcome>, second: Option<Outcome>| {
        let mut server = world.request(ping(), &["worker-1", "worker-2"], Options::default()).unwrap();
        for (index, outcome) in [first, second].into_iter().enumerate() {
            if let Some(outcome) = outcome {
                server.take(&world.answer(&server.sent[index], outcome));
            }
        }
        server.pass(5_000);
        let report = server.report.unwrap();
        (report.exit_status(), report.summary())
    };
    assert_eq!(run(Some(pong()), Some(pong())), (0, [("succeeded", 2)].into()));
    assert_eq!(run(Some(pong()), None), (3, [("succeeded", 1), ("no_reply", 1)].into()));
    assert_eq!(run(Some(failed()), None), (1, [("failed", 1), ("no_reply", 1)].into()));
}

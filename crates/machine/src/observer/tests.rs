#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use countersign_protocol::command::{Target, True};
use countersign_protocol::envelope::{Delivery, MessageType, Reason, Signed};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use countersign_testkit::realm::{Realm, full_grant, name, to};
use serde_json::json;

use super::fixture::{World, bare, job, presence, security, uuid};
use super::{Filter, Gap, Kind, MAX_SUBJECT, Observation, ObservedMessage, Occurrence, VerifiedMessage};

impl World {
    /// Takes a message, before which nothing is missing.
    fn seen(&mut self, message: &Signed) -> ObservedMessage {
        let (gap, seen) = self.gap_and_seen(message);
        assert_eq!(gap, None);
        seen
    }

    /// Takes a message, and what is missing before it.
    fn gap_and_seen(&mut self, message: &Signed) -> (Option<Gap>, ObservedMessage) {
        let mut gap = None;
        for observation in self.take(&message.delivery()) {
            match observation {
                Observation::Gap(found) => gap = Some(found),
                Observation::Message(seen) => return (gap, *seen),
            }
        }
        panic!("no message");
    }
}

/// The reason why it is rejected and who signed it.
#[track_caller]
fn rejected(seen: &ObservedMessage) -> (Reason, Option<&str>) {
    let rejected = seen.verdict.as_ref().unwrap_err();
    (rejected.reason, rejected.signer.as_ref().map(Name::as_str))
}

fn route(seen: &ObservedMessage) -> (Option<&str>, Option<String>) {
    (seen.from().map(Name::as_str), seen.to())
}

fn only(mut observations: Vec<Observation>) -> ObservedMessage {
    match (observations.pop(), observations.len()) {
        (Some(Observation::Message(seen)), 0) => *seen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_and_its_reply_are_seen_with_their_signers_and_targets() {
    let mut world = World::new();
    let ping = world.ping();
    let seen = world.seen(&ping);
    assert_eq!((seen.kind, route(&seen)), (Kind::Command, (Some("alice"), Some("worker-1".to_owned()))));
    assert!(matches!(&seen.verdict, Ok(VerifiedMessage::Command(command)) if command.command.name.as_str() == "ping"));

    let reply = world.reply(&ping, 0, Outcome::Succeeded(json!(1)));
    let seen = world.seen(&reply);
    assert_eq!((seen.kind, route(&seen)), (Kind::Reply, (Some("worker-1"), Some("alice".to_owned()))));
    let Ok(VerifiedMessage::Reply(_, outcome, command)) = seen.verdict else { panic!("{seen:?}") };
    assert_eq!((outcome, command), (Outcome::Succeeded(json!(1)), Some(name("ping"))));
}

#[test]
fn a_reply_to_a_command_that_was_not_seen_has_no_name_for_it() {
    let mut world = World::new();
    let ping = world.ping();
    let reply = world.reply(&ping, 0, Outcome::Accepted);
    assert!(matches!(world.seen(&reply).verdict, Ok(VerifiedMessage::Reply(_, Outcome::Accepted, None))));
}

#[test]
fn groups_and_all_are_addressees_with_an_at_sign() {
    let mut world = World::new();
    for (to, shown) in [(Target::Group(name("web")), "@web"), (Target::All(True), "@all")] {
        let command = world.draft(to, "stop", json!({})).sign(&world.alice);
        assert_eq!(world.seen(&command).to().as_deref(), Some(shown));
    }
}

#[test]
fn every_event_has_its_kind_and_is_for_everyone() {
    let mut world = World::new();
    for (n, data, kind) in [(0, presence("1"), Kind::Presence), (1, job(), Kind::Job), (2, security(), Kind::Security)]
    {
        let event = world.event(n, &data);
        let seen = world.seen(&event);
        assert_eq!((seen.kind, route(&seen)), (kind, (Some("worker-1"), None)));
        assert!(matches!(seen.verdict, Ok(VerifiedMessage::Event(_, found)) if found == data));
    }
}

#[test]
fn a_trust_bundle_is_judged_as_the_successor_of_the_one_in_force() {
    let mut world = World::new();
    let good = world.trust("demo");
    let seen = only(world.take(&bare("cs.demo.trust.bundle.2", good.clone())));
    assert_eq!((seen.kind, route(&seen)), (Kind::Trust, (None, None)));
    let Ok(VerifiedMessage::Trust(trust, payload)) = seen.verdict else { panic!("{seen:?}") };
    assert_eq!((trust.version(), &payload["version"]), (2, &json!(2)));

    let mut other = World::new();
    other.realm = Realm::new("other");
    let by_another_root = other.trust("demo");
    let cut = good[..good.len() - 1].to_vec();
    for (bytes, reason) in [
        (by_another_root, Reason::Signature),
        (world.trust("plant"), Reason::Realm),
        (cut, Reason::Json),
        (vec![b' '; 1 << 20], Reason::Size),
        (br#"{"payload":"","signatures":[]}"#.to_vec(), Reason::Json),
        (br#"{"payload":"=","signatures":[]}"#.to_vec(), Reason::Envelope),
    ] {
        let seen = only(world.take(&bare("cs.demo.trust.bundle.2", bytes)));
        assert_eq!((seen.kind, rejected(&seen)), (Kind::Trust, (reason, None)));
    }
}

#[test]
fn what_is_on_no_subject_of_the_realm_is_rejected_whatever_it_is() {
    let mut world = World::new();
    let ping = world.ping();
    for subject in ["cs.demo.other", "cs.demo", "cs.plant.cmd.client.worker-1", "$SYS.x", "", "cs.demo.gap"] {
        let seen = world.seen(&Signed { subject: subject.to_owned(), ..ping.clone() });
        assert_eq!((seen.kind, rejected(&seen)), (Kind::Other, (Reason::Address, None)), "{subject}");
    }
}

#[test]
fn a_genuine_message_on_a_subject_of_another_class_is_rejected_for_its_type() {
    let mut world = World::new();
    let command = world.ping();
    let reply = world.reply(&command, 0, Outcome::Accepted);
    let event = world.event(1, &job());
    for (message, on) in [
        (&command, &reply.subject),
        (&command, &event.subject),
        (&reply, &command.subject),
        (&reply, &event.subject),
        (&event, &command.subject),
        (&event, &reply.subject),
    ] {
        let seen = world.seen(&Signed { subject: on.clone(), ..message.clone() });
        assert_eq!(rejected(&seen), (Reason::Type, None), "{} on {on}", message.subject);
    }
}

#[test]
fn a_forgery_is_rejected_with_its_reason_and_without_a_signer() {
    let mut world = World::new();
    let ping = world.ping();
    let other_body = world.ping().body;
    let seen = world.seen(&Signed { body: other_body, ..ping.clone() });
    assert_eq!((seen.kind, rejected(&seen)), (Kind::Command, (Reason::Signature, None)));
    let stranger = Realm::new("plant").operator("alice", full_grant());
    let seen = world.seen(&Signed { credential: stranger.credential().raw().clone(), ..ping.clone() });
    assert_eq!(rejected(&seen), (Reason::Credential, None));
    let seen = only(world.take(&bare(&ping.subject, ping.body.to_vec())));
    assert_eq!(rejected(&seen), (Reason::Headers, None));
    let seen = only(world.take(&Delivery::new(&ping.subject, true, [], ping.body)));
    assert_eq!(rejected(&seen), (Reason::Headers, None));
}

#[test]
fn a_signed_message_that_arrives_elsewhere_is_rejected_and_names_its_signer() {
    let mut world = World::new();
    let ping = world.ping();
    let moved = Signed { subject: "cs.demo.cmd.all".to_owned(), ..ping.clone() };
    assert_eq!(rejected(&world.seen(&moved)), (Reason::Address, Some("alice")));

    // Of the same subject as it arrives on, and not of its own.
    let to_two = world.draft(to("worker-1"), "ping", json!({}));
    let to_two = to_two.with(|it| it.to = to("worker-2")).sign(&world.alice);
    assert_eq!(rejected(&world.seen(&to_two)), (Reason::Address, Some("alice")));
    let elsewhere = world.draft(to("worker-1"), "ping", json!({}));
    let elsewhere = elsewhere.with(|it| it.reply_to = it.reply_to.replace("alice", "bob")).sign(&world.alice);
    assert_eq!(rejected(&world.seen(&elsewhere)), (Reason::Address, Some("alice")));
    let to_bob = world.reply_with(&ping, 0, Outcome::Accepted, |reply| reply.to = name("bob"));
    assert_eq!(rejected(&world.seen(&to_bob)), (Reason::Address, Some("worker-1")));
    let as_two = |subject: &mut String| *subject = subject.replace("worker-1", "worker-2");
    let reply = world.reply_with(&ping, 0, Outcome::Accepted, |reply| as_two(&mut reply.subject));
    assert_eq!(rejected(&world.seen(&reply)), (Reason::Address, Some("worker-1")));
    for (from, to) in [("worker-1", "worker-2"), (".job", ".presence"), (".job", ".nonsense")] {
        let event = world.event_with(0, &job(), |event| event.subject = event.subject.replace(from, to));
        assert_eq!(rejected(&world.seen(&event)), (Reason::Address, Some("worker-1")), "{to}");
    }
}

#[test]
fn a_signed_body_that_is_none_is_rejected_and_names_its_signer() {
    let mut world = World::new();
    let subject = "cs.demo.cmd.client.worker-1".to_owned();
    for (body, reason) in [("{", Reason::Json), ("{}", Reason::Envelope)] {
        let message = world.alice.sign(MessageType::Command, subject.clone(), body.as_bytes().to_vec());
        assert_eq!(rejected(&world.seen(&message)), (reason, Some("alice")));
    }
}

#[test]
fn a_command_that_is_sent_twice_and_the_recorded_reply_are_marked_again() {
    let mut world = World::new();
    let (ping, other) = (world.ping(), world.ping());
    let reply = world.reply(&ping, 0, Outcome::Accepted);
    let found = [&ping, &other, &reply, &ping, &reply].map(|message| world.seen(message).occurrence);
    use Occurrence::{Again, First};
    assert_eq!(found, [First, First, First, Again, Again]);
}

#[test]
fn one_id_with_two_bodies_is_no_repetition() {
    let mut world = World::new();
    let draft = world.draft(to("worker-1"), "ping", json!({}));
    let (one, two) = (draft.clone().sign(&world.alice), draft.dry_run().sign(&world.alice));
    assert_eq!([one, two].map(|it| world.seen(&it).occurrence), [Occurrence::First; 2]);
}

#[test]
fn what_is_missing_is_reported_before_the_message_that_shows_it() {
    let mut world = World::new();
    let (first, ping) = (world.event(3, &presence("1")), world.ping());
    world.seen(&first);
    let reply = world.reply(&ping, 6, Outcome::Accepted);
    let (gap, seen) = world.gap_and_seen(&reply);
    let at = seen.at;
    assert_eq!(gap, Some(Gap { at, client: name("worker-1"), missing: 2, away: false }));
    assert_eq!(seen.occurrence, Occurrence::First);
    let late = world.event(5, &job());
    assert_eq!(world.seen(&late).occurrence, Occurrence::Late);

    world.watcher.was_away();
    let event = world.event(9, &presence("1"));
    assert_eq!(world.gap_and_seen(&event).0, Some(Gap { at, client: name("worker-1"), missing: 2, away: true }));
    let restarted = world.event_with(0, &presence("1"), |event| event.boot = uuid(9));
    assert_eq!(world.seen(&restarted).occurrence, Occurrence::First, "another process counts from 0");
}

#[test]
fn what_is_not_believed_counts_for_nothing() {
    let mut world = World::new();
    let ping = world.ping();
    world.seen(&Signed { subject: "cs.demo.cmd.all".to_owned(), ..ping.clone() });
    assert_eq!(world.seen(&ping).occurrence, Occurrence::First);

    let (first, next) = (world.event(0, &presence("1")), world.event(1, &presence("1")));
    world.seen(&first);
    let far = world.event(1_000, &job());
    world.seen(&Signed { body: next.body.clone(), ..far.clone() });
    world.seen(&Signed { subject: next.subject.clone(), ..far });
    assert_eq!(world.seen(&next).occurrence, Occurrence::First);
}

#[test]
fn a_subject_is_retained_no_longer_than_any_of_ours() {
    let mut world = World::new();
    let subject = format!("cs.demo.{}", "ü".repeat(100_000));
    assert_eq!(only(world.take(&bare(&subject, Vec::new()))).subject.chars().count(), MAX_SUBJECT);
}

/// A command, a reply, events, a trust bundle, a gap and something else, and two that are rejected.
fn traffic() -> (World, Vec<(&'static str, Observation)>) {
    let mut world = World::new();
    let ping = world.ping();
    let to_two = world.draft(to("worker-2"), "stop", json!({})).sign(&world.alice);
    let to_web = world.draft(Target::Group(name("web")), "stop", json!({})).sign(&world.alice);
    let to_all = world.draft(Target::All(True), "stop", json!({})).sign(&world.alice);
    let forged = Signed { subject: to_two.subject.clone(), body: ping.body.clone(), ..to_web.clone() };
    let error = Outcome::Refused(ErrorBody::new(ErrorCode::NotReady, "no"));
    let reply = world.reply(&ping, 2, error);
    let mut observations = Vec::new();
    for (label, message) in [
        ("presence", world.event(0, &presence("1"))),
        ("command", ping.clone()),
        ("two", to_two),
        ("web", to_web),
        ("all", to_all),
        ("reply", reply.clone()),
        ("job", world.event(3, &job())),
        ("security", world.event(4, &security())),
        ("again", ping.clone()),
        ("forged", forged),
        ("moved", Signed { subject: "cs.demo.event.worker-2.x".to_owned(), ..reply }),
    ] {
        for observation in world.take(&message.delivery()) {
            observations.push((if matches!(observation, Observation::Gap(_)) { "gap" } else { label }, observation));
        }
    }
    let trust = world.trust("demo");
    for (label, delivery) in
        [("trust", bare("cs.demo.trust.bundle.2", trust)), ("other", bare("cs.demo.x", Vec::new()))]
    {
        observations.extend(world.take(&delivery).into_iter().map(|observation| (label, observation)));
    }
    (world, observations)
}

#[track_caller]
fn shown(filter: &Filter, expected: &[&str]) {
    let (world, observations) = traffic();
    let shown = observations.iter().filter(|(_, observation)| filter.shows(observation, &world.watcher));
    assert_eq!(shown.map(|(label, _)| *label).collect::<Vec<_>>(), expected, "{filter:?}");
}

#[test]
fn without_a_filter_everything_is_shown() {
    let all = [
        "presence", "command", "two", "web", "all", "gap", "reply", "job", "security", "again", "forged", "moved",
        "trust", "other",
    ];
    shown(&Filter::default(), &all);
}

#[test]
fn a_client_selects_what_is_of_it_for_it_or_on_its_subjects() {
    let of = |clients: &[&str]| Filter { clients: clients.iter().map(|it| name(it)).collect(), ..Filter::default() };
    let one = ["presence", "command", "web", "all", "gap", "reply", "job", "security", "again"];
    shown(&of(&["worker-1"]), &one);
    shown(&of(&["worker-2"]), &["two", "all", "forged", "moved"]);
    let both =
        ["presence", "command", "two", "web", "all", "gap", "reply", "job", "security", "again", "forged", "moved"];
    shown(&of(&["worker-1", "worker-2"]), &both);
    shown(&of(&["alice"]), &["all"]);
}

#[test]
fn an_operator_selects_what_is_of_them_for_them_or_about_them() {
    let of = |operator: &str| Filter { operators: vec![name(operator)], ..Filter::default() };
    shown(&of("alice"), &["command", "two", "web", "all", "reply", "job", "again"]);
    shown(&of("mallory"), &["security"]);
    shown(&of("worker-1"), &[]);
}

#[test]
fn a_kind_selects_its_messages_and_event_all_three_and_those_of_unknown_kinds() {
    for (kind, expected) in [
        (Kind::Command, &["command", "two", "web", "all", "again", "forged"][..]),
        (Kind::Reply, &["reply"]),
        (Kind::Presence, &["presence"]),
        (Kind::Job, &["job"]),
        (Kind::Security, &["security"]),
        (Kind::Event, &["presence", "job", "security", "moved"]),
        (Kind::Trust, &["trust"]),
        (Kind::Gap, &["gap"]),
        (Kind::Other, &["other"]),
    ] {
        shown(&Filter { kinds: vec![kind], ..Filter::default() }, expected);
    }
    shown(&Filter { kinds: vec![Kind::Job, Kind::Reply], ..Filter::default() }, &["reply", "job"]);
}

#[test]
fn bad_selects_what_is_rejected_repeated_or_missing() {
    shown(&Filter { bad: true, ..Filter::default() }, &["gap", "again", "forged", "moved", "other"]);
}

#[test]
fn filters_of_several_kinds_must_all_fit() {
    let filter = Filter {
        clients: vec![name("worker-1")],
        operators: vec![name("alice")],
        kinds: vec![Kind::Command, Kind::Gap],
        bad: true,
    };
    shown(&filter, &["again"]);
    shown(&Filter { clients: vec![name("worker-1")], bad: true, ..Filter::default() }, &["gap", "again"]);
}

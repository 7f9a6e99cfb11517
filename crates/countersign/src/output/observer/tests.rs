#![allow(clippy::unwrap_used, reason = "a test that cannot make what it needs is to fail there")]

use countersign_protocol::command::{Command, Target, True};
use countersign_protocol::envelope::Signed;
use countersign_protocol::event::{EventData, EventKind};
use countersign_protocol::id::MessageId;
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Progress};
use countersign_protocol::text::escape;
use countersign_testkit::realm::{message_id, name, to};
use serde_json::{Value, json};

use super::super::json;
use super::fixture::{World, bare, job, presence, security};
use super::{Line, MAX_SUMMARY, for_people};
use countersign_machine::observer::Observation;

const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7}\rok\u{202e}neves\u{2066}\u{200b}\u{2028}\n\u{85}end";

fn id_of(command: &Signed) -> MessageId {
    serde_json::from_slice::<Command>(&command.body).unwrap().id
}

/// The lines for people, without colours.
fn lines(observations: &[Observation]) -> Vec<String> {
    observations.iter().map(|observation| anstream::adapter::strip_str(&for_people(observation)).to_string()).collect()
}

fn documents(observations: &[Observation]) -> Vec<Value> {
    observations
        .iter()
        .map(|observation| serde_json::from_str(&json::line(&Line::of(observation)).unwrap()).unwrap())
        .collect()
}

#[test]
fn every_kind_has_its_line() {
    let mut world = World::new();
    let calculate = world.draft(to("worker-1"), "calculate", json!({ "x": 2.5, "msg": "done" })).sign(&world.alice);
    let to_web = world.draft(Target::Group(name("web")), "stop", json!({})).dry_run().sign(&world.alice);
    let to_all = world.draft(Target::All(True), "ping", json!({})).sign(&world.alice);
    let unseen = world.ping();
    let progress = Outcome::Progress(Progress { fraction: 0.5, message: Some("half".to_owned()) });
    let refused = Outcome::Refused(ErrorBody::new(ErrorCode::NotReady, "start it first"));
    let messages = [
        calculate.clone(),
        to_web,
        to_all.clone(),
        world.event(0, &presence("0.1.0")),
        world.reply(&calculate, 1, Outcome::Accepted),
        world.reply(&calculate, 2, progress),
        world.reply(&calculate, 4, Outcome::Succeeded(json!({ "x": 2.5 }))),
        world.reply(&unseen, 5, refused),
        world.event(6, &job()),
        world.event(7, &security()),
        world.event(3, &job()),
        calculate.clone(),
        Signed { body: unseen.body.clone(), ..calculate.clone() },
        Signed { subject: to_all.subject, ..calculate },
    ];
    let mut observations: Vec<Observation> =
        messages.iter().flat_map(|message| world.take(&message.delivery())).collect();
    let trust = world.trust("demo");
    observations.extend(world.take(&bare("cs.demo.trust.bundle.2", trust)));
    observations.extend(world.take(&bare("cs.demo.x", Vec::new())));
    let args = r#"{"msg":"done","x":2.5}"#;
    let unseen = id_of(&unseen);
    let kid = world.alice.kid();
    let job = "cs.demo.cmd.client.worker-1";
    let job_id = message_id(7);
    let expected = [
        format!("ok          command   alice → worker-1          calculate {args}"),
        "ok          command   alice → @web              stop (dry run)".to_owned(),
        "ok          command   alice → @all              ping".to_owned(),
        "ok          presence  worker-1 → everyone       ready, 1 of 64 jobs, version 0.1.0".to_owned(),
        "ok          reply     worker-1 → alice          calculate accepted".to_owned(),
        "ok          reply     worker-1 → alice          calculate progress 50 % half".to_owned(),
        "gap         -         worker-1                  1 message of worker-1 is missing here: lost, removed or held back"
            .to_owned(),
        r#"ok          reply     worker-1 → alice          calculate succeeded {"x":2.5}"#.to_owned(),
        format!("ok          reply     worker-1 → alice          {unseen} refused not_ready: start it first"),
        format!("ok          job       worker-1 → everyone       calculate accepted of alice, {job_id}"),
        "ok          security  worker-1 → everyone       id_conflict, 2 times, signed by mallory".to_owned(),
        format!("ok late     job       worker-1 → everyone       calculate accepted of alice, {job_id}"),
        format!("ok again    command   alice → worker-1          calculate {args}"),
        format!("signature   command   ?                         {job}: not signed by the key {kid}"),
        format!("address     command   alice → ?                 cs.demo.cmd.all: for {job}, but arrived on cs.demo.cmd.all"),
        "ok          trust     roots → everyone          version 2, until 2026-11-25 02:00:00 UTC".to_owned(),
        "address     other     ?                         cs.demo.x: not on a subject of this realm that anybody listens to"
            .to_owned(),
    ];
    assert_eq!(lines(&observations), expected.map(|line| format!("2026-11-24 02:00:00.000Z  {line}")));
}

#[test]
fn an_object_has_the_verdict_the_names_and_the_whole_message() {
    let mut world = World::new();
    let ping = world.ping();
    let mut observations = world.take(&ping.delivery());
    let messages = [
        world.event(0, &presence("1")),
        world.reply(&ping, 2, Outcome::Succeeded(json!(7))),
        ping.clone(),
        world.event(1, &job()),
        Signed { subject: "cs.demo.cmd.all".to_owned(), ..ping.clone() },
    ];
    observations.extend(messages.iter().flat_map(|message| world.take(&message.delivery())));
    let trust = world.trust("demo");
    observations.extend(world.take(&bare("cs.demo.trust.bundle.2", trust)));
    let documents = documents(&observations);
    let at = 1_795_485_600_000_i64;
    let body = |message: &Signed| serde_json::from_slice::<Value>(&message.body).unwrap();
    let command = json!({
        "at": at, "verdict": "ok", "kind": "command", "subject": ping.subject, "from": "alice", "to": "worker-1",
        "message": body(&ping),
    });
    assert_eq!(documents[0], command);
    assert_eq!(
        documents[1],
        json!({
            "at": at, "verdict": "ok", "kind": "presence", "subject": messages[0].subject, "from": "worker-1",
            "message": body(&messages[0]),
        })
    );
    assert_eq!(
        documents[2],
        json!({
            "at": at, "verdict": "gap", "kind": "gap", "from": "worker-1", "missing": 1,
            "detail": "1 message of worker-1 is missing here: lost, removed or held back",
        })
    );
    assert_eq!(
        documents[3],
        json!({
            "at": at, "verdict": "ok", "kind": "reply", "subject": messages[1].subject, "from": "worker-1", "to": "alice",
            "message": body(&messages[1]),
        })
    );
    let mut again = command;
    again["again"] = json!(true);
    assert_eq!(documents[4], again);
    assert_eq!((&documents[5]["kind"], &documents[5]["late"]), (&json!("job"), &json!(true)));
    assert_eq!(
        documents[6],
        json!({
            "at": at, "verdict": "address", "kind": "command", "subject": "cs.demo.cmd.all", "from": "alice",
            "detail": "for cs.demo.cmd.client.worker-1, but arrived on cs.demo.cmd.all",
        })
    );
    assert_eq!((&documents[7]["verdict"], &documents[7]["message"]["version"]), (&json!("ok"), &json!(2)));
}

#[test]
fn no_text_of_a_message_can_move_the_cursor_or_make_a_line_of_its_own() {
    let mut world = World::new();
    let ping = world.ping();
    let error = || ErrorBody::new(ErrorCode::Failed, HOSTILE);
    let progress = Outcome::Progress(Progress { fraction: 0.5, message: Some(HOSTILE.to_owned()) });
    let security = json!({ "reason": "clock", "count": 1, "signer": HOSTILE });
    let outcomes = [
        progress,
        Outcome::Succeeded(json!({ HOSTILE: [HOSTILE] })),
        Outcome::Failed(error()),
        Outcome::Refused(error()),
    ];
    let mut deliveries = vec![
        world.draft(to("worker-1"), "calculate", json!({ HOSTILE: HOSTILE })).sign(&world.alice).delivery(),
        world.event(0, &presence(HOSTILE)).delivery(),
        world.event_with(1, &job(), |event| event.data = security.as_object().unwrap().clone()).delivery(),
        world
            .event_with(2, &job(), |event| {
                event.data = security.as_object().unwrap().clone();
                (event.kind, event.subject) = (EventKind::Security, event.subject.replace("job", "security"));
            })
            .delivery(),
        bare(&format!("cs.demo.cmd.client.{HOSTILE}"), HOSTILE.into()),
        bare(&format!("cs.demo.reply.{HOSTILE}.{HOSTILE}"), HOSTILE.into()),
        bare(&format!("cs.demo.event.{HOSTILE}.{HOSTILE}"), HOSTILE.into()),
        bare(&format!("cs.demo.{HOSTILE}"), HOSTILE.into()),
        bare("cs.demo.trust.bundle.2", HOSTILE.into()),
        Signed { subject: format!("cs.demo.cmd.{HOSTILE}"), ..ping.clone() }.delivery(),
        Signed { signature: format!("{HOSTILE}..{HOSTILE}"), ..ping.clone() }.delivery(),
        Signed { credential: HOSTILE.into(), ..ping.clone() }.delivery(),
    ];
    for (n, outcome) in (3..).zip(outcomes) {
        deliveries.push(world.reply(&ping, n, outcome).delivery());
    }
    for member in ["v", "id", "realm", "from", "credential", "to", "subject", "reply_to", "issued_at", "command"] {
        let mut body: Value = serde_json::from_slice(&ping.body).unwrap();
        body[member] = json!(HOSTILE);
        body[HOSTILE] = json!(HOSTILE);
        let draft = world.draft(to("worker-1"), "ping", json!({}));
        deliveries.push(draft.sign_body(&world.alice, &body).delivery());
        body.as_object_mut().unwrap().remove(HOSTILE);
        deliveries.push(draft.sign_body(&world.alice, &body).delivery());
    }
    for delivery in deliveries {
        for observation in world.take(&delivery) {
            let [line] = lines(std::slice::from_ref(&observation)).try_into().unwrap();
            assert_eq!(escape(&line), line);
            let document = json::line(&Line::of(&observation)).unwrap();
            assert_eq!(escape(&document), document);
            assert_eq!(documents(std::slice::from_ref(&observation)).len(), 1);
        }
    }
}

#[test]
fn a_line_for_people_is_bounded_whatever_arrives() {
    let mut world = World::new();
    let ping = world.ping();
    let long = "\u{1b}".repeat(20_000);
    let bounded = 14 + 12 + 10 + 140 + 10 * (MAX_SUMMARY + 1);
    for delivery in [
        world.draft(to("worker-1"), "calculate", json!({ "msg": long })).sign(&world.alice).delivery(),
        world.reply(&ping, 0, Outcome::Succeeded(json!(long))).delivery(),
        world.event(1, &presence(&long)).delivery(),
        bare(&format!("cs.demo.{long}"), Vec::new()),
    ] {
        for line in lines(&world.take(&delivery)) {
            assert!(line.chars().count() < bounded, "{} characters", line.chars().count());
        }
    }
    let shortest = EventData::clone(&presence(&"v".repeat(1_000)));
    let event = world.event(2, &shortest);
    let [line] = lines(&world.take(&event.delivery())).try_into().unwrap();
    assert!(line.ends_with("vv…") && line.chars().count() < 320, "{line}");
}

#[test]
fn a_verdict_has_its_colour() {
    let mut world = World::new();
    let ping = world.ping();
    let colours: Vec<String> = [ping.clone(), ping.clone(), Signed { subject: "cs.demo.cmd.all".to_owned(), ..ping }]
        .iter()
        .flat_map(|message| world.take(&message.delivery()))
        .map(|observation| for_people(&observation).split('m').next().unwrap().chars().skip(26).collect())
        .collect();
    assert_eq!(colours, ["\u{1b}[32", "\u{1b}[33", "\u{1b}[31"]);
}

//! Whatever the broker and other clients do, every target ends in exactly one verdict, and none that its client did not
//! sign.

use std::collections::BTreeMap;

use countersign_machine::server::{CommandRequest, Options, Verdict};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Reason, Rejected, Signed};
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome, Reply};
use countersign_testkit::realm::{message_id, name};
use proptest::prelude::*;
use serde_json::json;

use super::common::{Answer, Server, World, calculate, calculated, ping, refused, wrong_epoch};

const CLIENTS: [&str; 2] = ["worker-1", "worker-2"];

/// One step of the world; a number picks among what was sent or signed so far.
#[derive(Debug, Clone)]
enum Step {
    /// A client gets a command and signs its next reply, which then is on its way.
    Answer {
        command: usize,
        reply: Kind,
    },
    /// A reply that was signed arrives: first, again, late or never.
    Deliver(usize),
    /// A reply arrives that must change nothing.
    Attack {
        command: usize,
        how: Attack,
    },
    Presence(usize),
    NobodyListens(usize),
    Disconnect,
    Reconnect,
    Pass(u16),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Accepted,
    Succeeded,
    Failed,
    Busy,
    OtherEpoch(u8),
}

#[derive(Debug, Clone, Copy)]
enum Attack {
    Unsigned,
    OtherClient,
    OtherBytes,
    OtherCommand,
    OtherOperator,
    OtherSubject,
    Unfit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        Just(Kind::Accepted),
        Just(Kind::Succeeded),
        Just(Kind::Failed),
        Just(Kind::Busy),
        (5..9_u8).prop_map(Kind::OtherEpoch),
    ];
    let attack = prop_oneof![
        Just(Attack::Unsigned),
        Just(Attack::OtherClient),
        Just(Attack::OtherBytes),
        Just(Attack::OtherCommand),
        Just(Attack::OtherOperator),
        Just(Attack::OtherSubject),
        Just(Attack::Unfit),
    ];
    let step = prop_oneof![
        4 => (any::<usize>(), kind).prop_map(|(command, reply)| Step::Answer { command, reply }),
        4 => any::<usize>().prop_map(Step::Deliver),
        4 => (any::<usize>(), attack).prop_map(|(command, how)| Step::Attack { command, how }),
        1 => (0..CLIENTS.len()).prop_map(Step::Presence),
        1 => (0..CLIENTS.len()).prop_map(Step::NobodyListens),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Reconnect),
        2 => (0..12_000_u16).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..24)
}

/// What the clients really signed, by client.
type Truth = BTreeMap<&'static str, Vec<Outcome>>;

fn outcome(kind: Kind, request: &CommandRequest) -> Outcome {
    match kind {
        Kind::Accepted => Outcome::Accepted,
        Kind::Succeeded if request.name().as_str() == "ping" => Outcome::Succeeded(json!(1)),
        Kind::Succeeded => calculated(),
        Kind::Failed => Outcome::Failed(ErrorBody::new(ErrorCode::Failed, "no")),
        Kind::Busy => refused(ErrorCode::Busy, json!(null)),
        Kind::OtherEpoch(n) => wrong_epoch(n),
    }
}

fn attack<'a>(world: &'a World, command: &Signed, how: Attack) -> Answer<'a> {
    let answer = world.answer(command, Outcome::Failed(ErrorBody::new(ErrorCode::Internal, "forged")));
    match how {
        Attack::Unsigned => answer,
        Attack::OtherClient => answer.by("worker-3"),
        Attack::OtherBytes => answer.with(|it| it.command_digest = Digest::of(b"other")),
        Attack::OtherCommand => answer.with(|it| it.command_id = message_id(99)),
        Attack::OtherOperator => answer.with(|it| it.to = name("bob")),
        Attack::OtherSubject => answer.with(|it| it.subject.push('2')),
        Attack::Unfit => answer.with(|it: &mut Reply| {
            let forged = Outcome::Succeeded(json!({ "forged": true }));
            (it.status, it.progress, it.result, it.error) = forged.into_members();
        }),
    }
}

fn pick<T>(items: &[T], number: usize) -> Option<&T> {
    (!items.is_empty()).then(|| &items[number % items.len()])
}

fn client_of(signed: &Signed) -> &'static str {
    CLIENTS.into_iter().find(|client| signed.subject.ends_with(client)).unwrap()
}

fn step<'a>(
    world: &'a World,
    server: &mut Server,
    request: &CommandRequest,
    flight: &mut Vec<Answer<'a>>,
    truth: &mut Truth,
    step: &Step,
) {
    match step {
        Step::Answer { command, reply } => {
            let command = pick(&server.sent, *command).unwrap().clone();
            let about_the_request = world.command(&command).command.name == *request.name();
            let outcome = if about_the_request {
                let outcome = outcome(*reply, request);
                truth.entry(client_of(&command)).or_default().push(outcome.clone());
                outcome
            } else {
                truth.entry(client_of(&command)).or_default().push(Outcome::Accepted);
                let about = world.command(&command).command.args["command_digest"].clone();
                let recorded = json!({ "command_digest": about, "operator": "alice", "status": "accepted" });
                Outcome::Succeeded(recorded)
            };
            let seq = u64::try_from(flight.len()).unwrap();
            flight.push(world.answer(&command, outcome).seq(seq));
        }
        Step::Deliver(number) => {
            if let Some(answer) = pick(flight, *number) {
                let effects = server.operator.reply(&answer.sign(), server.now);
                server.apply(effects);
            }
        }
        Step::Attack { command, how } => {
            let before = server.updates.iter().filter(|it| is_reply(it)).count();
            let effects = match how {
                Attack::Unsigned => server.operator.rejected(&Rejected::new(Reason::Signature, None, "unsigned")),
                _ => {
                    let forged = attack(world, pick(&server.sent, *command).unwrap(), *how).sign();
                    server.operator.reply(&forged, server.now)
                }
            };
            assert!(effects.iter().all(|effect| matches!(effect, countersign_machine::server::Effect::Emit(_))));
            server.apply(effects);
            assert_eq!(server.updates.iter().filter(|it| is_reply(it)).count(), before, "a forgery was taken");
        }
        Step::Presence(client) => {
            let wall = server.now.wall;
            server.receive(&world.presence(CLIENTS[*client], |event| event.issued_at = wall));
        }
        Step::NobodyListens(client) => {
            let subject = format!("cs.demo.cmd.client.{}", CLIENTS[*client]);
            let effects = server.operator.no_responders(&subject, server.now);
            server.apply(effects);
        }
        Step::Disconnect => server.operator.disconnected(server.now),
        Step::Reconnect => {
            let effects = server.operator.reconnected(server.now);
            server.apply(effects);
        }
        Step::Pass(millis) => server.pass(u64::from(*millis)),
    }
}

fn is_reply(update: &countersign_machine::server::Update) -> bool {
    matches!(update, countersign_machine::server::Update::Reply { .. })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_target_ends_in_exactly_one_verdict_and_none_that_its_client_did_not_sign(
        steps in steps(), long in any::<bool>(), detach in any::<bool>(), retry in any::<bool>(),
        deadline in proptest::option::of(0..60_000_i64),
    ) {
        let world = World::new();
        let request = if long { calculate() } else { ping() };
        let options = Options { detach, retry, deadline, ..Options::default() };
        let mut server = world.request(request.clone(), &CLIENTS, options).unwrap();
        let (mut flight, mut truth) = (Vec::new(), Truth::new());
        for one in &steps {
            step(&world, &mut server, &request, &mut flight, &mut truth, one);
        }
        // From here on there is only silence. Its end: the last message and 30 s, or what is sent again and its expiry,
        // and the longest outage that is waited out.
        server.pass(300_000);
        let report = server.report.expect("no wait lasts for ever");
        prop_assert_eq!(server.operator.wake_at(), None);
        let clients: Vec<_> = report.replies.iter().map(|reply| reply.client.as_str()).collect();
        prop_assert_eq!(clients, CLIENTS);
        for reply in &report.replies {
            let signed = truth.get(reply.client.as_str()).map_or(&[][..], Vec::as_slice);
            let is_signed = |verdict: &Verdict| match verdict {
                Verdict::NoReply { .. } => true,
                Verdict::Offline { .. } => false,
                Verdict::Accepted => (detach || deadline.is_some()) && signed.contains(&Outcome::Accepted),
                other => signed.iter().any(|outcome| match outcome {
                    Outcome::Succeeded(result) => other.result().as_ref() == Some(result),
                    Outcome::Failed(error) | Outcome::Refused(error) => other.error() == Some(error),
                    _ => false,
                }),
            };
            prop_assert!(is_signed(&reply.verdict), "{:?} of {:?}", reply.verdict, signed);
        }
    }
}

//! Renewal over the bus (section 7): many members and one issuer, with a manual clock.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::sync::Arc;

use countersign_machine::issuer::{MAX_WAITING, PER_SECOND, RenewalDesk};
use countersign_machine::renewal::Renewer;
use countersign_protocol::credential::{Claims, Confirmation, Credential, Role};
use countersign_protocol::envelope::{Authentic, Identity, Reason, Signed, Verifier};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::SecretKey;
use countersign_protocol::limits::{RENEWAL_AGE, RENEWAL_GRACE, SKEW};
use countersign_protocol::renewal::{Answered, RenewalAnswer, RenewalError, RenewalRequest};
use countersign_protocol::time::Millis;
use countersign_testkit::realm::{Realm, START, name};

/// The life of every credential here, in milliseconds: an hour.
const LIFE: i64 = 3_600_000;
const STEP: i64 = 50;

/// A credential for member number `n` from a moment on.
fn credential(realm: &Realm, n: u16, key: &SecretKey, from: Millis) -> Credential {
    let mut jti = [0; 16];
    jti[..2].copy_from_slice(&n.to_be_bytes());
    jti[8..].copy_from_slice(&from.get().to_be_bytes());
    let claims = Claims {
        iss: name("issuer"),
        sub: name(&format!("worker-{n}")),
        jti: Uuid::from_random(jti),
        iat: from.seconds(),
        nbf: from.seconds(),
        exp: from.plus(LIFE).seconds(),
        realm: realm.name.clone(),
        role: Role::Client,
        cnf: Confirmation { jwk: key.public().jwk() },
        grant: None,
        groups: Some(Vec::new()),
    };
    Credential::verify(&Credential::issue(&claims, &realm.issuer), &realm.trust, from, SKEW).unwrap()
}

fn member(realm: &Realm, n: u16, from: Millis) -> Identity {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    let key = SecretKey::from_seed(seed);
    let credential = credential(realm, n, &key, from);
    Identity::new(key, credential).unwrap()
}

struct Member {
    identity: Identity,
    renewer: Renewer,
}

/// Members, an issuer that may be away, and the bus between them.
struct World {
    realm: Realm,
    members: Vec<Member>,
    desk: RenewalDesk,
    verifier: Verifier,
    now: Millis,
    /// When requests were made, and when answers were, in milliseconds since the start.
    requests: Vec<i64>,
    answers: Vec<i64>,
}

impl World {
    /// Members whose credentials all begin now.
    fn of(count: u16) -> Self {
        let realm = Realm::new("demo");
        let members = (0..count).map(|n| {
            let identity = member(&realm, n, START);
            let mut seed = [5; 16];
            seed[..2].copy_from_slice(&n.to_be_bytes());
            let mut renewer = Renewer::new(identity.credential(), seed, 0);
            renewer.connected(true);
            Member { identity, renewer }
        });
        let verifier = Verifier::new(Arc::clone(&realm.trust), RENEWAL_GRACE);
        let members = members.collect();
        let (requests, answers) = (Vec::new(), Vec::new());
        Self { realm, members, desk: RenewalDesk::default(), verifier, now: START, requests, answers }
    }

    /// Goes on until a part of the first life is over, in hundredths, with the issuer there or away.
    fn until(&mut self, part: i64, is_there: bool) {
        while self.now < START.plus(LIFE / 100 * part) {
            self.now = self.now.plus(STEP);
            self.step(is_there);
        }
    }

    fn step(&mut self, is_there: bool) {
        let (now, since_boot) = (self.now, self.now.since(START));
        for member in &mut self.members {
            assert!(member.identity.credential().is_in_force(now, SKEW), "a credential has run out");
            let Some(request) = member.renewer.ask(&member.identity, now, since_boot) else { continue };
            self.requests.push(since_boot);
            if is_there {
                let request = RenewalRequest::open(&request.delivery(), &self.verifier, now).unwrap();
                // What is too much is asked for again.
                let _ = self.desk.receive(request, now);
            }
        }
        if is_there && let Some(request) = self.desk.next(now, since_boot) {
            self.answers.push(since_boot);
            self.answer(&request);
        }
    }

    fn answer(&mut self, request: &Authentic<RenewalRequest>) {
        let (index, now) = (self.index(request), self.now);
        let member = &mut self.members[usize::from(index)];
        let next = member_credential(&self.realm, index, &member.identity, now);
        let issuer = (&name("issuer"), &self.realm.issuer);
        let answer = RenewalAnswer::sign(request, issuer, &next, Ok("jwt".to_owned()), now);
        let answered = member.renewer.answered(&answer.delivery(), &member.identity, &self.realm.trust, now, SKEW);
        let Ok(Answered::Renewed(renewal)) = answered else { return };
        member.renewer.renewed(renewal.credential());
        member.identity = member.identity.with(renewal.credential().clone()).unwrap();
    }

    fn index(&self, request: &Authentic<RenewalRequest>) -> u16 {
        request.credential().name().as_str().trim_start_matches("worker-").parse().unwrap()
    }

    /// How many of these moments lie in the second that has most of them.
    fn most_in_a_second(moments: &[i64]) -> usize {
        let within = |from: i64| moments.iter().filter(|at| (from..from + 1_000).contains(*at)).count();
        moments.iter().map(|at| within(*at)).max().unwrap_or(0)
    }
}

fn member_credential(realm: &Realm, n: u16, identity: &Identity, from: Millis) -> Credential {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    let credential = credential(realm, n, &SecretKey::from_seed(seed), from);
    assert!(identity.credential().is_succeeded_by(&credential));
    credential
}

#[test]
fn five_hundred_members_of_one_day_ask_over_an_eighth_of_their_life_from_half_of_it_on() {
    let mut world = World::of(500);
    world.until(49, true);
    assert_eq!(world.requests.len(), 0);
    world.until(64, true);
    assert_eq!((world.requests.len(), world.answers.len()), (500, 500), "each asks once and is answered");
    let (first, last) = (world.requests[0], *world.requests.last().unwrap());
    assert!(last - first > LIFE / 10, "{first} to {last}");
    assert!(last < LIFE / 8 * 5, "and before anybody is warned");
    assert!(World::most_in_a_second(&world.requests) < 10);
}

#[test]
fn after_an_issuer_was_away_for_over_half_of_a_life_everybody_is_renewed_in_time_at_no_more_than_its_rate() {
    let mut world = World::of(500);
    world.until(20, true);
    world.until(85, false);
    let in_vain = world.requests.len();
    assert!((500..500 * 16).contains(&in_vain), "each asks again with pauses that grow: {in_vain}");
    world.until(100, true);
    assert_eq!(world.answers.len(), 500);
    assert!(world.members.iter().all(|member| member.identity.credential().issued_at() > START));
    let most = World::most_in_a_second(&world.answers);
    assert!(i64::try_from(most).unwrap() <= PER_SECOND, "{most}");
}

#[test]
fn nothing_is_asked_without_a_connection() {
    let mut world = World::of(3);
    world.members.iter_mut().for_each(|member| member.renewer.connected(false));
    world.until(90, true);
    assert_eq!(world.requests.len(), 0);
    world.members.iter_mut().for_each(|member| member.renewer.connected(true));
    world.until(91, true);
    assert_eq!(world.requests.len(), 3);
}

fn opened(world: &World, request: &Signed) -> Authentic<RenewalRequest> {
    RenewalRequest::open(&request.delivery(), &world.verifier, world.now).unwrap()
}

fn request(world: &World, identity: &Identity, id: u8) -> Authentic<RenewalRequest> {
    opened(world, &RenewalRequest::sign(MessageId::new(world.now, [id; 10]), identity, world.now))
}

#[test]
fn a_copy_of_a_request_that_waits_or_was_answered_is_passed_over() {
    let mut world = World::of(0);
    let identity = member(&world.realm, 1, START);
    let first = request(&world, &identity, 1);
    world.desk.receive(first.clone(), world.now).unwrap();
    let reason = |world: &mut World, request| world.desk.receive(request, world.now).unwrap_err().reason;
    assert_eq!(reason(&mut world, first.clone()), Reason::Repeat);
    assert!(world.desk.next(world.now, 0).is_some() && world.desk.next(world.now, 1_000).is_none());
    world.now = START.plus(RENEWAL_AGE);
    assert_eq!(reason(&mut world, first), Reason::Repeat, "for as long as it is fresh");
    let again = request(&world, &identity, 2);
    world.desk.receive(again, world.now).unwrap();
}

#[test]
fn each_member_has_one_request_that_waits_the_latest_and_all_of_them_a_bound() {
    let mut world = World::of(0);
    let members: Vec<Identity> =
        (0..=u16::try_from(MAX_WAITING).unwrap()).map(|n| member(&world.realm, n, START)).collect();
    for identity in &members[..MAX_WAITING] {
        let request = request(&world, identity, 1);
        world.desk.receive(request, world.now).unwrap();
    }
    world.now = START.plus(1);
    for id in 2..100 {
        world.now = world.now.plus(1);
        let again = request(&world, &members[0], id);
        world.desk.receive(again, world.now).unwrap();
    }
    let one_too_many = request(&world, &members[MAX_WAITING], 1);
    let rejected = world.desk.receive(one_too_many, world.now).unwrap_err();
    assert_eq!(rejected.reason, Reason::Overload);
    let next = world.desk.next(world.now, 0).unwrap();
    assert_eq!((world.index(&next), next.message().issued_at), (0, world.now), "its latest, in the place of its first");
    // Nobody waits behind those that are too old.
    world.now = START.plus(RENEWAL_AGE + 2);
    let fresh = request(&world, &members[MAX_WAITING], 2);
    world.desk.receive(fresh, world.now).unwrap();
    let next = world.desk.next(world.now, 1_000).unwrap();
    assert_eq!(world.index(&next), u16::try_from(MAX_WAITING).unwrap());
}

#[test]
fn an_answer_is_to_the_latest_request_and_counts_once() {
    let mut world = World::of(1);
    world.now = START.plus(LIFE / 4 * 3);
    let Member { identity, renewer } = &mut world.members[0];
    let (trust, issuer) = (&world.realm.trust, (&name("issuer"), &world.realm.issuer));
    let ask = |renewer: &mut Renewer, since_boot| renewer.ask(identity, world.now, since_boot).unwrap();
    let [before, latest] = [LIFE, 2 * LIFE].map(|since_boot| ask(renewer, since_boot));
    let open = |request: &Signed| RenewalRequest::open(&request.delivery(), &world.verifier, world.now).unwrap();
    let next = member_credential(&world.realm, 0, identity, world.now);
    let answer = |to: &Signed, outcome| RenewalAnswer::sign(&open(to), issuer, &next, outcome, world.now).delivery();
    let mut take = |delivery| renewer.answered(&delivery, identity, trust, world.now, SKEW);
    assert_eq!(take(answer(&before, Ok("jwt".to_owned()))).unwrap_err().reason, Reason::Address);
    assert!(matches!(take(answer(&latest, Ok("jwt".to_owned()))), Ok(Answered::Renewed(_))));
    let error = RenewalError { code: countersign_protocol::renewal::RenewalCode::Unknown, message: String::new() };
    assert_eq!(take(answer(&latest, Err(error))).unwrap_err().reason, Reason::Repeat);
}

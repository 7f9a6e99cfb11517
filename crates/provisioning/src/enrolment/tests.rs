#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use countersign_host::clock;
use countersign_keys::{KeyFolder, load_member, load_pin, load_trust};
use countersign_protocol::credential::Role;
use countersign_protocol::enrolment::{Answered, EnrolmentCode, OpenedRequest, Token};
use countersign_protocol::limits::{ENROLMENT_SKEW, SKEW};
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Revoked, Trust};
use tempfile::TempDir;

mod interrupted;

use super::token::GRACE;
use super::worker::{Enrolling, Origin, Wanted, is_enrolled, lock_folder};
use super::{Broker, Decision, KnownKeys, TokenTerms, answer, approve, deny, make_token, sign_request, waiting};
use crate::{AccountKeeper, NewClient, ProvisionRequest, member_key, provision, revoke, revoked_logins};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// An issuer's folder with the client `worker-1`, and a worker's.
struct World {
    temporary: TempDir,
    issuer: KeyFolder,
    worker: KeyFolder,
    now: Millis,
}

impl World {
    fn new() -> Self {
        let temporary = TempDir::new().unwrap();
        let client = NewClient { name: name("worker-1"), groups: None };
        let request = ProvisionRequest { clients: vec![client], ..ProvisionRequest::default() };
        provision(&temporary.path().join("issuer"), &request).unwrap();
        let [issuer, worker] = ["issuer", "worker"].map(|folder| KeyFolder::new(temporary.path().join(folder)));
        Self { temporary, issuer, worker, now: clock::wall() }
    }

    fn trust(&self) -> Trust {
        load_trust(&self.issuer).unwrap()
    }

    fn token(&self, client: &str) -> Token {
        self.try_token(client, &["web"]).unwrap()
    }

    fn try_token(&self, client: &str, groups: &[&str]) -> Result<Token, crate::ProvisionError> {
        let client = Some((name(client), groups.iter().map(|group| name(group)).collect()));
        let terms = TokenTerms { client, valid_ms: 3_600_000, life_ms: None };
        let broker = Broker { url: "nats://broker.example".to_owned(), ca: None };
        make_token(&self.issuer, &self.trust(), &terms, &broker, self.now)
    }

    fn request(&self, folder: &KeyFolder, token: &Token) -> Vec<u8> {
        let (mut enrolling, wanted) = (begin(folder, token), wanted(token));
        let key = token.client.as_ref().map(|client| client.key());
        enrolling.request(&wanted, Some((&token.id, key.as_ref())), self.now).unwrap()
    }

    /// What the issuer says to a request at a moment: nothing, or why not.
    fn says(&self, request: &[u8], now: Millis) -> Result<(), EnrolmentCode> {
        let done = answer(&self.issuer, &mut KnownKeys::default(), &self.trust(), request, now).unwrap();
        done.refused.map_or(Ok(()), |error| Err(error.code))
    }

    fn another_worker(&self, folder: &str) -> KeyFolder {
        KeyFolder::new(self.temporary.path().join(folder))
    }

    /// Completes what a worker's folder can complete by an answer.
    fn install(&self, folder: &KeyFolder, token: &Token, answer: &[u8]) -> Result<(), String> {
        let enrolling = begin(folder, token);
        match enrolling.open(answer, token.root, &wanted(token), self.now).unwrap() {
            Ok(Answered::Enrolled(enrolment)) => {
                let ca = token.ca.as_deref();
                enrolling.install(answer, &enrolment, token.root, ca, self.now).map_err(|error| error.to_string())?;
                Ok(())
            }
            Ok(Answered::Refused { error, .. }) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Revokes the key of a client, and no login.
    fn revoke(&self, client: &str) {
        let kid = member_key(&self.issuer, &self.trust(), Role::Client, &name(client)).unwrap();
        revoke(&self.issuer, &self.trust(), &[Revoked::Key { kid, since: self.now }]).unwrap();
    }

    /// Notes that the broker refuses the logins of all that are revoked.
    fn end_logins(&self) {
        let mut keeper = AccountKeeper::open(&self.issuer).unwrap();
        let file = fs::read_to_string(self.issuer.accounts()).unwrap();
        let mark = format!("{}: ", keeper.realm_account());
        let present = file.lines().find_map(|line| line.trim().strip_prefix(&mark)).unwrap();
        let logins: Vec<_> = revoked_logins(&self.issuer, &self.trust()).unwrap();
        let account = keeper.revoke(present, logins.iter().filter_map(|it| it.jwt.as_ref()), self.now).unwrap();
        keeper.save(&account).unwrap();
    }

    fn is_member(&self, folder: &KeyFolder, client: &str) -> bool {
        let trust = load_trust(folder);
        trust.is_ok_and(|trust| load_member(folder, Role::Client, &name(client), &trust, self.now, SKEW).is_ok())
    }
}

fn begin(folder: &KeyFolder, token: &Token) -> Enrolling {
    Enrolling::begin(folder, Origin::Token(&token.id), &wanted(token).name).unwrap()
}

fn wanted(token: &Token) -> Wanted {
    let client = token.client.as_ref();
    Wanted {
        realm: Some(token.realm.clone()),
        name: client.map_or_else(|| name("worker-9"), |client| client.name.clone()),
        groups: client.map(|client| client.groups.clone()).unwrap_or_default(),
    }
}

#[test]
fn a_worker_is_enrolled_by_its_token_and_no_private_key_leaves_it() {
    let world = World::new();
    let token = world.token("worker-7");
    let request = world.request(&world.worker, &token);
    let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &request, world.now).unwrap();
    world.install(&world.worker, &token, &done.answer).unwrap();
    assert!(world.is_member(&world.worker, "worker-7"));
    assert!(is_enrolled(&world.worker, Origin::Token(&token.id), &name("worker-7"), world.now));
    let worker = name("worker-7");
    let own = fs::read_to_string(world.worker.key(Role::Client, &worker)).unwrap();
    assert!(!world.issuer.key(Role::Client, &worker).exists() && !world.issuer.creds(Role::Client, &worker).exists());
    let said = String::from_utf8([request, done.answer].concat()).unwrap();
    assert!(!said.contains(own.lines().nth(1).unwrap()));
    assert!(!fs::read_to_string(world.issuer.enrolment().join("tokens/worker-7.json")).unwrap().contains(&*token.seed));
    // What is left of the enrolment has no key in it, and the issuer's folder lists the client.
    let left: Vec<_> = fs::read_dir(world.worker.enrolment()).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 1, "{left:?}");
    assert!(world.issuer.names(Role::Client).unwrap().contains(&worker));
    // The renewal of all finds its connection key.
    assert!(world.issuer.user_jwt(Role::Client, &worker).exists());
}

#[test]
fn each_reason_has_a_code_of_its_own_and_spends_no_token() {
    let world = World::new();
    let token = world.token("worker-7");
    let request = world.request(&world.worker, &token);
    let with = |change: &dyn Fn(&mut Token)| {
        let mut token = token.clone();
        change(&mut token);
        world.request(&world.another_worker("other"), &token)
    };
    let refused = |request: &[u8]| world.says(request, world.now).unwrap_err();
    assert_eq!(refused(&with(&|token| token.realm = name("other"))), EnrolmentCode::Realm);
    assert_eq!(refused(&with(&|token| token.id = "aaaaaaaaaaaaaaaa".parse().unwrap())), EnrolmentCode::TokenUnknown);
    let client = |change: &dyn Fn(&mut countersign_protocol::enrolment::TokenClient)| {
        with(&|token| change(token.client.as_mut().unwrap()))
    };
    assert_eq!(refused(&client(&|client| client.secret = [9; 32].into())), EnrolmentCode::TokenKey);
    assert_eq!(refused(&client(&|client| client.groups = vec![name("db")])), EnrolmentCode::Groups);
    assert_eq!(refused(&client(&|client| client.name = name("worker-8"))), EnrolmentCode::TokenUnknown);
    let ended = token.expires_at;
    assert_eq!(world.says(&request, ended).unwrap_err(), EnrolmentCode::TokenExpired);
    for off in [ENROLMENT_SKEW + 1, -ENROLMENT_SKEW - 1, 600_000, -600_000] {
        assert_eq!(world.says(&request, world.now.plus(off)).unwrap_err(), EnrolmentCode::Clock, "{off}");
    }
    // None of them has spent it, also where the clocks differ by the skew and the way.
    assert_eq!(world.says(&request, world.now.plus(ENROLMENT_SKEW)), Ok(()));
    let others = world.request(&world.another_worker("third"), &token);
    assert_eq!(refused(&others), EnrolmentCode::TokenUsed);
    // The same keys are answered again, until nobody can ask any more.
    assert_eq!(world.says(&request, ended), Ok(()));
    assert_eq!(world.says(&request, ended.plus(GRACE + 1)).unwrap_err(), EnrolmentCode::TokenExpired);
    assert!(
        answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), b"{}", world.now).is_err(),
        "what is no request is not answered"
    );
}

#[test]
fn a_worker_whose_clock_is_5_s_off_is_enrolled_at_once_and_one_that_is_10_min_off_is_told_both_clocks() {
    for off in [-5_000, 5_000] {
        let issuer = World::new();
        let worker = World { now: issuer.now.plus(off), temporary: TempDir::new().unwrap(), ..World::new() };
        let token = issuer.token("worker-7");
        let request = worker.request(&worker.worker, &token);
        let done = answer(&issuer.issuer, &mut KnownKeys::default(), &issuer.trust(), &request, issuer.now).unwrap();
        worker.install(&worker.worker, &token, &done.answer).unwrap();
        assert!(worker.is_member(&worker.worker, "worker-7"), "{off}");
    }
    for off in [-600_000, 600_000] {
        let world = World::new();
        let token = world.token("worker-7");
        let request = world.request(&world.worker, &token);
        let here = world.now.plus(off);
        let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &request, here).unwrap();
        let error = done.refused.unwrap();
        assert_eq!(error.code, EnrolmentCode::Clock);
        assert!(error.message.contains(&here.utc()) && error.message.contains(&world.now.utc()), "{error}");
        // The clock is set right, and the token is not spent.
        assert_eq!(world.says(&world.request(&world.worker, &token), world.now), Ok(()));
    }
}

#[test]
fn the_same_keys_get_the_same_credential_again() {
    let world = World::new();
    let token = world.token("worker-7");
    let credential = || fs::read(world.issuer.credential(Role::Client, &name("worker-7"))).unwrap();
    assert_eq!(world.says(&world.request(&world.worker, &token), world.now), Ok(()));
    let first = credential();
    assert_eq!(world.says(&world.request(&world.worker, &token), world.now.plus(5_000)), Ok(()));
    assert_eq!(credential(), first);
}

#[test]
fn a_name_with_a_living_credential_is_taken_until_it_is_revoked() {
    let world = World::new();
    let error = world.try_token("worker-1", &[]).unwrap_err();
    assert_eq!(error.to_string(), "the client worker-1 has a living credential");
    assert!(error.hint().unwrap().contains("--replace"));
    // A token from before somebody else got the name.
    let token = world.token("worker-7");
    let client = NewClient { name: name("worker-7"), groups: None };
    let request = ProvisionRequest { clients: vec![client], ..ProvisionRequest::default() };
    provision(world.issuer.path(), &request).unwrap();
    let request = world.request(&world.worker, &token);
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::NameTaken);
    world.revoke("worker-7");
    world.end_logins();
    assert_eq!(world.says(&request, world.now), Ok(()));
    // The private keys that were made here before are gone: they are not the client's any more.
    assert!(!world.issuer.key(Role::Client, &name("worker-7")).exists());
    // Who was replaced does not come back by the token that it has.
    world.revoke("worker-7");
    world.end_logins();
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::KnownKey);
    let later = world.token("worker-7");
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::TokenUnknown);
    assert_eq!(world.says(&world.request(&world.worker, &later), world.now), Ok(()), "with new keys");
}

#[test]
fn a_name_is_given_to_nobody_else_while_who_had_it_can_still_log_in_to_the_broker() {
    let world = World::new();
    let token = world.token("worker-7");
    let client = NewClient { name: name("worker-7"), groups: None };
    let request = ProvisionRequest { clients: vec![client], ..ProvisionRequest::default() };
    provision(world.issuer.path(), &request).unwrap();
    world.revoke("worker-7");
    let login = fs::read(world.issuer.user_jwt(Role::Client, &name("worker-7"))).unwrap();
    let request = world.request(&world.worker, &token);
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::Unavailable);
    let error = world.try_token("worker-7", &[]).unwrap_err();
    assert!(error.to_string().contains("can still log in to the broker"), "{error}");
    // What has to be revoked is still on record.
    assert_eq!(fs::read(world.issuer.user_jwt(Role::Client, &name("worker-7"))).unwrap(), login);
    world.end_logins();
    assert_eq!(world.says(&request, world.now), Ok(()));
}

#[test]
fn a_signing_key_is_enrolled_with_one_connection_key_only() {
    let world = World::new();
    let [first, second] = ["a", "b"].map(|folder| world.another_worker(folder));
    let wanted = Wanted { realm: None, name: name("worker-7"), groups: Vec::new() };
    let request = |folder: &KeyFolder| {
        let mut enrolling = Enrolling::begin(folder, Origin::File, &wanted.name).unwrap();
        OpenedRequest::open(&enrolling.request(&wanted, None, world.now).unwrap()).unwrap()
    };
    let sign = |folder: &KeyFolder| {
        sign_request(&world.issuer, &world.trust(), request(folder), None, world.now).unwrap().refused
    };
    request(&first);
    request(&second);
    let key = |folder: &KeyFolder| folder.enrolment().join("file.worker-7/key.pem");
    fs::copy(key(&first), key(&second)).unwrap();
    assert_eq!(sign(&first), None);
    assert_eq!(sign(&second).unwrap().code, EnrolmentCode::KnownKey, "nothing would know whose login the first one is");
    assert_eq!(sign(&first), None);
}

#[test]
fn keys_that_somebody_has_are_not_enrolled() {
    let world = World::new();
    let token = world.token("worker-7");
    world.request(&world.worker, &token);
    let begun = fs::read_dir(world.worker.enrolment()).unwrap().next().unwrap().unwrap().path();
    // The signing key of another client, and then its connection key.
    fs::copy(world.issuer.key(Role::Client, &name("worker-1")), begun.join("key.pem")).unwrap();
    let request = world.request(&world.worker, &token);
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::KnownKey);
    fs::remove_file(begun.join("key.pem")).unwrap();
    let creds = countersign_keys::Login::read(&world.issuer.creds(Role::Client, &name("worker-1"))).unwrap();
    fs::write(begun.join("connection.nk"), creds.seed().as_str()).unwrap();
    let request = world.request(&world.worker, &token);
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::KnownKey);
}

#[test]
fn a_key_that_somebody_was_given_since_the_last_answer_is_known_to_the_next() {
    let (world, mut keys) = (World::new(), KnownKeys::default());
    let [token, other] = ["worker-7", "worker-8"].map(|client| world.token(client));
    let mut says = |request: &[u8]| {
        let done = answer(&world.issuer, &mut keys, &world.trust(), request, world.now).unwrap();
        done.refused.map(|error| error.code)
    };
    assert_eq!(says(&world.request(&world.worker, &token)), None);
    let taken = world.another_worker("x");
    world.request(&taken, &other);
    let begun = |folder: &KeyFolder| fs::read_dir(folder.enrolment()).unwrap().next().unwrap().unwrap().path();
    for file in ["key.pem", "connection.nk"] {
        let before = fs::read(begun(&taken).join(file)).unwrap();
        fs::copy(begun(&world.worker).join(file), begun(&taken).join(file)).unwrap();
        assert_eq!(says(&world.request(&taken, &other)), Some(EnrolmentCode::KnownKey), "{file}");
        fs::write(begun(&taken).join(file), before).unwrap();
    }
    assert_eq!(says(&world.request(&taken, &other)), None);
}

#[test]
fn what_cannot_be_a_name_or_does_not_fit_is_refused_when_the_token_is_made() {
    let world = World::new();
    let groups: Vec<String> = (0..300).map(|number| format!("group-{number}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let error = world.try_token("worker-7", &groups).unwrap_err();
    assert!(error.hint().unwrap().contains("fewer groups"), "{error:?}");
    assert!(!world.issuer.enrolment().join("tokens/worker-7.json").exists());
}

#[test]
fn an_open_token_lets_its_holder_ask_and_a_person_decides_by_the_thumbprint() {
    let world = World::new();
    let terms = TokenTerms { client: None, valid_ms: 3_600_000, life_ms: None };
    let broker = Broker { url: "nats://broker.example".to_owned(), ca: None };
    let token = make_token(&world.issuer, &world.trust(), &terms, &broker, world.now).unwrap();
    let other_folder = world.another_worker("x");
    let [request, other] = [&world.worker, &other_folder].map(|folder| world.request(folder, &token));
    let kid = |request: &[u8]| OpenedRequest::open(request).unwrap().key().thumbprint();
    for request in [&request, &other, &request] {
        assert_eq!(world.says(request, world.now).unwrap_err(), EnrolmentCode::Pending);
    }
    assert_eq!(waiting(&world.issuer).len(), 2);
    assert!(approve(&world.issuer, &name("worker-8"), &kid(&request)).is_err());
    assert_eq!(approve(&world.issuer, &name("worker-9"), &kid(&request)).unwrap().decision, Decision::Approved);
    let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &request, world.now).unwrap();
    world.install(&world.worker, &token, &done.answer).unwrap();
    assert!(world.is_member(&world.worker, "worker-9"));
    assert_eq!(world.says(&other, world.now).unwrap_err(), EnrolmentCode::Pending);
    assert_eq!(deny(&world.issuer, &name("worker-9")).unwrap().len(), 1);
    assert_eq!(world.says(&other, world.now).unwrap_err(), EnrolmentCode::Denied);
    assert!(deny(&world.issuer, &name("worker-9")).is_err());
}

#[test]
fn no_more_requests_wait_than_are_bounded() {
    let world = World::new();
    let terms = TokenTerms { client: None, valid_ms: 3_600_000, life_ms: None };
    let broker = Broker { url: "nats://broker.example".to_owned(), ca: None };
    let token = make_token(&world.issuer, &world.trust(), &terms, &broker, world.now).unwrap();
    world.says(&world.request(&world.worker, &token), world.now).unwrap_err();
    let folder = world.issuer.enrolment().join("requests");
    let first = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    for number in 0..255 {
        fs::copy(&first, folder.join(format!("{number}.json"))).unwrap();
    }
    let other = world.request(&world.another_worker("x"), &token);
    assert_eq!(world.says(&other, world.now).unwrap_err(), EnrolmentCode::Unavailable);
    // What a person has decided makes room.
    let decided = fs::read_to_string(folder.join("7.json")).unwrap().replace("pending", "approved");
    fs::write(folder.join("7.json"), decided).unwrap();
    assert_eq!(world.says(&other, world.now).unwrap_err(), EnrolmentCode::Pending);
    assert!(!folder.join("7.json").exists());
    let other = world.request(&world.another_worker("y"), &token);
    assert_eq!(world.says(&other, world.now).unwrap_err(), EnrolmentCode::Unavailable);
    // A week later there is room again.
    assert_eq!(world.says(&other, world.now.plus(8 * 86_400_000)).unwrap_err(), EnrolmentCode::TokenExpired);
}

#[test]
fn a_request_in_a_file_is_signed_and_accepted_without_a_token() {
    let world = World::new();
    let mut enrolling = Enrolling::begin(&world.worker, Origin::File, &name("worker-7")).unwrap();
    let wanted = Wanted { realm: None, name: name("worker-7"), groups: vec![name("web")] };
    let request = enrolling.request(&wanted, None, world.now.plus(-86_400_000)).unwrap();
    assert_eq!(enrolling.last_request(&wanted), Some(request.clone()));
    // By the bus it is worth nothing.
    assert_eq!(world.says(&request, world.now).unwrap_err(), EnrolmentCode::TokenUnknown);
    let opened = OpenedRequest::open(&request).unwrap();
    let done = sign_request(&world.issuer, &world.trust(), opened, None, world.now).unwrap();
    assert_eq!(done.refused, None);
    let pin = load_pin(&world.issuer).unwrap();
    let foreign = World::new();
    assert!(enrolling.open(&done.answer, load_pin(&foreign.issuer).unwrap(), &wanted, world.now).unwrap().is_err());
    let Ok(Answered::Enrolled(enrolment)) = enrolling.open(&done.answer, pin, &wanted, world.now).unwrap() else {
        panic!()
    };
    enrolling.install(&done.answer, &enrolment, pin, None, world.now).unwrap();
    assert!(world.is_member(&world.worker, "worker-7"));
}

#[test]
fn a_folder_of_another_realm_or_of_an_issuer_does_not_become_a_worker_s() {
    let world = World::new();
    let token = world.token("worker-7");
    assert!(lock_folder(&world.issuer).unwrap_err().to_string().contains("this is the issuer's folder"));
    let other = World::new();
    let request = world.request(&world.worker, &token);
    let done = answer(&world.issuer, &mut KnownKeys::default(), &world.trust(), &request, world.now).unwrap();
    // The same realm's name, and another root.
    fs::copy(other.issuer.trust(), world.worker.trust()).unwrap();
    fs::copy(other.issuer.pin(), world.worker.pin()).unwrap();
    let error = world.install(&world.worker, &token, &done.answer).unwrap_err();
    assert!(error.contains("another root"), "{error}");
    assert!(!world.worker.key(Role::Client, &name("worker-7")).exists());
}

#[test]
fn a_folder_of_an_earlier_version_gets_the_keys_that_it_lacks() {
    let world = World::new();
    let path = world.issuer.authority();
    let all = fs::read_to_string(&path).unwrap();
    // It knew of six kinds of users, and now there are eight.
    let is_new = |line: &str| line.starts_with("signs-enrolment ") || line.starts_with("signs-issuer ");
    let earlier: String = all.lines().filter(|it| !is_new(it)).flat_map(|it| [it, "\n"]).collect();
    assert_eq!(earlier.matches("signs-").count(), 6, "{}", earlier.lines().count());
    fs::write(&path, &earlier).unwrap();
    fs::remove_file(world.issuer.issuer_creds()).unwrap();
    fs::remove_file(world.issuer.issuer_creds().with_extension("jwt")).unwrap();
    let accounts = fs::read_to_string(world.issuer.accounts()).unwrap();
    let error = world.try_token("worker-7", &[]).unwrap_err();
    assert!(error.hint().unwrap().contains("countersign init"), "{error:?}");
    provision(world.issuer.path(), &ProvisionRequest::default()).unwrap();
    let completed = fs::read_to_string(&path).unwrap();
    assert!(completed.starts_with(earlier.trim_end()) && completed.lines().filter(|it| is_new(it)).count() == 2);
    // The broker is given accounts with the new keys, and no user of before has to be let in again.
    assert_ne!(fs::read_to_string(world.issuer.accounts()).unwrap(), accounts);
    assert!(world.issuer.issuer_creds().exists() && world.is_member(&world.issuer, "worker-1"));
    provision(world.issuer.path(), &ProvisionRequest::default()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), completed, "once");
    world.token("worker-7");
}

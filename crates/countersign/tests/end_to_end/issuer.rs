//! `countersign issuer`: members are renewed over the bus, and nobody else.

use std::fs;

use countersign_host::clock;
use countersign_keys::{Login, Seed, UserJwt, create_secret, load_member, load_trust};
use countersign_link::{Link, LinkConfig, LinkEvent, LinkEvents, MAX_WAITING};
use countersign_protocol::credential::{Claims, Credential, Role};
use countersign_protocol::envelope::{Identity, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::SKEW;
use countersign_protocol::renewal::{Answered, Renewal, RenewalCode, RenewalRequest, open_answer};
use countersign_protocol::subject;
use countersign_testkit::accounts;
use countersign_testkit::realm::name;
use tokio::runtime::Runtime;

use crate::fleet::Fleet;
use crate::process::{Process, Signal};

/// Gives a member a credential with this life, of which so much is over, in seconds: what it states is as before.
pub fn age(fleet: &Fleet, role: Role, member: &str, life: i64, over: i64) -> Credential {
    let (folder, now) = (fleet.keys(), clock::wall());
    let trust = load_trust(&folder).unwrap();
    let path = folder.credential(role, &name(member));
    let raw = fs::read_to_string(&path).unwrap();
    let begin = now.seconds() - over;
    let claims = Credential::examine(raw.trim(), &trust, now, SKEW).unwrap().claims;
    let jti = Uuid::from_random(clock::random().unwrap());
    let claims = Claims { jti, iat: begin, nbf: begin, exp: begin + life, ..claims };
    let raw = Credential::issue(&claims, &countersign_keys::read_key(&folder.issuer_key()).unwrap());
    fs::write(path, &raw).unwrap();
    Credential::verify(&raw, &trust, now, SKEW).unwrap()
}

/// Starts an issuer, and waits until it receives requests.
pub fn issuer(fleet: &Fleet) -> Process {
    let mut issuer = fleet.spawn(&["issuer"]);
    issuer.stderr.wait_for(" connected");
    issuer
}

/// A member that asks by hand.
struct Asker {
    runtime: Runtime,
    link: Link,
    events: LinkEvents,
    identity: Identity,
    fleet_trust: countersign_protocol::trust::Trust,
}

impl Asker {
    fn new(fleet: &Fleet, role: Role, member: &str) -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), fleet.keys());
        let trust = load_trust(&folder).unwrap();
        let member = load_member(&folder, role, &name(member), &trust, clock::wall(), SKEW).unwrap();
        let config = LinkConfig {
            broker: fleet.broker.url().into(),
            name: "asker".to_owned(),
            login: member.login,
            inbox_prefix: member.inbox_prefix,
            subscriptions: vec![subject::renewal_answer(trust.realm(), role, member.identity.name())],
            max_waiting: MAX_WAITING,
            wait: false,
        };
        let (link, events) = runtime.block_on(Link::connect(config)).unwrap();
        Self { runtime, link, events, identity: member.identity, fleet_trust: trust }
    }

    /// A connection of a user who may publish everything.
    fn courier(&self, fleet: &Fleet) -> Link {
        let account = accounts::key(&fs::read_to_string(fleet.keys().authority()).unwrap(), "realm");
        let seed = Seed::from_random([9; 32]).unwrap();
        let creds = fleet.path().join("courier.creds");
        create_secret(&creds, accounts::user(&account, "test", seed.as_str(), &["cs.>"], &["_INBOX.>"]).as_bytes())
            .unwrap();
        let config = LinkConfig {
            broker: fleet.broker.url().into(),
            name: "courier".to_owned(),
            login: Login::read(&creds).unwrap(),
            inbox_prefix: "_INBOX".to_owned(),
            subscriptions: Vec::new(),
            max_waiting: MAX_WAITING,
            wait: false,
        };
        self.runtime.block_on(Link::connect(config)).unwrap().0
    }

    fn request(&self) -> Signed {
        let now = clock::wall();
        RenewalRequest::sign(MessageId::new(now, clock::random().unwrap()), &self.identity, now)
    }

    /// Sends a request, and waits for the answer to it.
    fn ask(&mut self, request: &Signed) -> Answered {
        self.link.publish(request.clone(), None);
        let asked = countersign_protocol::digest::Digest::of(&request.body);
        self.runtime.block_on(async {
            loop {
                let Some(LinkEvent::Message(delivery)) = self.events.recv().await else { continue };
                let now = clock::wall();
                return open_answer(&delivery, &asked, &self.identity, &self.fleet_trust, now, SKEW).unwrap();
            }
        })
    }

    fn renewal(&mut self) -> Renewal {
        match self.ask(&self.request()) {
            Answered::Renewed(renewal) => renewal,
            Answered::Refused(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn an_issuer_renews_who_is_past_half_of_its_life_once_and_survives_the_broker_and_runs_once() {
    let mut fleet = Fleet::new();
    let old = age(&fleet, Role::Client, "worker-1", 864_000, 500_000);
    let mut issuer = issuer(&fleet);
    let second = fleet.run(&["issuer"]).exits(1);
    assert!(second.stderr.starts_with("error: an issuer runs in the folder keys already\nexpected: "), "{second:#?}");

    let mut worker = Asker::new(&fleet, Role::Client, "worker-1");
    let request = worker.request();
    let Answered::Renewed(renewal) = worker.ask(&request) else { panic!("it is past half of its life") };
    let new = renewal.credential();
    assert_eq!((new.groups(), new.key()), (old.groups(), old.key()));
    assert_eq!(new.expires_at().since(new.issued_at()), 864_000_000, "as long as the one before");
    // What was answered is on the issuer's disk.
    let (folder, worker_1) = (fleet.keys(), name("worker-1"));
    let kept = fs::read_to_string(folder.credential(Role::Client, &worker_1)).unwrap();
    assert_eq!(kept.trim(), &**new.raw());
    let jwt = UserJwt::parse(renewal.user_jwt()).unwrap();
    assert_eq!(jwt.claims()["exp"], new.expires_at().seconds());
    assert_eq!(fs::read_to_string(folder.user_jwt(Role::Client, &worker_1)).unwrap().trim(), jwt.as_str());
    issuer.stderr.wait_for("renewed client worker-1 until 20");

    // To ask again makes no further credential, and a copy of a request is not even answered.
    assert_eq!(worker.renewal().credential(), new);
    worker.link.publish(request, None);
    issuer.stderr.wait_for("a request was passed over: repeat");

    // Who is in the first half of its life is told so.
    let mut alice = Asker::new(&fleet, Role::Operator, "alice");
    let Answered::Refused(error) = alice.ask(&alice.request()) else { panic!("she is in the first half of her life") };
    assert_eq!(error.code, RenewalCode::TooEarly);

    // What a person has made here is given to its member, and what it grants with it.
    fleet.run(&["credential", "renew", "operator", "alice", "--command", "ping"]).exits(0);
    let narrowed = alice.renewal();
    assert!(!narrowed.credential().grant().unwrap().permits("stop"));

    fleet.broker.stop();
    issuer.stderr.wait_for("not connected");
    fleet.broker.restart();
    let worker = Asker::new(&fleet, Role::Client, "worker-1");
    worker.link.publish(worker.request(), None);
    // Until the issuer is back, nobody receives it.
    while !issuer.stderr.so_far().contains("client worker-1 is not renewed: too_early") {
        std::thread::sleep(std::time::Duration::from_millis(50));
        worker.link.publish(worker.request(), None);
    }

    // Nobody who is revoked is answered, whoever brings the request.
    age(&fleet, Role::Client, "worker-1", 864_000, 500_000);
    let worker = Asker::new(&fleet, Role::Client, "worker-1");
    fleet.run(&["revoke", "worker-1"]).exits(0);
    let courier = worker.courier(&fleet);
    courier.publish(worker.request(), None);
    issuer.stderr.wait_for("a request was passed over: credential");

    issuer.signal(Signal::TERM);
    issuer.wait().exits(0);
}

#[test]
fn a_member_that_was_replaced_or_that_the_issuer_does_not_know_is_refused() {
    let fleet = Fleet::of(&["worker-1", "worker-2"]);
    let folder = fleet.keys();
    for worker in ["worker-1", "worker-2"] {
        age(&fleet, Role::Client, worker, 864_000, 500_000);
    }
    let mut askers = ["worker-1", "worker-2"].map(|worker| Asker::new(&fleet, Role::Client, worker));
    let _issuer = issuer(&fleet);
    // Another machine has the name now.
    fs::remove_file(folder.key(Role::Client, &name("worker-1"))).unwrap();
    fleet.run(&["init"]).exits(0);
    fs::remove_file(folder.credential(Role::Client, &name("worker-2"))).unwrap();
    for (asker, code) in askers.iter_mut().zip([RenewalCode::Replaced, RenewalCode::Unknown]) {
        let Answered::Refused(error) = asker.ask(&asker.request()) else { panic!("{code} was expected") };
        assert_eq!(error.code, code);
    }
}

#[test]
fn a_job_and_who_waits_for_it_outlast_five_renewals_of_an_8_second_credential_at_each_end_of_which_the_broker_cuts_them_off()
 {
    let fleet = Fleet::new();
    let _issuer = issuer(&fleet);
    // Each has it only once it starts, and what they log in with ends when it does.
    age(&fleet, Role::Client, "worker-1", 8, 0);
    fleet.run(&["init"]).exits(0);
    let mut worker = fleet.client("worker-1");
    let boot = fleet.last_presence("worker-1")["boot"].clone();
    fleet.run(&["start", "worker-1"]).exits(0);
    age(&fleet, Role::Operator, "alice", 8, 0);
    fleet.run(&["init"]).exits(0);
    // A renewal comes 6.5 seconds after the one before at the latest, if a request is lost where the broker cuts somebody off.
    let ran = fleet.run(&["calculate", "worker-1", "36", "through it all"]).exits(0);
    let renewed = |log: &str| log.matches("renewed until").count();
    assert!(renewed(&ran.stderr) >= 5, "{ran:#?}");
    let log = worker.stderr.so_far();
    assert!(renewed(&log) >= 5, "{log}");
    assert!(log.contains("not connected: what it logged in with has ended"), "{log}");
    assert!(log.matches(" connected").count() >= 3, "the broker cuts it off, and it is back: {log}");
    assert!(!log.contains("not in force") && !log.contains("refuses us"), "each time with the newest: {log}");
    assert_eq!(fleet.presence("worker-1", "ready")["boot"], boot, "it is the same process");

    // Other groups come to it in the same way, and with them what it receives. Nobody renews alice meanwhile.
    age(&fleet, Role::Operator, "alice", 600, 0);
    fleet.run(&["init"]).exits(0);
    fleet.run(&["credential", "renew", "client", "worker-1", "--group", "db"]).exits(0);
    fleet.presence_that("worker-1", "in the group db", |it| it["data"]["groups"] == serde_json::json!(["db"]));
    let ran = fleet.run(&["ping", "@db", "--retry", "-o", "json"]).exits(0);
    assert_eq!(ran.verdict("worker-1"), "succeeded");
    let log = worker.stderr.so_far();
    assert!(!log.contains("the broker does not allow it"), "{log}");
}

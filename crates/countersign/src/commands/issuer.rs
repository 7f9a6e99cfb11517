//! `countersign issuer`: renews members and enrols workers over the bus for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use countersign_client::health::Liveness;
use countersign_host::clock;
use countersign_keys::{FolderLock, Login, load_trust};
use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents, MAX_WAITING, READABLE, TrustRequest};
use countersign_machine::issuer::RenewalDesk;
use countersign_machine::trust::{Follower, Taken};
use countersign_protocol::enrolment::EnrolmentCode;
use countersign_protocol::envelope::{Delivery, Rejected, Signed, Verifier};
use countersign_protocol::limits::{HEARTBEAT, RENEWAL_GRACE};
use countersign_protocol::renewal::RenewalRequest;
use countersign_protocol::subject;
use countersign_protocol::text::escape;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;
use countersign_provisioning::enrolment::KnownKeys;
use countersign_provisioning::{Issuer, Renewed, adopt, enrolment, renew_logins, renew_trust, versions};
use tokio::time::sleep;

use crate::args::{IssuerArgs, RealmArgs};
use crate::cli_error::{CliError, CliResult, Exit};
use crate::commands::trust::publish_all;
use crate::realm::Realm;
use crate::signals::Signals;

/// How many events are taken from the link at a time.
const BATCH: usize = 64;
/// How often what the issuer's folder keeps for itself is looked at, in milliseconds.
const UPKEEP: i64 = 3_600_000;
/// After how long it is looked at again where a version could not be published, in milliseconds.
const UNPUBLISHED: i64 = 60_000;
/// How many requests for enrolment are answered in a second. Whoever is passed over asks again.
const ENROLMENTS: u32 = 50;
/// How long the last answers may take to be written to the broker's connection.
const CLOSE: Duration = Duration::from_millis(2_500);

/// How long a command is waited for that changes the folder. Nothing else is done meanwhile.
const LOCK_WAIT: Duration = Duration::from_millis(250);
/// For how long after that nothing is changed, in milliseconds. Whoever is passed over asks again.
const LOCKED_OUT: i64 = 1_000;

/// Works off requests until a signal ends it.
pub(crate) async fn run(args: &IssuerArgs, mut signals: Signals) -> CliResult<Exit> {
    let realm = Realm::open(&args.realm.keys)?;
    let issuer = Issuer::open(&realm.folder, &realm.trust, args.valid.map(|life| life.millis()))?;
    let name = realm.trust.realm();
    let connecting = Link::connect(LinkConfig {
        broker: args.realm.broker.address(),
        name: "issuer".to_owned(),
        login: Login::read(&realm.folder.issuer_creds())?,
        inbox_prefix: "_INBOX.issuer".to_owned(),
        subscriptions: vec![
            subject::every_renewal_request(name),
            subject::every_enrolment_request(name),
            subject::every_trust_bundle(name),
        ],
        max_waiting: MAX_WAITING,
        // A broker that is not there, or is started again, is waited for.
        wait: true,
    });
    let connected = connecting.await;
    let (link, events) = connected.map_err(|error| CliError::no_broker(error, &args.realm.broker, &realm.folder))?;
    let trust = Arc::new(realm.trust.clone());
    let follower = Follower::new(Arc::clone(&trust), clock::random().map_err(|e| CliError::new(Exit::Failed, e))?);
    let mut service = Service {
        realm_args: args.realm.clone(),
        realm,
        issuer,
        verifier: Verifier::new(trust, RENEWAL_GRACE).sparing_copies(),
        follower,
        fetching: TrustRequest::default(),
        desk: RenewalDesk::default(),
        link,
        events,
        is_connected: false,
        sign: Liveness::new(args.health.clone(), HEARTBEAT),
        upkeep_at: i64::MIN,
        may_lack_trust: true,
        enrolments: (0, 0),
        locked_out_until: i64::MIN,
        known_keys: KnownKeys::default(),
    };
    tracing::info!("the issuer of the realm {} renews members that ask", service.verifier.trust().realm());
    let ended = tokio::select! {
        ended = service.serve() => ended,
        _ = signals.first() => Ok(()),
    };
    if !service.link.close(CLOSE).await {
        tracing::warn!("the broker did not see the connection off; who was not answered asks again");
    }
    tracing::info!("ended");
    ended.map(|()| Exit::Succeeded)
}

/// The issuer, and everything around it.
struct Service {
    realm_args: RealmArgs,
    realm: Realm,
    issuer: Issuer,
    verifier: Verifier,
    follower: Follower,
    /// The request for the next trust bundle, while it is under way.
    fetching: TrustRequest,
    desk: RenewalDesk,
    link: Link,
    events: LinkEvents,
    is_connected: bool,
    sign: Liveness,
    /// When the issuer's folder is looked after next, in milliseconds since boot.
    upkeep_at: i64,
    /// Whether the broker may lack a version of the trust bundle that was renewed here, by this process or by one that was killed.
    may_lack_trust: bool,
    /// The second since boot in which requests for enrolment were answered last, and how many.
    enrolments: (i64, u32),
    /// Until when the folder is left to a command that changes it, in milliseconds since boot.
    locked_out_until: i64,
    /// Whom nobody else is enrolled as.
    known_keys: KnownKeys,
}

impl Service {
    /// Nothing is lost when this is dropped while it waits.
    async fn serve(&mut self) -> CliResult<()> {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            let is_well = self.is_connected && self.link.refused().is_empty();
            self.sign.follow(is_well, clock::since_boot());
            let renews_at = self.desk.wake_at().max(self.locked_out_until);
            let due = [renews_at, self.follower.wake_at(), self.sign.due(), self.upkeep_at];
            let idle = due.into_iter().min().unwrap_or(i64::MAX).saturating_sub(clock::since_boot());
            tokio::select! {
                taken = self.events.recv_many(&mut events, BATCH) => {
                    if taken == 0 {
                        return Err(LinkError::System("its thread ended".to_owned()).into());
                    }
                    events.drain(..).for_each(|event| self.process(event));
                }
                answer = self.fetching.answer() => {
                    if let Some(taken) = self.follower.answered(answer, clock::since_boot()) {
                        self.take_trust(taken);
                    }
                }
                () = sleep(Duration::from_millis(u64::try_from(idle).unwrap_or(0))) => {}
            }
            if let Some(version) = self.follower.fetch(clock::since_boot()) {
                self.fetching.begin(&self.link, self.verifier.trust().realm(), version);
            }
            self.answer_next();
            if self.is_connected && clock::since_boot() >= self.upkeep_at {
                self.upkeep_at = clock::since_boot().saturating_add(UPKEEP);
                self.keep_up().await;
            }
        }
    }

    fn process(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Message(delivery) => self.receive(&delivery),
            LinkEvent::Connected => {
                self.is_connected = true;
                self.follower.connected(clock::since_boot());
                if self.may_lack_trust {
                    self.upkeep_at = i64::MIN;
                }
                if self.link.is_readable_by_others() {
                    tracing::warn!("{READABLE}");
                }
                tracing::info!("connected");
            }
            LinkEvent::Disconnected { why } => {
                self.is_connected = false;
                tracing::warn!("not connected: {why}; trying again");
            }
            LinkEvent::Shed(count) => {
                self.follower.missed(clock::since_boot());
                tracing::warn!("messages passed over, because more arrived than could be looked at: {count}");
            }
            LinkEvent::Denied { why } => tracing::warn!("the broker does not allow it: {why}"),
            LinkEvent::Allowed { subject } => tracing::info!("the broker now allows what it refused: {subject}"),
            LinkEvent::Unsent { message } => {
                tracing::warn!("an answer on {} is larger than the broker takes", message.subject);
            }
            LinkEvent::NoResponders { .. } => {}
        }
    }

    /// What arrived, by its subject: a trust bundle, or a request.
    fn receive(&mut self, delivery: &Delivery) {
        if let Some(version) = subject::trust_version(self.verifier.trust().realm(), delivery.subject()) {
            let taken = self.follower.take(version, delivery.body(), clock::since_boot());
            return self.take_trust(taken);
        }
        let now = clock::wall();
        if subject::is_enrolment_request(self.verifier.trust().realm(), delivery.subject()) {
            return self.enrol(delivery, now);
        }
        let request = RenewalRequest::open(delivery, &self.verifier, now);
        if let Err(rejected) = request.and_then(|request| self.desk.receive(request, now)) {
            log_rejected(&rejected);
        }
    }

    /// Answers a request for enrolment. What it says is in the folder first.
    fn enrol(&mut self, delivery: &Delivery, now: Millis) {
        let second = clock::since_boot() / 1_000;
        let answered = if self.enrolments.0 == second { self.enrolments.1 } else { 0 };
        if answered >= ENROLMENTS {
            return tracing::warn!("more requests for enrolment came than are answered in a second");
        }
        self.enrolments = (second, answered.saturating_add(1));
        let Some(_lock) = self.lock() else { return };
        self.take_from_folder();
        let trust = self.verifier.trust();
        let done = match enrolment::answer(&self.realm.folder, &mut self.known_keys, trust, delivery.body(), now) {
            Ok(done) => done,
            Err(fault) => {
                return tracing::warn!("a request for enrolment was passed over: {}", escape(&fault.to_string()));
            }
        };
        let (asked, kid) = (done.request.request(), done.request.key().thumbprint());
        // The texts of the refusal are ours, and may name a file.
        match &done.refused {
            None => tracing::info!("enrolled {} with the key {kid}", asked.name),
            Some(error) if error.code == EnrolmentCode::Pending => {
                tracing::info!("{} asks with the key {kid}, and waits for `countersign enroll approve`", asked.name);
            }
            Some(error) => {
                tracing::warn!("{} is not enrolled with the key {kid}: {}", asked.name, escape(&error.to_string()));
            }
        }
        let Some(token) = &asked.token else { return };
        let subject = subject::enrolment_answer(trust.realm(), token, &kid);
        self.link.publish(Signed::document(subject, done.answer), None);
    }

    /// Answers the request whose turn it is, if it is time for one.
    fn answer_next(&mut self) {
        if clock::since_boot() < self.desk.wake_at() {
            return;
        }
        let Some(_lock) = self.lock() else { return };
        let now = clock::wall();
        let Some(request) = self.desk.next(now, clock::since_boot()) else { return };
        self.take_from_folder();
        let (role, name) = (request.credential().role(), request.credential().name());
        let Some(renewed) = self.issuer.answer(&request, self.verifier.trust(), now) else {
            return tracing::warn!("{role} {name} is not renewed: the trust bundle does not vouch for its credential");
        };
        let Renewed { answer, outcome, is_new } = renewed;
        match outcome {
            Ok(credential) if is_new => tracing::info!("renewed {role} {name} until {}", credential.expires_at().utc()),
            Ok(credential) => {
                tracing::info!("gave {role} {name} its credential until {}", credential.expires_at().utc());
            }
            Err(error) => tracing::warn!("{role} {name} is not renewed: {}, {}", error.code, escape(&error.message)),
        }
        self.link.publish(answer, None);
    }

    /// The folder, for one change; `None` where a command has it for longer than is waited.
    fn lock(&mut self) -> Option<FolderLock> {
        if clock::since_boot() < self.locked_out_until {
            return None;
        }
        match self.realm.folder.lock(LOCK_WAIT) {
            Ok(lock) => Some(lock),
            Err(error) => {
                self.locked_out_until = clock::since_boot().saturating_add(LOCKED_OUT);
                tracing::warn!("{}; who asks meanwhile is passed over, and asks again", error.what());
                None
            }
        }
    }

    /// A version that a command has made in this folder meanwhile is in force here at once.
    fn take_from_folder(&mut self) {
        match load_trust(&self.realm.folder) {
            Ok(trust) if trust.version() > self.verifier.trust().version() => self.put_in_force(trust),
            Ok(_) => {}
            Err(error) => tracing::error!("the trust bundle stays as it was: {}", error.what()),
        }
    }

    fn take_trust(&mut self, taken: Taken) {
        match taken {
            Taken::Next(trust) => {
                let is_there = load_trust(&self.realm.folder).is_ok_and(|there| there.version() >= trust.version());
                if !is_there
                    && let Some(_lock) = self.lock()
                    && let Err(error) = adopt(&self.realm.folder, &trust)
                {
                    tracing::error!("version {} of the trust bundle is not in the folder: {error}", trust.version());
                }
                self.put_in_force(Trust::clone(&trust));
            }
            Taken::Refused(error) => tracing::warn!("a trust bundle was not accepted: {error}"),
            Taken::TooMany => tracing::warn!("more trust bundles came than are verified"),
            Taken::Known | Taken::Gap => {}
        }
    }

    fn put_in_force(&mut self, trust: Trust) {
        let (version, trust) = (trust.version(), Arc::new(trust));
        if !self.follower.apply(Arc::clone(&trust), clock::since_boot()) {
            self.follower.restart(Arc::clone(&trust));
        }
        self.verifier.set_trust(Arc::clone(&trust));
        tracing::info!("version {version} of the trust bundle is in force");
        if let Err(error) = self.issuer.reload(&trust) {
            tracing::error!("the issuer's key is not one of version {version} of the trust bundle: {error}");
        }
    }

    /// Renews what nobody asks for: the logins of those who are no members, and the trust bundle where the root's key is here.
    async fn keep_up(&mut self) {
        let Some(lock) = self.lock() else {
            self.upkeep_at = self.locked_out_until;
            return;
        };
        if let Err(error) = renew_logins(&self.realm.folder) {
            tracing::error!("the logins of the folder cannot be renewed: {error}");
        }
        self.take_from_folder();
        let renewed = match renew_trust(&self.realm.folder, self.verifier.trust()) {
            Ok(renewed) => renewed,
            Err(error) => return tracing::error!("the trust bundle cannot be renewed: {error}"),
        };
        self.may_lack_trust |= renewed.is_some();
        let trust = renewed.as_ref().unwrap_or(self.verifier.trust());
        let (version, chain) = (trust.version(), versions(&self.realm.folder, trust));
        drop(lock);
        if let Some(trust) = renewed {
            self.put_in_force(trust);
        }
        // Everybody was given the first version, and who keeps the root elsewhere publishes from there.
        if !self.may_lack_trust || version == 1 || !self.realm.folder.root_key().exists() {
            return;
        }
        let published = match chain {
            Ok(chain) => publish_all(&self.realm_args, &self.realm, &chain).await,
            Err(error) => Err(error.into()),
        };
        match published {
            Ok(published) => {
                self.may_lack_trust = false;
                if !published.is_empty() {
                    tracing::info!("published version {version} of the trust bundle");
                }
            }
            Err(error) => {
                self.upkeep_at = clock::since_boot().saturating_add(UNPUBLISHED);
                tracing::error!("version {version} of the trust bundle is not published: {}", error.what());
            }
        }
    }
}

/// What anybody may cause who can publish there, as often as they like: the log limits it.
fn log_rejected(rejected: &Rejected) {
    tracing::warn!("a request was passed over: {rejected}");
}

//! The operator over the link and by the clock: requests go out, replies come back, and each becomes a report.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZero;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use countersign_host::clock;
use countersign_host::verify::open_all;
use countersign_keys::MemberFiles;
use countersign_link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents, TrustRequest};
use countersign_machine::server::{
    self as machine, Audience, CommandRequest, Effect, Ignored, Now, OperatorEvent, OperatorSetup, Options, Report,
    RequestId, Roster, Update,
};
use countersign_protocol::command::CommandId;
use countersign_protocol::credential::Role;
use countersign_protocol::envelope::{Authentic, Delivery, Identity, Reason, Rejected, Verifier};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::id::MessageId;
use countersign_protocol::limits::{MIN_MAX_PAYLOAD, SKEW};
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::Reply;
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::config::{Follow, OperatorConfig, OperatorError};
use crate::event_link::EventLink;
use crate::presence::Found;

/// How many events are taken from the link at a time.
pub(crate) const BATCH: usize = 256;
/// How many messages wait to be verified, at most: a fleet answers all at once.
const MAX_WAITING: usize = 32_768;

/// A connected operator: one process, one session (section 1).
///
/// [`request`](Self::request) sends one command and waits for its report. Several at once are sent by [`submit`](Self::submit)
/// while [`next`](Self::next) is called over and over: nothing happens between its calls.
#[derive(Debug)]
pub struct Operator {
    /// Requests and their replies, and questions whose answers cannot break a connection.
    pub(crate) link: Link,
    events: LinkEvents,
    was_lost: bool,
    /// What clients publish about themselves. Any connection key may publish there what breaks a connection.
    pub(crate) event_link: EventLink,
    /// How to connect for something else.
    pub(crate) config: LinkConfig,
    /// Why the roster was not read completely.
    pub(crate) incomplete: Option<String>,
    /// The subject that replies arrive on.
    replies: String,
    pub(crate) verifier: Verifier,
    pub(crate) accepted: Option<PathBuf>,
    /// Where its own credential is renewed.
    pub(crate) files: Option<MemberFiles>,
    /// The subject of the issuer's answers.
    answers: String,
    /// The request for the next trust bundle, while it is under way.
    pub(crate) fetching: TrustRequest,
    /// For what comes over the links; what the broker stores comes again with each reading.
    pub(crate) live: Verifier,
    pub(crate) machine: machine::Operator,
    pub(crate) realm: Name,
    pub(crate) threads: usize,
    pub(crate) follow: Follow,
    /// The clients that were looked up since the connection was made, and are followed since: of them the roster knows all
    /// that the broker does.
    pub(crate) up_to_date: BTreeSet<Name>,
    /// What arrived and was not looked at yet.
    arrived: Vec<LinkEvent>,
    /// What happened and was not returned yet.
    emitted: VecDeque<OperatorEvent>,
}

/// What a delivery turned out to be.
enum Opened {
    Reply(Box<Authentic<Reply>>),
    Event(Box<Authentic<Event>>),
    Neither(Rejected),
}

impl Operator {
    /// Connects and subscribes to the replies of this session and to the events that are followed. Fails at once where no
    /// broker answers.
    pub async fn connect(config: OperatorConfig) -> Result<Self, OperatorError> {
        let OperatorConfig { broker, member, trust, accepted, follow, enrolled } = config;
        let realm = trust.realm().clone();
        let operator = member.identity.name().clone();
        let session = Session::from_random(clock::random()?);
        let replies = subject::replies_in(&realm, &operator, &session);
        let answers = subject::renewal_answer(&realm, Role::Operator, &operator);
        let events: Vec<String> = match &follow {
            Follow::Clients(clients) => {
                clients.iter().map(|it| subject::event(&realm, it, EventKind::Presence)).collect()
            }
            Follow::Presence => vec![subject::every_presence(&realm)],
            Follow::Everything => vec![subject::every_event(&realm)],
        };
        let events = [events, vec![subject::every_trust_bundle(&realm)]].concat();
        let config = LinkConfig {
            broker,
            name: format!("operator-{operator}"),
            login: member.login,
            inbox_prefix: member.inbox_prefix,
            subscriptions: match &member.files {
                Some(_) => vec![replies.clone(), answers.clone()],
                None => vec![replies.clone()],
            },
            max_waiting: MAX_WAITING,
            wait: false,
        };
        let (event_link, connected) = tokio::join!(EventLink::connect(&config, events), Link::connect(config.clone()));
        let (link, events) = connected?;
        let (event_link, verifier) = (event_link?, Verifier::new(Arc::clone(&trust), SKEW));
        let machine = machine::Operator::new(OperatorSetup {
            trust,
            identity: Arc::new(member.identity),
            session,
            enrolled: enrolled.into_iter().collect(),
            seed: clock::random()?,
        });
        let mut operator = Self {
            link,
            events,
            was_lost: false,
            event_link,
            config,
            incomplete: None,
            replies,
            live: verifier.clone().sparing_copies(),
            verifier,
            accepted,
            files: member.files,
            answers,
            fetching: TrustRequest::default(),
            machine,
            realm,
            threads: available_parallelism().map_or(1, NonZero::get),
            follow,
            up_to_date: BTreeSet::new(),
            arrived: Vec::with_capacity(BATCH),
            emitted: VecDeque::new(),
        };
        operator.catch_up_trust().await;
        if operator.files.is_some() {
            operator.machine.begin_renewals(now());
        }
        Ok(operator)
    }

    /// Whether the connection has no TLS and leaves this machine: whoever can listen can read.
    pub fn is_readable_by_others(&self) -> bool {
        self.link.is_readable_by_others()
    }

    /// Sends a request and collects one verdict for each target. `updates` is called meanwhile with what arrives;
    /// `interrupt` ends the wait with what is known by then.
    pub async fn request(
        &mut self,
        request: CommandRequest,
        audience: &Audience,
        options: Options,
        interrupt: impl Future<Output = ()>,
        updates: impl FnMut(Update),
    ) -> Result<Report, OperatorError> {
        let mut interrupt = pin!(interrupt);
        // To be cut off while it looks up who is there is safe: it sends all at once, after that.
        let submitted = tokio::select! {
            submitted = self.submit(request, audience, options) => submitted?,
            () = &mut interrupt => return Err(OperatorError::Interrupted),
        };
        self.report(submitted, interrupt, updates).await
    }

    /// Waits for the report on a request that was submitted. `updates` is called meanwhile with what arrives; `interrupt` ends
    /// the wait with what is known by then. The reports on others are passed over.
    pub async fn report(
        &mut self,
        submitted: RequestId,
        interrupt: impl Future<Output = ()>,
        mut updates: impl FnMut(Update),
    ) -> Result<Report, OperatorError> {
        let mut interrupt = pin!(interrupt);
        let mut interrupted = false;
        loop {
            tokio::select! {
                event = self.next() => match event? {
                    OperatorEvent::Done { id, report } if id == submitted => return Ok(report),
                    OperatorEvent::Done { .. } => {}
                    OperatorEvent::Update { update, .. } => updates(update),
                },
                () = &mut interrupt, if !interrupted => {
                    interrupted = true;
                    self.interrupt(submitted);
                }
            }
        }
    }

    /// Submits a request: who is expected to answer is looked up, and the commands are sent. After an error nothing was sent
    /// to anybody, nor when this is dropped while it waits.
    pub async fn submit(
        &mut self,
        request: CommandRequest,
        audience: &Audience,
        options: Options,
    ) -> Result<RequestId, OperatorError> {
        machine::may_sign(self.machine.identity(), self.machine.trust(), now().wall)?;
        self.catch_up();
        match audience {
            Audience::Clients(clients) => {
                self.incomplete = None;
                // Those that were looked up before, and whose presences are received since, are up to date.
                let missing: Vec<Name> = clients.iter().filter(|it| !self.up_to_date.contains(*it)).cloned().collect();
                if !missing.is_empty()
                    && let Some(inbox) = self.link.inbox().await
                    && let Some(()) = self.fetch_each(inbox, &missing, &mut Found::default()).await
                {
                    let is_followed =
                        |client: &Name| !matches!(&self.follow, Follow::Clients(names) if !names.contains(client));
                    self.up_to_date.extend(missing.into_iter().filter(is_followed));
                }
            }
            Audience::Group(_) | Audience::All => self.refresh().await?,
        }
        // By now the broker has refused the subscriptions that it does not allow.
        self.catch_up();
        if let Some(why) = self.link.refused().remove(&self.replies) {
            return Err(OperatorError::ReplySubscriptionDenied(why));
        }
        let (id, effects) = self.machine.submit(request, audience, options, now())?;
        self.apply(effects);
        Ok(id)
    }

    /// Waits for the next event. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Result<OperatorEvent, OperatorError> {
        loop {
            if let Some(event) = self.emitted.pop_front() {
                return Ok(event);
            }
            let wait = self.machine.wake_at().unwrap_or(u64::MAX).saturating_sub(now().micros);
            tokio::select! {
                // What has arrived comes before silence.
                biased;
                taken = self.events.recv_many(&mut self.arrived, BATCH) => {
                    if taken == 0 {
                        return Err(LinkError::System("its thread ended".to_owned()).into());
                    }
                    self.process_events();
                }
                taken = self.event_link.events.recv_many(&mut self.event_link.arrived, BATCH) => {
                    if taken == 0 {
                        return Err(LinkError::System("its thread ended".to_owned()).into());
                    }
                    self.process_events();
                }
                answer = self.fetching.answer() => self.trust_answered(answer),
                () = sleep(Duration::from_micros(wait)) => {
                    let effects = self.machine.tick(now());
                    self.apply(effects);
                }
            }
        }
    }

    /// The next event that has happened already, without waiting for more.
    pub fn try_next(&mut self) -> Option<OperatorEvent> {
        self.emitted.pop_front()
    }

    /// Ends the wait for a request with what is known by now: what runs is `accepted`, what did not answer `no_reply`.
    pub fn interrupt(&mut self, id: RequestId) {
        let effects = self.machine.interrupt(id, now());
        self.apply(effects);
    }

    /// Whether some target of a request has neither replied nor a verdict.
    pub fn awaits_first_reply(&self, id: RequestId) -> bool {
        self.machine.awaits_first_reply(id)
    }

    /// The id under which a request was sent first, and its targets as they are known by now.
    pub fn sent(&self, id: RequestId) -> Option<(MessageId, Vec<Name>)> {
        self.machine.sent(id)
    }

    /// What runs of a request: the clients, by the command that they run, which `cancel` takes as its arguments.
    pub fn running(&self, id: RequestId) -> Vec<(CommandId, Vec<Name>)> {
        self.machine.running(id).into_iter().collect()
    }

    /// Who signs the requests.
    pub fn identity(&self) -> &Identity {
        self.machine.identity()
    }

    /// The clients that were seen, or that [`refresh`](Self::refresh) found.
    pub fn roster(&self) -> &Roster {
        self.machine.roster()
    }

    /// Whether the connection is lost for the moment. Nothing can be submitted then.
    pub fn is_cut_off(&self) -> bool {
        self.machine.is_cut_off()
    }

    /// Whether nothing arrived from a client for half a minute of connected time, though it has not stated that it ended.
    pub fn is_silent(&self, client: &Name) -> bool {
        self.machine.is_silent(client)
    }

    /// The clients that requests can name: those of the roster and of the folder of keys.
    pub fn known(&self) -> BTreeSet<&Name> {
        self.machine.known()
    }

    /// What was ignored of what arrived, and how often (section 5).
    pub fn ignored(&self) -> BTreeMap<Ignored, u64> {
        self.machine.ignored()
    }

    /// Looks at what has arrived already, a queue full of it at most: the roster is to hold what the clients sent. It
    /// stops at a reply, which is to be returned before more are opened.
    pub fn catch_up(&mut self) {
        let is_reply = |it: &OperatorEvent| {
            matches!(it, OperatorEvent::Done { .. } | OperatorEvent::Update { update: Update::Reply { .. }, .. })
        };
        let mut looked_at = 0;
        while looked_at < MAX_WAITING && !self.emitted.iter().any(is_reply) {
            let of_requests = self.events.recv_many(&mut self.arrived, BATCH).now_or_never().unwrap_or(0);
            self.process_events();
            let of_events =
                self.event_link.events.recv_many(&mut self.event_link.arrived, BATCH).now_or_never().unwrap_or(0);
            self.process_events();
            match of_requests + of_events {
                0 => break,
                taken => looked_at += taken,
            }
        }
    }

    pub(crate) fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish { message, reply } => self.link.publish(message, Some(reply)),
                Effect::KeepTrust(trust) => self.keep_trust(trust),
                Effect::Renew(request) => self.renew(request),
                Effect::KeepRenewal(renewal) => self.keep_renewal(&renewal),
                Effect::FetchTrust(version) => self.fetching.begin(&self.link, &self.realm, version),
                Effect::Emit(event) => self.emitted.push_back(event),
            }
        }
    }

    /// Looks at what arrived: messages are verified on all cores, and taken in their order.
    fn process_events(&mut self) {
        let mut deliveries = Vec::new();
        for event in std::mem::take(&mut self.arrived) {
            let effects = match event {
                LinkEvent::Message(delivery) if delivery.subject() == self.answers => {
                    self.machine.renewal_answer(&delivery, now())
                }
                LinkEvent::Message(delivery) => {
                    deliveries.push(delivery);
                    continue;
                }
                LinkEvent::NoResponders { about: Some(subject), .. } => self.machine.no_responders(&subject, now()),
                // The reply subject alone does not show which target has no subscriber.
                LinkEvent::NoResponders { about: None, .. } => Vec::new(),
                LinkEvent::Connected => self.connected(),
                LinkEvent::Disconnected { why } => {
                    self.was_lost = true;
                    self.event_link.excused = true;
                    self.machine.disconnected(now());
                    self.notice(false, format!("the connection to the broker is lost; connecting again: {why}"));
                    Vec::new()
                }
                LinkEvent::Denied { why } => {
                    self.notice(true, format!("the broker does not allow it: {why}"));
                    Vec::new()
                }
                LinkEvent::Allowed { subject } => {
                    self.notice(false, format!("the broker now allows what it refused: {subject}"));
                    // What was replied meanwhile is lost, as with a connection.
                    if subject == self.replies { self.machine.reconnected(now()) } else { Vec::new() }
                }
                LinkEvent::Unsent { message } => self.machine.unsent(&message, now()),
                LinkEvent::Shed(count) => {
                    self.notice(false, format!("messages lost, because more arrived than could be taken: {count}"));
                    Vec::new()
                }
            };
            self.apply(effects);
        }
        self.collect_events(&mut deliveries);
        let (verifier, wall) = (&self.live, now().wall);
        for opened in open_all(&deliveries, self.threads, |delivery| open(verifier, delivery, wall)) {
            let effects = match opened {
                Opened::Reply(reply) => self.machine.reply(&reply, now()),
                Opened::Event(event) => self.machine.event(&event, now()),
                Opened::Neither(rejected) => self.machine.rejected(&rejected),
            };
            self.apply(effects);
        }
    }

    fn connected(&mut self) -> Vec<Effect> {
        if let Some(limit) = self.link.max_payload() {
            self.machine.broker_takes(limit);
            if limit < MIN_MAX_PAYLOAD {
                self.notice(false, countersign_link::too_little(limit));
            }
        }
        // The first connection is no reconnection.
        if std::mem::take(&mut self.was_lost) {
            self.notice(false, "the connection to the broker is back".to_owned());
            self.machine.trust_missed(now());
            return self.machine.reconnected(now());
        }
        Vec::new()
    }

    pub(crate) fn notice(&mut self, alarm: bool, text: String) {
        let update = Update::Notice { client: None, alarm, text };
        self.emitted.push_back(OperatorEvent::Update { id: None, update });
    }
}

/// Verifies what arrived; only its type shows whether it is a reply or an event.
fn open(verifier: &Verifier, delivery: &Delivery, now: Millis) -> Opened {
    let rejected = match verifier.open::<Reply>(delivery, now) {
        Ok(reply) => return Opened::Reply(Box::new(reply)),
        Err(rejected) if rejected.reason == Reason::Type => rejected,
        Err(rejected) => return Opened::Neither(rejected),
    };
    match verifier.open::<Event>(delivery, now) {
        Ok(event) => Opened::Event(Box::new(event)),
        Err(event) if event.reason == Reason::Type => Opened::Neither(rejected),
        Err(event) => Opened::Neither(event),
    }
}

pub(crate) fn now() -> Now {
    Now { wall: clock::wall(), micros: clock::micros() }
}

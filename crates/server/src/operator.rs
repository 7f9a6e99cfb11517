//! Dispatch and gather.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_host::clock::{self, RandomError};
use countersign_host::keys::Member;
use countersign_host::link::{Link, LinkConfig, LinkError, LinkEvent, LinkEvents};
use countersign_machine::server::{
    Dispatch, Effect, Now, Options, Order, OrderError, Report, Roster, Setup, Taken, Target, Update,
};
use countersign_protocol::envelope::{Authentic, Delivery, Identity, Reason, Verifier};
use countersign_protocol::event::{Event, EventKind};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::Reply;
use countersign_protocol::subject;
use countersign_protocol::trust::Trust;
use tokio::time::sleep;

/// How many events are taken from the link at a time.
const BATCH: usize = 64;

/// What an operator's process is made of.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// The broker.
    pub url: String,
    /// Who gives the orders, and the key that connects.
    pub member: Member,
    /// What replies are judged by; it also names the realm.
    pub trust: Arc<Trust>,
    /// The clients whose presence is followed while their replies are awaited: all that orders will go to.
    pub follow: Vec<Name>,
    /// The clients that the folder of keys knows. Nothing is sent to one that neither it nor the roster knows.
    pub enrolled: Vec<Name>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Neither the folder of keys nor the roster knows the client; nothing was sent to anybody.
    #[error("no client of the name {0} is known")]
    UnknownClient(Name),
    /// The order is not one that can be sent; nothing was.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Nothing can be sent without an id.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A connected operator: one process, one session (section 1). It dispatches one order at a time, so that none that it sends
/// anew can overtake a later control command (section 8).
#[derive(Debug)]
pub struct Operator {
    pub(crate) link: Link,
    events: LinkEvents,
    was_lost: bool,
    pub(crate) verifier: Verifier,
    pub(crate) roster: Roster,
    pub(crate) realm: Name,
    enrolled: Vec<Name>,
    identity: Arc<Identity>,
    session: Session,
}

impl Operator {
    /// Connects and subscribes to the replies of this session and to the presence of the clients that are followed. Fails at
    /// once where no broker answers.
    pub async fn connect(config: OperatorConfig) -> Result<Self, OperatorError> {
        let OperatorConfig { url, member, trust, follow, enrolled } = config;
        let realm = trust.realm().clone();
        let operator = member.identity.name().clone();
        let session = Session::from_random(clock::random()?);
        let mut subscriptions = vec![format!("cs.{realm}.reply.{operator}.{session}.>")];
        subscriptions.extend(follow.iter().map(|client| subject::event(&realm, client, EventKind::Presence)));
        let (link, events) = Link::connect(LinkConfig {
            url,
            name: format!("operator-{operator}"),
            seed: member.seed,
            inbox_prefix: member.inbox_prefix,
            subscriptions,
            wait: false,
        })
        .await?;
        let verifier = Verifier::new(trust, SKEW);
        let identity = Arc::new(member.identity);
        Ok(Self {
            link,
            events,
            was_lost: false,
            verifier,
            roster: Roster::default(),
            realm,
            enrolled,
            identity,
            session,
        })
    }

    /// Gives an order to clients and gathers one verdict for each. `updates` hears meanwhile of what arrives; `interrupt`
    /// ends the wait with what is known by then.
    pub async fn dispatch(
        &mut self,
        order: Order,
        clients: &[Name],
        options: Options,
        interrupt: impl Future<Output = ()>,
        mut updates: impl FnMut(Update),
    ) -> Result<Report, OperatorError> {
        order.check_arguments()?;
        self.look_up(clients).await;
        let unknown = |client: &&Name| self.roster.entry(client).is_none() && !self.enrolled.contains(client);
        if let Some(client) = clients.iter().find(unknown) {
            return Err(OperatorError::UnknownClient(client.clone()));
        }
        let known = |client: &Name| Target { client: client.clone(), known: self.roster.entry(client).cloned() };
        let setup = Setup {
            realm: self.realm.clone(),
            identity: Arc::clone(&self.identity),
            session: self.session.clone(),
            order,
            targets: clients.iter().map(known).collect(),
            options,
            seed: clock::random()?,
        };
        let (mut dispatch, mut effects) = Dispatch::new(setup, now())?;
        let mut interrupt = pin!(interrupt);
        let mut events = Vec::with_capacity(BATCH);
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Publish { message, reply } => self.link.publish(message, Some(reply)),
                    Effect::Update(update) => updates(update),
                    Effect::Done(report) => return Ok(report),
                }
            }
            let wait = dispatch.wake_at().unwrap_or(u64::MAX).saturating_sub(now().micros);
            tokio::select! {
                taken = self.events.recv_many(&mut events, BATCH) => {
                    if taken == 0 {
                        return Err(LinkError::System("its thread ended".to_owned()).into());
                    }
                    for event in events.drain(..) {
                        effects.extend(self.heed(event, &mut dispatch));
                    }
                }
                () = sleep(Duration::from_micros(wait)) => effects = dispatch.tick(now()),
                () = &mut interrupt => effects = dispatch.interrupt(),
            }
        }
    }

    fn heed(&mut self, event: LinkEvent, dispatch: &mut Dispatch) -> Vec<Effect> {
        let notice = |text| vec![Effect::Update(Update::Notice { client: None, alarm: false, text })];
        match event {
            LinkEvent::Message(delivery) => self.open(&delivery, dispatch),
            LinkEvent::NoResponders { about: Some(subject), .. } => dispatch.no_responders(&subject, now()),
            // The reply subject alone does not tell which of the targets nobody listens for.
            LinkEvent::NoResponders { about: None, .. } => Vec::new(),
            // The first connection is no reconnection.
            LinkEvent::Connected if std::mem::take(&mut self.was_lost) => dispatch.reconnected(now()),
            LinkEvent::Connected => Vec::new(),
            LinkEvent::Disconnected { why } => {
                self.was_lost = true;
                notice(format!("the connection to the broker is lost and being made anew: {why}"))
            }
            LinkEvent::Denied { why } => notice(format!("the broker does not allow it: {why}")),
            LinkEvent::Shed(count) => notice(format!("{count} messages were lost: more arrived than could be taken")),
        }
    }

    /// Verifies what arrived, and hands it to the machine as what it is.
    fn open(&mut self, delivery: &Delivery, dispatch: &mut Dispatch) -> Vec<Effect> {
        let rejected = match self.verifier.open::<Reply>(delivery, now().wall) {
            Ok(reply) => {
                self.verifier.remember(reply.credential());
                return dispatch.reply(&reply, now());
            }
            // Nothing but its type says whether it is a reply.
            Err(rejected) if rejected.reason == Reason::Type => rejected,
            Err(rejected) => return dispatch.rejected(&rejected),
        };
        match self.verifier.open::<Event>(delivery, now().wall) {
            Ok(event) => self.present(&event, dispatch),
            Err(event) if event.reason == Reason::Type => dispatch.rejected(&rejected),
            Err(event) => dispatch.rejected(&event),
        }
    }

    fn present(&mut self, event: &Authentic<Event>, dispatch: &mut Dispatch) -> Vec<Effect> {
        self.verifier.remember(event.credential());
        let taken = self.roster.take(event, now().wall, SKEW);
        let client = &event.message().from;
        if let (Taken::Later | Taken::TwoAlive, Some(presence)) = (taken, self.roster.entry(client)) {
            dispatch.presence(presence, now());
        }
        if taken == Taken::TwoAlive { vec![Effect::Update(Update::two_alive(client))] } else { Vec::new() }
    }
}

fn now() -> Now {
    Now { wall: clock::wall(), micros: clock::micros() }
}

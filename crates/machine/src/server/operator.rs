//! One operator's process: its requests, and what it knows of the clients.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use countersign_protocol::command::{Builtin, CommandId, CommandKind, Target, True};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Authentic, Expired, Identity, Rejected, Signed};
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::{Reply, State};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

use super::client_events::emit_client_event;
use super::pending_command::PendingCommand;
use super::request::{Random, RequestContext, may_sign};
use super::{
    Audience, ClientEvent, CommandRequest, Effect, GRACE, Ignored, Now, OperatorEvent, Options, Presence, RequestError,
    RequestId, Roster, SILENCE, Update, micros,
};
use crate::renewal::Renewer;
use crate::trust::Follower;

/// How many requests are remembered after their reports, so that a late or conflicting reply is known for what it is.
const MAX_REMEMBERED: usize = 64;
/// How many targets the requests that are remembered may have in all.
const MAX_REMEMBERED_TARGETS: usize = 16_384;

/// All that an [`Operator`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OperatorSetup {
    /// The trust bundle that the operator begins with; it also names the realm.
    pub trust: Arc<Trust>,
    /// Whose requests they are.
    pub identity: Arc<Identity>,
    /// The operator's process (section 1): the caller receives what comes on `cs.<realm>.reply.<operator>.<session>.>`.
    pub session: Session,
    /// The clients that the folder of keys knows. By name, nothing is sent to one that neither it nor the roster knows.
    pub enrolled: BTreeSet<Name>,
    /// 32 random bytes, never used twice: ids and jitter come from them.
    pub seed: [u8; 32],
}

/// One operator's process: requests are submitted, each ends in a report, and the clients' presences are stored.
/// Deterministic: the same inputs give the same effects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operator {
    pub(super) setup: OperatorSetup,
    pub(super) follower: Follower,
    /// `None` where it does not ask for its next credential.
    pub(super) renewer: Option<Renewer>,
    /// Why the last attempt to renew its credential was in vain, as it was reported.
    pub(super) not_renewed: Option<String>,
    pub(super) roster: Roster,
    /// When each client was last seen, monotonic, of those whose silence is an event.
    pub(super) alive: BTreeMap<Name, u64>,
    /// The latest event of each client that was emitted, by its process, time and number: an older one is a replay.
    pub(super) last_notified: BTreeMap<Name, (Uuid, Millis, u64)>,
    pub(super) pending: BTreeMap<RequestId, PendingCommand>,
    submitted: u64,
    /// Where the ids and the jitter of each request come from.
    random: Random,
    /// There is no connection now.
    is_cut_off: bool,
    /// What the broker takes of one message, in bytes.
    max_payload: usize,
    /// The latest processes that have signed for each client, and whether it was reported of each that another one is alive
    /// too.
    pub(super) boots: BTreeMap<Name, VecDeque<(Uuid, bool)>>,
    ignored: BTreeMap<(Ignored, Option<Name>), u64>,
}

impl Operator {
    /// No request is submitted, and no client known.
    pub fn new(setup: OperatorSetup) -> Self {
        Self {
            random: Random { seed: setup.seed, drawn: 0 },
            follower: follower(&setup),
            renewer: None,
            not_renewed: None,
            setup,
            roster: Roster::default(),
            alive: BTreeMap::new(),
            last_notified: BTreeMap::new(),
            pending: BTreeMap::new(),
            submitted: 0,
            is_cut_off: false,
            max_payload: usize::MAX,
            boots: BTreeMap::new(),
            ignored: BTreeMap::new(),
        }
    }

    /// Submits a request: it is validated, signed and sent to its audience. After an error nothing was sent to anybody.
    pub fn submit(
        &mut self,
        request: CommandRequest,
        audience: &Audience,
        options: Options,
        now: Now,
    ) -> Result<(RequestId, Vec<Effect>), RequestError> {
        may_sign(&self.setup.identity, self.trust(), now.wall)?;
        if self.is_cut_off {
            return Err(RequestError::Disconnected);
        }
        let expected = self.expected(audience)?;
        let is_control = request.builtin.map(Builtin::kind) == Some(CommandKind::Control);
        self.submitted += 1;
        let id = RequestId(self.submitted);
        let context = RequestContext {
            trust: Arc::clone(self.trust()),
            identity: Arc::clone(&self.setup.identity),
            session: self.setup.session.clone(),
            expires_at: now.wall.plus(options.ttl),
            expires: now.after(options.ttl),
            request,
            options,
            random: Random { seed: self.random.draw(), drawn: 0 },
            id,
            issued: BTreeSet::new(),
            superseded: false,
            cut_off: None,
            outage: 0,
            deadline: options.deadline.map(|millis| now.after(millis)),
            done: false,
        };
        let (pending, effects) = match audience {
            Audience::Clients(_) => PendingCommand::to_each(context, expected, now)?,
            Audience::Group(group) => PendingCommand::to_many(context, Target::Group(group.clone()), expected, now)?,
            Audience::All => PendingCommand::to_many(context, Target::All(True), expected, now)?,
        };
        let size = |effect: &Effect| if let Effect::Publish { message, .. } = effect { message.size() } else { 0 };
        let (size, limit) = (effects.iter().map(size).max().unwrap_or(0), self.max_payload);
        if size > limit {
            return Err(RequestError::OverLimit { size, limit });
        }
        if is_control {
            self.supersede(audience);
        }
        self.forget_old();
        self.pending.insert(id, pending);
        Ok((id, effects))
    }

    /// A reply that the verifier let pass. It counts only if it satisfies the rest of section 5.
    pub fn reply(&mut self, reply: &Authentic<Reply>, now: Now) -> Vec<Effect> {
        let message = reply.message();
        let OperatorSetup { trust, identity, session, .. } = &self.setup;
        let realm = trust.realm();
        let reply_to = subject::reply_to(realm, identity.name(), session, &message.command_id);
        let taken = if message.to != *identity.name() || message.subject != subject::reply(&reply_to, &message.from) {
            Err(Ignored::Elsewhere)
        } else {
            match self.pending.values_mut().find(|pending| pending.owns(&message.command_id)) {
                Some(pending) => pending.reply(reply, now),
                None => Err(Ignored::NotPending),
            }
        };
        match taken {
            Ok(effects) => {
                self.roster.replied(message, message.command_id.time(), now.wall, SKEW);
                if let Some(last_seen) = self.alive.get_mut(&message.from) {
                    *last_seen = now.micros;
                }
                effects
            }
            Err(why) => self.ignore(why, Some(&message.from), ""),
        }
    }

    /// Something arrived that the verifier did not let pass.
    pub fn rejected(&mut self, rejected: &Rejected) -> Vec<Effect> {
        if let Some(expired) = &rejected.expired {
            self.roster.expire(expired);
        }
        let why = Ignored::Rejected(rejected.reason);
        self.ignore(why, rejected.signer.as_ref(), &format!(", {}", rejected.detail))
    }

    /// The broker reports that nobody listens on a command's subject: an unauthenticated hint (section 1), which ends a wait
    /// only where the verified roster shows that the client is gone.
    pub fn no_responders(&mut self, subject: &str, now: Now) -> Vec<Effect> {
        self.pending.values_mut().flat_map(|pending| pending.no_responders(subject, now)).collect()
    }

    /// What the broker takes of one message, in bytes (section 10): a request that is larger is not sent. Without a limit so
    /// far, everything is that section 2 allows.
    pub fn broker_takes(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// A message was not published, since the broker takes no message of its size. Who waits for an answer to it need not.
    pub fn unsent(&mut self, message: &Signed, now: Now) -> Vec<Effect> {
        let (size, limit) = (message.size(), self.max_payload);
        let text = format!("not sent: it takes {size} bytes, and the broker takes {limit} at most (max_payload)");
        let digest = Digest::of(&message.body);
        let mut effects: Vec<Effect> =
            self.pending.values_mut().flat_map(|pending| pending.unsent(digest, &text, now)).collect();
        effects.insert(0, emit(Update::Notice { client: None, alarm: false, text: format!("a command was {text}") }));
        effects
    }

    /// Whether there is no connection.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The connection is lost: silence from now on is its, and not the clients'.
    pub fn disconnected(&mut self, now: Now) {
        self.is_cut_off = true;
        self.connected_renewals(false, now);
        self.pending.values_mut().for_each(|pending| pending.disconnected(now));
    }

    /// The connection is back: results are queried where there is no verdict.
    pub fn reconnected(&mut self, now: Now) -> Vec<Effect> {
        self.is_cut_off = false;
        self.connected_renewals(true, now);
        self.alive.values_mut().for_each(|last_seen| *last_seen = now.micros);
        self.pending.values_mut().flat_map(|pending| pending.reconnected(now)).collect()
    }

    /// Time has passed: to be called no later than [`wake_at`](Self::wake_at). Over [`GRACE`] later, this process was
    /// suspended, by a signal or by a machine that slept: nobody's silence is believed then before what has arrived could
    /// be read.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.follower.fetch(now.millis()).map(Effect::FetchTrust).into_iter().collect();
        effects.extend(self.ask_renewal(now));
        if self.awaited_at().is_some_and(|at| at.saturating_add(micros(GRACE)) <= now.micros) {
            effects.extend(self.suspended(now));
            return effects;
        }
        effects.extend(self.pending.values_mut().flat_map(|pending| pending.tick(now)));
        let is_silent = |last_seen: u64| !self.is_cut_off && last_seen.saturating_add(micros(SILENCE)) <= now.micros;
        let silent: Vec<Name> = self
            .alive
            .iter()
            .filter(|(_, last_seen)| is_silent(**last_seen))
            .map(|(client, _)| client.clone())
            .collect();
        for client in silent {
            self.alive.remove(&client);
            effects.push(emit_client_event(&client, ClientEvent::Silent));
        }
        effects
    }

    fn suspended(&mut self, now: Now) -> Vec<Effect> {
        self.alive.values_mut().for_each(|last_seen| *last_seen = now.micros);
        self.pending.values_mut().flat_map(|pending| pending.suspended(now)).collect()
    }

    /// The person does not want to wait for a request any longer: what runs is `accepted`, what did not answer `no_reply`.
    pub fn interrupt(&mut self, id: RequestId, now: Now) -> Vec<Effect> {
        self.pending.get_mut(&id).map(|pending| pending.interrupt(now)).unwrap_or_default()
    }

    /// When [`tick`](Self::tick) has something to do, by [`Now::micros`]; `None` when nothing is awaited.
    pub fn wake_at(&self) -> Option<u64> {
        let renew_at = self.renewer.as_ref().map_or(i64::MAX, Renewer::wake_at);
        let due_at = self.follower.wake_at().min(renew_at);
        let due_at = (due_at < i64::MAX).then(|| u64::try_from(due_at).unwrap_or(0).saturating_mul(1_000));
        self.awaited_at().into_iter().chain(due_at).min()
    }

    /// When a wait ends.
    fn awaited_at(&self) -> Option<u64> {
        let silent_at = self
            .alive
            .values()
            .min()
            .filter(|_| !self.is_cut_off)
            .map(|last_seen| last_seen.saturating_add(micros(SILENCE)));
        self.pending.values().filter_map(PendingCommand::wake_at).chain(silent_at).min()
    }

    /// Whose requests they are.
    pub fn identity(&self) -> &Identity {
        &self.setup.identity
    }

    /// The clients that were seen.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The clients that can be named: those of the roster and of the folder of keys.
    pub fn known(&self) -> BTreeSet<&Name> {
        let expired = self.roster.all_expired().map(Expired::client);
        self.roster.entries().map(Presence::client).chain(expired).chain(&self.setup.enrolled).collect()
    }

    /// Whether some target of a request has neither replied nor a verdict.
    pub fn awaits_first_reply(&self, id: RequestId) -> bool {
        self.pending.get(&id).is_some_and(PendingCommand::awaits_first_reply)
    }

    /// The id under which a request was sent first, and its targets as they are known by now.
    pub fn sent(&self, id: RequestId) -> Option<(MessageId, Vec<Name>)> {
        self.pending.get(&id).map(PendingCommand::sent)
    }

    /// What runs of a request: the clients, by the command that they run, which `cancel` takes as its arguments.
    pub fn running(&self, id: RequestId) -> BTreeMap<CommandId, Vec<Name>> {
        let mut running: BTreeMap<CommandId, Vec<Name>> = BTreeMap::new();
        for (command, client) in self.pending.get(&id).into_iter().flat_map(PendingCommand::running) {
            running.entry(command).or_default().push(client.clone());
        }
        running
    }

    /// Whether nothing arrived from a client for [`SILENCE`] of connected time, though it has not stated that it ended.
    pub fn is_silent(&self, client: &Name) -> bool {
        let is_live = |presence: &Presence| presence.state() != State::Terminated;
        self.roster.entry(client).is_some_and(is_live) && !self.alive.contains_key(client)
    }

    /// What was ignored, and how often (section 5).
    pub fn ignored(&self) -> BTreeMap<Ignored, u64> {
        let mut counts = BTreeMap::new();
        for ((why, _), count) in &self.ignored {
            *counts.entry(*why).or_default() += count;
        }
        counts
    }

    /// Counts what changes nothing, and shows it once.
    pub(super) fn ignore(&mut self, why: Ignored, from: Option<&Name>, detail: &str) -> Vec<Effect> {
        let count = self.ignored.entry((why, from.cloned())).or_default();
        *count = count.saturating_add(1);
        if *count > 1 {
            return Vec::new();
        }
        let signer = from.map(|name| format!(" signed by {name}")).unwrap_or_default();
        let text = format!("a message{signer} was ignored: {why}{detail}");
        let update = Update::Notice { client: from.cloned(), alarm: why == Ignored::Conflict, text };
        vec![emit(update)]
    }

    /// A control command goes out: what was sent to the same clients before is not reissued any more (section 8).
    fn supersede(&mut self, audience: &Audience) {
        for pending in self.pending.values_mut() {
            match audience {
                Audience::Clients(clients) => clients.iter().for_each(|client| pending.supersede(Some(client))),
                Audience::Group(_) | Audience::All => pending.supersede(None),
            }
        }
    }

    /// Makes room: the oldest of the requests that have their reports go first.
    fn forget_old(&mut self) {
        let done = |pending: &PendingCommand| pending.is_done();
        let mut count = self.pending.values().filter(|pending| done(pending)).count();
        let mut targets: usize = self.pending.values().filter(|pending| done(pending)).map(PendingCommand::size).sum();
        self.pending.retain(|_, pending| {
            let stays = !done(pending) || (count <= MAX_REMEMBERED && targets <= MAX_REMEMBERED_TARGETS);
            if !stays {
                count -= 1;
                targets -= pending.size();
            }
            stays
        });
    }
}

fn follower(setup: &OperatorSetup) -> Follower {
    let mut seed = [0; 16];
    seed.copy_from_slice(&setup.seed[..16]);
    Follower::new(Arc::clone(&setup.trust), seed)
}

pub(super) fn emit(update: Update) -> Effect {
    Effect::Emit(OperatorEvent::Update { id: None, update })
}

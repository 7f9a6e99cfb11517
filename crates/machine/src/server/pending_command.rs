//! A command that was sent: replies and silence become one verdict for each target (sections 5 and 8).

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_protocol::command::{Builtin, CommandId, CommandKind, Target};
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::envelope::Identity;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Reply;
use countersign_protocol::time::span;
use countersign_protocol::trust::Trust;

use super::expected::Expected;
use super::pending_target::PendingTarget;
use super::request::RequestContext;
use super::sent_command::{Resend, SentCommand};
use super::verdict::{Ignored, Report};
use super::{Effect, FIRST_RETRY, GRACE, Now, OperatorEvent, Presence, RequestError};

/// One request on its way: sent to its targets, collecting what comes back, until each has its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PendingCommand {
    context: RequestContext,
    id: MessageId,
    targets: BTreeMap<Name, PendingTarget>,
    /// How many targets have no verdict.
    open: usize,
    /// The one command that went to a group or to all.
    broadcast: Option<Broadcast>,
    gaps: u64,
}

/// One command to many.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Broadcast {
    to: Target,
    sent: SentCommand,
    resend: Option<Resend>,
}

impl PendingCommand {
    /// Another trust bundle is in force: what it does not allow is not signed any more.
    pub(super) fn set_trust(&mut self, trust: &Arc<Trust>) {
        self.context.trust = Arc::clone(trust);
    }

    /// What is signed from now on is signed under another credential.
    pub(super) fn set_identity(&mut self, identity: &Arc<Identity>) {
        self.context.identity = Arc::clone(identity);
    }

    /// One command to each client, all under one id and one `reply_to`. Everything is validated and signed before the first
    /// effect: after an error nothing was sent.
    pub(super) fn to_each(
        mut context: RequestContext,
        clients: Vec<Expected>,
        now: Now,
    ) -> Result<(Self, Vec<Effect>), RequestError> {
        let id = context.id(now);
        let is_query = context.request.builtin.map(Builtin::kind) == Some(CommandKind::Query);
        let (mut targets, mut effects) = (BTreeMap::new(), Vec::new());
        for expected in clients {
            let client = expected.client.clone();
            // A query does nothing that an earlier epoch could have done before: it needs none, and no epoch refuses it.
            let epoch = expected.known.as_ref().map(Presence::epoch).filter(|_| !is_query);
            let sent = SentCommand::new(&context, Target::Client(client.clone()), epoch, id, now)?;
            effects.push(sent.publish(&context));
            let resend = Resend::after(FIRST_RETRY, &mut context, now);
            targets.insert(client, PendingTarget::new(&context, expected, sent, resend, now));
        }
        Ok((Self { context, id, open: targets.len(), targets, broadcast: None, gaps: 0 }, effects))
    }

    /// One command to a group or to all, which these clients are expected to answer.
    pub(super) fn to_many(
        mut context: RequestContext,
        to: Target,
        expected: Vec<Expected>,
        now: Now,
    ) -> Result<(Self, Vec<Effect>), RequestError> {
        let id = context.id(now);
        let sent = SentCommand::new(&context, to.clone(), None, id, now)?;
        let target = |it: Expected| (it.client.clone(), PendingTarget::new(&context, it, sent.clone(), None, now));
        let targets: BTreeMap<Name, PendingTarget> = expected.into_iter().map(target).collect();
        let effects = vec![sent.publish(&context)];
        // For all of them at once.
        let resend = Resend::after(FIRST_RETRY, &mut context, now);
        let broadcast = Some(Broadcast { to, sent, resend });
        Ok((Self { context, id, open: targets.len(), targets, broadcast, gaps: 0 }, effects))
    }

    /// A reply to this process, to a command that [`owns`](Self::owns) knows.
    pub(super) fn reply(&mut self, reply: &Authentic<Reply>, now: Now) -> Result<Vec<Effect>, Ignored> {
        let message = reply.message();
        let mut joined = None;
        let digest = match &self.broadcast {
            Some(broadcast) if broadcast.sent.id == message.command_id => {
                if let Target::Group(group) = &broadcast.to
                    && !reply.credential().groups().contains(group)
                {
                    return Err(Ignored::NotAddressed);
                }
                if !self.targets.contains_key(&message.from) {
                    let client = Expected { client: message.from.clone(), known: None, until: None };
                    joined = Some(PendingTarget::new(&self.context, client, broadcast.sent.clone(), None, now));
                }
                broadcast.sent.digest
            }
            _ => {
                let sent = self.targets.get(&message.from).and_then(|target| target.digest(&message.command_id));
                sent.ok_or(Ignored::NotAddressed)?
            }
        };
        if message.command_digest != digest {
            return Err(Ignored::OtherBytes);
        }
        let mut effects = Vec::new();
        let missing = if let Some(mut target) = joined {
            // Nobody expected it, but it was addressed: it gets a verdict like the others.
            let missing = target.take(&mut self.context, reply, now, &mut effects)?;
            self.open += usize::from(target.is_pending());
            self.targets.insert(message.from.clone(), target);
            missing
        } else {
            let target = self.targets.get_mut(&message.from).ok_or(Ignored::NotAddressed)?;
            let was_pending = target.is_pending();
            let missing = target.take(&mut self.context, reply, now, &mut effects)?;
            self.open = self.open + usize::from(target.is_pending()) - usize::from(was_pending);
            missing
        };
        self.gaps = self.gaps.saturating_add(missing);
        if self.is_done() {
            // What came after the report may be another process's.
            let doubt = self.targets.get_mut(&message.from).and_then(|target| target.doubt(now));
            effects.extend(doubt.map(|doubt| self.context.update(doubt)));
        }
        Ok(self.finish(effects, now))
    }

    /// Whether a command of that id was sent for this request, or a query about it.
    pub(super) fn owns(&self, id: &MessageId) -> bool {
        self.context.issued.contains(id)
    }

    /// A presence of a client has just arrived.
    pub(super) fn on_presence(&mut self, presence: &Presence, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(target) = self.targets.get_mut(presence.client()) {
            let was_pending = target.is_pending();
            let is_one_of_many = self.broadcast.as_ref().is_some_and(|it| target.waits_for(&it.sent.id));
            target.present(&mut self.context, presence, is_one_of_many, now, &mut effects);
            self.open = self.open + usize::from(target.is_pending()) - usize::from(was_pending);
        }
        self.finish(effects, now)
    }

    /// The broker reports that nobody listens on a command's subject: an unauthenticated hint (section 1), which ends a wait
    /// only where the verified roster shows that the client is gone.
    pub(super) fn no_responders(&mut self, subject: &str, now: Now) -> Vec<Effect> {
        self.each(now, |target, context, _| target.no_responders(context, subject, now))
    }

    /// The connection is lost.
    pub(super) fn disconnected(&mut self, now: Now) {
        self.context.cut_off.get_or_insert(now.micros);
    }

    /// A message with this digest was not published.
    pub(super) fn unsent(&mut self, digest: Digest, why: &str, now: Now) -> Vec<Effect> {
        self.each(now, |target, _, _| target.unsent(digest, why))
    }

    /// This process was suspended.
    pub(super) fn suspended(&mut self, now: Now) -> Vec<Effect> {
        self.context.cut_off = self.context.cut_off.map(|_| now.micros);
        self.context.deadline = self.context.deadline.map(|deadline| deadline.max(now.after(GRACE)));
        self.each(now, |target, context, effects| effects.extend(target.suspended(context, now)))
    }

    /// The connection is back: results are queried where there is no verdict.
    pub(super) fn reconnected(&mut self, now: Now) -> Vec<Effect> {
        let outage = self.context.cut_off.take().map_or(0, |since| now.micros.saturating_sub(since));
        self.context.outage = self.context.outage.saturating_add(outage);
        if let Some(Broadcast { resend: Some(resend), .. }) = &mut self.broadcast {
            resend.at = resend.at.max(now.micros);
        }
        self.each(now, |target, context, effects| effects.extend(target.reconnected(context, outage, now)))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now) -> Vec<Effect> {
        if self.context.deadline.is_some_and(|deadline| deadline <= now.micros) {
            let limit = self.context.options.deadline.map_or_else(String::new, |limit| format!(" of {}", span(limit)));
            let why = format!("no reply before the deadline{limit}{}", self.context.cut_off());
            return self.each(now, |target, _, _| target.interrupt(&why));
        }
        let mut again = None;
        if let Some(broadcast) = &mut self.broadcast
            && !self.context.is_cut_off()
            && let Some(resend) = broadcast.resend.filter(|resend| resend.at <= now.micros && self.open > 0)
        {
            let waits =
                |target: &PendingTarget| now.micros < self.context.expires && target.waits_for(&broadcast.sent.id);
            again = self.targets.values().any(waits).then(|| broadcast.sent.publish(&self.context));
            broadcast.resend =
                again.as_ref().and_then(|_| Resend::after(resend.pause.saturating_mul(2), &mut self.context, now));
        }
        let mut effects = self.each(now, |target, context, effects| effects.extend(target.tick(context, now)));
        effects.splice(0..0, again);
        effects
    }

    /// The person does not want to wait any longer: what runs is `accepted`, what did not answer `no_reply`.
    pub(super) fn interrupt(&mut self, now: Now) -> Vec<Effect> {
        self.each(now, |target, _, _| target.interrupt("interrupted before a reply"))
    }

    /// A later control command went to a client, or to an unknown set of many: what was sent before is not sent
    /// again (section 8).
    pub(super) fn supersede(&mut self, client: Option<&Name>) {
        match client {
            Some(client) => self.targets.get_mut(client).into_iter().for_each(PendingTarget::supersede),
            None => {
                self.context.superseded = true;
                self.targets.values_mut().for_each(PendingTarget::supersede);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do, by [`Now::micros`]; `None` when every target has its verdict.
    pub(super) fn wake_at(&self) -> Option<u64> {
        if self.is_done() {
            return None;
        }
        let is_cut_off = self.context.is_cut_off();
        let resend = self.broadcast.as_ref().and_then(|broadcast| broadcast.resend).filter(|_| !is_cut_off);
        let wakes = self.targets.values().filter_map(|target| target.wake_at(is_cut_off));
        wakes.chain(resend.map(|resend| resend.at)).chain(self.context.deadline).min()
    }

    /// Whether the report was made.
    pub(super) fn is_done(&self) -> bool {
        self.context.done
    }

    /// The id under which it was sent first, and its targets as they are known by now.
    pub(super) fn sent(&self) -> (MessageId, Vec<Name>) {
        (self.id, self.targets.keys().cloned().collect())
    }

    /// How many targets it has.
    pub(super) fn size(&self) -> usize {
        self.targets.len()
    }

    /// Whether some target has not replied at all and has no verdict.
    pub(super) fn awaits_first_reply(&self) -> bool {
        self.targets.values().any(PendingTarget::is_waiting)
    }

    /// What runs, and where: the same id may stand for other bytes at each client.
    pub(super) fn running(&self) -> impl Iterator<Item = (CommandId, &Name)> {
        let context = &self.context;
        self.targets.iter().filter_map(move |(client, target)| Some((target.running(context)?, client)))
    }

    fn each(
        &mut self,
        now: Now,
        mut change: impl FnMut(&mut PendingTarget, &mut RequestContext, &mut Vec<Effect>),
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.is_done() {
            return effects;
        }
        self.open = 0;
        for target in self.targets.values_mut() {
            change(target, &mut self.context, &mut effects);
            self.open += usize::from(target.is_pending());
        }
        self.finish(effects, now)
    }

    fn finish(&mut self, mut effects: Vec<Effect>, now: Now) -> Vec<Effect> {
        if self.is_done() || self.open > 0 {
            return effects;
        }
        self.context.done = true;
        let doubts = self.targets.values_mut().filter_map(|target| target.doubt(now));
        effects.extend(doubts.map(|doubt| self.context.update(doubt)));
        let context = &self.context;
        let replies: Vec<_> = self.targets.values_mut().filter_map(|target| target.report(context)).collect();
        let sent = if let [only] = replies.as_slice() { only.command_id } else { self.id };
        let RequestContext { request, options, .. } = &self.context;
        let (command_id, command) = (request.awaited.unwrap_or(sent), request.reported_name());
        let report = Report { command_id, command, replies, gaps: self.gaps, detached: options.detach };
        effects.push(Effect::Emit(OperatorEvent::Done { id: self.context.id, report }));
        effects
    }
}

//! Gathering: replies and silence become one verdict for each target (sections 5 and 8).

use std::collections::BTreeMap;

use countersign_protocol::envelope::{Authentic, Rejected};
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::reply::Reply;
use countersign_protocol::subject;

use super::issue::Errand;
use super::line::Line;
use super::verdict::{Ignored, Report};
use super::{Effect, Now, OrderError, Presence, Setup, Update};

/// One order on its way: sent to its targets, gathering what comes back, until each has its verdict. Deterministic: the
/// same inputs give the same effects. After [`Effect::Done`] it takes notice of nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dispatch {
    errand: Errand,
    id: MessageId,
    lines: BTreeMap<Name, Line>,
    gaps: u64,
    /// What was ignored of whom, and how often: at most one entry for each reason and verified signer.
    ignored: BTreeMap<(Ignored, Option<Name>), u64>,
    done: bool,
}

impl Dispatch {
    /// Signs one command to each target, all under one id and one `reply_to`. Everything is validated and signed before
    /// the first effect: after an error nothing was sent.
    pub fn new(setup: Setup, now: Now) -> Result<(Self, Vec<Effect>), OrderError> {
        let Setup { realm, identity, session, order, targets, options, seed } = setup;
        order.check_arguments()?;
        let (expires_at, expires) = (now.wall.plus(options.ttl), now.after(options.ttl));
        let mut errand = Errand { realm, identity, session, order, options, expires_at, expires, seed, drawn: 0 };
        let id = errand.id(now);
        let mut lines = BTreeMap::new();
        for target in targets {
            lines.insert(target.client.clone(), Line::new(&mut errand, target, id, now)?);
        }
        if lines.is_empty() {
            return Err(OrderError::NoTarget);
        }
        let effects = lines.values().map(|line| line.publish(&errand)).collect();
        Ok((Self { errand, id, lines, gaps: 0, ignored: BTreeMap::new(), done: false }, effects))
    }

    /// A reply that the verifier let pass. It counts only if it satisfies the rest of section 5.
    pub fn reply(&mut self, reply: &Authentic<Reply>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.done {
            return effects;
        }
        match self.take(reply, now, &mut effects) {
            Ok(missing) => self.gaps = self.gaps.saturating_add(missing),
            Err(why) => effects.extend(self.ignore(why, Some(&reply.message().from), "")),
        }
        self.finish(effects)
    }

    /// Something came on the reply subject that the verifier did not let pass.
    pub fn rejected(&mut self, rejected: &Rejected) -> Vec<Effect> {
        if self.done {
            return Vec::new();
        }
        let why = Ignored::Rejected(rejected.reason);
        self.ignore(why, rejected.signer.as_ref(), &format!(", {}", rejected.detail)).into_iter().collect()
    }

    /// The roster took a presence that has just come from the client itself, and not from what the broker keeps.
    pub fn presence(&mut self, presence: &Presence, now: Now) {
        if let Some(line) = self.lines.get_mut(presence.client()) {
            line.present(now);
        }
    }

    /// The broker says that nobody listens on a command's subject: an unauthenticated hint (section 1), which ends a wait
    /// only where the verified roster says that the client is gone.
    pub fn no_responders(&mut self, subject: &str, now: Now) -> Vec<Effect> {
        self.lines.values_mut().for_each(|line| line.no_responders(&self.errand, subject, now));
        self.finish(Vec::new())
    }

    /// The connection is back: what runs is asked for its result.
    pub fn reconnected(&mut self, now: Now) -> Vec<Effect> {
        self.lines.values_mut().filter_map(|line| line.reconnected(&mut self.errand, now)).collect()
    }

    /// Time has passed: to be called no later than [`wake_at`](Self::wake_at).
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let effects = self.lines.values_mut().filter_map(|line| line.tick(&mut self.errand, now)).collect();
        self.finish(effects)
    }

    /// The person does not want to wait any longer: what runs is `accepted`, what did not answer `no_reply`.
    pub fn interrupt(&mut self) -> Vec<Effect> {
        self.lines.values_mut().for_each(Line::interrupt);
        self.finish(Vec::new())
    }

    /// When [`tick`](Self::tick) has something to do, by [`Now::micros`]; `None` when every target has its verdict.
    pub fn wake_at(&self) -> Option<u64> {
        self.lines.values().filter_map(Line::wake_at).min()
    }

    /// The rest of the rules of section 5: what is left is the line's own business.
    fn take(&mut self, reply: &Authentic<Reply>, now: Now, effects: &mut Vec<Effect>) -> Result<u64, Ignored> {
        let message = reply.message();
        let addressed = subject::reply(&self.errand.reply_to(&message.command_id), &message.from);
        if message.to != *self.errand.identity.name() || message.subject != addressed {
            return Err(Ignored::Elsewhere);
        }
        let sent = |line: &Line| line.digest(&message.command_id);
        let Some(digest) = self.lines.get(&message.from).and_then(sent) else {
            let pending = self.lines.values().any(|line| sent(line).is_some());
            return Err(if pending { Ignored::NotAddressed } else { Ignored::NotPending });
        };
        if message.command_digest != digest {
            return Err(Ignored::OtherBytes);
        }
        let line = self.lines.get_mut(&message.from).ok_or(Ignored::NotAddressed)?;
        line.take(&mut self.errand, reply, now, effects)
    }

    /// Counts what changes nothing, and shows it once.
    fn ignore(&mut self, why: Ignored, from: Option<&Name>, detail: &str) -> Option<Effect> {
        let count = self.ignored.entry((why, from.cloned())).or_default();
        *count = count.saturating_add(1);
        let signer = from.map(|name| format!(" signed by {name}")).unwrap_or_default();
        let text = format!("a message{signer} was ignored: {why}{detail}");
        let notice = Update::Notice { client: from.cloned(), alarm: why == Ignored::Conflict, text };
        (*count == 1).then_some(Effect::Update(notice))
    }

    fn finish(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.done {
            return effects;
        }
        let Some(replies) = self.lines.values().map(Line::report).collect::<Option<Vec<_>>>() else { return effects };
        self.done = true;
        let mut ignored = BTreeMap::new();
        for ((why, _), count) in &self.ignored {
            *ignored.entry(*why).or_default() += count;
        }
        let command_id = if let [only] = replies.as_slice() { only.command_id } else { self.id };
        effects.push(Effect::Done(Report {
            command_id,
            command: self.errand.order.command.name.clone(),
            replies,
            gaps: self.gaps,
            ignored,
        }));
        effects
    }
}

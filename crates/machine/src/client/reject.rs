//! What becomes of a message that is not obeyed: a signed refusal, a repeated reply, or silence and a counter.

use std::collections::BTreeMap;

use countersign_protocol::command::CommandKind;
use countersign_protocol::envelope::{Reason, Rejected, Signed};
use countersign_protocol::event::{EventData, EventKind, Security, SecurityReason};
use countersign_protocol::json;
use countersign_protocol::limits::ALARMS_PER_SECOND;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{ErrorCode, Outcome, Reply};
use countersign_protocol::text;

use super::effect::{Effect, Level, Note, Step};
use super::journal::Started;
use super::rate::Window;
use super::refusal::{Refusal, Rejection, ReplyContext};
use super::{Client, Moment, Now, apply};

/// Security events of one signer, and how many were held back since the last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Alarm {
    window: Window,
    suppressed: BTreeMap<SecurityReason, u64>,
}

impl Client {
    pub(super) fn knows(&self, started: &Started) -> bool {
        let key = started.reply_context.key;
        self.records.find(key).is_some() || self.queries.find(key).is_some()
    }

    /// Answers a command that was received before: the recorded reply, byte for byte, or a conflict.
    pub(super) fn repeat(&mut self, started: Started, moment: Moment, step: &mut Step) -> Result<(), Rejection> {
        let key = started.reply_context.key;
        let Some(record) = self.records.find(key).or_else(|| self.queries.find(key)) else { return Ok(()) };
        if record.digest() != started.reply_context.digest {
            return Err(Rejection::Refuse(Box::new(started), Refusal::IdConflict));
        }
        let answer = record.answer();
        if !self.reply_budget.admit(moment.since_boot, &started.reply_context.digest) {
            return Err(Rejection::drop(Reason::Repeat, &started.reply_context.operator, "the same command too often"));
        }
        let Some(answer) = answer else { return Ok(()) };
        if self.outbox.fits(&answer) || record.is_running() {
            step.effects.push(Effect::Publish(answer));
        } else {
            let (reply_context, seq) = (record.reply_context(), record.next_seq);
            self.stand_in(&answer, &reply_context, seq, moment, step);
        }
        Ok(())
    }

    /// Answers in the place of a recorded reply that the broker does not take now. The record stays as it is: the reply is
    /// sent again where it fits.
    fn stand_in(&mut self, recorded: &Signed, reply_context: &ReplyContext, seq: u64, moment: Moment, step: &mut Step) {
        let outcome = json::parse_as::<Reply>(&recorded.body).ok().and_then(|reply| reply.outcome().ok());
        let Some(outcome) = outcome else { return };
        let (reply, _) = self.outbox.fitting(reply_context, seq, outcome, self.state, moment.now);
        if self.outbox.fits(&reply) {
            step.effects.push(Effect::Publish(reply));
        }
    }

    /// What the broker takes of one message, in bytes (section 10). What is signed from now on fits, and a reply that does not
    /// becomes `result_too_large`. Without a limit so far, everything fits that section 2 allows.
    pub fn broker_takes(&mut self, max_payload: usize) {
        self.outbox.limit(max_payload);
    }

    /// Whether the presence fits in what the broker takes: if not, no operator sees this client.
    pub fn is_presentable(&self) -> bool {
        self.presence_fits
    }

    /// A message was not published, since the broker takes no message of its size: the limit is known by now to
    /// [`broker_takes`](Self::broker_takes). A final reply is replaced by one that fits.
    pub fn unsent(&mut self, message: &Signed, now: Now) -> Step {
        let mut step = Step::default();
        let moment = self.observe(now, &mut step);
        let size = message.size();
        let text = match json::parse_as::<Reply>(&message.body) {
            Ok(reply) => {
                let id = reply.command_id;
                let key = self.records.answered_by(message, id).or_else(|| self.queries.answered_by(message, id));
                let record = key.and_then(|key| self.records.find(key).or_else(|| self.queries.find(key)));
                if let Some((reply_context, seq)) = record.map(|record| (record.reply_context(), record.next_seq)) {
                    self.stand_in(message, &reply_context, seq, moment, &mut step);
                }
                format!("a reply to {id} was not sent: it takes {size} bytes, more than the broker takes (max_payload)")
            }
            Err(_) if message.subject.ends_with(EventKind::Presence.as_str()) => {
                self.presence_fits = false;
                apply::no_presence(size)
            }
            Err(_) => format!("an event was not sent: it takes {size} bytes, more than the broker takes (max_payload)"),
        };
        step.effects.push(Effect::Log(Note { level: Level::Warn, text }));
        step
    }

    pub(super) fn reject(&mut self, rejection: Rejection, moment: Moment, step: &mut Step) {
        match rejection {
            Rejection::Drop(rejected) => self.drop(&rejected, moment, step),
            Rejection::Refuse(started, refusal) => self.refuse(*started, refusal, moment, step),
        }
    }

    pub(super) fn refuse(&mut self, started: Started, refusal: Refusal, moment: Moment, step: &mut Step) {
        let kind = self.catalogue.find(&started.command).map(|known| known.kind());
        let query = kind == Some(CommandKind::Query);
        let operator = started.reply_context.key.operator;
        if refusal == Refusal::IdConflict {
            let signer = Some(started.reply_context.operator.clone());
            self.alarm(SecurityReason::IdConflict, 1, signer, moment, step);
        }
        if !refusal.is_recorded() {
            return self.answer_unrecorded(&started.reply_context, &started.command, &refusal, moment, step);
        }
        if !query && !self.parked.is_empty() {
            let refusal = Refusal::NotRecorded;
            return self.answer_unrecorded(&started.reply_context, &started.command, &refusal, moment, step);
        }
        if !query && !self.records.make_room(operator, kind == Some(CommandKind::Control)) {
            let refusal = Refusal::RecordFull;
            return self.answer_unrecorded(&started.reply_context, &started.command, &refusal, moment, step);
        }
        let kind = kind.unwrap_or(CommandKind::Data);
        let reply_context = started.reply_context.clone();
        self.remember(started, kind, step);
        self.finish(&reply_context, Outcome::Refused(refusal.body()), moment, step);
    }

    pub(super) fn answer_unrecorded(
        &mut self,
        reply_context: &ReplyContext,
        command: &Name,
        refusal: &Refusal,
        moment: Moment,
        step: &mut Step,
    ) {
        if refusal.code() == ErrorCode::Busy {
            *self.dropped.entry(Reason::Busy).or_default() += 1;
        }
        if self.reply_budget.admit(moment.since_boot, &reply_context.digest) {
            self.log_refusal(command, &reply_context.operator, reply_context.key.id, refusal, step);
            let reply = self.outbox.reply(reply_context, 0, Outcome::Refused(refusal.body()), self.state, moment.now);
            step.effects.push(Effect::Publish(reply));
        } else {
            *self.dropped.entry(Reason::Repeat).or_default() += 1;
        }
    }

    pub(super) fn drop(&mut self, rejected: &Rejected, moment: Moment, step: &mut Step) {
        *self.dropped.entry(rejected.reason).or_default() += 1;
        if matches!(rejected.reason, Reason::Json | Reason::Envelope) && rejected.signer.is_some() {
            self.alarm(SecurityReason::Envelope, 1, rejected.signer.clone(), moment, step);
        }
        let text = format!("dropped a message ({}): {}", rejected.reason, text::escape(&rejected.detail));
        step.effects.push(Effect::Log(Note { level: Level::Dropped, text }));
    }

    /// Publishes a security event, unless its signer has had the share of this second; then a later one counts it.
    pub(super) fn alarm(
        &mut self,
        reason: SecurityReason,
        count: u64,
        signer: Option<Name>,
        moment: Moment,
        step: &mut Step,
    ) {
        let alarm = self.alarms.entry(signer.clone()).or_default();
        *alarm.suppressed.entry(reason).or_default() += count;
        if alarm.window.admit(moment.since_boot, ALARMS_PER_SECOND) {
            let count = alarm.suppressed.remove(&reason).unwrap_or(count);
            let data = EventData::Security(Security { reason, count, signer });
            step.effects.push(Effect::Publish(self.outbox.event(data, self.state, moment.now)));
        }
    }

    /// Publishes the security events that were held back.
    pub(super) fn release_alarms(&mut self, moment: Moment, step: &mut Step) {
        for (signer, alarm) in std::mem::take(&mut self.alarms) {
            for (reason, count) in alarm.suppressed {
                self.alarm(reason, count, signer.clone(), moment, step);
            }
        }
    }
}

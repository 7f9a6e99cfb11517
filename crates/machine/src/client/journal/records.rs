//! The commands that a client remembers, within their bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::MessageId;
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::{CONTROL_RESERVE, EPOCH_RETENTION, JOB_RETENTION};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Progress, Status};
use countersign_protocol::time::Millis;

use super::retained_reply::{Interner, ReplySigner, RetainedReply};
use super::{Entry, Finished, Started};
use crate::client::effect::JobKey;
use crate::client::refusal::ReplyContext;

/// How many records are forgotten in one turn, at most: no turn takes longer because many have become due at once.
const FORGOTTEN_IN_A_TURN: usize = 64;

/// A [`JobKey`] whose operator's thumbprint all of its records share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RecordKey {
    id: MessageId,
    operator: Arc<Thumbprint>,
}

/// One command that was decided on. There may be a million: what a record shares with others, it shares in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) struct Record {
    key: RecordKey,
    digest: Digest,
    operator: Arc<Name>,
    command: Arc<Name>,
    /// The `reply_to` up to the command's id, with which it ends.
    reply_to: Arc<String>,
    at: Millis,
    until: Millis,
    pub(in crate::client) next_seq: u64,
    pub(in crate::client) phase: Phase,
    pub(in crate::client) long_running: bool,
    /// Whether its end is not on disk yet: until it is, it is reported to nobody.
    pub(in crate::client) unsynced: bool,
    /// When it may be forgotten at the latest, since it is of an earlier epoch.
    at_most: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) enum Phase {
    Running(Box<Running>),
    Finished { at: Millis, status: Status, reply: Option<RetainedReply> },
}

/// What is known of a command that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) struct Running {
    pub(in crate::client) interim: Option<Signed>,
    pub(in crate::client) progress: Option<Progress>,
    pub(in crate::client) progressed: i64,
}

impl Record {
    pub(in crate::client) fn key(&self) -> JobKey {
        JobKey { id: self.key.id, operator: *self.key.operator }
    }

    pub(in crate::client) fn digest(&self) -> Digest {
        self.digest
    }

    pub(in crate::client) fn command(&self) -> &Name {
        &self.command
    }

    pub(in crate::client) fn operator(&self) -> &Name {
        &self.operator
    }

    /// When it was decided on.
    pub(in crate::client) fn at(&self) -> Millis {
        self.at
    }

    pub(in crate::client) fn reply_context(&self) -> ReplyContext {
        ReplyContext {
            key: self.key(),
            operator: (*self.operator).clone(),
            reply_to: format!("{}{}", self.reply_to, self.key.id),
            digest: self.digest,
        }
    }

    pub(in crate::client) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// What is sent when the command arrives again: its final reply, while it runs its latest interim one.
    pub(in crate::client) fn answer(&self) -> Option<Signed> {
        match &self.phase {
            Phase::Running(running) => running.interim.clone(),
            Phase::Finished { .. } if self.unsynced => None,
            Phase::Finished { .. } => self.reply(),
        }
    }

    /// What a journal states about it.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let (key, reply_context) = (self.key(), self.reply_context());
        let Self { at, until, long_running, .. } = *self;
        let started = Started { reply_context, command: (*self.command).clone(), long_running, at, until };
        let interim = self.next_seq.checked_sub(1).map(|seq| Entry::Interim { key, seq });
        let finished = match &self.phase {
            Phase::Running(_) => None,
            Phase::Finished { at, status, .. } => {
                Some(Entry::Finished(Finished { key, at: *at, status: *status, reply: self.reply() }))
            }
        };
        [Some(Entry::Started(started)), interim, finished].into_iter().flatten()
    }

    fn reply(&self) -> Option<Signed> {
        match &self.phase {
            Phase::Finished { status, reply: Some(retained), .. } => {
                Some(retained.signed(&self.reply_context(), *status))
            }
            _ => None,
        }
    }

    /// When the record may be forgotten; never while the command runs.
    fn due(&self, retain: i64) -> Option<Millis> {
        let due = match &self.phase {
            Phase::Running(_) => return None,
            Phase::Finished { at, .. } if self.long_running => self.until.max(at.plus(retain)),
            Phase::Finished { .. } => self.until,
        };
        Some(due.min(self.at_most))
    }
}

/// The records of one kind, by command, within their bounds. A record is never evicted while its command could still be
/// taken; retained replies are, and jobs that have ended and whose command is late.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::client) struct Records {
    records: BTreeMap<RecordKey, Box<Record>>,
    running: BTreeSet<(Millis, RecordKey)>,
    finished_jobs: BTreeSet<(Millis, RecordKey)>,
    /// When they may be forgotten: the jobs, and all others.
    due_jobs: BTreeSet<(Millis, RecordKey)>,
    due_others: BTreeSet<(Millis, RecordKey)>,
    operators: BTreeMap<Arc<Thumbprint>, OperatorUsage>,
    retained: BTreeSet<(Millis, RecordKey)>,
    retained_bytes: usize,
    bound: usize,
    retained_bound: usize,
    /// How long a job is remembered after its end, in milliseconds.
    retain: i64,
    /// The high-water mark of the clock: what is due by it counts as forgotten.
    mark: Millis,
    names: Interner<Name>,
    reply_tos: Interner<String>,
    signers: Interner<ReplySigner>,
}

/// What is counted for one operator key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct OperatorUsage {
    records: usize,
    /// The jobs that have ended, by when their command is late: from then on they may give way.
    finished_jobs: BTreeSet<(Millis, MessageId)>,
}

impl Records {
    pub(in crate::client) fn new(bound: usize, retained_bound: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            running: BTreeSet::new(),
            finished_jobs: BTreeSet::new(),
            due_jobs: BTreeSet::new(),
            due_others: BTreeSet::new(),
            operators: BTreeMap::new(),
            retained: BTreeSet::new(),
            retained_bytes: 0,
            bound,
            retained_bound,
            retain: JOB_RETENTION,
            mark: Millis::new(0),
            names: Interner::default(),
            reply_tos: Interner::default(),
            signers: Interner::default(),
        }
    }

    /// The same records within another bound, which holds from the next one on.
    pub(in crate::client) fn bounded(self, bound: usize) -> Self {
        Self { bound, ..self }
    }

    /// The same records, of which a job is remembered for so many milliseconds after its end.
    pub(in crate::client) fn retaining(self, retain: i64) -> Self {
        if self.retain == retain {
            return self;
        }
        let jobs = self.finished_jobs.iter().filter_map(|(_, key)| self.records.get(key));
        let due_jobs = jobs.filter_map(|job| Some((job.due(retain)?, job.key.clone()))).collect();
        Self { retain, due_jobs, ..self }
    }

    /// Whether one more fits: a quarter of the bound for each operator key, and some more for control commands. Jobs that
    /// have ended make room where that is needed, as soon as their command is late.
    pub(in crate::client) fn make_room(&mut self, operator: Thumbprint, control: bool) -> bool {
        let reserve = if control { CONTROL_RESERVE } else { 0 };
        loop {
            let own = self.operators.get(&operator);
            let own_fits = own.map_or(0, |own| own.records) < self.bound / 4 + reserve;
            if own_fits && self.records.len() < self.bound + reserve {
                return true;
            }
            let mut owners = self.operators.iter().filter(|(owner, _)| own_fits || ***owner == operator);
            let giving_way = owners.find_map(|(owner, own)| {
                let (_, id) = own.finished_jobs.first().filter(|(late, _)| *late <= self.mark)?;
                Some(JobKey { id: *id, operator: **owner })
            });
            let Some(key) = giving_way else { return false };
            self.withdraw(key);
        }
    }

    pub(in crate::client) fn find(&self, key: JobKey) -> Option<&Record> {
        let record = self.records.get(&self.key(key)?)?;
        self.lives(record).then_some(record)
    }

    pub(in crate::client) fn find_mut(&mut self, key: JobKey) -> Option<&mut Record> {
        self.find(key)?;
        self.records.get_mut(&self.key(key)?).map(|record| &mut **record)
    }

    /// The records of all keys that have used an id.
    pub(in crate::client) fn of_id(&self, id: MessageId) -> impl Iterator<Item = &Record> {
        let first = RecordKey { id, operator: Arc::new(Thumbprint::MIN) };
        let same_id = self.records.range(first..).take_while(move |(key, _)| key.id == id);
        same_id.map(|(_, record)| &**record).filter(|record| self.lives(record))
    }

    pub(in crate::client) fn begin(&mut self, started: Started) {
        let Started {
            reply_context: ReplyContext { key, operator, reply_to, digest },
            command,
            long_running,
            at,
            until,
        } = started;
        self.withdraw(key);
        let own = self.key(key).unwrap_or_else(|| RecordKey { id: key.id, operator: Arc::new(key.operator) });
        self.operators.entry(Arc::clone(&own.operator)).or_default().records += 1;
        self.running.insert((at, own.clone()));
        let phase = Phase::Running(Box::new(Running { interim: None, progress: None, progressed: i64::MIN }));
        let record = Record {
            digest,
            operator: shared(&mut self.names, operator),
            command: shared(&mut self.names, command),
            reply_to: shared(&mut self.reply_tos, without_id(reply_to, key.id)),
            at,
            until,
            next_seq: 0,
            phase,
            long_running,
            unsynced: false,
            at_most: Millis::new(i64::MAX),
            key: own.clone(),
        };
        self.records.insert(own, Box::new(record));
    }

    /// The ended command whose final reply this is.
    pub(in crate::client) fn answered_by(&self, reply: &Signed, id: MessageId) -> Option<JobKey> {
        let mut same_id = self.of_id(id);
        same_id.find(|record| !record.is_running() && record.answer().as_ref() == Some(reply)).map(Record::key)
    }

    /// Notes the end of a command; the reply is retained as long as there is room for it.
    pub(in crate::client) fn end(&mut self, finished: Finished) {
        let Finished { key, at, status, reply } = finished;
        let Some(own) = self.key(key) else { return };
        let Some(record) = self.records.get_mut(&own).filter(|record| record.is_running()) else { return };
        self.running.remove(&(record.at, own.clone()));
        let reply = reply.map(|reply| RetainedReply::new(reply, &record.reply_context(), status, &mut self.signers));
        if let Some(reply) = &reply {
            self.retained.insert((at, own.clone()));
            self.retained_bytes += reply.weight();
        }
        record.phase = Phase::Finished { at, status, reply };
        if record.long_running {
            self.finished_jobs.insert((at, own.clone()));
            if let Some(operator) = self.operators.get_mut(&own.operator) {
                operator.finished_jobs.insert((record.until, own.id));
            }
        }
        if let Some(due) = record.due(self.retain) {
            let set = if record.long_running { &mut self.due_jobs } else { &mut self.due_others };
            set.insert((due, own));
        }
        while self.retained_bytes > self.retained_bound {
            let Some((_, oldest)) = self.retained.pop_first() else { break };
            let Some(record) = self.records.get_mut(&oldest) else { continue };
            if let Phase::Finished { reply, .. } = &mut record.phase {
                self.retained_bytes -= reply.take().as_ref().map_or(0, RetainedReply::weight);
            }
        }
    }

    /// Withholds the end of a command, or no longer does.
    pub(in crate::client) fn set_unsynced(&mut self, key: JobKey, unsynced: bool) {
        if let Some(record) = self.find_mut(key) {
            record.unsynced = unsynced;
        }
    }

    /// Takes back an interim reply that is not on disk; the number that it had stays used.
    pub(in crate::client) fn withdraw_interim(&mut self, key: JobKey) {
        if let Some(Record { phase: Phase::Running(running), .. }) = self.find_mut(key) {
            running.interim = None;
        }
    }

    /// Forgets a command: it may be forgotten, or its record could not be written.
    pub(in crate::client) fn withdraw(&mut self, key: JobKey) {
        let Some((own, record)) = self.key(key).and_then(|own| self.records.remove_entry(&own)) else { return };
        self.running.remove(&(record.at, own.clone()));
        if let Some(due) = record.due(self.retain) {
            let set = if record.long_running { &mut self.due_jobs } else { &mut self.due_others };
            set.remove(&(due, own.clone()));
        }
        if let Phase::Finished { at, reply, .. } = &record.phase {
            self.finished_jobs.remove(&(*at, own.clone()));
            if self.retained.remove(&(*at, own.clone())) {
                self.retained_bytes -= reply.as_ref().map_or(0, RetainedReply::weight);
            }
        }
        if let Some(operator) = self.operators.get_mut(&own.operator) {
            operator.finished_jobs.remove(&(record.until, own.id));
            operator.records -= 1;
            if operator.records == 0 {
                self.operators.remove(&own.operator);
            }
        }
    }

    /// A new epoch begins. What was recorded before can never run again, so that it only answers repetitions: none of it is
    /// kept for longer than it would be by this clock, by whatever clock it was recorded, and jobs of a wrong future give way
    /// like those whose command is late.
    pub(in crate::client) fn begin_epoch(&mut self, now: Millis) {
        for (due, last) in
            [(&mut self.due_jobs, now.plus(self.retain)), (&mut self.due_others, now.plus(EPOCH_RETENTION))]
        {
            let mut later = Vec::new();
            while due.last().is_some_and(|(due, _)| *due > last)
                && let Some((_, key)) = due.pop_last()
            {
                if let Some(record) = self.records.get_mut(&key) {
                    record.at_most = last;
                    if let Some(operator) = self.operators.get_mut(&key.operator)
                        && operator.finished_jobs.remove(&(record.until, key.id))
                    {
                        record.until = record.until.min(now);
                        operator.finished_jobs.insert((record.until, key.id));
                    }
                }
                later.push((last, key));
            }
            due.extend(later);
        }
    }

    /// Takes a new high-water mark, by which some records may be forgotten, and forgets a few of them.
    pub(in crate::client) fn purge(&mut self, mark: Millis) {
        self.mark = mark;
        for _ in 0..FORGOTTEN_IN_A_TURN {
            if !self.is_due() {
                break;
            }
            if let Some((_, RecordKey { id, operator })) = self.first_due().cloned() {
                self.withdraw(JobKey { id, operator: *operator });
            }
        }
    }

    /// Whether there is something to forget.
    pub(in crate::client) fn is_due(&self) -> bool {
        self.first_due().is_some_and(|(due, _)| *due <= self.mark)
    }

    fn first_due(&self) -> Option<&(Millis, RecordKey)> {
        self.due_jobs.first().into_iter().chain(self.due_others.first()).min()
    }

    pub(in crate::client) fn running(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.running.iter().filter_map(|(_, key)| self.records.get(key)).map(|record| &**record)
    }

    /// The jobs that ended, latest last.
    pub(in crate::client) fn finished_jobs(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.finished_jobs.iter().filter_map(|(_, key)| self.records.get(key)).map(|record| &**record)
    }

    /// So many records, in the order of their keys, from the first one after a key.
    pub(super) fn after(&self, key: Option<JobKey>, count: usize) -> Vec<Record> {
        let key = key.map(|JobKey { id, operator }| RecordKey { id, operator: Arc::new(operator) });
        let from = key.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((from, Bound::Unbounded)).take(count).map(|(_, record)| (**record).clone()).collect()
    }

    /// A key as the records of its operator have it; `None` where there are none.
    fn key(&self, key: JobKey) -> Option<RecordKey> {
        let (operator, _) = self.operators.get_key_value(&key.operator)?;
        Some(RecordKey { id: key.id, operator: Arc::clone(operator) })
    }

    fn lives(&self, record: &Record) -> bool {
        record.due(self.retain).is_none_or(|due| due > self.mark)
    }
}

fn shared<T: PartialEq>(recent: &mut Interner<T>, value: T) -> Arc<T> {
    recent.share(&value).unwrap_or_else(|| recent.add(Arc::new(value)))
}

/// A `reply_to` without the id that it ends with, as it does by section 1.
fn without_id(mut reply_to: String, id: MessageId) -> String {
    if reply_to.ends_with(&id.to_string()) {
        reply_to.truncate(reply_to.len() - id.to_string().len());
    }
    reply_to
}

#[cfg(test)]
mod tests;

//! What a client remembers of the commands that it has decided on, and what of that lies on disk (section 8).

use std::collections::{BTreeMap, BTreeSet};

use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::Signed;
use countersign_protocol::id::{MessageId, Uuid};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::limits::{CONTROL_RESERVE, JOB_RETENTION};
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Progress, Status};
use countersign_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::effect::JobKey;
use super::rate::Window;
use super::refusal::Asker;

/// One change of the record. The log on disk is a sequence of these, and [`Restored`] is their sum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The process started.
    Started(Started),
    /// A command was decided on; nothing of it has happened yet.
    Begun(Begun),
    /// A reply that is not final was signed; this is its `seq`.
    Interim {
        /// The command.
        key: JobKey,
        /// The `seq` of the reply.
        seq: u64,
    },
    /// A command's final reply was signed.
    Ended(Ended),
    /// The clock was at least this far.
    Mark {
        /// The high-water mark.
        at: Millis,
    },
    /// The process ended cleanly.
    Stopped {
        /// The high-water mark.
        at: Millis,
    },
}

/// A start of the process, and what holds from then on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Started {
    /// The high-water mark of the clock.
    pub at: Millis,
    /// The epoch of the record.
    pub epoch: Uuid,
    /// Commands without an epoch that were issued up to then (plus skew) might be replays from before the epoch.
    pub since: Millis,
    /// What tells one boot of the machine from the next, where the machine says it.
    pub machine: Option<String>,
    /// The version of the accepted trust bundle; an older one is never accepted again.
    pub trust: u64,
}

/// A command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Begun {
    /// Who asked, and where the replies go.
    pub asker: Asker,
    /// The command's name.
    pub command: Name,
    /// Whether it is a job.
    pub long_running: bool,
    /// When it was decided on.
    pub at: Millis,
    /// When the command is `late`, and its record may be forgotten.
    pub until: Millis,
}

/// A command's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ended {
    /// The command.
    pub key: JobKey,
    /// When it ended.
    pub at: Millis,
    /// How it ended.
    pub status: Status,
    /// The final reply, where it is kept.
    pub reply: Option<Signed>,
}

/// What the log on disk adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Restored {
    pub(super) started: Option<Started>,
    pub(super) stopped: bool,
    pub(super) mark: Millis,
    pub(super) records: BTreeMap<JobKey, Record>,
}

impl Restored {
    /// Adds the next entry of the log. Entries that speak of an unknown command are passed over: its record was forgotten.
    pub fn apply(&mut self, entry: Entry) {
        self.stopped = matches!(entry, Entry::Stopped { .. });
        match entry {
            Entry::Started(started) => {
                self.mark = started.at;
                self.started = Some(started);
            }
            Entry::Begun(begun) => {
                self.mark = self.mark.max(begun.at);
                self.records.insert(begun.asker.key, Record::new(begun));
            }
            Entry::Interim { key, seq } => {
                if let Some(record) = self.records.get_mut(&key) {
                    record.next_seq = seq.saturating_add(1);
                }
            }
            Entry::Ended(ended) => {
                self.mark = self.mark.max(ended.at);
                if let Some(record) = self.records.get_mut(&ended.key) {
                    record.phase = Phase::Ended { at: ended.at, status: ended.status, reply: ended.reply };
                }
            }
            Entry::Mark { at } | Entry::Stopped { at } => self.mark = self.mark.max(at),
        }
    }

    /// The version of the last trust bundle that was accepted.
    pub fn trust_version(&self) -> Option<u64> {
        self.started.as_ref().map(|started| started.trust)
    }
}

/// One command that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) begun: Begun,
    pub(super) phase: Phase,
    pub(super) next_seq: u64,
    pub(super) repeats: Window,
    /// Whether its end is not on disk yet: until it is, nobody is told of it.
    pub(super) held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Running { interim: Option<Signed>, progress: Option<Progress>, progressed: i64 },
    Ended { at: Millis, status: Status, reply: Option<Signed> },
}

impl Record {
    fn new(begun: Begun) -> Self {
        let phase = Phase::Running { interim: None, progress: None, progressed: i64::MIN };
        Self { begun, phase, next_seq: 0, repeats: Window::default(), held: false }
    }

    pub(super) fn key(&self) -> JobKey {
        self.begun.asker.key
    }

    pub(super) fn digest(&self) -> Digest {
        self.begun.asker.digest
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// What is sent when the command arrives again: its final reply, while it runs its latest interim one.
    pub(super) fn answer(&self) -> Option<&Signed> {
        match &self.phase {
            Phase::Running { interim, .. } => interim.as_ref(),
            Phase::Ended { .. } if self.held => None,
            Phase::Ended { reply, .. } => reply.as_ref(),
        }
    }

    /// When the record may be forgotten; never while the command runs.
    fn until(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Running { .. } => None,
            Phase::Ended { at, .. } if self.begun.long_running => Some(self.begun.until.max(at.plus(JOB_RETENTION))),
            Phase::Ended { .. } => Some(self.begun.until),
        }
    }
}

/// The records of one kind, by command, within their bounds. A living record is never evicted; kept replies are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Records {
    records: BTreeMap<JobKey, Record>,
    running: BTreeSet<(Millis, JobKey)>,
    ended_jobs: BTreeSet<(Millis, JobKey)>,
    due: BTreeSet<(Millis, JobKey)>,
    per_operator: BTreeMap<Thumbprint, usize>,
    kept: BTreeSet<(Millis, JobKey)>,
    kept_bytes: usize,
    bound: usize,
    kept_bound: usize,
}

impl Records {
    pub(super) fn new(bound: usize, kept_bound: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            running: BTreeSet::new(),
            ended_jobs: BTreeSet::new(),
            due: BTreeSet::new(),
            per_operator: BTreeMap::new(),
            kept: BTreeSet::new(),
            kept_bytes: 0,
            bound,
            kept_bound,
        }
    }

    pub(super) fn restore(records: BTreeMap<JobKey, Record>, bound: usize, kept_bound: usize) -> Self {
        let mut restored = Self::new(bound, kept_bound);
        for record in records.into_values() {
            restored.begin(record.begun.clone());
            if let Some(slot) = restored.records.get_mut(&record.key()) {
                slot.next_seq = record.next_seq;
            }
            if let Phase::Ended { at, status, reply } = record.phase {
                restored.end(Ended { key: record.begun.asker.key, at, status, reply });
            }
        }
        restored
    }

    /// Whether one more fits: a quarter of the bound for each operator key, and some more for control commands.
    pub(super) fn has_room(&self, operator: Thumbprint, control: bool) -> bool {
        let reserve = if control { CONTROL_RESERVE } else { 0 };
        let own = self.per_operator.get(&operator).copied().unwrap_or(0);
        own < self.bound / 4 + reserve && self.records.len() < self.bound + reserve
    }

    pub(super) fn find(&self, key: JobKey) -> Option<&Record> {
        self.records.get(&key)
    }

    pub(super) fn find_mut(&mut self, key: JobKey) -> Option<&mut Record> {
        self.records.get_mut(&key)
    }

    /// The record of a command by its id: the asker's own, else another's where there is only one.
    pub(super) fn find_for(&self, asker: JobKey) -> Option<&Record> {
        self.records.get(&asker).or_else(|| {
            let first = JobKey { operator: Thumbprint::MIN, ..asker };
            let mut others = self.records.range(first..).take_while(|(key, _)| key.id == asker.id);
            let (_, only) = others.next()?;
            others.next().is_none().then_some(only)
        })
    }

    pub(super) fn begin(&mut self, begun: Begun) {
        let (key, at) = (begun.asker.key, begun.at);
        if self.records.insert(key, Record::new(begun)).is_none() {
            *self.per_operator.entry(key.operator).or_default() += 1;
        }
        self.running.insert((at, key));
    }

    /// The ended command whose final reply this is.
    pub(super) fn answered_by(&self, reply: &Signed, id: MessageId) -> Option<JobKey> {
        let first = JobKey { id, operator: Thumbprint::MIN };
        let mut same_id = self.records.range(first..).take_while(|(key, _)| key.id == id);
        same_id.find(|(_, record)| !record.is_running() && record.answer() == Some(reply)).map(|(key, _)| *key)
    }

    /// Notes the end of a command; the reply is kept as long as there is room for it.
    pub(super) fn end(&mut self, ended: Ended) {
        let Ended { key, at, status, reply } = ended;
        let Some(record) = self.records.get_mut(&key) else { return };
        self.running.remove(&(record.begun.at, key));
        if let Some(reply) = &reply {
            self.kept.insert((at, key));
            self.kept_bytes += weight(reply);
        }
        record.phase = Phase::Ended { at, status, reply };
        if record.begun.long_running {
            self.ended_jobs.insert((at, key));
        }
        if let Some(until) = record.until() {
            self.due.insert((until, key));
        }
        while self.kept_bytes > self.kept_bound {
            let Some((_, oldest)) = self.kept.pop_first() else { break };
            if let Some(Record { phase: Phase::Ended { reply, .. }, .. }) = self.records.get_mut(&oldest) {
                self.kept_bytes -= reply.take().as_ref().map_or(0, weight);
            }
        }
    }

    /// Keeps the end of a command to itself, or no longer does.
    pub(super) fn hold(&mut self, key: JobKey, held: bool) {
        if let Some(record) = self.records.get_mut(&key) {
            record.held = held;
        }
    }

    /// Takes back an interim reply that is not on disk; the number that it had stays used.
    pub(super) fn withdraw_interim(&mut self, key: JobKey) {
        if let Some(Record { phase: Phase::Running { interim, .. }, .. }) = self.records.get_mut(&key) {
            *interim = None;
        }
    }

    /// Forgets a command that never came to anything: its record could not be written.
    pub(super) fn withdraw(&mut self, key: JobKey) {
        let Some(record) = self.records.remove(&key) else { return };
        self.running.remove(&(record.begun.at, key));
        if let Some(until) = record.until() {
            self.due.remove(&(until, key));
        }
        if let Phase::Ended { at, reply, .. } = &record.phase {
            self.ended_jobs.remove(&(*at, key));
            if self.kept.remove(&(*at, key)) {
                self.kept_bytes -= reply.as_ref().map_or(0, weight);
            }
        }
        if let Some(count) = self.per_operator.get_mut(&key.operator) {
            *count -= 1;
            if *count == 0 {
                self.per_operator.remove(&key.operator);
            }
        }
    }

    /// Forgets what may be forgotten at a high-water mark.
    pub(super) fn purge(&mut self, mark: Millis) {
        while let Some((until, key)) = self.due.first().copied()
            && until <= mark
        {
            self.due.pop_first();
            self.withdraw(key);
        }
    }

    pub(super) fn running(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.running.iter().filter_map(|(_, key)| self.records.get(key))
    }

    /// The jobs that ended, latest last.
    pub(super) fn ended_jobs(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.ended_jobs.iter().filter_map(|(_, key)| self.records.get(key))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.records.values().flat_map(|record| {
            let key = record.key();
            let interim = record.next_seq.checked_sub(1).map(|seq| Entry::Interim { key, seq });
            let ended = match &record.phase {
                Phase::Running { .. } => None,
                Phase::Ended { at, status, reply } => {
                    Some(Entry::Ended(Ended { key, at: *at, status: *status, reply: reply.clone() }))
                }
            };
            [Some(Entry::Begun(record.begun.clone())), interim, ended].into_iter().flatten()
        })
    }
}

/// What a kept reply counts for, in bytes; the credential is shared among them.
fn weight(reply: &Signed) -> usize {
    reply.subject.len() + reply.signature.len() + reply.body.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;

    #[test]
    fn the_oldest_replies_make_room_and_their_status_stays() {
        let reply = Signed {
            subject: "s".to_owned(),
            signature: "s".to_owned(),
            credential: "c".into(),
            body: vec![b'b'; 98].into(),
        };
        let mut records = Records::new(100, 250);
        let key = |n: u8| JobKey { id: MessageId::new(Millis::new(0), [n; 10]), operator: Thumbprint::MIN };
        for n in 0..4 {
            let (operator, command): (Name, Name) = ("alice".parse().unwrap(), "ping".parse().unwrap());
            let asker = Asker { key: key(n), operator, reply_to: String::new(), digest: Digest::of(&[n]) };
            let at = Millis::new(i64::from(n));
            records.begin(Begun { asker, command, long_running: false, at, until: Millis::new(1_000) });
            records.end(Ended { key: key(n), at, status: Status::Succeeded, reply: Some(reply.clone()) });
        }
        let kept = |n| records.find(key(n)).map(|record| record.answer().is_some());
        assert_eq!([0, 1, 2, 3].map(kept), [Some(false), Some(false), Some(true), Some(true)]);
        assert_eq!(records.kept_bytes, 200);
        records.purge(Millis::new(1_000));
        assert_eq!((records.kept_bytes, records.records.len(), records.per_operator.len()), (0, 0, 0));
    }
}

//! Which processes speak for one client (section 5). A restart is one after the other; a cloned machine is two at once, and
//! what one of them signs does not speak for the other.

use countersign_protocol::id::Uuid;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Reply, State, Status};
use countersign_protocol::time::{Millis, span};

use super::{Presence, Update};

/// How many processes of one client are distinguished.
const MAX_PROCESSES: usize = 8;

/// The processes that have signed for a client: in its latest presence before a request, or since the request went out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Processes {
    seen: Vec<Process>,
    /// The one that was alive when the request went out, by the roster: the request is for this one.
    expected: Option<Uuid>,
    /// Whether a notice has reported that there are several.
    is_announced: bool,
}

/// What one process has signed, by its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    boot: Uuid,
    /// Its start, or its first message where the start is not known.
    since: Millis,
    is_start_known: bool,
    last: Millis,
    has_ended: bool,
    /// Whether another one stated that this one had ended while a command ran.
    is_succeeded: bool,
    has_answered: bool,
}

impl Processes {
    /// The one that the roster knew when the request went out, if it was alive then.
    pub(super) fn new(known: Option<&Presence>, now: Millis) -> Self {
        let mut processes = Self { seen: Vec::new(), expected: None, is_announced: false };
        if let Some(known) = known.filter(|known| known.is_there(now)) {
            processes.present(known);
            processes.expected = Some(known.boot());
        }
        processes
    }

    /// A verified presence.
    pub(super) fn present(&mut self, presence: &Presence) {
        let (boot, at) = (presence.boot(), presence.issued_at());
        if let Some(process) = self.note_seen(boot, at) {
            process.since = presence.info().started_at.min(at);
            process.is_start_known = true;
            process.has_ended = presence.state() == State::Terminated;
        }
    }

    /// A verified reply to the request.
    pub(super) fn replied(&mut self, reply: &Reply) {
        // It states that the process which ran the command has ended. If that one signs again, it had not.
        if reply.status == Status::Interrupted {
            self.seen.iter_mut().for_each(|process| process.is_succeeded = true);
        }
        if let Some(process) = self.note_seen(reply.boot, reply.issued_at) {
            process.has_answered = true;
            process.has_ended = reply.state == State::Terminated;
        }
    }

    /// Whether this process was seen, or there are too many to distinguish.
    pub(super) fn knows(&self, boot: Uuid) -> bool {
        self.seen.len() == MAX_PROCESSES || self.seen.iter().any(|process| process.boot == boot)
    }

    /// Whether the request is for another process than this one, and that one may still answer.
    pub(super) fn awaits_other_than(&self, boot: Uuid) -> bool {
        let expected = self.seen.iter().find(|process| Some(process.boot) == self.expected);
        expected.is_some_and(|process| process.boot != boot && !process.has_ended && !self.has_successor(process))
    }

    /// Whether another process has followed this one, as far as is known.
    pub(super) fn is_over(&self, boot: Uuid) -> bool {
        self.seen.iter().any(|process| process.boot == boot && self.has_successor(process))
    }

    /// How many there are that may be alive at once: those that answered, and the one that was expected to.
    pub(super) fn count(&self) -> usize {
        self.alive().count()
    }

    /// The notice about them, once, where there are several.
    pub(super) fn doubt(&mut self, client: &Name, now: Millis) -> Option<Update> {
        if self.is_announced || self.count() < 2 {
            return None;
        }
        self.is_announced = true;
        let alive: Vec<&Process> = self.alive().collect();
        let boots: Vec<String> = alive.iter().map(|process| process.boot.to_string()).collect();
        let boots = boots.join(" and ");
        let at_once = |a: &Process, b: &Process| a.since.plus(SKEW) < b.last && b.since.plus(SKEW) < a.last;
        let proven = alive.iter().any(|a| alive.iter().any(|b| a.boot != b.boot && at_once(a, b)));
        let answered = alive.iter().filter(|process| process.has_answered).count();
        let text = if proven || answered > 1 {
            let either = if proven { "" } else { ", or it was started again meanwhile" };
            format!(
                "two processes answer as {client} ({boots}){either}: the verdict is the word of one of them, and the other \
                 may have done otherwise"
            )
        } else {
            let age = alive.iter().find(|process| !process.has_answered).map_or(0, |process| now.since(process.last));
            format!(
                "{client} answered from another process than the one that was heard {} ago ({boots}): it was started \
                 again, or two processes answer as {client} and the other may have done otherwise",
                span(age)
            )
        };
        Some(Update::Notice { client: Some(client.clone()), alarm: proven || answered > 1, text })
    }

    fn alive(&self) -> impl Iterator<Item = &Process> {
        let concerns = |process: &&Process| process.has_answered || Some(process.boot) == self.expected;
        self.seen.iter().filter(concerns).filter(|process| !self.has_successor(process))
    }

    /// Whether, as far as is known, another process has started after the last message of this one.
    fn has_successor(&self, process: &Process) -> bool {
        let is_later =
            |other: &Process| other.boot != process.boot && other.is_start_known && other.since >= process.last;
        process.is_succeeded || self.seen.iter().any(is_later)
    }

    fn note_seen(&mut self, boot: Uuid, at: Millis) -> Option<&mut Process> {
        if let Some(index) = self.seen.iter().position(|process| process.boot == boot) {
            let process = self.seen.get_mut(index)?;
            process.last = process.last.max(at);
            process.is_succeeded = false;
            if !process.is_start_known {
                process.since = process.since.min(at);
            }
            return Some(process);
        }
        if self.seen.len() == MAX_PROCESSES {
            return None;
        }
        self.seen.push(Process {
            boot,
            since: at,
            is_start_known: false,
            last: at,
            has_ended: false,
            is_succeeded: false,
            has_answered: false,
        });
        self.seen.last_mut()
    }
}

//! The clients' presences, verified (section 5).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use countersign_protocol::command::ClientInfo;
use countersign_protocol::credential::Credential;
use countersign_protocol::ending::Term;
use countersign_protocol::envelope::{Authentic, Expired};
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Reply, State};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

use super::SILENCE;

/// How many earlier processes of one client are remembered.
const MAX_EARLIER: usize = 8;

/// The latest verified presence of one client, its state and time by its latest verified reply where that is later. Only a
/// [`Roster`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    credential: Credential,
    issued_at: Millis,
    last_seen_at: Millis,
    clock: i64,
    is_live: bool,
    n: u64,
    epoch: Uuid,
    boot: Uuid,
    state: State,
    /// When it signed a presence, and which state that named: replies come another way, and may overtake it.
    present_at: (Millis, u64),
    present_state: State,
    info: Arc<ClientInfo>,
}

impl Presence {
    /// Whose it is.
    pub fn client(&self) -> &Name {
        self.credential.name()
    }

    /// The groups that the issuer has put it in (section 6).
    pub fn groups(&self) -> &[Name] {
        self.credential.groups()
    }

    /// When the client signed it, by the client's clock.
    pub fn issued_at(&self) -> Millis {
        self.issued_at
    }

    /// When the client signed it, by this machine's clock and as far as can be told: when it arrived, where the client's clock
    /// is ahead.
    pub fn last_seen_at(&self) -> Millis {
        self.last_seen_at
    }

    /// How far the client's clock is ahead of this machine's, in milliseconds, negative where it is behind; 0 where they
    /// are not known to differ by more than the skew. Only its replies show that it is behind: an old presence looks the
    /// same.
    pub fn clock(&self) -> i64 {
        self.clock
    }

    /// Whether [`last_seen_at`](Self::last_seen_at) means anything: not if it was signed ahead of this machine's clock and
    /// then stored, for an unknown time.
    pub fn is_dated(&self) -> bool {
        self.is_live || self.clock <= 0
    }

    /// Its epoch (section 8).
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// The start of the process that signed it.
    pub fn boot(&self) -> Uuid {
        self.boot
    }

    /// Its state then; [`State::Terminated`] is the last that a process signs.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its state by its latest presence alone.
    pub(super) fn present_state(&self) -> State {
        self.present_state
    }

    /// What else it states about itself. Its texts are the client's, raw.
    pub fn info(&self) -> &ClientInfo {
        &self.info
    }

    /// When the credential under which it was signed expires: from then on the client executes nothing (section 6).
    pub fn expires_at(&self) -> Millis {
        self.credential.expires_at()
    }

    /// The term of that credential.
    pub fn term(&self) -> Term {
        self.credential.term()
    }

    /// Whether the client is there, as far as this shows: it has not ended, and is not silent.
    pub fn is_there(&self, now: Millis) -> bool {
        self.state != State::Terminated && self.is_dated() && !self.is_silent(now)
    }

    /// Whether its process had started well before the last message of another one, which has not ended.
    fn is_beside(&self, last: &Self, skew: i64) -> bool {
        let had_started = self.info.started_at.plus(skew) < last.last_seen_at;
        self.boot != last.boot && last.state != State::Terminated && had_started
    }

    /// Whether it is over [`SILENCE`] old, though the client had not ended.
    pub fn is_silent(&self, now: Millis) -> bool {
        self.state != State::Terminated && now.since(self.last_seen_at) > SILENCE
    }
}

/// What became of an event that was offered to the [`Roster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It is the client's latest presence now.
    Later,
    /// It is the latest, and comes from a process that another one had followed: two are alive at once under one name, and at
    /// most once holds for one journal only.
    TwoAlive,
    /// The roster has this one or a later one: a repetition or a replay.
    Stale,
    /// It is no presence, or does not fit its own subject or type.
    Unfit,
}

/// The latest verified presence of every client that was seen, and the clients of which there is only what they signed under
/// a credential that has expired.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Roster {
    entries: BTreeMap<Name, Presence>,
    /// Never one that is in `entries`.
    expired: BTreeMap<Name, Expired>,
    /// The processes that others have followed, and the number of the last message that was taken of each.
    earlier: BTreeMap<Name, VecDeque<(Uuid, u64)>>,
    /// The last process of which a reply was taken.
    replied: BTreeMap<Name, Replied>,
}

/// A process that answered a command of this one: it was alive after the command was signed, whatever the clocks say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Replied {
    boot: Uuid,
    epoch: Uuid,
    clock: i64,
}

impl Roster {
    /// Takes a presence if it is later than the one at hand (section 5): of the same process by `n`, else by time, but never
    /// later than now by the clock of this machine, and by what its replies showed of its own. `is_live` says that it has just
    /// arrived; else the broker has stored it.
    pub fn take(&mut self, event: &Authentic<Event>, now: Millis, skew: i64, is_live: bool) -> Taken {
        let message = event.message();
        let Ok(EventData::Presence(info)) = message.data() else { return Taken::Unfit };
        if message.subject != subject::event(&message.realm, &message.from, message.kind) {
            return Taken::Unfit;
        }
        let client = &message.from;
        let is_same = |it: &&Replied| (it.boot, it.epoch) == (message.boot, message.epoch);
        let ahead = message.issued_at.since(now);
        let clock = match self.replied.get(client).filter(is_same) {
            Some(replied) if ahead <= skew => replied.clock,
            _ if ahead > skew => ahead,
            _ => 0,
        };
        let mut presence = Presence {
            credential: event.credential().clone(),
            issued_at: message.issued_at,
            last_seen_at: message.issued_at.plus(-clock).min(now),
            clock,
            is_live,
            n: message.n,
            epoch: message.epoch,
            boot: message.boot,
            state: message.state,
            present_at: (message.issued_at, message.n),
            present_state: message.state,
            info: Arc::from(info),
        };
        let earlier = self.earlier.entry(client.clone()).or_default();
        let followed = earlier.iter().find(|(boot, _)| *boot == presence.boot).map(|(_, n)| *n);
        let is_later = self.entries.get(client).is_none_or(|last| {
            if last.boot == presence.boot {
                presence.n > last.present_at.1
            } else {
                followed.is_none_or(|n| presence.n > n) && presence.last_seen_at > last.last_seen_at
            }
        });
        if !is_later {
            return Taken::Stale;
        }
        // A reply of the same process may have come before, over another connection.
        if let Some(last) = self.entries.get(client)
            && last.boot == presence.boot
            && last.n > presence.n
        {
            (presence.issued_at, presence.n, presence.state) = (last.issued_at, last.n, last.state);
            (presence.last_seen_at, presence.clock, presence.epoch) = (last.last_seen_at, last.clock, last.epoch);
        }
        let is_beside = self.entries.get(client).is_some_and(|last| presence.is_beside(last, skew));
        self.expired.remove(client);
        let boot = presence.boot;
        if let Some(last) = self.entries.insert(client.clone(), presence)
            && last.boot != boot
        {
            earlier.retain(|(followed, _)| *followed != boot);
            if earlier.len() == MAX_EARLIER {
                earlier.pop_front();
            }
            earlier.push_back((last.boot, last.n));
        }
        if followed.is_some() || is_beside { Taken::TwoAlive } else { Taken::Later }
    }

    /// Takes what is known of a client whose credential has expired. Nothing that was verified under a credential that is still
    /// in force gives way to it: who has an old key can only have a client listed as expired of which nothing better is known.
    pub(super) fn expire(&mut self, expired: &Expired) {
        let client = expired.client();
        let later = |last: Millis| last >= expired.expired_at();
        if self.entries.get(client).is_some_and(|last| later(last.expires_at()))
            || self.expired.get(client).is_some_and(|last| last.issued_at() >= expired.issued_at())
        {
            return;
        }
        self.entries.remove(client);
        self.expired.insert(client.clone(), expired.clone());
    }

    /// A client of which there is only what it signed under a credential that has expired.
    pub fn expired(&self, client: &Name) -> Option<&Expired> {
        self.expired.get(client)
    }

    /// All of these, by name.
    pub fn all_expired(&self) -> impl Iterator<Item = &Expired> {
        self.expired.values()
    }

    /// A verified reply to a command that was issued at a moment shows that the process was alive then, what its clock
    /// says, and its state: that stands if the process is the one that the roster knows, and the reply is its latest
    /// message.
    pub(super) fn replied(&mut self, reply: &Reply, issued_at: Millis, now: Millis, skew: i64) {
        let clock = match (reply.issued_at.since(issued_at), reply.issued_at.since(now)) {
            (behind, _) if behind < -skew => behind,
            (_, ahead) if ahead > skew => ahead,
            _ => 0,
        };
        match self.entries.get_mut(&reply.from) {
            Some(last) if last.boot == reply.boot && reply.n > last.n => {
                (last.issued_at, last.n, last.state, last.epoch) = (reply.issued_at, reply.n, reply.state, reply.epoch);
                (last.last_seen_at, last.clock, last.is_live) = (reply.issued_at.plus(-clock).min(now), clock, true);
            }
            // The one at hand was seen after that, and may have followed.
            Some(last) if last.boot == reply.boot || issued_at <= last.last_seen_at => return,
            Some(_) | None => {}
        }
        self.replied.insert(reply.from.clone(), Replied { boot: reply.boot, epoch: reply.epoch, clock });
    }

    /// The latest presence of a client.
    pub fn entry(&self, client: &Name) -> Option<&Presence> {
        self.entries.get(client)
    }

    /// The latest presence of every client, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Presence> {
        self.entries.values()
    }

    /// Removes the clients for whose credential a trust bundle does not vouch.
    pub(super) fn forget_unvouched(&mut self, trust: &Trust) {
        self.entries.retain(|_, presence| presence.credential.vouched_for(trust).is_ok());
        self.expired.retain(|_, expired| expired.is_vouched_for(trust));
        self.earlier.retain(|client, _| self.entries.contains_key(client));
        self.replied.retain(|client, _| self.entries.contains_key(client));
    }

    /// Removes the clients that do not belong to it any more; of those that have expired, all but the ones that are stored.
    pub fn retain(&mut self, belongs: impl Fn(&Presence) -> bool, is_stored: impl Fn(&Name) -> bool) {
        self.entries.retain(|_, presence| belongs(presence));
        self.expired.retain(|client, _| is_stored(client));
        self.earlier.retain(|client, _| self.entries.contains_key(client));
        self.replied.retain(|client, _| self.entries.contains_key(client));
    }
}

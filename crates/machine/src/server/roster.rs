//! What the clients say of themselves, verified (section 5).

use std::collections::BTreeMap;

use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::subject;
use countersign_protocol::time::Millis;

/// The latest verified presence of one client. Only a [`Roster`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    client: Name,
    issued_at: Millis,
    n: u64,
    started_at: Millis,
    epoch: Uuid,
    state: State,
}

impl Presence {
    /// Whose it is.
    pub fn client(&self) -> &Name {
        &self.client
    }

    /// When the client signed it, by the client's clock.
    pub fn issued_at(&self) -> Millis {
        self.issued_at
    }

    /// The epoch of its record (section 8).
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// Its state then; [`State::Terminated`] is the last that a process says.
    pub fn state(&self) -> State {
        self.state
    }
}

/// What became of an event that was offered to the [`Roster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// It is the client's latest presence now.
    Later,
    /// It is the latest, and comes from a process that had started before the one heard last: two are alive at once under
    /// one name, and at most once holds for one record only.
    TwoAlive,
    /// The roster has this one or a later one: a repetition or a replay.
    Stale,
    /// It is ahead of the server's clock by more than the skew.
    Ahead,
    /// It is no presence, or does not fit its own subject or type.
    Unfit,
}

/// The latest verified presence of every client that was heard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Roster {
    entries: BTreeMap<Name, Presence>,
}

impl Roster {
    /// Takes a presence if it is later (`issued_at`, then `n`) than the one at hand and not ahead of `now` by more than
    /// `skew` milliseconds (section 5).
    pub fn take(&mut self, event: &Authentic<Event>, now: Millis, skew: i64) -> Taken {
        let message = event.message();
        let Ok(EventData::Presence(info)) = message.data() else { return Taken::Unfit };
        if message.subject != subject::event(&message.realm, &message.from, message.kind) {
            return Taken::Unfit;
        }
        if message.issued_at > now.plus(skew) {
            return Taken::Ahead;
        }
        let presence = Presence {
            client: message.from.clone(),
            issued_at: message.issued_at,
            n: message.n,
            started_at: info.started_at,
            epoch: message.epoch,
            state: message.state,
        };
        let taken = match self.entries.get(&presence.client) {
            Some(last) if (presence.issued_at, presence.n) <= (last.issued_at, last.n) => return Taken::Stale,
            Some(last) if presence.started_at < last.started_at => Taken::TwoAlive,
            _ => Taken::Later,
        };
        self.entries.insert(presence.client.clone(), presence);
        taken
    }

    /// The latest presence of a client.
    pub fn entry(&self, client: &Name) -> Option<&Presence> {
        self.entries.get(client)
    }
}

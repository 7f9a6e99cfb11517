//! What the clients say of themselves, verified (section 5).

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_protocol::command::ClientInfo;
use countersign_protocol::credential::Credential;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::id::Uuid;
use countersign_protocol::name::Name;
use countersign_protocol::reply::{Reply, State};
use countersign_protocol::subject;
use countersign_protocol::time::Millis;

use super::SILENCE;

/// The latest verified presence of one client, its state and time by its latest verified reply where that is later. Only a
/// [`Roster`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    credential: Credential,
    issued_at: Millis,
    n: u64,
    epoch: Uuid,
    boot: Uuid,
    state: State,
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

    /// The epoch of its record (section 8).
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// The start of the process that said it.
    pub fn boot(&self) -> Uuid {
        self.boot
    }

    /// Its state then; [`State::Terminated`] is the last that a process says.
    pub fn state(&self) -> State {
        self.state
    }

    /// What else it says of itself. Its texts are the client's, raw.
    pub fn info(&self) -> &ClientInfo {
        &self.info
    }

    /// Whether the client is there, as far as this tells: it has not ended, and is not silent.
    pub fn is_there(&self, now: Millis) -> bool {
        self.state != State::Terminated && !self.is_silent(now)
    }

    /// Whether it is over [`SILENCE`] old, though the client had not ended.
    pub fn is_silent(&self, now: Millis) -> bool {
        self.state != State::Terminated && now.since(self.issued_at) > SILENCE
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
            credential: event.credential().clone(),
            issued_at: message.issued_at,
            n: message.n,
            epoch: message.epoch,
            boot: message.boot,
            state: message.state,
            info: Arc::from(info),
        };
        let taken = match self.entries.get(&message.from) {
            Some(last) if (presence.issued_at, presence.n) <= (last.issued_at, last.n) => return Taken::Stale,
            Some(last) if presence.info.started_at < last.info.started_at => Taken::TwoAlive,
            _ => Taken::Later,
        };
        self.entries.insert(message.from.clone(), presence);
        taken
    }

    /// A verified reply tells the state too: it stands if the process is the one that the roster knows, and it is later.
    pub(super) fn replied(&mut self, reply: &Reply) {
        if let Some(last) = self.entries.get_mut(&reply.from)
            && last.boot == reply.boot
            && (reply.issued_at, reply.n) > (last.issued_at, last.n)
        {
            (last.issued_at, last.n, last.state) = (reply.issued_at, reply.n, reply.state);
        }
    }

    /// The latest presence of a client.
    pub fn entry(&self, client: &Name) -> Option<&Presence> {
        self.entries.get(client)
    }

    /// The latest presence of every client, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Presence> {
        self.entries.values()
    }

    /// Strikes the clients that do not belong to it any more.
    pub fn retain(&mut self, belongs: impl Fn(&Presence) -> bool) {
        self.entries.retain(|_, presence| belongs(presence));
    }
}

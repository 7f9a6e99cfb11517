//! The clients' events: presences go into the roster, and what is new is emitted.

use std::collections::BTreeSet;

use countersign_protocol::command::Job;
use countersign_protocol::envelope::Authentic;
use countersign_protocol::event::{Event, EventData};
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::subject;

use super::operator::emit;
use super::{ClientEvent, Effect, Ignored, Now, Operator, Presence, SILENCE, Taken, Update, micros};

/// How many processes of one client are remembered.
const MAX_BOOTS: usize = 8;

impl Operator {
    /// An event that has just come from a client.
    pub fn event(&mut self, event: &Authentic<Event>, now: Now) -> Vec<Effect> {
        let message = event.message();
        let Ok(data) = message.data() else { return Vec::new() };
        let client_event = match data {
            EventData::Presence(_) => return self.presence(event, now, true),
            // The replies to a request of this process report the same.
            EventData::Job(job) if self.is_own(&job) => return Vec::new(),
            EventData::Job(job) => ClientEvent::Job(job),
            EventData::Security(security) => ClientEvent::Security(security),
        };
        if message.subject != subject::event(&message.realm, &message.from, message.kind) {
            return self.ignore(Ignored::Misplaced, Some(&message.from), "");
        }
        let is_same = |it: &&Presence| (it.boot(), it.epoch()) == (message.boot, message.epoch);
        let clock = self.roster.entry(&message.from).filter(is_same).map_or(0, Presence::clock);
        let signed_at = message.issued_at.plus(-clock);
        let is_late = now.wall.since(signed_at) > SILENCE || signed_at > now.wall.plus(SKEW);
        let is_known = self
            .last_notified
            .get(&message.from)
            .is_some_and(|(boot, at, n)| if *boot == message.boot { message.n <= *n } else { signed_at <= *at });
        if is_late || is_known {
            return Vec::new();
        }
        self.last_notified.insert(message.from.clone(), (message.boot, signed_at, message.n));
        vec![emit_client_event(&message.from, client_event)]
    }

    /// Removes the clients of which the broker stores no presence any more, unless they were seen within [`SILENCE`] of
    /// connected time.
    pub fn keep_only(&mut self, stored: &BTreeSet<Name>) {
        let (roster, alive) = (&mut self.roster, &mut self.alive);
        let belongs = |presence: &Presence| alive.contains_key(presence.client()) || stored.contains(presence.client());
        roster.retain(belongs, |client| stored.contains(client));
        alive.retain(|client, _| roster.entry(client).is_some());
    }

    /// Takes a presence into the roster, and reports what is new about its client. `is_live` says that it has just arrived;
    /// one that the broker has stored does not say whether the client is there now.
    pub fn presence(&mut self, event: &Authentic<Event>, now: Now, is_live: bool) -> Vec<Effect> {
        let client = &event.message().from;
        let before = self.roster.entry(client).cloned();
        let taken = self.roster.take(event, now.wall, SKEW, is_live);
        match taken {
            Taken::Later | Taken::TwoAlive => {}
            // The broker stores what it also delivered: a second copy is no event.
            Taken::Stale => return Vec::new(),
            Taken::Unfit => return self.ignore(Ignored::Misplaced, Some(client), ""),
        }
        let Some(presence) = self.roster.entry(client) else { return Vec::new() };
        let (state, boot) = (presence.present_state(), presence.boot());
        let boots = self.boots.entry(client.clone()).or_default();
        let is_new = !boots.iter().any(|(known, _)| *known == boot);
        if is_new {
            if boots.len() == MAX_BOOTS {
                boots.pop_front();
            }
            boots.push_back((boot, false));
        }
        // Reported once of each two: of the process that signs again, and of the one that had followed it.
        let mut alarm = false;
        if taken == Taken::TwoAlive {
            let other = before.as_ref().map(Presence::boot);
            let both = boots.iter_mut().filter(|(known, _)| *known == boot || Some(*known) == other);
            both.for_each(|(_, is_notified)| alarm |= !std::mem::replace(is_notified, true));
        }
        // Told once, as it happens: whose was in its last third before is marked in the roster.
        let term = presence.term();
        let has_begun = |before: &Presence| before.term() != term || !term.ends_soon(before.last_seen_at());
        let ending = is_live && term.ends_soon(now.wall) && before.as_ref().is_some_and(has_begun);
        let ending = ending.then(|| emit_client_event(client, ClientEvent::Ending { term }));
        let client_event = match before {
            // What the broker stores is the state when this process started.
            None if !is_live => None,
            None => Some(ClientEvent::Joined { state }),
            Some(before) if before.boot() != boot => match before.state() {
                _ if !is_new => None,
                State::Terminated => Some(ClientEvent::Joined { state }),
                _ => Some(ClientEvent::Restarted { state, new_epoch: before.epoch() != presence.epoch() }),
            },
            Some(before) if before.present_state() != state => {
                Some(ClientEvent::State { from: before.present_state(), to: state })
            }
            Some(_) if is_live && !self.alive.contains_key(client) => Some(ClientEvent::Back { state }),
            Some(_) => None,
        };
        let age = if is_live { 0 } else { micros(now.wall.since(presence.last_seen_at())) };
        if state == State::Terminated || age > micros(SILENCE) {
            self.alive.remove(client);
        } else {
            self.alive.insert(client.clone(), now.micros.saturating_sub(age));
        }
        let alarm = alarm.then(|| emit(two_alive(client)));
        let mut effects: Vec<Effect> =
            alarm.into_iter().chain(client_event.map(|it| emit_client_event(client, it))).chain(ending).collect();
        if is_live {
            effects.extend(self.pending.values_mut().flat_map(|pending| pending.on_presence(presence, now)));
        }
        effects
    }

    /// Whether a job was requested by this process. An id alone does not prove it: another operator may use the same.
    fn is_own(&self, job: &Job) -> bool {
        job.operator == *self.setup.identity.name()
            && self.pending.values().any(|pending| pending.owns(&job.command_id))
    }
}

pub(super) fn emit_client_event(client: &Name, event: ClientEvent) -> Effect {
    emit(Update::ClientEvent { client: client.clone(), event })
}

fn two_alive(client: &Name) -> Update {
    let text = format!("two processes of {client} are alive at once: at most once holds for one journal only");
    Update::Notice { client: Some(client.clone()), alarm: true, text }
}

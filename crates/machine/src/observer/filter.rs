//! What of the traffic is shown.

use countersign_protocol::event::EventData;
use countersign_protocol::name::Name;

use super::place::Place;
use super::{Kind, Observation, ObservedMessage, Occurrence, VerifiedMessage, Watcher};

/// What is selected. Within a list one match is enough; an empty list selects everything.
#[derive(Debug, Default)]
pub struct Filter {
    /// Clients that it comes from, goes to, or is on a subject of.
    pub clients: Vec<Name>,
    /// Operators that it comes from, goes to, or is about.
    pub operators: Vec<Name>,
    /// Kinds.
    pub kinds: Vec<Kind>,
    /// Only what does not verify, comes again or late, or is missing.
    pub bad: bool,
}

impl Filter {
    /// Whether it is to be shown; the watcher knows who is in which group.
    pub fn shows(&self, observation: &Observation, watcher: &Watcher) -> bool {
        let fits = |kind: Kind| self.kinds.is_empty() || self.kinds.iter().any(|wanted| kind.is(*wanted));
        match observation {
            // The target of a missing message is not known.
            Observation::Gap(gap) => {
                fits(Kind::Gap)
                    && self.operators.is_empty()
                    && (self.clients.is_empty() || self.clients.contains(&gap.client))
            }
            Observation::Message(seen) => {
                let place = Place::of(&seen.subject);
                let of_client = |client: &Name| concerns_client(seen, &place, client, watcher);
                let of_operator = |operator: &Name| concerns_operator(seen, &place, operator);
                fits(seen.kind)
                    && (self.clients.is_empty() || self.clients.iter().any(of_client))
                    && (self.operators.is_empty() || self.operators.iter().any(of_operator))
                    && (!self.bad || seen.verdict.is_err() || seen.occurrence != Occurrence::First)
            }
        }
    }
}

/// A client and an operator may have one name; which of them signs, the kind decides.
fn concerns_client(seen: &ObservedMessage, place: &Place<'_>, client: &Name, watcher: &Watcher) -> bool {
    place.everyone
        || place.client == Some(client.as_str())
        || place.group.is_some_and(|group| watcher.is_member(client, group))
        || (!matches!(seen.kind, Kind::Command | Kind::Renewal) && seen.from() == Some(client))
}

fn concerns_operator(seen: &ObservedMessage, place: &Place<'_>, operator: &Name) -> bool {
    let named = match &seen.verdict {
        Ok(VerifiedMessage::Event(_, EventData::Job(job))) => Some(&job.operator),
        Ok(VerifiedMessage::Event(_, EventData::Security(security))) => security.signer.as_ref(),
        _ => None,
    };
    place.operator == Some(operator.as_str())
        || named == Some(operator)
        || (seen.kind == Kind::Command && seen.from() == Some(operator))
}

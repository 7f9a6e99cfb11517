//! Who is expected to answer a request: by name, or from the verified roster (section 8).

use std::collections::BTreeSet;

use countersign_protocol::envelope::Expired;
use countersign_protocol::name::Name;
use countersign_protocol::reply::State;
use countersign_protocol::time::Millis;

use super::{Audience, Operator, Presence, RequestError};

/// A client that is expected to answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Expected {
    pub(super) client: Name,
    /// What the verified roster knows of it: its epoch goes into a command to it alone (section 8), and it
    /// decides whether silence is `offline`. Without it silence is always `no_reply`.
    pub(super) known: Option<Presence>,
    /// When its credential expires, as far as anything is known of it.
    pub(super) until: Option<Millis>,
}

impl Operator {
    /// Who is expected to answer. Nothing is ever sent to an empty set.
    pub(super) fn expected(&self, audience: &Audience) -> Result<Vec<Expected>, RequestError> {
        let (mut expected, mut ended, mut out_of_reach) = (Vec::new(), 0, 0);
        if let Audience::Clients(names) = audience {
            let is_in_roster =
                |client: &Name| self.roster.entry(client).is_some() || self.roster.expired(client).is_some();
            let known = |client: &Name| is_in_roster(client) || self.setup.enrolled.contains(client);
            if let Some(unknown) = names.iter().find(|client| !known(client)) {
                return Err(RequestError::UnknownClient(unknown.clone()));
            }
            for client in names.iter().collect::<BTreeSet<_>>() {
                let known = self.roster.entry(client).cloned();
                let expired = self.roster.expired(client).map(Expired::expired_at);
                let until = known.as_ref().map(Presence::expires_at).or(expired);
                expected.push(Expected { client: client.clone(), known, until });
            }
        } else {
            let is_member = |groups: &[Name]| !matches!(audience, Audience::Group(group) if !groups.contains(group));
            let grant = self.setup.identity.credential().grant();
            let present =
                self.roster.entries().map(|it| (it.client(), it.groups(), it.state(), it.expires_at(), Some(it)));
            // They cannot answer, and are not forgotten for that: the report says why there is no verdict on them.
            let expired =
                self.roster.all_expired().map(|it| (it.client(), it.groups(), it.state(), it.expired_at(), None));
            for (client, groups, state, until, known) in present.chain(expired).filter(|it| is_member(it.1)) {
                if state == State::Terminated {
                    ended += 1;
                } else if !grant.is_some_and(|grant| grant.reaches(client, groups)) {
                    out_of_reach += 1;
                } else {
                    expected.push(Expected { client: client.clone(), known: known.cloned(), until: Some(until) });
                }
            }
        }
        if expected.is_empty() {
            return Err(RequestError::Nobody { audience: audience.clone(), ended, out_of_reach });
        }
        Ok(expected)
    }
}

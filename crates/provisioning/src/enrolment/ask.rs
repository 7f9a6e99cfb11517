//! Requests by a token that is open to whoever has it: they wait until a person decides.

use std::fs;

use countersign_keys::KeyFolder;
use countersign_protocol::enrolment::{EnrolmentCode, EnrolmentError, OpenedRequest};
use countersign_protocol::key::Thumbprint;
use countersign_protocol::name::Name;
use countersign_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::record::{Keys, Records, all, read, write};
use super::{refusal, unavailable};
use crate::error::ProvisionError;

/// How many requests are kept at most, the decided ones for as long as there is room; whoever has the token can make as many as it likes.
const MOST: usize = 256;
/// How long one waits, in milliseconds: a week.
const WAITS: i64 = 7 * super::super::DAY;

/// A request, and what a person has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The name that it asks for.
    pub name: Name,
    /// The groups that it asks for.
    pub groups: Vec<Name>,
    /// The thumbprint of the key that signed it.
    pub key: Thumbprint,
    /// Both of its keys.
    keys: Keys,
    /// When it came first.
    pub asked_at: Millis,
    /// What was decided.
    pub decision: Decision,
}

/// What a person has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Nothing yet.
    Pending,
    /// It is enrolled when it asks next.
    Approved,
    /// It is not.
    Denied,
}

impl Decision {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// Whether a person has approved the request, with the same keys, name and groups; remembers it where it is new.
pub(super) fn decided(folder: &KeyFolder, opened: &OpenedRequest, now: Millis) -> Result<(), EnrolmentError> {
    let records = Records::of(folder);
    let (request, keys) = (opened.request(), Keys::of(opened));
    let path = records.asked(&keys.signing);
    let asks_the_same = |it: &Waiting| it.keys == keys && it.name == request.name && it.groups == request.groups;
    let before = read::<Waiting>(&path).map_err(|error| unavailable(&error))?;
    match before.filter(asks_the_same).map(|it| it.decision) {
        Some(Decision::Approved) => return Ok(()),
        Some(Decision::Denied) => return Err(refusal(EnrolmentCode::Denied, "a person has denied it")),
        Some(Decision::Pending) => return Err(pending()),
        None => {}
    }
    let (old, kept): (Vec<_>, Vec<_>) =
        all::<Waiting>(&records.asked_folder()).into_iter().partition(|(_, it)| now.since(it.asked_at) > WAITS);
    for (old, _) in old {
        // It can be asked for again.
        let _ = fs::remove_file(old);
    }
    if kept.len() >= MOST {
        let decided = kept.iter().filter(|(_, it)| it.decision != Decision::Pending).min_by_key(|(_, it)| it.asked_at);
        let Some((decided, _)) = decided else {
            return Err(unavailable(&ProvisionError::request(format!(
                "{MOST} requests wait for a decision, and no more are taken"
            ))));
        };
        // Who is enrolled has what it asked for.
        let _ = fs::remove_file(decided);
    }
    let key = keys.signing;
    let (name, groups) = (request.name.clone(), request.groups.clone());
    let waiting = Waiting { name, groups, key, keys, asked_at: now, decision: Decision::Pending };
    write(&path, &waiting).map_err(|error| unavailable(&error))?;
    Err(pending())
}

fn pending() -> EnrolmentError {
    refusal(EnrolmentCode::Pending, "a person has to approve it")
}

/// The requests that came and are not forgotten yet, by name and time.
pub fn waiting(folder: &KeyFolder) -> Vec<Waiting> {
    let mut found: Vec<Waiting> =
        all::<Waiting>(&Records::of(folder).asked_folder()).into_iter().map(|(_, waiting)| waiting).collect();
    found.sort_by(|a, b| (&a.name, a.asked_at).cmp(&(&b.name, b.asked_at)));
    found
}

/// Approves the request of a name that this key signed: it is enrolled when it asks next.
pub fn approve(folder: &KeyFolder, name: &Name, key: &Thumbprint) -> Result<Waiting, ProvisionError> {
    let found = waiting(folder).into_iter().find(|it| it.name == *name && it.key == *key);
    let Some(found) = found else {
        return Err(ProvisionError::request(format!("nobody with the key {key} asks to be enrolled as {name}"))
            .expecting("a name and a thumbprint as `countersign enroll list` and the worker show them")
            .hinting("compare the two; what differs is somebody else's request"));
    };
    let approved = Waiting { decision: Decision::Approved, ..found };
    write(&Records::of(folder).asked(key), &approved)?;
    Ok(approved)
}

/// Denies the requests of a name that nobody has decided on, and says which.
pub fn deny(folder: &KeyFolder, name: &Name) -> Result<Vec<Waiting>, ProvisionError> {
    let mut denied = Vec::new();
    for found in waiting(folder).into_iter().filter(|it| it.name == *name && it.decision == Decision::Pending) {
        let found = Waiting { decision: Decision::Denied, ..found };
        write(&Records::of(folder).asked(&found.key), &found)?;
        denied.push(found);
    }
    if denied.is_empty() {
        return Err(ProvisionError::request(format!("no request to be enrolled as {name} waits"))
            .expecting("a name that `countersign enroll list` shows as pending")
            .hinting("`countersign revoke` ends a client that is enrolled"));
    }
    Ok(denied)
}

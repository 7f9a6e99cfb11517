//! Events (section 5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::command::{ClientInfo, Job, Version};
use crate::id::{MessageId, Uuid};
use crate::json;
use crate::name::Name;
use crate::reply::State;
use crate::text::words;
use crate::time::Millis;

/// An event, as a client signs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = data_by_kind)]
pub struct Event {
    /// The version of the protocol.
    pub v: Version,
    /// What tells this event from every other.
    pub id: MessageId,
    /// The realm that it belongs to.
    pub realm: Name,
    /// The client that speaks.
    pub from: Name,
    /// The `jti` of the client's credential.
    pub credential: Uuid,
    /// The subject of the client's events of this kind.
    pub subject: String,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at: Millis,
    /// The epoch of the client's journal (section 8).
    pub epoch: Uuid,
    /// The start of the client's process.
    pub boot: Uuid,
    /// How many messages the process had signed before this one.
    pub n: u64,
    /// The client's state.
    pub state: State,
    /// What it is about.
    pub kind: EventKind,
    /// What it says: a client info, a job or a security report, as the kind has it.
    pub data: Map<String, Value>,
}

words! {
    /// What an event is about.
    pub enum EventKind {
        /// The client is there; at start, on every change of state, at every heartbeat and at the end.
        Presence = "presence",
        /// A job started or ended.
        Job = "job",
        /// Something that an operator should know.
        Security = "security",
    }
}

words! {
    /// What an operator should know.
    pub enum SecurityReason {
        /// A message whose signature holds and whose envelope does not.
        Envelope = "envelope",
        /// One id with two bodies, both signed.
        IdConflict = "id_conflict",
        /// The clock was set, by more than the skew: a new epoch has begun (section 8).
        Clock = "clock",
        /// The trust bundle in force has expired.
        Trust = "trust",
        /// Messages came faster than they could be verified, and were shed.
        Overload = "overload",
        /// The client's own credential has expired: it carries out nothing until it has another one.
        Credential = "credential",
    }
}

/// A security report.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// What happened.
    pub reason: SecurityReason,
    /// How often, since the last report.
    pub count: u64,
    /// Whose signature it was. Absent: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "json::present")]
    #[schemars(with = "Name")]
    pub signer: Option<Name>,
}

/// What an event says, by its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventData {
    /// The client is there.
    Presence(Box<ClientInfo>),
    /// A job started or ended.
    Job(Job),
    /// Something that an operator should know.
    Security(Security),
}

impl Event {
    /// What it says, by its kind.
    ///
    /// # Errors
    /// A sentence, where the data is not of the kind.
    pub fn data(&self) -> Result<EventData, String> {
        let data = Value::Object(self.data.clone());
        match self.kind {
            EventKind::Presence => json::read(&data).map(|info| EventData::Presence(Box::new(info))),
            EventKind::Job => json::read(&data).map(EventData::Job),
            EventKind::Security => json::read(&data).map(EventData::Security),
        }
        .map_err(|error| error.to_string())
    }
}

impl EventData {
    /// The kind of the event that says it.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Presence(_) => EventKind::Presence,
            Self::Job(_) => EventKind::Job,
            Self::Security(_) => EventKind::Security,
        }
    }

    /// The `data` of the event that says it.
    pub fn to_map(&self) -> Map<String, Value> {
        let data = match self {
            Self::Presence(info) => serde_json::to_value(info),
            Self::Job(job) => serde_json::to_value(job),
            Self::Security(security) => serde_json::to_value(security),
        };
        let Ok(Value::Object(map)) = data else {
            unreachable!("a struct whose keys are words is written as an object");
        };
        map
    }
}

fn data_by_kind(schema: &mut schemars::Schema) {
    let data = |kind: EventKind, of_kind: schemars::Schema| {
        json!({
            "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
            "then": { "properties": { "data": of_kind } },
        })
    };
    let by_kind = json!([
        data(EventKind::Presence, crate::schema::inline::<ClientInfo>()),
        data(EventKind::Job, crate::schema::inline::<Job>()),
        data(EventKind::Security, crate::schema::inline::<Security>()),
    ]);
    schema.insert("allOf".to_owned(), by_kind);
}

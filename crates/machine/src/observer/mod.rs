//! What goes over the broker, as an observer sees it: each message is judged as those judge it who receive it, and what is
//! missing or repeated is found by the numbers that clients sign (sections 2 and 5).
//!
//! Pure: deliveries and the time come in, and what was seen comes out.

mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod memory;
mod place;
mod recent;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use countersign_protocol::command::{Command, Target};
use countersign_protocol::credential::Credential;
use countersign_protocol::envelope::{Delivery, Reason, Rejected, Verifier};
use countersign_protocol::event::{Event, EventData, EventKind};
use countersign_protocol::id::Uuid;
use countersign_protocol::json;
use countersign_protocol::limits::SKEW;
use countersign_protocol::name::Name;
use countersign_protocol::renewal::{RenewalAnswer, RenewalRequest, verify_answer};
use countersign_protocol::reply::{Outcome, Reply};
use countersign_protocol::subject::{self, parse_reply};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::{Trust, TrustError};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

pub use filter::Filter;

use memory::{Memory, Skipped};
use place::Place;

/// How much of a subject is retained, in characters: more than any of ours has.
const MAX_SUBJECT: usize = 512;

/// What kind of thing is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A command of an operator
    Command,
    /// A reply of a client
    Reply,
    /// An event of a client, whichever
    Event,
    /// A client's presence
    Presence,
    /// The start or end of a job
    Job,
    /// What a client wants operators to know
    Security,
    /// A trust bundle
    Trust,
    /// A request for a credential, or the answer
    Renewal,
    /// Messages that are missing
    Gap,
    /// What belongs to no subject of the protocol
    #[default]
    Other,
}

/// Something that was seen.
#[derive(Debug)]
pub enum Observation {
    /// A message.
    Message(Box<ObservedMessage>),
    /// Messages that are missing.
    Gap(Gap),
}

/// A message, judged.
#[derive(Debug)]
pub struct ObservedMessage {
    /// When it arrived here.
    pub at: Millis,
    /// The subject that it arrived on: raw, and cut.
    pub subject: String,
    /// What belongs on that subject.
    pub kind: Kind,
    /// What it is, or why it is rejected.
    pub verdict: Result<VerifiedMessage, Rejected>,
    /// Whether it was seen before. A rejected one never was: anybody can make copies.
    pub occurrence: Occurrence,
}

/// A message that holds. Its texts are its signer's, raw.
#[derive(Debug)]
pub enum VerifiedMessage {
    /// A command.
    Command(Command),
    /// A reply, what it comes to, and the name of the command that it answers where that was seen.
    Reply(Reply, Outcome, Option<Name>),
    /// An event and its content.
    Event(Event, EventData),
    /// A trust bundle and its payload.
    Trust(Trust, Map<String, Value>),
    /// A member's request for its next credential.
    RenewalRequest(RenewalRequest),
    /// The issuer's answer to one.
    RenewalAnswer(RenewalAnswer),
}

/// Whether a message was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    /// It was not.
    First,
    /// It was, or it is older than what this watch remembers: a repetition, which an honest client makes too, of what it has
    /// on record.
    Again,
    /// It was missing until now.
    Late,
}

/// Messages of a client that are missing: between two of one process of the client, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When that was found.
    pub at: Millis,
    /// The client.
    pub client: Name,
    /// How many.
    pub missing: u64,
    /// Whether they may have passed by while this watch was not connected or shed messages.
    pub away: bool,
}

/// Who looks on.
#[derive(Debug)]
pub struct Watcher {
    verifier: Verifier,
    memory: Memory,
}

/// What a message came to that holds.
struct Judged {
    message: VerifiedMessage,
    occurrence: Occurrence,
    gap: Option<(Name, Skipped)>,
}

impl Watcher {
    /// Judges by this trust bundle.
    pub fn new(trust: Arc<Trust>) -> Self {
        Self { verifier: Verifier::new(trust, SKEW), memory: Memory::new() }
    }

    /// Takes what arrived: first what is missing before it, if anything is, then the message.
    pub fn take(&mut self, delivery: &Delivery, now: Millis) -> impl Iterator<Item = Observation> + use<> {
        let place = Place::of(delivery.subject());
        let ours = place.realm == Some(self.verifier.trust().realm().as_str());
        let kind = if ours { place.kind } else { Kind::Other };
        let judged = match kind {
            Kind::Command => self.command(delivery, now),
            Kind::Reply => self.reply(delivery, now),
            Kind::Event | Kind::Presence | Kind::Job | Kind::Security => self.event(delivery, now),
            Kind::Trust => self.trust(delivery),
            Kind::Renewal => self.renewal(delivery, now),
            Kind::Gap | Kind::Other => {
                Err(Rejected::new(Reason::Address, None, "not on a subject of this realm that anybody listens to"))
            }
        };
        let (verdict, occurrence, gap) = match judged {
            Ok(Judged { message, occurrence, gap }) => (Ok(message), occurrence, gap),
            Err(rejected) => (Err(rejected), Occurrence::First, None),
        };
        let gap =
            gap.map(|(client, Skipped { missing, away })| Observation::Gap(Gap { at: now, client, missing, away }));
        let subject = delivery.subject().chars().take(MAX_SUBJECT).collect();
        let seen = ObservedMessage { at: now, subject, kind, verdict, occurrence };
        gap.into_iter().chain([Observation::Message(Box::new(seen))])
    }

    /// Messages may have passed by unseen: the connection was lost, or more arrived than was taken.
    pub fn was_away(&mut self) {
        self.memory.was_away();
    }

    /// Whether a client's credential puts it in a group, as far as messages of it were seen.
    pub fn is_member(&self, client: &Name, group: &str) -> bool {
        self.memory.is_member(client, group)
    }

    fn command(&mut self, delivery: &Delivery, now: Millis) -> Result<Judged, Rejected> {
        let command = self.verifier.open::<Command>(delivery, now)?;
        let digest = command.digest();
        let message = command.into_message();
        let answers_to_itself = subject::ReplyTo::parse(&message.reply_to).is_some_and(|reply_to| {
            reply_to.realm == message.realm && reply_to.operator == message.from && reply_to.command_id == message.id
        });
        if !answers_to_itself {
            return Err(signed(
                Reason::Address,
                &message.from,
                "the reply_to is not the operator's own for this command",
            ));
        }
        if message.subject != subject::command(&message.realm, &message.to) {
            return Err(signed(Reason::Address, &message.from, "the subject does not belong to the target"));
        }
        let occurrence = self.memory.command(digest, &message.command.name);
        Ok(Judged { message: VerifiedMessage::Command(message), occurrence, gap: None })
    }

    fn reply(&mut self, delivery: &Delivery, now: Millis) -> Result<Judged, Rejected> {
        let reply = self.verifier.open::<Reply>(delivery, now)?;
        let credential = reply.credential().clone();
        let message = reply.into_message();
        let fits = parse_reply(&message.subject).is_some_and(|(reply_to, client)| {
            (reply_to.realm == message.realm && reply_to.operator == message.to)
                && (reply_to.command_id == message.command_id && client == message.from)
        });
        if !fits {
            return Err(signed(Reason::Address, &message.from, "the subject does not belong to this reply"));
        }
        let outcome = message.outcome().map_err(|error| signed(Reason::Envelope, &message.from, &error))?;
        let (occurrence, gap) = self.number(&credential, (message.boot, message.n), false);
        let command = self.memory.name_of(&message.command_digest).cloned();
        Ok(Judged { message: VerifiedMessage::Reply(message, outcome, command), occurrence, gap })
    }

    fn event(&mut self, delivery: &Delivery, now: Millis) -> Result<Judged, Rejected> {
        let event = self.verifier.open::<Event>(delivery, now)?;
        let credential = event.credential().clone();
        let message = event.into_message();
        if message.subject != subject::event(&message.realm, &message.from, message.kind) {
            return Err(signed(Reason::Address, &message.from, "the subject does not belong to this event"));
        }
        let data = message.data().map_err(|error| signed(Reason::Envelope, &message.from, &error))?;
        let (occurrence, gap) = self.number(&credential, (message.boot, message.n), true);
        Ok(Judged { message: VerifiedMessage::Event(message, data), occurrence, gap })
    }

    /// A bundle as every receiver judges it: it is the one in force, or follows it.
    fn trust(&self, delivery: &Delivery) -> Result<Judged, Rejected> {
        let unsigned = |reason, detail: &str| Rejected::new(reason, None, detail);
        let (present, bytes) = (self.verifier.trust(), delivery.body());
        let known = bytes == present.bytes();
        let trust = if known { Ok(Trust::clone(present)) } else { present.successor(bytes) };
        let trust = trust.map_err(|e| unsigned(reason(&e), &e.to_string()))?;
        if subject::trust_version(present.realm(), delivery.subject()) != Some(trust.version()) {
            return Err(unsigned(Reason::Address, "the subject does not belong to this version"));
        }
        let payload = payload(bytes).unwrap_or_default();
        Ok(Judged { message: VerifiedMessage::Trust(trust, payload), occurrence: Occurrence::First, gap: None })
    }

    /// A request as the issuer judges it, or an answer as far as it can be judged without the request.
    fn renewal(&self, delivery: &Delivery, now: Millis) -> Result<Judged, Rejected> {
        let message = if Place::of(delivery.subject()).is_answer {
            VerifiedMessage::RenewalAnswer(verify_answer(delivery, self.verifier.trust())?)
        } else {
            VerifiedMessage::RenewalRequest(RenewalRequest::open(delivery, &self.verifier, now)?.into_message())
        };
        Ok(Judged { message, occurrence: Occurrence::First, gap: None })
    }

    /// Judges by another bundle from now on.
    pub fn set_trust(&mut self, trust: Arc<Trust>) {
        self.verifier.set_trust(trust);
    }

    /// What the number of a client's message shows; `fresh` says that it is never sent from a record.
    fn number(
        &mut self,
        signer: &Credential,
        (boot, n): (Uuid, u64),
        fresh: bool,
    ) -> (Occurrence, Option<(Name, Skipped)>) {
        let (occurrence, skipped) = self.memory.number(signer.name(), signer.groups(), boot, n, fresh);
        (occurrence, skipped.map(|skipped| (signer.name().clone(), skipped)))
    }
}

impl Kind {
    /// Every one, in the order in which they are listed for people.
    pub const ALL: [Self; 10] = [
        Self::Command,
        Self::Reply,
        Self::Event,
        Self::Presence,
        Self::Job,
        Self::Security,
        Self::Trust,
        Self::Renewal,
        Self::Gap,
        Self::Other,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Reply => "reply",
            Self::Event => "event",
            Self::Presence => "presence",
            Self::Job => "job",
            Self::Security => "security",
            Self::Trust => "trust",
            Self::Renewal => "renewal",
            Self::Gap => "gap",
            Self::Other => "other",
        }
    }

    /// Whether a selected kind includes this one.
    fn is(self, wanted: Self) -> bool {
        let is_event = matches!(self, Self::Event | Self::Presence | Self::Job | Self::Security);
        self == wanted || (wanted == Self::Event && is_event)
    }
}

impl From<EventKind> for Kind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Presence => Self::Presence,
            EventKind::Job => Self::Job,
            EventKind::Security => Self::Security,
        }
    }
}

impl ObservedMessage {
    /// Who signed it; only where the signature holds.
    pub fn from(&self) -> Option<&Name> {
        match &self.verdict {
            Ok(VerifiedMessage::Command(command)) => Some(&command.from),
            Ok(VerifiedMessage::Reply(reply, ..)) => Some(&reply.from),
            Ok(VerifiedMessage::Event(event, _)) => Some(&event.from),
            Ok(VerifiedMessage::RenewalRequest(request)) => Some(&request.from),
            Ok(VerifiedMessage::RenewalAnswer(answer)) => Some(&answer.from),
            Ok(VerifiedMessage::Trust(..)) => None,
            Err(rejected) => rejected.signer.as_ref(),
        }
    }

    /// The targets that the signer made it for: `worker-1`, `@web`, `@all`; nobody in particular where it is an event.
    pub fn to(&self) -> Option<String> {
        match self.verdict.as_ref().ok()? {
            VerifiedMessage::Command(command) => Some(match &command.to {
                Target::Client(client) => client.to_string(),
                Target::Group(group) => format!("@{group}"),
                Target::All(_) => "@all".to_owned(),
            }),
            VerifiedMessage::Reply(reply, ..) => Some(reply.to.to_string()),
            VerifiedMessage::RenewalRequest(_) => Some("issuer".to_owned()),
            VerifiedMessage::RenewalAnswer(answer) => answer.subject.rsplit('.').next().map(str::to_owned),
            VerifiedMessage::Event(..) | VerifiedMessage::Trust(..) => None,
        }
    }
}

/// A rejection of what somebody signed.
fn signed(reason: Reason, signer: &Name, detail: &str) -> Rejected {
    Rejected::new(reason, Some(signer.clone()), detail)
}

/// The word for what is wrong with a trust bundle.
fn reason(error: &TrustError) -> Reason {
    match error {
        TrustError::Size { .. } => Reason::Size,
        TrustError::Form(_) | TrustError::Json(_) => Reason::Json,
        TrustError::Header(_) => Reason::Type,
        TrustError::Realm { .. } => Reason::Realm,
        TrustError::NotNext { .. } => Reason::Trust,
        TrustError::PinNotListed { .. }
        | TrustError::NotByPredecessor { .. }
        | TrustError::PinNotSigned { .. }
        | TrustError::SignedTwice { .. }
        | TrustError::Signature { .. }
        | TrustError::TooFewSignatures { .. } => Reason::Signature,
        TrustError::Encoding
        | TrustError::Body(_)
        | TrustError::Threshold { .. }
        | TrustError::Key(_)
        | TrustError::Duplicate { .. } => Reason::Envelope,
    }
}

/// The content of a bundle that was verified.
fn payload(bundle: &[u8]) -> Option<Map<String, Value>> {
    let bundle = json::parse(bundle).ok()?;
    json::parse(&BASE64URL_NOPAD.decode(bundle.get("payload")?.as_str()?.as_bytes()).ok()?).ok()
}

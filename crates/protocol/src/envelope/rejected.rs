//! Why a message was not believed, or not taken.

use crate::credential::Credential;
use crate::name::Name;
use crate::reply::State;
use crate::text::words;
use crate::time::Millis;
use crate::trust::Trust;

words! {
    /// Why a message was dropped in silence (section 9); each is a counter in `dropped` of a client info.
    pub enum Reason {
        /// The body or a header is too long (section 2).
        Size = "size",
        /// Not exactly one of each header, a malformed one, or a status line (section 2).
        Headers = "headers",
        /// The protected header is not exactly what section 2 says, or is for another type of message.
        Type = "type",
        /// The credential does not hold, is for another role, or is not the one that the body names (section 6).
        Credential = "credential",
        /// The signature does not hold (section 2).
        Signature = "signature",
        /// The body is not the JSON of section 3.
        Json = "json",
        /// The body does not satisfy the schema and type of its message (sections 4 and 5).
        Envelope = "envelope",
        /// It is of another realm.
        Realm = "realm",
        /// It arrived on, or answers to, another subject than the one that it must, or is for somebody else.
        Address = "address",
        /// Its time was over long ago (section 8).
        Late = "late",
        /// It was issued too far ahead (section 8).
        Ahead = "ahead",
        /// The signer's grant does not reach this client, which was only in a group or among all (section 6).
        OutOfReach = "out_of_reach",
        /// It repeats what was answered too often already (section 8).
        Repeat = "repeat",
        /// It came faster than could be verified (section 9).
        Overload = "overload",
        /// It was refused as `busy` (section 8): the one thing counted here that is answered.
        Busy = "busy",
        /// A trust bundle that was not accepted (section 7).
        Trust = "trust",
    }
}

/// A message that was dropped: its reason is counted, its detail logged, and nobody is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejected {
    /// The reason that is counted.
    pub reason: Reason,
    /// Who signed it; only where the signature held.
    pub signer: Option<Name>,
    /// What was wrong, for a log; what comes from the message is escaped and cut.
    pub detail: String,
    /// What is known of the client whose reply or event it is, where everything holds but that its credential has expired.
    pub expired: Option<Box<Expired>>,
}

impl Rejected {
    /// A rejection; `signer` is given only where the signature held.
    pub fn new(reason: Reason, signer: Option<Name>, detail: impl Into<String>) -> Self {
        Self { reason, signer, detail: detail.into(), expired: None }
    }
}

/// A client that signed a message under a credential that has expired since, and of which everything else holds (section 6).
///
/// It proves nothing of the present: the message may be a replay, or be signed with a key that was stolen long ago. It tells
/// which client's credential has to be renewed, and never counts as a reply or a presence. Only
/// [`Verifier::open`](super::Verifier::open) makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expired {
    pub(super) credential: Credential,
    pub(super) state: State,
    pub(super) issued_at: Millis,
}

impl Expired {
    /// The client.
    pub fn client(&self) -> &Name {
        self.credential.name()
    }

    /// The groups that the issuer had put it in.
    pub fn groups(&self) -> &[Name] {
        self.credential.groups()
    }

    /// Whether a trust bundle vouches for that credential, but for its end.
    pub fn is_vouched_for(&self, trust: &Trust) -> bool {
        self.credential.vouched_for(trust).is_ok()
    }

    /// When its credential expired.
    pub fn expired_at(&self) -> Millis {
        self.credential.expires_at()
    }

    /// The state that the message claims.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the message claims to have been signed.
    pub fn issued_at(&self) -> Millis {
        self.issued_at
    }
}

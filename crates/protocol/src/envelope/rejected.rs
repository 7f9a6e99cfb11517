//! Why a message was not believed, or not taken.

use crate::name::Name;
use crate::text::words;

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
}

impl Rejected {
    /// A rejection; `signer` is given only where the signature held.
    pub fn new(reason: Reason, signer: Option<Name>, detail: impl Into<String>) -> Self {
        Self { reason, signer, detail: detail.into() }
    }
}

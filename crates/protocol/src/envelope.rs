//! The envelope (sections 2 and 9): a signed body, the two headers that prove it, and what it takes to believe them.
//!
//! [`Delivery`] is what arrived; [`Verifier::open`] makes an [`Authentic`] message of it or says why it is [`Rejected`].
//! The other way, an [`Identity`] makes a [`Signed`] message.

pub(crate) mod body;
mod copies;
mod delivery;
mod identity;
pub(crate) mod jws;
mod rejected;
mod remembered;
mod verifier;

pub use delivery::{Delivery, Signed};
pub use identity::{Identity, WrongKey};
pub use jws::HeaderError;
pub use rejected::{Expired, Reason, Rejected};
pub use verifier::{Authentic, Payload, Verifier};

/// The NATS header with the detached signature, in exactly this spelling (section 2).
pub const SIGNATURE_HEADER: &str = "Countersign-Signature";
/// The NATS header with the signer's credential, in exactly this spelling (section 2).
pub const CREDENTIAL_HEADER: &str = "Countersign-Credential";

/// What a signature is for (the `typ` of its protected header): one made for one type never holds for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A command (section 4).
    Command,
    /// A reply (section 5).
    Reply,
    /// An event (section 5).
    Event,
    /// A credential (section 6).
    Credential,
    /// A trust bundle (section 7).
    Trust,
    /// A request for enrolment (section 14).
    EnrolmentRequest,
    /// The answer to it (section 14).
    EnrolmentAnswer,
    /// A member's request for its next credential (section 7).
    RenewalRequest,
    /// The issuer's answer to it (section 7).
    RenewalAnswer,
}

impl MessageType {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Command,
        Self::Reply,
        Self::Event,
        Self::Credential,
        Self::Trust,
        Self::EnrolmentRequest,
        Self::EnrolmentAnswer,
        Self::RenewalRequest,
        Self::RenewalAnswer,
    ];

    /// The `typ` on the wire.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Command => "countersign-command",
            Self::Reply => "countersign-reply",
            Self::Event => "countersign-event",
            Self::Credential => "countersign-credential",
            Self::Trust => "countersign-trust",
            Self::EnrolmentRequest => "countersign-enrolment-request",
            Self::EnrolmentAnswer => "countersign-enrolment-answer",
            Self::RenewalRequest => "countersign-renewal-request",
            Self::RenewalAnswer => "countersign-renewal-answer",
        }
    }
}

//! Enrolment where the issuer's keys are (section 14): tokens, what was asked without one, and the answers. What a worker does is
//! in [`worker`].

mod answer;
mod ask;
mod issue;
mod known;
mod record;
#[cfg(test)]
mod tests;
mod token;
pub mod worker;

pub use answer::{EnrolmentFault, EnrolmentOutcome, answer, sign_request};
pub use ask::{Decision, Waiting, approve, deny, waiting};
pub use known::KnownKeys;
pub use token::{Broker, TokenTerms, make_token};

use countersign_protocol::enrolment::{EnrolmentCode, EnrolmentError};

use crate::error::ProvisionError;

/// What a person runs again.
const ENROLL: &str = "countersign enroll";

fn refusal(code: EnrolmentCode, message: impl Into<String>) -> EnrolmentError {
    EnrolmentError { code, message: message.into() }
}

fn unavailable(error: &ProvisionError) -> EnrolmentError {
    refusal(EnrolmentCode::Unavailable, error.to_string())
}

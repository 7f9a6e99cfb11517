//! Enrolment (section 14): how a worker that has made its own keys becomes a client, and what it takes to believe either side.
//!
//! A [`Token`] comes by a way that the broker is not on. With it a worker signs an [`EnrolmentRequest`]; the issuer makes an
//! [`OpenedRequest`] of what arrives, and signs an [`EnrolmentAnswer`]; [`open_answer`] makes an [`Enrolment`] of that.

mod answer;
mod request;
mod token;

pub use answer::{
    AnswerError, Answered, Enrolment, EnrolmentAnswer, EnrolmentCode, EnrolmentError, Expected, open_answer,
};
pub use request::{EnrolmentRequest, OpenedRequest, RequestError};
pub use token::{Token, TokenClient, TokenError};

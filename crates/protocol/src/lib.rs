//! What is on the wire, as docs/protocol.md specifies it. Pure: no clock, no randomness, no socket, no file.
//!
//! Bytes become an [`envelope::Delivery`]; a [`envelope::Verifier`] turns that into an [`envelope::Authentic`] message or
//! a [`envelope::Rejected`]; nothing else can.

pub mod command;
pub mod credential;
pub mod digest;
pub mod ending;
pub mod enrolment;
pub mod envelope;
pub mod event;
pub mod id;
pub mod json;
pub mod key;
pub mod limits;
pub mod name;
pub mod output;
pub mod renewal;
pub mod repeats;
pub mod reply;
pub mod schema;
pub mod subject;
pub mod text;
pub mod time;
pub mod trust;

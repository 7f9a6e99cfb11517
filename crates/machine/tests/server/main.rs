//! The operator's side against simulated clients, with a clock that the test sets.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod awaited;
mod broadcast;
mod client_events;
mod common;
mod credentials;
mod details;
mod offline;
mod outage;
mod payload;
mod pending_command;
mod processes;
mod properties;
mod request;
mod roster;
mod waiting;
mod young;

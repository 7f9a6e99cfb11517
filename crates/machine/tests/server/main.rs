//! The operator's side against simulated clients, with a clock that the test sets.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]

mod broadcast;
mod common;
mod credentials;
mod gather;
mod issue;
mod news;
mod offline;
mod outage;
mod payload;
mod processes;
mod properties;
mod roster;
mod waiting;

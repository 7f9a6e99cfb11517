//! The command, its clients and a real nats-server, as processes: what is promised to people and what is thrown at them.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot make what it needs is to fail there"
)]

mod addresses;
mod at_most_once;
mod brokers;
mod claim;
mod credentials;
mod exits;
mod files;
mod fleet;
mod floods;
mod forge;
mod headers;
mod health;
mod json;
mod presence;
mod process;
mod prompt;
mod pty;
mod rejected;
mod story;
mod terminal;
mod watch;

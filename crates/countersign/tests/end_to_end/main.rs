//! The command, its clients and a real nats-server, as processes: what is promised to people and what is thrown at them.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot make what it needs is to fail there"
)]

mod accounts;
mod addresses;
mod at_most_once;
mod brokers;
mod claim;
mod clone;
mod cluster;
mod completions;
mod credentials;
mod describe;
mod enrolment;
mod exits;
mod fake;
mod files;
mod fleet;
mod floods;
mod forge;
mod full_disk;
mod grants;
mod groups;
mod headers;
mod health;
mod history;
mod identity;
mod issuer;
mod json;
mod locked;
mod logs;
mod losses;
mod output;
mod payload;
mod presence;
mod process;
mod programs;
mod prompt;
mod pty;
mod readme;
mod recipes;
mod rejected;
mod replies;
mod roster;
mod scripts;
mod start_ready;
mod state_folder;
mod stolen;
mod story;
mod subscriptions;
mod terminal;
mod trust;
mod unread;
mod upkeep;
mod wait;
mod watch;
mod withheld;
mod wrong_clock;
mod young;

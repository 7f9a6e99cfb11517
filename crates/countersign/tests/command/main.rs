//! The command as a process: what it prints, what it leaves on the disk, how it ends.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot make what it needs is to fail there"
)]

mod advice;
mod bad_input;
mod broker;
mod client;
mod completions;
mod context;
mod credential;
mod doctor;
mod enroll;
mod folder;
mod help;
mod init;
mod json;
mod locked;
mod man;
mod nats_tool;
mod one_shot;
mod permissions;
mod renewal;
mod schemas;
mod tls;
mod trust;
mod writable;

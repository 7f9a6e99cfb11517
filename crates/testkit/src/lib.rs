//! For tests only: a realm with its keys, messages of every kind in it, a real broker, and peers that mean harm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test that cannot make what it needs is to fail there"
)]

pub mod accounts;
pub mod broker;
pub mod hostile;
pub mod realm;
pub mod slow;
pub mod tls;

//! For tests only: a realm with its keys, messages of every kind in it, and a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test that cannot make what it needs is to fail there")]

pub mod realm;

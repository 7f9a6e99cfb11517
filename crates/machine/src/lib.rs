//! What is allowed to happen: the client's and the server's state machines, as docs/protocol.md specifies them, and what an
//! observer can prove. Pure: bytes
//! and time come in, record changes and effects go out; the caller owns the clock, the randomness, the disk and the socket.

pub mod client;
pub mod issuer;
pub mod observer;
pub mod renewal;
pub mod server;
pub mod trust;

// What the binary's tests share with those here names this crate.
#[cfg(test)]
extern crate self as countersign_machine;

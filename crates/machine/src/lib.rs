//! What is allowed to happen: the client's and the server's state machines, as docs/protocol.md specifies them. Pure: bytes
//! and time come in, record changes and effects go out; the caller owns the clock, the randomness, the disk and the socket.

pub mod client;
pub mod server;

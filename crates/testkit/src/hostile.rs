//! Peers that mean harm: one that publishes whatever bytes it likes through a real broker, and a broker that is made up.
//! Both speak the NATS protocol over bare TCP, since no NATS library would let such bytes out.

mod broker;
mod peer;
mod wire;

pub use broker::{FakeBroker, Session};
pub use peer::Peer;
pub use wire::{Message, header_block, hostile_header_blocks, message_frame, signed_frame, signed_headers};

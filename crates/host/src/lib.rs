//! What a process needs of the machine that it runs on: clocks, outlets that never block, and all cores to verify what
//! arrives.

pub mod clock;
pub mod outlet;
pub mod verify;

//! What both shells need of the machine that they run on: key files, the clock, the connection to the broker, and
//! all cores to verify what comes over it.

pub mod clock;
pub mod keys;
pub mod link;
pub mod outlet;
pub mod verify;

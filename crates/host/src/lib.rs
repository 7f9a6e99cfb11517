//! What both shells need of the machine that they run on: key files, the clock, and the connection to the broker.

pub mod clock;
pub mod keys;
pub mod link;

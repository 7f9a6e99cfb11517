//! The protocol's own data commands (section 4), one in each file. They use the interface that an embedding program uses.

mod calculate;
mod ping;

pub use calculate::Calculate;
pub use ping::Ping;

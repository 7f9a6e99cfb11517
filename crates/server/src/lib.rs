//! The operator's shell: what the pure [machine](countersign_machine::server) decides is carried out here, over NATS and by
//! the clock.
//!
//! [`Operator::submit`] and [`Operator::next`] are the place to start: presence is looked up, the commands are sent, and
//! what arrives is verified and handed to the machine until every target has its verdict. [`setup`] makes the broker's
//! streams, and [`forget`] removes a retired client from them.

mod config;
mod event_link;
mod operator;
mod presence;
mod renewal;
mod stored;
mod stream;
mod trust;

pub use config::{Follow, OperatorConfig, OperatorError};
pub use countersign_machine::server::OperatorEvent;
pub use operator::Operator;
pub use stream::{MAX_PRESENCE, MAX_VERSIONS, MadeStream, SetupError, forget, look_at_streams, setup};

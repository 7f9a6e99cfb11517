//! The operator's shell: what the pure [machine](countersign_machine::server) decides is carried out here, over NATS and by
//! the clock.
//!
//! [`Operator::dispatch`] tells the story: presence is looked up, the commands are sent, and what arrives is verified and
//! handed to the machine until every target has its verdict. [`setup`] makes the broker's streams.

mod operator;
mod presence;
mod stream;

pub use operator::{Operator, OperatorConfig, OperatorError};
pub use stream::{SetupError, setup};

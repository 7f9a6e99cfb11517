//! What an operator is made of, and why one is not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_host::clock::RandomError;
use countersign_keys::Member;
use countersign_link::{BrokerAddress, LinkError};
use countersign_machine::server::RequestError;
use countersign_protocol::name::Name;
use countersign_protocol::trust::Trust;

/// What an operator's process is made of.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// The broker.
    pub broker: BrokerAddress,
    /// Who signs the requests, and the key that connects.
    pub member: Member,
    /// What replies are judged by at first; it also names the realm.
    pub trust: Arc<Trust>,
    /// Where the trust bundle is written that was accepted last. Without it, or where it cannot be written, a new bundle is in
    /// force for this process only.
    pub accepted: Option<PathBuf>,
    /// Which events are received.
    pub follow: Follow,
    /// The clients that the folder of keys knows. By name, nothing is sent to one that neither it nor the roster knows.
    pub enrolled: Vec<Name>,
}

/// Which events an operator's process receives. Where it sends requests to clients whose presence it does not receive, it
/// takes a client that runs a command for longer than half a minute for silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// The presence of these clients: all that requests will go to.
    Clients(Vec<Name>),
    /// The presence of every client.
    Presence,
    /// Every event: presence, jobs and security.
    Everything,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No broker, or it refused us.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker does not answer with the roster.
    #[error("the broker does not tell the roster: {0}")]
    Roster(String),
    /// The broker stopped answering before the roster was complete.
    #[error("the broker does not tell the roster: nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// The broker does not let us subscribe to replies; nothing was sent, since the outcome would not be known.
    #[error("the broker refuses the subscription to replies: {0}")]
    ReplySubscriptionDenied(String),
    /// The request is not one that can be sent; nothing was.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nothing can be sent without an id.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The person did not want it any more.
    #[error("interrupted before anything was sent")]
    Interrupted,
}

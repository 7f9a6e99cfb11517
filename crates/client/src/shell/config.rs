//! What a client runs with.

use std::path::PathBuf;

use countersign_keys::Member;
use countersign_link::BrokerAddress;
use countersign_machine::client::Limits;
use countersign_protocol::trust::Trust;

use crate::console::Console;

/// What a client runs with.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The client's identity and its connection key.
    pub member: Member,
    /// The trust bundle that it begins with; what it accepts later is in its folder, and comes first.
    pub trust: Trust,
    /// The broker: `nats://host:port`, or several with commas between, and the files of TLS.
    pub broker: BrokerAddress,
    /// The folder below which each client has one for its journal, named like the client. A limit on the size of files
    /// counts as a full disk, in a program that does not let SIGXFSZ end it.
    pub state: PathBuf,
    /// What its administrator decides: skew, bounds, heartbeat.
    pub limits: Limits,
    /// Whether it is `ready` when it starts; by default it is `unready` until the command `start` (section 4).
    pub start_ready: bool,
    /// The version of the program, as the client info states it; by default that of this crate.
    pub version: String,
    /// Where jobs print; standard output by default.
    pub console: Console,
    /// Whether each line that a job prints begins with the client, the command and its id; by default it does not.
    pub prefix_output: bool,
    /// The file that [`health::age`](crate::health::age) reads: there while the client is connected, and written again at each
    /// heartbeat. By default there is none.
    pub health: Option<PathBuf>,
}

impl ClientConfig {
    /// A configuration with every default.
    pub fn new(member: Member, trust: Trust, broker: impl Into<BrokerAddress>, state: impl Into<PathBuf>) -> Self {
        let (limits, console) = (Limits::default(), Console::default());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (broker, state) = (broker.into(), state.into());
        let (start_ready, prefix_output, health) = (false, false, None);
        Self { member, trust, broker, state, limits, start_ready, version, console, prefix_output, health }
    }
}

//! The operator's side: an order becomes signed commands, replies become one verdict for each target.
//!
//! [`Dispatch::new`] signs and sends (section 4); [`Dispatch::reply`] takes what section 5 allows and nothing else;
//! [`Dispatch::tick`] sees to it that no wait lasts for ever. When every target has its verdict, the last effect is
//! [`Effect::Done`]. What a client says of itself comes through the [`Roster`].

mod gather;
mod issue;
mod line;
mod roster;
mod verdict;

use std::sync::Arc;

use countersign_protocol::command::Call;
use countersign_protocol::envelope::{Identity, Signed};
use countersign_protocol::name::{Name, Session};
use countersign_protocol::reply::{Outcome, State};
use countersign_protocol::time::Millis;

pub use gather::Dispatch;
pub use issue::OrderError;
pub use roster::{Presence, Roster, Taken};
pub use verdict::{Ignored, NOT_RUN, Report, TargetReport, Verdict};

/// How often the server asks for the result of what was accepted, in milliseconds; it also asks on every reconnect.
pub const ASK_EVERY: i64 = 10_000;
/// After how long a silence of its presence a client that had accepted ends in `no_reply`, in milliseconds.
pub const SILENCE: i64 = 30_000;
/// Section 8: after how long the same bytes are sent again for the first time, in milliseconds; doubled each time, ±20 %.
pub const FIRST_RETRY: i64 = 500;

/// The caller's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// The wall clock: what is written into commands.
    pub wall: Millis,
    /// A clock that never runs backwards, in microseconds from any start: what time-outs and latencies are measured by.
    pub micros: u64,
}

impl Now {
    /// The monotonic moment some milliseconds from now; a negative span counts as none.
    fn after(self, millis: i64) -> u64 {
        self.micros.saturating_add(micros(millis))
    }
}

/// Milliseconds as microseconds; a negative span counts as none.
fn micros(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).saturating_mul(1_000)
}

/// Microseconds as milliseconds. 2^32 µs are more than an hour: nobody reads a longer latency to the microsecond.
fn millis(micros: u64) -> f64 {
    f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1_000.0
}

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    /// The command and its arguments; those of a built-in one are validated before anything is sent.
    pub command: Call,
    /// Section 4: every check and no effect.
    pub dry_run: bool,
}

/// How the operator wants it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// How long to wait for the first reply of each target, in milliseconds. With `retry` the wait lasts at least until
    /// the command has expired.
    pub timeout: i64,
    /// How long the commands stay valid, in milliseconds. Over the client's or the credential's maximum they are refused
    /// with `lifetime` (section 8).
    pub ttl: i64,
    /// `accepted` is a verdict: do not wait for the end of what runs long.
    pub detach: bool,
    /// Section 8: send the same bytes again until an answer or the expiry, and any command anew after `starting` or
    /// `wrong_epoch`. Without it only `start`, `stop`, `terminate` and `ping` are sent anew.
    pub retry: bool,
}

impl Default for Options {
    /// 5 s to the first reply, valid for 30 s, neither detached nor retried.
    fn default() -> Self {
        Self { timeout: 5_000, ttl: 30_000, detach: false, retry: false }
    }
}

/// A client that gets the command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its name.
    pub client: Name,
    /// What the verified roster knows of it: its epoch goes into the command (section 8), and whether it is `offline` is
    /// told by it. Without it the command carries no epoch and silence is always `no_reply`.
    pub known: Option<Presence>,
}

/// All that a [`Dispatch`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Setup {
    /// The realm of the clients.
    pub realm: Name,
    /// Whose order it is.
    pub identity: Arc<Identity>,
    /// The operator's process (section 1): the caller receives what comes on `cs.<realm>.reply.<operator>.<session>.>`.
    pub session: Session,
    /// What is to be done.
    pub order: Order,
    /// Who is to do it; a name given twice gets one command.
    pub targets: Vec<Target>,
    /// How.
    pub options: Options,
    /// 32 random bytes, never used twice: ids and jitter come from them.
    pub seed: [u8; 32],
}

/// What the caller has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a command, with its `reply_to` in NATS's own reply field too (section 1).
    Publish {
        /// The command.
        message: Signed,
        /// Its `reply_to`.
        reply: String,
    },
    /// Tell the person.
    Update(Update),
    /// Every target has its verdict; nothing more will come.
    Done(Report),
}

impl Effect {
    fn notice(client: &Name, text: String) -> Self {
        Self::Update(Update::Notice { client: Some(client.clone()), alarm: false, text })
    }
}

/// What is worth telling while verdicts are awaited.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// A verified reply was taken, interim or final. What was learnt by asking for the result is told by the report only.
    Reply {
        /// Who signed it.
        client: Name,
        /// What it says. Its texts are the client's, raw.
        outcome: Outcome,
        /// The client's state as it signed.
        state: State,
        /// Milliseconds from the command's first sending to this reply.
        latency_ms: f64,
    },
    /// A remark for people: whole sentences, fit for a terminal.
    Notice {
        /// The client that it is about, if it is about one.
        client: Option<Name>,
        /// Whether it speaks of an attack or of a broken promise (a security event) and not of mere bad luck.
        alarm: bool,
        /// The remark.
        text: String,
    },
}

impl Update {
    /// The security event that [`Taken::TwoAlive`] stands for.
    pub fn two_alive(client: &Name) -> Self {
        let text = format!(
            "two processes of {client} are alive at once, or its clock was set back: at most once holds for one record only"
        );
        Self::Notice { client: Some(client.clone()), alarm: true, text }
    }
}

//! The operator's side: a request becomes signed commands, replies become one verdict for each target.
//!
//! [`Operator::submit`] determines the targets of a request, signs and sends (section 4); [`Operator::reply`] takes what
//! section 5 allows and nothing else; [`Operator::tick`] sees to it that no wait lasts for ever. When every target of a
//! request has its verdict, [`OperatorEvent::Done`] says so. The clients' presences are in the [`Roster`].

mod client_events;
mod expected;
mod notices;
mod operator;
mod pending_command;
mod pending_target;
mod processes;
mod renewal;
mod request;
mod result_queries;
mod roster;
mod sent_command;
mod trust;
mod verdict;
mod wait;

use std::fmt;
use std::sync::Arc;

use countersign_protocol::command::{Builtin, Call, Job};
use countersign_protocol::ending::Term;
use countersign_protocol::envelope::Signed;
use countersign_protocol::event::Security;
use countersign_protocol::id::MessageId;
use countersign_protocol::name::Name;
use countersign_protocol::renewal::Renewal;
use countersign_protocol::reply::{Outcome, State};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

pub use notices::recorded;
pub use operator::{Operator, OperatorSetup};
pub use request::{RequestError, may_sign};
pub use roster::{Presence, Roster, Taken};
pub use verdict::{Ignored, NOT_RUN, Report, TargetReport, Verdict};

/// How often the server queries the result of what was accepted, in milliseconds; it also does on every reconnect.
pub const POLL_EVERY: i64 = 10_000;
/// After how long a silence of its presence a client that had accepted ends in `no_reply`, in milliseconds.
pub const SILENCE: i64 = 30_000;
/// Section 8: after how long the same bytes are sent again for the first time, in milliseconds; doubled each time, ±20 %.
pub const FIRST_RETRY: i64 = 500;

/// How long a lost connection is waited out, in milliseconds: silence is counted only while there is one, and a wait lasts no
/// longer than this beyond what it would last with one.
pub const OUTAGE: i64 = 120_000;
/// How long a wait lasts at least when the connection is back, in milliseconds: the clients, too, have to find the broker
/// again.
pub const RECOVERY: i64 = 10_000;

/// How late [`Operator::tick`] may come before the process is taken to have been suspended, and how long what arrived
/// meanwhile then has to be read, in milliseconds.
pub const GRACE: i64 = 1_000;

/// The caller's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// The wall clock: what is written into commands.
    pub wall: Millis,
    /// A clock that never runs backwards, in microseconds from any start: what time-outs and latencies are measured by.
    pub micros: u64,
}

impl Now {
    /// The monotonic clock in milliseconds.
    fn millis(self) -> i64 {
        i64::try_from(self.micros / 1_000).unwrap_or(i64::MAX)
    }

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

/// What the operator asks for. The arguments of a built-in command satisfy its schema (section 3): without that there is no
/// such value. The schemas of a registered command are known to the clients only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandRequest {
    command: Call,
    /// The built-in command that it is.
    builtin: Option<Builtin>,
    dry_run: bool,
    /// The command whose end it waits for, by `result` queries.
    awaited: Option<MessageId>,
    /// Whether that is a command of the operator who waits.
    is_own: bool,
}

/// How the operator wants it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// How long to wait for the first reply of each target, in milliseconds. With `retry` the wait lasts at least until
    /// the command has expired. Time without a connection does not count, within [`OUTAGE`].
    pub timeout: i64,
    /// How long the commands stay valid, in milliseconds. Over the client's or the credential's maximum they are refused
    /// with `lifetime` (section 8).
    pub ttl: i64,
    /// `accepted` is a verdict: do not wait for the end of what runs long.
    pub detach: bool,
    /// Section 8: send the same bytes again until an answer or the expiry, and any command but `terminate` again under a
    /// new id after `starting` or `wrong_epoch`. Without it only `start`, `stop` and `ping` are, and what cannot have run
    /// before.
    pub retry: bool,
    /// How long to wait in all, in milliseconds: then what runs is `accepted`, what did not answer `no_reply`. Nothing is
    /// cancelled.
    pub deadline: Option<i64>,
}

impl Default for Options {
    /// 5 s to the first reply, valid for 30 s, neither detached nor retried, and without a limit on the whole wait.
    fn default() -> Self {
        Self { timeout: 5_000, ttl: 30_000, detach: false, retry: false, deadline: None }
    }
}

/// The clients that a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// These clients, each by a command of its own; a name given twice gets one.
    Clients(Vec<Name>),
    /// The clients of a group, by one command. Expected are those that the roster holds, that have not terminated, and that
    /// the operator's grant reaches.
    Group(Name),
    /// All clients, by one command; expected are those of the roster, as for a group.
    All,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                f.write_str(&names.join(" "))
            }
            Self::Group(group) => write!(f, "@{group}"),
            Self::All => f.write_str("@all"),
        }
    }
}

/// What distinguishes one request of an operator's process from every other; later requests have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

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
    /// Write a trust bundle where the next start finds it, and call [`Operator::trust_kept`].
    KeepTrust(Arc<Trust>),
    /// Ask the broker for a version of the trust bundle, and call [`Operator::trust_answered`].
    FetchTrust(u64),
    /// Look on the disk for a newer credential of this operator, which somebody has put there, and call [`Operator::renewed`] with it;
    /// where there is none, publish this request for one.
    Renew(Signed),
    /// Write a credential and what comes with it where the next start and the next connection find them, then call
    /// [`Operator::renewed`], or [`Operator::not_renewed`].
    KeepRenewal(Box<Renewal>),
    /// Report to the person.
    Emit(OperatorEvent),
}

/// What is reported to the person.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorEvent {
    /// Something to report before the verdicts, or beside them.
    Update {
        /// The request that it is about, if it is about one.
        id: Option<RequestId>,
        /// What it is.
        update: Update,
    },
    /// Every target of a request has its verdict: there is no other report on it.
    Done {
        /// The request.
        id: RequestId,
        /// The verdicts.
        report: Report,
    },
}

/// What is reported while verdicts are awaited, and between requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// A verified reply was taken, interim or final. What a query for the result shows is in the report only.
    Reply {
        /// Who signed it.
        client: Name,
        /// The command that it answers.
        command_id: MessageId,
        /// What it says. Its texts are the client's, raw.
        outcome: Outcome,
        /// The client's state as it signed.
        state: State,
        /// Milliseconds from the command's first sending to this reply.
        latency_ms: f64,
        /// Whether it came after the report on its request, which it does not change. Interim ones are not reported then.
        late: bool,
    },
    /// A remark for people: whole sentences, fit for a terminal.
    Notice {
        /// The client that it is about, if it is about one.
        client: Option<Name>,
        /// Whether it reports an attack or a broken guarantee (a security event) and not a mere fault.
        alarm: bool,
        /// The remark.
        text: String,
    },
    /// An event of a client, verified (section 5).
    ClientEvent {
        /// Who says it.
        client: Name,
        /// What it says.
        event: ClientEvent,
    },
}

/// An event of a client, or its silence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientEvent {
    /// It was not in the roster before, or had ended.
    Joined {
        /// Its state.
        state: State,
    },
    /// A new process signs for it.
    Restarted {
        /// Its state.
        state: State,
        /// Whether it has started a new epoch: what was sent to it before may have been forgotten (section 8).
        new_epoch: bool,
    },
    /// Its state changed.
    State {
        /// What it was.
        from: State,
        /// What it is.
        to: State,
    },
    /// Nothing arrived from it for [`SILENCE`].
    Silent,
    /// Something arrived from it again.
    Back {
        /// Its state.
        state: State,
    },
    /// Its credential has entered its last third, and nobody has renewed it.
    Ending {
        /// The term of that credential.
        term: Term,
    },
    /// A job of another session started or ended. Its texts are the client's, raw.
    Job(Job),
    /// Something that an operator should know.
    Security(Security),
}

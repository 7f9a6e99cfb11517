//! What a client starts from, and its first turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_protocol::envelope::Identity;
use countersign_protocol::id::Uuid;
use countersign_protocol::limits::{HEARTBEAT, JOB_RETENTION, MAX_RECORDS, MAX_TTL, SKEW};
use countersign_protocol::reply::{ErrorBody, ErrorCode, Outcome};
use countersign_protocol::trust::Trust;

use super::catalogue::Catalogue;
use super::clock::{Clock, Now};
use super::credential::Standing;
use super::effect::{JobKey, Step};
use super::epoch::MARK_EVERY;
use super::journal::{Entry, EpochStart, MAX_QUERY_REPLIES, Records, Restored};
use super::message::Outbox;
use super::rate::ReplyBudget;
use super::state::State;
use super::{Client, Moment};
use crate::renewal::Renewer;
use crate::trust::Follower;

/// How many queries are remembered, in memory only; the next ones are answered all the same.
const MAX_QUERIES: usize = 16_384;

/// The limits that a client's administrator decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How far the operators' clocks may be off, in milliseconds; 5,000 by default (section 8).
    pub skew: i64,
    /// The longest life of a command that is obeyed, in milliseconds; 60,000 by default (section 8).
    pub max_ttl: i64,
    /// How often presence is published, in milliseconds; 10,000 by default (section 5).
    pub heartbeat: i64,
    /// How many jobs run at a time; 64 by default. The next one is refused with `busy`.
    pub jobs: usize,
    /// How many commands are remembered; 1,048,576 by default (section 8). The next one is refused with `busy`.
    pub records: usize,
    /// How long a job is remembered after its end, in milliseconds; 86,400,000 by default (section 8). At a bound of the records
    /// it gives way earlier.
    pub retain: i64,
}

impl Default for Limits {
    fn default() -> Self {
        let (records, retain) = (MAX_RECORDS, JOB_RETENTION);
        Self { skew: SKEW, max_ttl: MAX_TTL, heartbeat: HEARTBEAT, jobs: 64, records, retain }
    }
}

/// What a client starts from.
#[derive(Debug, Clone)]
pub struct StartUp {
    /// What its administrator decided.
    pub limits: Limits,
    /// The version of the program, as the client info states it.
    pub version: String,
    /// Its name, key and credential.
    pub identity: Arc<Identity>,
    /// The commands that it knows.
    pub catalogue: Catalogue,
    /// The trust bundle, verified.
    pub trust: Arc<Trust>,
    /// What the journal on disk adds up to.
    pub restored: Restored,
    /// A fresh random UUID: this start of the process.
    pub boot: Uuid,
    /// A fresh random UUID: the epoch that begins with it (section 8).
    pub epoch: Uuid,
    /// Whether it is `ready` at once, instead of `unready` until the first `start` (section 4).
    pub start_ready: bool,
}

/// Why a client cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The trust bundle is older than one that was accepted before (section 7).
    #[error("the trust bundle has version {got}; version {accepted} was accepted before, and an older one never is")]
    OldTrust {
        /// The version of the bundle at hand.
        got: u64,
        /// The version that was accepted.
        accepted: u64,
    },
}

impl Client {
    /// A client that has just started, in a new epoch. Commands that ran when the process ended are `interrupted`, and never
    /// run again. The entries of the step must be safely on the disk before anything else happens.
    pub fn start(start: StartUp, now: Now) -> Result<(Self, Step), StartError> {
        let StartUp { limits, version, identity, catalogue, trust, restored, boot, epoch, start_ready } = start;
        if let Some(accepted) = restored.trust_version().filter(|accepted| *accepted > trust.version()) {
            return Err(StartError::OldTrust { got: trust.version(), accepted });
        }
        let at = now.wall;
        let since = restored.latest().map_or(at, |latest| latest.max(at));
        let epoch_start = EpochStart { at, epoch, since, trust: trust.version() };
        let mut client = Self {
            grace: catalogue.grace(),
            catalogue: Arc::new(catalogue),
            epoch_start: epoch_start.clone(),
            started_at: at,
            clock: Clock::new(now, limits.skew),
            synced: at,
            mark_at: now.since_boot.saturating_add(MARK_EVERY),
            trust_expired: false,
            trust_warned: false,
            standing: Standing::InForce,
            standing_until: i64::MAX,
            state: if start_ready { State::Ready } else { State::Unready },
            renewer: Renewer::new(identity.credential(), *boot.as_bytes(), now.since_boot),
            not_renewed: None,
            outbox: Outbox::new(identity, epoch, boot),
            records: restored.records.bounded(limits.records).retaining(limits.retain),
            queries: Records::new(MAX_QUERIES, MAX_QUERY_REPLIES),
            dropped: BTreeMap::new(),
            reply_budget: ReplyBudget::default(),
            alarms: BTreeMap::new(),
            heartbeat_at: now.since_boot,
            presence_fits: true,
            termination: None,
            parked: Vec::new(),
            retry_at: i64::MAX,
            limits,
            version,
            follower: Follower::new(trust, *boot.as_bytes()),
        };
        client.records.begin_epoch(at);
        client.records.purge(at);
        while client.records.is_due() {
            client.records.purge(at);
        }
        let mut step = Step { entries: vec![Entry::EpochStarted(epoch_start)], ..Step::default() };
        let moment = Moment { now: at, since_boot: now.since_boot };
        if client.clock.is_set_back(restored.mark) {
            client.report_clock(at.since(restored.mark), moment, &mut step);
        }
        let interrupted: Vec<JobKey> = client.records.running().map(|record| record.key()).collect();
        for key in interrupted {
            let error = ErrorBody::new(ErrorCode::Interrupted, "the client's process ended while the command ran");
            client.finish_recorded(key, Outcome::Interrupted(error), moment, &mut step);
        }
        client.observe_credential(moment, &mut step);
        client.presence(moment, &mut step);
        Ok((client, step))
    }
}

//! Following the realm's chain of trust bundles (section 7): what is accepted, what is asked for, and how often.
//!
//! Client, operator and observer follow it by the same rules. What is accepted takes effect by [`Follower::apply`], once it is
//! written where a restart finds it.

use std::sync::Arc;

use countersign_protocol::digest::Digest;
use countersign_protocol::trust::{StoredTrust, Trust, TrustError};

/// Over how long the requests of many receivers are spread that connect at once, in milliseconds.
const SPREAD: u64 = 250;
/// How long after a request for a version the next one is made, at the earliest, in milliseconds. What follows a version that
/// was just accepted is asked for at once.
const PAUSE: i64 = 10_000;
/// How long after a request without an answer the next one is made, in milliseconds.
const UNANSWERED: i64 = 60_000;
/// How many bundles are verified in a second, at most. What comes beyond is asked for later.
const PER_SECOND: u32 = 4;

/// The version in force, and when the next one is asked for. Times are milliseconds of a clock that never runs backwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Follower {
    trust: Arc<Trust>,
    seed: [u8; 16],
    drawn: u64,
    fetch_at: i64,
    /// No request before.
    earliest: i64,
    /// Whether what is missing comes from the broker's store, version by version.
    is_catching_up: bool,
    window: (i64, u32),
}

/// What a bundle that arrived comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the one in force.
    Known,
    /// It is the next version. Nothing has changed yet: it is to be written, and then [applied](Follower::apply).
    Next(Arc<Trust>),
    /// Versions between are missing, and are asked for.
    Gap,
    /// It is not accepted, and changes nothing.
    Refused(TrustError),
    /// More came than is verified in a second.
    TooMany,
}

impl Follower {
    /// Follows from this bundle on; the seed, which is random, spreads the requests of many.
    pub fn new(trust: Arc<Trust>, seed: [u8; 16]) -> Self {
        Self {
            trust,
            seed,
            drawn: 0,
            fetch_at: i64::MAX,
            earliest: i64::MIN,
            is_catching_up: false,
            window: (i64::MIN, 0),
        }
    }

    /// The bundle in force.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// There is a connection: what was published meanwhile is asked for.
    pub fn connected(&mut self, now: i64) {
        let at = now.saturating_add(self.jitter());
        self.ask_at(at);
    }

    /// Something may have been missed.
    pub fn missed(&mut self, now: i64) {
        let at = now.saturating_add(self.jitter());
        self.ask_at(at);
    }

    /// Takes what arrived on the subject of a version.
    pub fn take(&mut self, version: u64, bytes: &[u8], now: i64) -> Taken {
        if self.trust.version().checked_add(1) == Some(version) && !self.admit(now) {
            self.missed(now);
            return Taken::TooMany;
        }
        self.judge(version, bytes, now)
    }

    fn judge(&mut self, version: u64, bytes: &[u8], now: i64) -> Taken {
        let accepted = self.trust.version();
        if version == accepted && bytes == self.trust.bytes() {
            return Taken::Known;
        }
        if version <= accepted {
            return Taken::Refused(TrustError::NotNext { got: version, accepted });
        }
        if version - accepted > 1 {
            self.missed(now);
            return Taken::Gap;
        }
        match self.trust.successor(bytes) {
            Ok(next) => Taken::Next(Arc::new(next)),
            Err(error) => Taken::Refused(error),
        }
    }

    /// Takes what came of a request.
    pub fn answered(&mut self, answer: StoredTrust, now: i64) -> Option<Taken> {
        match answer {
            StoredTrust::Bundle(version, bytes) => {
                self.is_catching_up = true;
                // One for each request: it counts for no limit.
                let taken = self.judge(version, &bytes, now);
                if matches!(taken, Taken::Refused(_)) {
                    self.ask_at(now.saturating_add(UNANSWERED));
                }
                Some(taken)
            }
            StoredTrust::Absent => {
                self.is_catching_up = false;
                self.fetch_at = i64::MAX;
                None
            }
            StoredTrust::Failed(_) => {
                self.is_catching_up = false;
                let at = now.saturating_add(UNANSWERED).saturating_add(self.jitter());
                self.ask_at(at);
                None
            }
        }
    }

    /// Puts the next version in force, which is written by now. Where it came by a request, the one after it is asked for.
    /// Anything but the successor of what is in force is passed over.
    pub fn apply(&mut self, next: Arc<Trust>, now: i64) -> bool {
        if Some(next.version()) != self.trust.version().checked_add(1) {
            return false;
        }
        self.trust = next;
        if self.is_catching_up {
            self.fetch_at = now;
            self.earliest = i64::MIN;
        }
        true
    }

    /// Follows from another bundle on, which did not come over the bus.
    pub fn restart(&mut self, trust: Arc<Trust>) {
        self.trust = trust;
    }

    /// The version to ask for, if that is due: the one after that in force.
    pub fn fetch(&mut self, now: i64) -> Option<u64> {
        if now < self.fetch_at {
            return None;
        }
        self.fetch_at = i64::MAX;
        self.earliest = now.saturating_add(PAUSE);
        self.trust.version().checked_add(1)
    }

    /// When [`fetch`](Self::fetch) is due.
    pub fn wake_at(&self) -> i64 {
        self.fetch_at
    }

    fn ask_at(&mut self, at: i64) {
        self.fetch_at = self.fetch_at.min(at.max(self.earliest));
    }

    fn admit(&mut self, now: i64) -> bool {
        if now.saturating_sub(self.window.0) >= 1_000 {
            self.window = (now, 0);
        }
        let admitted = self.window.1 < PER_SECOND;
        self.window.1 += u32::from(admitted);
        admitted
    }

    fn jitter(&mut self) -> i64 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut seed = [0; 24];
        seed[..16].copy_from_slice(&self.seed);
        seed[16..].copy_from_slice(&self.drawn.to_be_bytes());
        let [high, low, ..] = *Digest::of(&seed).as_bytes();
        i64::try_from(u64::from(u16::from_be_bytes([high, low])) % SPREAD).unwrap_or(0)
    }
}

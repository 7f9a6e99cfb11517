//! Which requests for renewal the issuer works off, in which order and how fast (section 7).

use std::collections::{BTreeMap, VecDeque};

use countersign_protocol::credential::Role;
use countersign_protocol::envelope::{Authentic, Reason, Rejected};
use countersign_protocol::limits::RENEWAL_AGE;
use countersign_protocol::name::Name;
use countersign_protocol::renewal::RenewalRequest;
use countersign_protocol::time::Millis;

/// How many requests are answered in a second, at most.
pub const PER_SECOND: i64 = 10;
/// How many requests wait, at most: as many as are answered before they are too old.
pub const MAX_WAITING: usize = 600;

/// The requests that wait, one of each member. Times are [`Millis`] of the wall clock, and milliseconds of a clock that never
/// runs backwards.
#[derive(Debug, Clone, Default)]
pub struct RenewalDesk {
    waiting: VecDeque<Authentic<RenewalRequest>>,
    /// When the latest request of each member was signed that was answered, while a copy of it would be fresh.
    answered: BTreeMap<(Role, Name), Millis>,
    forgotten_at: Millis,
    next_at: i64,
}

impl RenewalDesk {
    /// Takes a request. A newer one of the same member takes the place of one that waits.
    pub fn receive(&mut self, request: Authentic<RenewalRequest>, now: Millis) -> Result<(), Rejected> {
        self.forget(now);
        let member = member(&request);
        let signed_at = request.message().issued_at;
        let refused = |reason, detail: &str| Err(Rejected::new(reason, Some(member.1.clone()), detail));
        if self.answered.get(&member).is_some_and(|answered| *answered >= signed_at) {
            return refused(Reason::Repeat, "no later than a request that was answered");
        }
        if let Some(before) = self.waiting.iter_mut().find(|waiting| self::member(waiting) == member) {
            if before.message().issued_at >= signed_at {
                return refused(Reason::Repeat, "no later than a request that waits");
            }
            *before = request;
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING {
            return refused(Reason::Overload, "more requests for renewal wait than can be answered in time");
        }
        self.waiting.push_back(request);
        Ok(())
    }

    /// The next request to be answered, if that is due. It may have been opened under an earlier trust bundle.
    pub fn next(&mut self, now: Millis, since_boot: i64) -> Option<Authentic<RenewalRequest>> {
        if since_boot < self.next_at {
            return None;
        }
        let is_fresh = |request: &Authentic<RenewalRequest>| now.since(request.message().issued_at) <= RENEWAL_AGE;
        let request = std::iter::from_fn(|| self.waiting.pop_front()).find(is_fresh)?;
        self.next_at = since_boot.saturating_add(1_000 / PER_SECOND);
        self.answered.insert(member(&request), request.message().issued_at);
        Some(request)
    }

    /// When [`next`](Self::next) is due, in milliseconds since boot.
    pub fn wake_at(&self) -> i64 {
        if self.waiting.is_empty() { i64::MAX } else { self.next_at }
    }

    /// Forgets who was answered so long ago that a copy of the request is too old. Only what members signed is remembered.
    fn forget(&mut self, now: Millis) {
        if now.since(self.forgotten_at).abs() > RENEWAL_AGE {
            self.forgotten_at = now;
            self.answered.retain(|_, signed_at| now.since(*signed_at) <= 2 * RENEWAL_AGE);
        }
    }
}

fn member(request: &Authentic<RenewalRequest>) -> (Role, Name) {
    (request.credential().role(), request.credential().name().clone())
}

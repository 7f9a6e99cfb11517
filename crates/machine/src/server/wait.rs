//! How long is waited: silence counts while there is a connection, and an outage is waited out up to a bound.

use super::{Now, OUTAGE, RECOVERY, micros};

/// A wait for something that a client is to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Wait {
    /// When it is over, if the connection lasts.
    until: u64,
    /// When it is over, whatever the connection does: no wait lasts for ever.
    limit: u64,
}

impl Wait {
    /// For so many milliseconds of connected time, from now.
    pub(super) fn new(millis: i64, now: Now) -> Self {
        let until = now.after(millis);
        Self { until, limit: until.saturating_add(micros(OUTAGE)) }
    }

    /// When it is over, as things stand.
    pub(super) fn over_at(self, is_cut_off: bool) -> u64 {
        if is_cut_off { self.limit } else { self.until }
    }

    /// The connection is back after an outage. What is left lasts for [`RECOVERY`] at least, within the limit.
    pub(super) fn resume(&mut self, outage: u64, now: Now) {
        self.until = self.until.saturating_add(outage).max(now.after(RECOVERY)).min(self.limit);
    }

    /// It lasts for so many milliseconds from now at least: this process was held.
    pub(super) fn extend(&mut self, millis: i64, now: Now) {
        self.until = self.until.max(now.after(millis));
        self.limit = self.limit.max(self.until);
    }
}

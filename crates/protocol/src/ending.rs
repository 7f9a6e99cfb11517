//! What ends, and how people are told before: one computation and one text for every place that tells them.

use std::fmt;

use crate::name::Name;
use crate::time::Millis;

/// How long before its end people are told of a trust bundle, in milliseconds: 30 days. A bundle names no beginning by which its
/// last third could be known.
const TRUST_WARNING: i64 = 30 * 86_400_000;

/// Until when something holds, and from when on people are told that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    warns_at: Millis,
    until: Millis,
}

impl Term {
    /// Of something that holds between two moments: people are told in the last third.
    pub fn between(begin: Millis, until: Millis) -> Self {
        Self { warns_at: until.plus(-(until.since(begin) / 3).max(0)), until }
    }

    /// Of a trust bundle.
    pub fn of_trust(until: Millis) -> Self {
        Self { warns_at: until.plus(-TRUST_WARNING), until }
    }

    /// Its end.
    pub fn until(self) -> Millis {
        self.until
    }

    /// From when on people are told.
    pub fn warns_at(self) -> Millis {
        self.warns_at
    }

    /// Whether it is over.
    pub fn is_over(self, now: Millis) -> bool {
        now >= self.until
    }

    /// Whether people are to be told that it ends: it is not over.
    pub fn ends_soon(self, now: Millis) -> bool {
        now >= self.warns_at && !self.is_over(now)
    }

    /// What follows its date in a table: nothing while all is well.
    pub fn mark(self, now: Millis) -> &'static str {
        match now {
            now if self.is_over(now) => ", expired",
            now if self.ends_soon(now) => ", ends soon",
            _ => "",
        }
    }
}

/// What people are told when something ends soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// An operator's credential.
    Operator(&'a Name),
    /// A client's credential.
    Client(&'a Name),
    /// The trust bundle.
    Trust,
}

/// How a credential is renewed that no issuer has renewed by then.
pub const RENEW: &str = "`countersign issuer` renews it, where the issuer's key is; or `countersign credential renew` there, \
                         with the two new .jwt files put here";

impl Ending<'_> {
    /// The sentence: what ends when, what follows, and what to do.
    pub fn sentence(self, term: Term) -> String {
        let until = term.until().utc();
        match self {
            Self::Operator(_) => format!("{self} ends on {until}, and no command can be sent then; {RENEW}"),
            Self::Client(_) => format!("{self} ends on {until}, and no command is carried out then; {RENEW}"),
            Self::Trust => format!(
                "{self} ends on {until}, and clients obey nothing then; `countersign init` where root.pem is renews it, and \
                 `countersign trust publish` brings it to all"
            ),
        }
    }
}

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) | Self::Client(name) => write!(f, "the credential of {name}"),
            Self::Trust => f.write_str("the trust bundle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_in_the_last_third_and_no_more_once_it_is_over() {
        let at = |seconds| Millis::from_seconds(seconds);
        let term = Term::between(at(100), at(190));
        for (seconds, mark) in [(0, ""), (159, ""), (160, ", ends soon"), (189, ", ends soon"), (190, ", expired")] {
            assert_eq!(term.mark(at(seconds)), mark, "{seconds}");
        }
        assert!(Term::between(at(190), at(100)).is_over(at(100)), "one that ends before it begins is over");
        let trust = Term::of_trust(at(40 * 86_400));
        assert!(!trust.ends_soon(at(10 * 86_400 - 1)) && trust.ends_soon(at(10 * 86_400)));
    }
}

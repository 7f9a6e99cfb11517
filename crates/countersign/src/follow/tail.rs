//! What was read of one stream, and whether that is all of it.

use countersign_protocol::digest::{Digest, Digester};
use countersign_protocol::output::{OutputPiece, StreamReport};

/// What was read of one stream so far.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The next byte.
    offset: u64,
    read: u64,
    digester: Digester,
    /// How many bytes are not kept, and in how many ranges.
    lost: u64,
    gaps: u64,
    bytes: u64,
    signed: Option<Digest>,
    has_ended: bool,
}

/// What the reading of a stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything that the job wrote, as the client signed it.
    Complete,
    /// The job may write more.
    Open,
    /// So many bytes are not kept, and whether what was read is what the client signed of what it keeps: it signs that at the
    /// end.
    Missing(u64, bool),
    /// Everything that is kept; but no digest was signed, since the client's process ended while the job ran.
    Unproved,
    /// It is not what the client signed.
    Different(String),
}

impl Tail {
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// In how many places something is not kept.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Whether there is nothing more to be read, now or ever.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_ended && self.offset >= self.bytes
    }

    /// Takes the next piece; the first byte that is missing before it, if there is one. What contradicts what the client said
    /// before is an error.
    pub(super) fn take(&mut self, piece: &OutputPiece) -> Result<Option<(u64, u64)>, String> {
        let until = piece.offset.saturating_add(piece.data.0.len() as u64);
        if piece.offset < self.offset || until > piece.bytes.max(self.offset) || piece.bytes < self.bytes {
            return Err(format!(
                "it signed bytes {} to {until} of {}, and before that {} bytes up to {}",
                piece.offset, piece.bytes, self.bytes, self.offset
            ));
        }
        if self.has_ended && (piece.bytes, piece.sha256) != (self.bytes, self.signed) {
            return Err("it signed two ends of one stream".to_owned());
        }
        let gap = (piece.offset > self.offset).then_some((self.offset, piece.offset));
        if let Some((from, until)) = gap {
            self.lost += until - from;
            self.gaps += 1;
        }
        self.digester.update(&piece.data.0);
        self.read += piece.data.0.len() as u64;
        self.offset = until;
        (self.bytes, self.has_ended, self.signed) = (piece.bytes, piece.ended, piece.sha256);
        Ok(gap)
    }

    /// Compares what was read with what the client signed: in its answers, and in the job's final reply where that has a
    /// report.
    pub(super) fn outcome(&self, report: Option<&StreamReport>) -> Outcome {
        if !self.is_at_end() {
            return Outcome::Open;
        }
        let read = self.digester.digest();
        if let Some(report) = report {
            let signed = (report.bytes, Some(report.sha256));
            if signed != (self.bytes, self.signed) && (report.bytes != self.bytes || self.signed.is_some()) {
                return Outcome::Different(format!(
                    "its final reply signed {} bytes, {}; its answers {} bytes, {}",
                    report.bytes,
                    report.sha256,
                    self.bytes,
                    self.signed.map_or_else(|| "no digest".to_owned(), |digest| digest.to_string()),
                ));
            }
        }
        match self.signed.or(report.map(|report| report.sha256)) {
            _ if self.gaps > 0 => match report.and_then(|report| report.kept.as_ref()) {
                Some(kept) if kept.head + kept.tail == self.read && kept.sha256 != read => {
                    Outcome::Different(format!("what was read has {read}; signed is {}", kept.sha256))
                }
                kept => Outcome::Missing(self.lost, kept.is_some_and(|kept| kept.sha256 == read)),
            },
            None => Outcome::Unproved,
            Some(signed) if signed == read => Outcome::Complete,
            Some(signed) => Outcome::Different(format!("what was read has {read}; signed is {signed}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use countersign_protocol::output::{Data, Kept};

    use super::*;

    fn piece(offset: u64, data: &[u8], bytes: u64, end: Option<&[u8]>) -> OutputPiece {
        let (ended, sha256) = (end.is_some(), end.map(Digest::of));
        OutputPiece { offset, data: Data(data.to_vec()), bytes, ended, sha256 }
    }

    fn report(all: &[u8], kept: Option<Kept>) -> StreamReport {
        let (bytes, sha256) = (all.len() as u64, Digest::of(all));
        StreamReport { bytes, sha256, kept, text: String::new(), exact: false }
    }

    #[test]
    fn what_fits_both_the_answers_and_the_final_reply_is_complete() {
        let mut tail = Tail::default();
        tail.take(&piece(0, b"one ", 4, None)).unwrap();
        assert_eq!(tail.outcome(None), Outcome::Open);
        tail.take(&piece(4, b"two", 7, Some(b"one two"))).unwrap();
        assert_eq!(tail.outcome(None), Outcome::Complete);
        assert_eq!(tail.outcome(Some(&report(b"one two", None))), Outcome::Complete);
    }

    #[test]
    fn another_digest_or_another_length_is_different() {
        let mut tail = Tail::default();
        tail.take(&piece(0, b"one", 3, Some(b"One"))).unwrap();
        assert!(matches!(tail.outcome(None), Outcome::Different(_)));
        let mut tail = Tail::default();
        tail.take(&piece(0, b"one", 3, Some(b"one"))).unwrap();
        assert!(matches!(tail.outcome(Some(&report(b"two", None))), Outcome::Different(_)));
        assert!(matches!(tail.outcome(Some(&report(b"one more", None))), Outcome::Different(_)));
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_kept_is_still_compared() {
        let mut tail = Tail::default();
        tail.take(&piece(0, b"on", 7, Some(b"one two"))).unwrap();
        assert_eq!(tail.take(&piece(5, b"wo", 7, Some(b"one two"))), Ok(Some((2, 5))));
        let kept = |bytes| Some(Kept { head: 2, tail: 2, sha256: Digest::of(bytes), fault: None });
        assert_eq!(tail.outcome(None), Outcome::Missing(3, false));
        assert_eq!(tail.outcome(Some(&report(b"one two", kept(b"onwo")))), Outcome::Missing(3, true));
        assert!(matches!(tail.outcome(Some(&report(b"one two", kept(b"onWo")))), Outcome::Different(_)));
    }

    #[test]
    fn a_client_that_contradicts_itself_is_told() {
        let mut tail = Tail::default();
        tail.take(&piece(0, b"one", 3, None)).unwrap();
        for lie in [piece(0, b"one", 3, None), piece(3, b"", 2, None), piece(3, b"two", 4, None)] {
            assert!(tail.take(&lie).is_err(), "{lie:?}");
        }
        tail.take(&piece(3, b"", 3, Some(b"one"))).unwrap();
        assert!(tail.take(&piece(3, b"", 3, Some(b"two"))).is_err());
    }

    #[test]
    fn without_a_digest_nothing_is_proved() {
        let mut tail = Tail::default();
        let cut_off = OutputPiece { ended: true, ..piece(0, b"one", 3, None) };
        tail.take(&cut_off).unwrap();
        assert_eq!(tail.outcome(None), Outcome::Unproved);
    }
}

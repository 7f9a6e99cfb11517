//! When a member asks the issuer for its next credential (section 7). Clients and operators do it by the same rules.

use countersign_protocol::credential::Credential;
use countersign_protocol::digest::Digest;
use countersign_protocol::envelope::{Delivery, Identity, Reason, Rejected, Signed};
use countersign_protocol::id::MessageId;
use countersign_protocol::renewal::{Answered, RenewalRequest, open_answer};
use countersign_protocol::time::Millis;
use countersign_protocol::trust::Trust;

/// Which part of its life the first requests for a credential are spread over: an eighth.
const SPREAD: i64 = 8;
/// The pause after the first request that was in vain, in milliseconds. It doubles.
const FIRST_PAUSE: i64 = 5_000;
/// Which part of a credential's life a pause may take: a twenty-fourth.
const PART: i64 = 24;
/// The longest pause, whatever the life, in milliseconds.
const LONGEST_PAUSE: i64 = 3_600_000;
/// The shortest, in milliseconds.
const SHORTEST_PAUSE: i64 = 1_000;
/// Over how long those spread their first request that find themselves past that time at their start, in milliseconds.
const START: i64 = 60_000;

/// The requests of one member. Moments are [`Millis`] of the wall clock, and milliseconds of a clock that never runs backwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renewer {
    seed: [u8; 16],
    drawn: u64,
    /// When the first request for the successor of the present credential is due.
    first: Millis,
    /// The longest pause.
    longest: i64,
    /// The latest request, by its digest, until it is answered.
    asked: Option<Digest>,
    fruitless: u32,
    /// No request before, monotonic.
    earliest: i64,
    is_connected: bool,
    wake_at: i64,
}

impl Renewer {
    /// For this credential; the seed, which is random, spreads the requests of many.
    pub fn new(credential: &Credential, seed: [u8; 16], since_boot: i64) -> Self {
        let mut renewer = Self {
            seed,
            drawn: 0,
            first: Millis::new(0),
            longest: SHORTEST_PAUSE,
            asked: None,
            fruitless: 0,
            earliest: 0,
            is_connected: false,
            wake_at: i64::MAX,
        };
        renewer.renewed(credential);
        renewer.earliest = since_boot.saturating_add(renewer.part_of(renewer.longest.min(START)));
        renewer
    }

    /// This credential is in the place of the one before.
    pub fn renewed(&mut self, credential: &Credential) {
        let life = credential.expires_at().since(credential.begins_at()).max(0);
        let spread = self.part_of(life / SPREAD);
        self.first = credential.begins_at().plus(life / 2).plus(spread);
        self.longest = (life / PART).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.asked = None;
        self.fruitless = 0;
        self.earliest = i64::MIN;
    }

    /// There is a connection, or there is none: without one nothing is asked.
    pub fn connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
    }

    /// Sees when the next request is due.
    pub fn observe(&mut self, now: Millis, since_boot: i64) {
        let due = since_boot.saturating_add(self.first.since(now).max(0)).max(self.earliest);
        self.wake_at = if self.is_connected { due } else { i64::MAX };
    }

    /// When [`ask`](Self::ask) is due, as it was when [observed](Self::observe) last.
    pub fn wake_at(&self) -> i64 {
        self.wake_at
    }

    /// The request for the next credential, if that is due. Without an answer another one follows after a pause.
    pub fn ask(&mut self, identity: &Identity, now: Millis, since_boot: i64) -> Option<Signed> {
        self.observe(now, since_boot);
        if since_boot < self.wake_at {
            return None;
        }
        let drawn = self.draw();
        let mut unique = [0; 10];
        unique.copy_from_slice(&drawn.as_bytes()[..10]);
        let request = RenewalRequest::sign(MessageId::new(now, unique), identity, now);
        self.asked = Some(Digest::of(&request.body));
        let pause = FIRST_PAUSE.saturating_mul(1 << self.fruitless.min(20)).min(self.longest);
        self.fruitless = self.fruitless.saturating_add(1);
        let pause = pause / 2 + self.part_of(pause);
        self.earliest = since_boot.saturating_add(pause);
        self.observe(now, since_boot);
        Some(request)
    }

    /// Takes what arrived as an answer; it counts only if it is to the latest request. It changes nothing yet: what it brings is to
    /// be written first.
    pub fn answered(
        &mut self,
        delivery: &Delivery,
        identity: &Identity,
        trust: &Trust,
        now: Millis,
        skew: i64,
    ) -> Result<Answered, Rejected> {
        let asked = self.asked.ok_or_else(|| Rejected::new(Reason::Repeat, None, "no request is unanswered"))?;
        let answered = open_answer(delivery, &asked, identity, trust, now, skew)?;
        self.asked = None;
        Ok(answered)
    }

    /// A part of a span, from none of it to all of it.
    fn part_of(&mut self, span: i64) -> i64 {
        let [a, b, c, d, ..] = *self.draw().as_bytes();
        let part = (i128::from(span.max(0)) * i128::from(u32::from_be_bytes([a, b, c, d]))) >> 32;
        i64::try_from(part).unwrap_or(span)
    }

    fn draw(&mut self) -> Digest {
        self.drawn = self.drawn.wrapping_add(1);
        // The word keeps what is drawn apart from what others draw from the same seed.
        Digest::of(&[b"renewal", &self.seed[..], &self.drawn.to_be_bytes()].concat())
    }
}

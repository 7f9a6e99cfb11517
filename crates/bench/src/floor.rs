//! The cryptographic floor: what every answered command costs at least.

use std::hint::black_box;
use std::time::Instant;

use countersign_protocol::key::SecretKey;

use crate::BenchResult;
use crate::samples::{Samples, short};
use crate::table::Line;

/// About what is signed of a ping and of its reply, in bytes: a protected header, and a body in base64url.
const SIGNED: usize = 800;
/// How many operations are timed together.
const TOGETHER: u32 = 20;
/// How many such times are taken.
const TIMES: usize = 400;

/// What the two operations cost on one core, in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Floor {
    sign: Vec<f64>,
    verify: Vec<f64>,
    /// The median cost of signing.
    pub(crate) sign_us: f64,
    /// The median cost of verifying, strictly.
    pub(crate) verify_us: f64,
}

impl Floor {
    /// Measures both.
    pub(crate) fn measure() -> BenchResult<Self> {
        let key = SecretKey::from_seed([7; 32]);
        let message = [b'm'; SIGNED];
        let signature = key.sign(&message);
        if !key.public().verify(&message, &signature) {
            return Err("a genuine signature does not hold".into());
        }
        let (mut sign, mut verify) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            sign.push(time(|| key.sign(black_box(&message))));
            verify.push(time(|| key.public().verify(black_box(&message), &signature)));
        }
        Self::of(sign, verify)
    }

    /// The floor of two measurements together.
    pub(crate) fn and(self, other: Self) -> BenchResult<Self> {
        Self::of([self.sign, other.sign].concat(), [self.verify, other.verify].concat())
    }

    /// 2 × sign + 2 × verify: the command's and the reply's.
    pub(crate) fn us(&self) -> f64 {
        2.0 * self.sign_us + 2.0 * self.verify_us
    }

    /// The line of the table.
    pub(crate) fn line(&self) -> BenchResult<Vec<Line>> {
        let both = self.sign.iter().zip(&self.verify).map(|(sign, verify)| 2.0 * sign + 2.0 * verify);
        let (low, high) = Samples::new(both.collect()).ok_or("nothing was measured")?.spread();
        let parts = format!("sign {}, verify {}", short(self.sign_us), short(self.verify_us));
        Ok(vec![Line {
            what: "floor: 2 × sign + 2 × strict verify".to_owned(),
            figure: format!("{} µs ({}–{}); {parts}", short(self.us()), short(low), short(high)),
            ratio: None,
            aim: "as low as the CPU allows",
            met: None,
        }])
    }

    fn of(sign: Vec<f64>, verify: Vec<f64>) -> BenchResult<Self> {
        let median = |of: &Vec<f64>| Samples::new(of.clone()).map(|samples| samples.median());
        let (sign_us, verify_us) = median(&sign).zip(median(&verify)).ok_or("nothing was measured")?;
        Ok(Self { sign, verify, sign_us, verify_us })
    }
}

/// The time of one operation, in microseconds.
fn time<T>(operation: impl Fn() -> T) -> f64 {
    let started = Instant::now();
    for _ in 0..TOGETHER {
        black_box(operation());
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(TOGETHER)
}

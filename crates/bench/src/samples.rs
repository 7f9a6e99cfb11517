//! The summary of many measurements of one thing: the median, and how far they lie apart.

/// Measurements of one thing, in one unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// At least one measurement; there is no summary of none.
    pub(crate) fn new(mut measured: Vec<f64>) -> Option<Self> {
        measured.sort_by(f64::total_cmp);
        (!measured.is_empty()).then_some(Self(measured))
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The greatest.
    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Where the middle nine tenths lie: from the 5th to the 95th percentile.
    pub(crate) fn spread(&self) -> (f64, f64) {
        (self.quantile(0.05), self.quantile(0.95))
    }

    /// The value below which a part of them lies, from 0 to 1; between two of them in proportion.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list that fits memory, and not negative"
    )]
    fn quantile(&self, part: f64) -> f64 {
        let place = part.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let (below, share) = (place.floor(), place.fract());
        let at = |place: f64| self.0.get(place as usize).or(self.0.last()).copied().unwrap_or(f64::NAN);
        at(below) * (1.0 - share) + at(below + 1.0) * share
    }
}

/// A figure in four characters or so: three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// A whole number, its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    fn samples(measured: &[f64]) -> Samples {
        Samples::new(measured.to_vec()).unwrap()
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn no_measurements_have_no_summary() {
        assert_eq!(Samples::new(Vec::new()), None);
    }

    #[test]
    fn the_median_is_the_middle_one_in_whatever_order_they_came() {
        assert!(near(samples(&[9.0, 1.0, 5.0]).median(), 5.0));
        assert!(near(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5));
        assert!(near(samples(&[7.0]).median(), 7.0));
    }

    #[test]
    fn one_that_is_far_off_moves_neither_the_median_nor_the_spread_much() {
        let mut measured: Vec<f64> = (0..100).map(f64::from).collect();
        measured.push(1e9);
        let (low, high) = samples(&measured).spread();
        assert!(near(samples(&measured).median(), 50.0));
        assert!(near(low, 5.0) && near(high, 95.0), "{low} {high}");
        assert!(near(samples(&measured).max(), 1e9));
    }

    #[test]
    fn a_percentile_between_two_measurements_lies_between_them_in_proportion() {
        let (low, high) = samples(&[0.0, 10.0]).spread();
        assert!(near(low, 0.5) && near(high, 9.5), "{low} {high}");
    }

    #[test]
    fn figures_show_three_digits_and_thousands_apart() {
        let shown = [0.0, 0.456, 1.5, 9.999, 42.04, 99.96, 123.4, 1_234.5, 1_234_567.0, -5_000.0].map(short);
        assert_eq!(shown, ["0", "0.46", "1.50", "10.0", "42.0", "100", "123", "1,234", "1,234,567", "-5,000"]);
    }
}

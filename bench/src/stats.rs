//! Numbers of a series: the least, the middle, and how far apart the middle half is.

use serde_json::{Value, json};

/// What a series of measurements comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    /// From the first quartile to the third.
    pub(crate) spread: f64,
}

impl Summary {
    /// Of at least one measurement; of none everything is not a number.
    pub(crate) fn of(series: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = series.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index of the series"
            )]
            sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
        };
        Self { min: at(0.0), median: at(0.5), spread: at(0.75) - at(0.25) }
    }

    /// As part of what `--json` prints, with two decimals.
    pub(crate) fn json(&self) -> Value {
        let short = |value: f64| (value * 100.0).round() / 100.0;
        json!({"min": short(self.min), "median": short(self.median), "spread": short(self.spread)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_middle_and_spread_do_not_depend_on_the_order() {
        let summary = Summary::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(summary, Summary { min: 1.0, median: 3.0, spread: 2.0 });
        assert!(Summary::of([]).min.is_nan());
    }
}

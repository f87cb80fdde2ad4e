//! The rows of the bench of high availability: what each measures, and the value to reach.

use std::fmt;
use std::time::Duration;

use fairlead_tests::lab::ha::How;
use fairlead_tests::report::{Promise, Reach};
use serde_json::{Value, json};

use super::failover::{Failover, Runs};
use super::milliseconds;

/// The advert interval of most rows.
pub(super) const QUICK: Duration = Duration::from_millis(100);
/// The shortest advert interval.
const QUICKEST: Duration = Duration::from_millis(10);
/// The advert interval that VRRP has by default.
const DEFAULT: Duration = Duration::from_secs(1);

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// A series of failovers.
    Failover(How, Duration),
    /// Whether two answered, in the series of kills and stops.
    TwoAnswering,
    /// A stream over planned handovers.
    Lost,
    /// Connections over all kinds of failovers.
    Broken,
    /// How far the standby is behind.
    Lag,
    /// What it costs to keep it up to date.
    Cpu,
}

const fn at_most(name: &'static str, unit: &'static str, most: f64, row: Row) -> (Promise, Row) {
    ((name, unit, Reach::AtMost(most)), row)
}

const fn none(name: &'static str, unit: &'static str, row: Row) -> (Promise, Row) {
    ((name, unit, Reach::Exactly(0.0)), row)
}

/// All values to reach, in the order in which they are measured.
pub(super) const PROMISES: [(Promise, Row); 14] = [
    at_most("cut_100ms_median_ms", "ms", 350.0, Row::Failover(How::Cut, QUICK)),
    at_most("cut_10ms_median_ms", "ms", 40.0, Row::Failover(How::Cut, QUICKEST)),
    at_most("cut_10ms_worst_ms", "ms", 80.0, Row::Failover(How::Cut, QUICKEST)),
    at_most("kill_100ms_median_ms", "ms", 350.0, Row::Failover(How::Kill, QUICK)),
    at_most("stop_100ms_median_ms", "ms", 350.0, Row::Failover(How::Stop, QUICK)),
    none("two_answering_max_ms", "ms", Row::TwoAnswering),
    none("handover_lost_packets", "", Row::Lost),
    none("broken_cut", "", Row::Broken),
    none("broken_kill", "", Row::Broken),
    none("broken_stop", "", Row::Broken),
    none("broken_handover", "", Row::Broken),
    none("broken_failback", "", Row::Broken),
    at_most("standby_lag_ms", "ms at p99", 300.0, Row::Lag),
    at_most("sync_cpu_percent", "% of a CPU", 10.0, Row::Cpu),
];

/// What keepalived is measured at.
pub(super) const BASELINE: [(Duration, How); 9] = [
    (DEFAULT, How::Cut),
    (DEFAULT, How::Kill),
    (DEFAULT, How::Stop),
    (QUICK, How::Cut),
    (QUICK, How::Kill),
    (QUICK, How::Stop),
    (QUICKEST, How::Cut),
    (QUICKEST, How::Kill),
    (QUICKEST, How::Stop),
];

/// `cut_100ms`.
pub(super) fn series_name(how: How, interval: Duration) -> String {
    format!("{}_{}ms", how.name(), interval.as_millis())
}

/// Numbers, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn of(series: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = series.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The number below which this part of them is; of none it is not a number.
    pub(super) fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of the series")]
        self.0.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn max(&self) -> f64 {
        self.at(1.0)
    }

    fn spread(&self) -> f64 {
        self.at(0.75) - self.at(0.25)
    }

    pub(super) fn json(&self) -> Value {
        let short = |value: f64| (value * 100.0).round() / 100.0;
        json!({
            "min": short(self.at(0.0)), "median": short(self.at(0.5)), "p99": short(self.at(0.99)),
            "max": short(self.max()), "spread": short(self.spread()), "count": self.0.len(),
        })
    }
}

/// What a series of failovers comes to, in milliseconds.
pub(super) struct Failovers {
    gap: Series,
    switched: Series,
    /// How long two answered.
    pub(super) both: Series,
    /// Requests that two answered, of all runs.
    both_requests: usize,
    repeated: u32,
    spoiled: u32,
}

impl Failovers {
    pub(super) fn of(runs: &Runs) -> Self {
        let series =
            |of: fn(&Failover) -> Duration| Series::of(runs.all.iter().map(|run| milliseconds(of(run))));
        Self {
            gap: series(|run| run.gap),
            switched: series(|run| run.switched),
            both: series(|run| run.both.lasted),
            both_requests: runs.all.iter().map(|run| run.both.requests).sum(),
            repeated: runs.repeated,
            spoiled: runs.spoiled,
        }
    }

    /// The values of this series by the names of their rows.
    pub(super) fn values(&self, how: How, interval: Duration) -> [(String, f64); 2] {
        let name = series_name(how, interval);
        [(format!("{name}_median_ms"), self.gap.at(0.5)), (format!("{name}_worst_ms"), self.gap.max())]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "gap_ms": self.gap.json(), "switched_ms": self.switched.json(), "both_ms": self.both.json(),
            "both_requests": self.both_requests, "repeated": self.repeated, "spoiled": self.spoiled,
        })
    }
}

impl fmt::Display for Failovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, series) in [("nobody answered", &self.gap), ("the second did after", &self.switched)] {
            let (median, worst, spread) = (series.at(0.5), series.max(), series.spread());
            write!(f, "{name} {median:.1} ms (worst {worst:.1}, spread {spread:.1}), ")?;
        }
        write!(f, "both for {:.1} ms at most ({} requests); ", self.both.max(), self.both_requests)?;
        write!(f, "{} runs, {} repeated, {} spoiled", self.gap.0.len(), self.repeated, self.spoiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_measured_together_stand_together() {
        let mut rows: Vec<Row> = PROMISES.iter().map(|(_, row)| *row).collect();
        rows.dedup();
        for (at, row) in rows.iter().enumerate() {
            assert!(!rows[at + 1..].contains(row), "{row:?} would be measured twice");
        }
    }

    #[test]
    fn every_series_of_failovers_has_its_row() {
        for (promise, row) in PROMISES {
            if let Row::Failover(how, interval) = row {
                let values = Failovers::of(&Runs::default()).values(how, interval);
                assert!(values.iter().any(|(name, _)| name == promise.0), "{}", promise.0);
            }
        }
    }

    #[test]
    fn parts_of_a_series() {
        let series = Series::of((1..=101).rev().map(f64::from));
        assert_eq!(
            (series.at(0.0), series.at(0.5), series.at(0.99), series.max()),
            (1.0, 51.0, 100.0, 101.0)
        );
        assert!(Series::default().max().is_nan());
    }
}

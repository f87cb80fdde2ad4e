//! What a measurement found: named checks with the value to reach, as a table or as one JSON object.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::fmt;

/// The value to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// This or less.
    AtMost(f64),
    /// Exactly this.
    Exactly(f64),
    /// From the first to the second, both included.
    Between(f64, f64),
    /// Nothing: it is measured and told.
    Nothing,
}

impl Reach {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::Exactly(exactly) => (value - exactly).abs() < f64::EPSILON,
            Self::Between(least, most) => (least..=most).contains(&value),
            Self::Nothing => true,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Exactly(exactly) => write!(f, "{exactly}"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
            Self::Nothing => f.write_str("nothing, it is told"),
        }
    }
}

/// A check's name, its unit (empty: a plain number) and the value to reach.
pub type Promise = (&'static str, &'static str, Reach);

struct Check {
    promise: Promise,
    value: Option<f64>,
}

impl Check {
    fn ok(&self) -> bool {
        self.value.is_some_and(|value| self.promise.2.is_met_by(value))
    }
}

/// Every promised check, measured or not: what was not measured has failed.
pub struct Report {
    checks: Vec<Check>,
    environment: Value,
}

impl Report {
    /// A report in which nothing is measured yet.
    pub fn new(promises: &[Promise]) -> Self {
        let checks = promises.iter().map(|promise| Check { promise: *promise, value: None }).collect();
        Self { checks, environment: json!({}) }
    }

    /// Whether there is a check of this name.
    #[must_use]
    pub fn promises(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.promise.0 == name)
    }

    /// Records a value.
    ///
    /// # Errors
    /// Nobody promised that name, or it was measured before.
    pub fn measured(&mut self, name: &str, value: f64) -> Result<()> {
        let Some(check) = self.checks.iter_mut().find(|check| check.promise.0 == name) else {
            bail!("no check is named {name}");
        };
        if let Some(earlier) = check.value.replace(value) {
            bail!("{name} was measured twice: {earlier} and {value}");
        }
        let (_, unit, reach) = check.promise;
        let met = if check.ok() { "as promised" } else { "NOT as promised" };
        let word = if reach == Reach::Nothing { String::new() } else { format!(" ({met}: {reach})") };
        eprintln!("   {name} = {} {unit}{word}", shown(value));
        Ok(())
    }

    /// Records a number of things.
    ///
    /// # Errors
    /// As [`Self::measured`].
    pub fn counted(&mut self, name: &str, count: usize) -> Result<()> {
        self.measured(name, f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Adds to what is said of the machine and the build.
    pub fn environment(&mut self, key: &str, value: impl Into<Value>) {
        self.environment[key] = value.into();
    }

    /// Whether every check was measured and met.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(Check::ok)
    }

    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            let (name, unit, reach) = check.promise;
            let value = check.value.map(number);
            json!({"name": name, "value": value, "unit": unit, "reach": reach.to_string(), "ok": check.ok()})
        });
        json!({"ok": self.ok(), "checks": checks.collect::<Vec<_>>(), "environment": self.environment})
    }
}

/// One line for each check, which begins with `pass` or `FAIL`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let (name, unit, reach) = check.promise;
            let word = if check.ok() { "pass" } else { "FAIL" };
            let value =
                check.value.map_or_else(|| "not measured".to_owned(), |value| shown(value).to_string());
            let reach = format!("(to reach: {reach})");
            writeln!(f, "{word}  {name:<40} {value:>12} {unit:<14} {reach}")?;
        }
        Ok(())
    }
}

/// Three decimals say all that is known.
fn shown(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// As shown: whole numbers without a point.
fn number(value: f64) -> Value {
    shown(value).to_string().parse().map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(&[
            ("a", "s", Reach::AtMost(2.0)),
            ("b", "", Reach::Exactly(0.0)),
            ("c", "%", Reach::Between(0.9, 1.1)),
        ])
    }

    #[test]
    fn everything_measured_and_met_is_ok() {
        let mut report = report();
        for (name, value) in [("a", 2.0), ("b", 0.0), ("c", 0.9)] {
            report.measured(name, value).expect("promised");
        }
        assert!(report.ok());
        assert_eq!(report.json()["ok"], true);
        assert_eq!(
            report.json()["checks"][2],
            json!({"name": "c", "value": 0.9, "unit": "%", "reach": "0.9 to 1.1", "ok": true})
        );
    }

    #[test]
    fn missing_or_missed_values_are_failures() {
        for (name, value) in [("a", 2.001), ("b", 1.0), ("c", 0.89), ("c", 1.2)] {
            let mut report = report();
            for (other, fine) in [("a", 0.0), ("b", 0.0), ("c", 1.0)] {
                report.measured(other, if other == name { value } else { fine }).expect("promised");
            }
            assert!(!report.ok(), "{name} {value}");
            assert_eq!(report.to_string().matches("FAIL").count(), 1, "{name} {value}");
        }
        assert!(!report().ok());
        assert_eq!(report().json()["checks"][0]["value"], Value::Null);
    }

    #[test]
    fn what_is_only_told_must_be_measured_all_the_same() {
        let mut report = Report::new(&[("a", "ms", Reach::Nothing)]);
        assert!(!report.ok());
        report.measured("a", 1e9).expect("promised");
        assert!(report.ok());
    }

    #[test]
    fn unknown_names_and_second_values_are_refused() {
        let mut report = report();
        assert!(report.measured("d", 1.0).is_err());
        assert!(report.measured("a", 1.0).is_ok());
        assert!(report.measured("a", 1.0).is_err());
    }
}

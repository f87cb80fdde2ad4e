//! Scene: 30,000 new connections are spread over three backends by weight.

use super::config::WEIGHTS;
use super::stage::Stage;
use super::watch::report_failures;
use anyhow::{Result, ensure};
use fairlead_tests::lab::{Attempt, Tries};
use fairlead_tests::report::Report;
use std::time::Instant;

/// New connections of each family.
const CONNECTIONS: usize = 15_000;

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let started = Instant::now();
    let mut attempts = Vec::new();
    for v6 in [false, true] {
        attempts.extend(Tries { threads: 12, ..stage.tries(v6) }.run(&stage.lab.client.ns, CONNECTIONS));
    }
    let rate = attempts.len() as f64 / started.elapsed().as_secs_f64();
    eprintln!("   {} connections, {rate:.0} a second", attempts.len());
    let failed = report_failures("connection", &attempts);
    ensure!(failed == 0, "{failed} of {} connections failed while nothing happened", attempts.len());
    report.measured("spread_error_percent", worst_error(&attempts))
}

/// How far the worst backend is from its share, in percent of that share.
fn worst_error(attempts: &[Attempt]) -> f64 {
    let total: u32 = WEIGHTS.iter().sum();
    let errors = WEIGHTS.iter().enumerate().map(|(index, weight)| {
        let name = format!("backend{}", index + 1);
        let answered = attempts.iter().filter(|attempt| attempt.outcome.as_deref() == Ok(&name)).count();
        let expected = attempts.len() as f64 * f64::from(*weight) / f64::from(total);
        eprintln!("   {name} (weight {weight}): {answered}, expected {expected:.0}");
        (answered as f64 - expected).abs() / expected * 100.0
    });
    errors.fold(0.0, f64::max)
}

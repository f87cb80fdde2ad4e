//! Scene: what adding one backend to a hundred does to the Maglev table.

use super::config::{HUNDRED, HUNDRED_BACKENDS};
use super::stage::Stage;
use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::report::Report;
use serde_json::Value;
use std::time::Duration;

const IN_FORCE: Duration = Duration::from_secs(10);

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let before = wait_for(stage, usize::from(HUNDRED_BACKENDS))?;
    let newcomer = Row::Farm.v4(HUNDRED_BACKENDS).to_string();
    eprintln!("   $ fairlead backend add {HUNDRED} {newcomer}");
    stage.daemon.ok(&["backend", "add", HUNDRED, &newcomer])?;
    let after = wait_for(stage, usize::from(HUNDRED_BACKENDS) + 1)?;
    ensure!(before.len() == after.len(), "the table went from {} to {} entries", before.len(), after.len());
    let percent = |count: usize| count as f64 / after.len() as f64 * 100.0;
    let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
    let share = after.iter().filter(|backend| **backend == newcomer).count();
    report.measured("moved_slots_percent_add_to_100", percent(moved))?;
    report.measured("new_backend_share_percent", percent(share))
}

/// The table once it names so many backends: an address for each entry.
fn wait_for(stage: &Stage, backends: usize) -> Result<Vec<String>> {
    let path = format!("/v1/services/{HUNDRED}/table");
    stage.daemon.until(&format!("the table names {backends} backends"), &path, IN_FORCE, |answer| {
        addresses(answer)
            .is_some_and(|table| table.iter().collect::<std::collections::BTreeSet<_>>().len() == backends)
    })?;
    addresses(&stage.daemon.get(&path)?).context("an entry of the table names no backend")
}

fn addresses(answer: &Value) -> Option<Vec<String>> {
    let backends = answer["backends"].as_array()?;
    let address = |entry: &Value| {
        let index = usize::try_from(entry.as_u64()?).ok()?;
        Some(backends.get(index)?.as_str()?.to_owned())
    };
    answer["table"].as_array()?.iter().map(address).collect()
}

//! Scene: a backend is drained: what it has it keeps, nothing new comes.

use super::stage::Stage;
use super::watch::Watch;
use anyhow::Result;
use fairlead_tests::report::Report;
use std::thread;
use std::time::{Duration, Instant};

/// The backend that is drained: the one with the most flows.
pub(super) const DRAINED: usize = 2;
/// How long new connections are watched afterwards.
const AFTER: Duration = Duration::from_millis(1500);

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let name = stage.lab.backends[DRAINED].role.clone();
    let watch = Watch::begin(stage);
    stage.each_service("drain", DRAINED, &[])?;
    let drained = Instant::now();
    thread::sleep(AFTER);
    let seen = watch.end(stage)?;
    seen.charge(stage);
    let (answered, of) = seen.answered_by(&name, drained);
    let kept =
        stage.lines.lines().iter().filter(|line| line.broken.is_none() && line.backend == name).count();
    eprintln!("   {name} keeps {kept} long-lived connections and got {answered} of {of} new ones");
    report.counted("new_connections_to_draining_backend", answered)?;
    report.counted("broken_by_backend_drain", seen.broken.len())
}

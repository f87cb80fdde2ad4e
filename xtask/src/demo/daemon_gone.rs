//! Scenes: the daemon goes away, by force or in good order, and comes back; packets do not notice.

use super::stage::Stage;
use super::watch::Watch;
use anyhow::{Result, ensure};
use fairlead_tests::report::Report;
use std::thread;
use std::time::Duration;

/// How long the data path is left alone.
const GONE: Duration = Duration::from_secs(2);

/// SIGKILL, two seconds without, and a restart that adopts what it finds.
pub(super) fn killed(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let watch = Watch::begin(stage);
    stage.daemon.kill();
    eprintln!("   the daemon is dead");
    thread::sleep(GONE);
    let seen = watch.end(stage)?;
    seen.charge(stage);
    report.counted("broken_by_daemon_kill", seen.broken.len())?;

    let watch = Watch::begin(stage);
    start(stage)?;
    let seen = watch.end(stage)?;
    seen.charge(stage);
    report.counted("broken_by_daemon_restart", seen.broken.len())
}

/// `fairlead stop`, which leaves the data path alone, and a start.
pub(super) fn stopped(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let watch = Watch::begin(stage);
    eprintln!("   $ fairlead stop");
    stage.daemon.stop()?;
    thread::sleep(GONE);
    start(stage)?;
    let seen = watch.end(stage)?;
    seen.charge(stage);
    report.counted("broken_by_stop_and_start", seen.broken.len())
}

fn start(stage: &mut Stage) -> Result<()> {
    stage.daemon.start()?;
    let status = stage.daemon.json(&["status"])?;
    ensure!(status["adopted"] == true, "the new daemon did not adopt what was there: {status}");
    stage.wait_up(4)?;
    eprintln!("   the daemon is back and has adopted programs and maps");
    Ok(())
}

//! Scene: the file is edited, first wrongly, then rightly, and reloaded.

use super::stage::Stage;
use super::watch::Watch;
use anyhow::{Result, ensure};
use fairlead_tests::report::Report;

/// Exit code for an invalid configuration.
const INVALID: i32 = 3;

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let file = stage.daemon.read_config()?;
    ensure!(file.contains("\"drain\""), "the drained backend is not marked in the file:\n{file}");
    let watch = Watch::begin(stage);

    stage.daemon.write_config(&file.replacen("weight = 2", "wieght = 2", 1).replacen(
        "port = 80",
        "port = 80000",
        1,
    ))?;
    let answer = stage.daemon.cli(&["config", "reload"])?;
    for line in answer.stderr.lines() {
        eprintln!("   | {line}");
    }
    let still = stage.daemon.get("/v1/services/web").is_ok();
    report.measured("bad_reload_refused", if answer.code == INVALID && still { 1.0 } else { 0.0 })?;

    stage.daemon.write_config(&file.replace("\"drain\"", "\"enabled\""))?;
    eprintln!("   $ fairlead config reload   # the drained backend is enabled again");
    stage.daemon.ok(&["config", "reload"])?;
    stage.wait_up(4)?;
    let seen = watch.end(stage)?;
    seen.charge(stage);
    report.counted("broken_by_reload", seen.broken.len())
}

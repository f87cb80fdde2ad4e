//! `run --try`: the way back for whoever cuts off their own connection.

use std::fs;

use anyhow::{Result, ensure};
use fairlead_tests::lab::wait_until;
use serde_json::Value;

use crate::fixture::{PATIENCE, Stage, check_cli};

fn trial(time: &str) -> Result<Stage> {
    let lab = fairlead_tests::lab::Lab::builder().backends(1).build()?;
    let text = crate::fixture::plain(&lab);
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.set_arguments(&["--try", time]);
    stage.daemon.start()?;
    Ok(stage)
}

#[test]
fn trial_that_nobody_confirms_leaves_nothing() -> Result<()> {
    let mut stage = trial("3s")?;
    ensure!(stage.daemon.get("/v1/status")?["confirm_deadline"].is_string(), "status names no deadline");
    stage.forwards()?;
    assert_eq!(stage.daemon.ended()?, 0, "{}", stage.daemon.log());
    ensure!(stage.daemon.log().contains("not confirmed"), "{}", stage.daemon.log());
    stage.nothing_left()
}

#[test]
fn confirmed_trial_stays_even_without_its_daemon() -> Result<()> {
    let mut stage = trial("1h")?;
    stage.forwards()?;
    check_cli(&stage.daemon, "confirm", 0, &[])?;
    assert_eq!(stage.daemon.get("/v1/status")?["confirm_deadline"], Value::Null);
    check_cli(&stage.daemon, "confirm", 5, &["no trial", "--try"])?;
    stage.daemon.kill();
    stage.forwards()?;
    stage.none_broke()
}

#[test]
fn killed_trial_takes_the_program_with_it() -> Result<()> {
    let mut stage = trial("1h")?;
    stage.forwards()?;
    stage.daemon.kill();
    wait_until("the program is gone", PATIENCE, || Ok(stage.xdp()?.is_none()))?;
    assert_eq!(fs::read_dir(stage.daemon.pins().join("main/links"))?.count(), 0);
    stage.daemon.set_arguments(&[]);
    stage.daemon.start()?;
    stage.forwards()
}

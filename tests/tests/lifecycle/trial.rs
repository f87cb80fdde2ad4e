//! `run --try`: the way back for whoever cuts off their own connection.

use std::fs;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::wait_until;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{PATIENCE, Stage, check, check_cli};

fn trial(time: &str) -> Result<Stage> {
    let lab = fairlead_tests::lab::Lab::builder().backends(1).build()?;
    let text = crate::fixture::plain(&lab);
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.set_arguments(&["--try", time]);
    stage.daemon.start()?;
    Ok(stage)
}

/// Links to tracepoints that outlive the daemon.
fn watched(stage: &Stage) -> Result<usize> {
    Ok(fs::read_dir(stage.daemon.pins().join("main/watch"))?.count())
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
    assert_eq!(watched(&stage)?, 0, "pinned before it is confirmed");
    check_cli(&stage.daemon, "confirm", 0, &[])?;
    assert_eq!(watched(&stage)?, 2);
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
    assert_eq!(watched(&stage)?, 0, "programs stay on tracepoints");
    // The next attempt is a trial again, or not.
    stage.daemon.start()?;
    ensure!(stage.daemon.get("/v1/status")?["confirm_deadline"].is_string(), "status names no deadline");
    stage.forwards()?;
    stage.daemon.kill();
    wait_until("the program is gone", PATIENCE, || Ok(stage.xdp()?.is_none()))?;
    stage.daemon.set_arguments(&[]);
    stage.daemon.start()?;
    stage.forwards()
}

#[test]
fn trial_that_is_stopped_or_terminated_before_it_is_confirmed_leaves_nothing() -> Result<()> {
    for by_signal in [false, true] {
        let mut stage = trial("1h")?;
        stage.forwards()?;
        if by_signal {
            stage.daemon.signal(Signal::SIGTERM)?;
            assert_eq!(stage.daemon.ended()?, 0, "{}", stage.daemon.log());
        } else {
            stage.daemon.stop()?;
        }
        stage.nothing_left().with_context(|| format!("by signal: {by_signal}"))?;
    }
    Ok(())
}

#[test]
fn trial_over_a_program_that_forwards_is_refused_and_forwarding_goes_on() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    stage.daemon.set_arguments(&["--try", "1h"]);
    let (code, said) = stage.daemon.refused()?;
    check("a trial", (code, &said), 5, &["instance \"main\"", "without --try", "stop --detach"])?;
    stage.forwards()?;
    stage.none_broke()
}

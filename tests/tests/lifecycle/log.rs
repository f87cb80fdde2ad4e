//! What the daemon writes to its log.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Lab, http, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{PATIENCE, Stage, plain};

fn stage(arguments: &[&str]) -> Result<Stage> {
    let lab = Lab::builder().backends(1).build()?;
    let text = plain(&lab);
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.set_arguments(arguments);
    stage.daemon.start()?;
    Ok(stage)
}

#[test]
fn every_line_of_a_json_log_is_an_object_with_time_level_and_message() -> Result<()> {
    let mut stage = stage(&["--log-format", "json", "--log-level", "debug"])?;
    stage.daemon.write_config("nonsense")?;
    stage.daemon.signal(Signal::SIGHUP)?;
    wait_until("the reload is refused", PATIENCE, || Ok(stage.daemon.log().contains("not reloaded")))?;
    stage.daemon.stop()?;
    let log = stage.daemon.log();
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        for key in ["timestamp", "level", "message"] {
            ensure!(value[key].is_string(), "no {key}: {line}");
        }
    }
    ensure!(log.lines().count() >= 5, "{log}");
    Ok(())
}

#[test]
fn refusal_with_a_json_log_is_json_on_demand() -> Result<()> {
    let mut stage = stage(&[])?;
    stage.daemon.set_arguments(&["--log-format", "json", "-o", "json"]);
    let (code, said) = stage.daemon.refused()?;
    assert_eq!(code, 5, "{said}");
    for line in said.lines() {
        serde_json::from_str::<Value>(line).with_context(|| format!("no JSON: {line}"))?;
    }
    Ok(())
}

#[test]
fn bpf_log_names_a_drop() -> Result<()> {
    let stage = stage(&["--bpf-log", "debug"])?;
    stage.forwards()?;
    let closed = (stage.vip(), 9).into();
    let tried =
        stage.lab.client.ns.enter(|| http::connect(None, closed, std::time::Duration::from_millis(50)));
    ensure!(tried.is_err(), "port 9 answers");
    wait_until("the drop is in the log", PATIENCE, || {
        Ok(stage.daemon.log().lines().any(|line| line.contains("DEBUG") && line.contains("drop")))
    })
}

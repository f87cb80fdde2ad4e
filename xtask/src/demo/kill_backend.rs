//! Scene: everything on a backend is killed with SIGKILL, and it comes back later.

use super::config::LINES;
use super::stage::Stage;
use super::watch::Watch;
use anyhow::{Context, Result};
use fairlead_tests::lab::{Attempt, Peer};
use fairlead_tests::report::Report;
use std::thread;
use std::time::{Duration, Instant};

/// The backend that dies.
const VICTIM: usize = 0;
/// Load before the kill, so that it falls into the middle of things.
const BEFORE: Duration = Duration::from_millis(500);
/// How long new connections are watched after the backend is known to be down.
const AFTER: Duration = Duration::from_secs(2);

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let name = stage.lab.backends[VICTIM].role.clone();
    let watch = Watch::begin(stage);
    thread::sleep(BEFORE);
    let killed = Instant::now();
    stage.web[VICTIM].kill();
    stage.servers[VICTIM].kill();
    let down = stage.wait_verdict(VICTIM, "down")?;
    eprintln!("   {name} killed; the last service saw it after {:.2} s", (down - killed).as_secs_f64());
    thread::sleep(AFTER);
    let seen = watch.end(stage)?;
    let failures = || seen.connections.iter().filter(|attempt| attempt.outcome.is_err());
    let last =
        failures().map(|attempt| attempt.started.saturating_duration_since(killed)).max().unwrap_or_default();
    let late = |attempt: &&Attempt| attempt.started >= down;
    eprintln!("   {} new connections fell on it before it was bypassed", failures().count());
    report.measured("detection_seconds", last.as_secs_f64())?;
    report.counted("failed_new_connections_after_detection", failures().filter(late).count())?;
    stage.failed_uploads += seen.uploads.iter().filter(|upload| upload.outcome.is_err()).filter(late).count();
    let on_live = seen.broken.iter().filter(|line| line.backend != name).count();
    report.counted("broken_by_backend_kill", on_live)?;
    come_back(stage)
}

fn come_back(stage: &mut Stage) -> Result<()> {
    let host = stage.lab.backends[VICTIM].clone();
    stage.web[VICTIM].restart(&stage.lab)?;
    stage.servers[VICTIM] = Peer::lines(&stage.lab, &host, LINES)?;
    stage.wait_up(3)?;
    let replaced = stage.lines.replace_broken().context("reopening the connections of the dead backend")?;
    eprintln!("   {} is back; {replaced} long-lived connections opened anew", host.role);
    Ok(())
}

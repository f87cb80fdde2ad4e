//! A process that is starved does not run, and runs on afterwards.

use anyhow::{Result, ensure};
use fairlead_tests::lab::ha::{MAX_STARVE, Starve};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that always wants to run.
struct Spinner(Child);

impl Spinner {
    fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        Ok(Self(command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn()?))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Clock ticks that it has run, in user mode and for it.
    fn ran(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn starved_process_does_not_run_until_it_is_over() -> Result<()> {
    let spinner = Spinner::start()?;
    fairlead_tests::lab::wait_until("it runs", MAX_STARVE, || Ok(spinner.ran()? > 2))?;
    let starve = Starve::begin(spinner.pid(), Duration::from_millis(500))?;
    let before = spinner.ran()?;
    starve.end()?;
    // A few ticks: before the starving thread was there, and after it was gone.
    let ran = spinner.ran()? - before;
    ensure!(ran <= 10, "it ran for {ran} hundredths of a second while it starved for 50");
    let before = spinner.ran()?;
    fairlead_tests::lab::wait_until("it runs again", MAX_STARVE, || Ok(spinner.ran()? > before + 2))
}

#[test]
fn nobody_starves_for_long() -> Result<()> {
    let spinner = Spinner::start()?;
    ensure!(Starve::begin(spinner.pid(), MAX_STARVE + Duration::from_millis(1)).is_err());
    Ok(())
}

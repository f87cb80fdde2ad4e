//! A process that is starved does not run, and runs on afterwards.

use anyhow::{Result, bail, ensure};
use fairlead_tests::lab::ha::{MAX_STARVE, Starve};
use fairlead_tests::lab::wait_until;
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    const LENGTH: Duration = Duration::from_millis(500);
    let spinner = Spinner::start()?;
    wait_until("it runs", MAX_STARVE, || Ok(spinner.ran()? > 2))?;
    // On a busy machine this thread may sleep for longer than the process starves: then that said nothing.
    for _ in 0..10 {
        let begun = Instant::now();
        let starve = Starve::begin(spinner.pid(), LENGTH)?;
        let before = spinner.ran()?;
        std::thread::sleep(LENGTH / 2);
        let ran = spinner.ran()? - before;
        let in_time = begun.elapsed() < LENGTH;
        starve.end()?;
        if in_time {
            ensure!(ran <= 1, "it ran for {ran} hundredths of a second while it starved for 25");
            let before = spinner.ran()?;
            return wait_until("it runs again", MAX_STARVE, || Ok(spinner.ran()? > before + 2));
        }
    }
    bail!("the machine is too busy to tell")
}

#[test]
fn nobody_starves_for_long() -> Result<()> {
    let spinner = Spinner::start()?;
    ensure!(Starve::begin(spinner.pid(), MAX_STARVE + Duration::from_millis(1)).is_err());
    Ok(())
}

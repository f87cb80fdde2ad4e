//! Waiting for something to become true, with a limit.

use anyhow::{Result, bail};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Asks `holds` until it answers true.
///
/// # Errors
/// `holds` failed, or `within` was over; the message names `what`.
pub fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        if holds()? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain: {what}");
        }
        thread::sleep(EVERY);
    }
}

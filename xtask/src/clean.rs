//! `cargo xtask clean`: removes what an interrupted run, or `demo --keep`, left on this machine.

use crate::machine::{as_root, is_root};
use anyhow::{Context, Result};
use fairlead_tests::lab::leftover::{self, Kept};

/// What `cargo xtask clean` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Spare labs of `demo --keep`, and fail if there was anything else
    #[arg(long)]
    expect_none: bool,
}

/// Removes namespaces, pins, processes and folders of labs whose owner is gone. False: `--expect-none` was not met.
///
/// # Errors
/// No rights, or something that cannot be removed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if !is_root() {
        let mut command = as_root(&own_path()?)?;
        command.arg("clean").args(options.expect_none.then_some("--expect-none"));
        return Ok(command.status().context("cannot run clean as root")?.success());
    }
    let kept = if options.expect_none { Kept::Spare } else { Kept::Remove };
    let removed = leftover::sweep(kept)?;
    for thing in &removed {
        eprintln!("clean: removed {thing}");
    }
    if removed.is_empty() && !options.expect_none {
        eprintln!("clean: nothing was left");
    }
    Ok(removed.is_empty() || !options.expect_none)
}

/// Removes what dead runs left; true if there was nothing. Labs of `demo --keep` stay.
///
/// # Errors
/// As [`run`].
pub(crate) fn leftovers() -> Result<bool> {
    run(&Options { expect_none: true })
}

fn own_path() -> Result<String> {
    let path = std::env::current_exe().context("xtask's own path")?;
    Ok(path.to_string_lossy().into_owned())
}

//! `cargo xtask bench`: builds the bench and runs it as root. It is a crate of its own: it needs the BPF toolchain, and
//! xtask is what installs that.

use crate::machine::{as_root, cargo, run, target_dir};
use crate::setup;
use anyhow::{Context, Result};

/// What `cargo xtask bench` can be asked.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Rows to measure, and options: see `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Builds and measures. False: a value was not reached, or the bench could not measure.
///
/// # Errors
/// Nothing could be built.
pub(crate) fn run_bench(options: &Options) -> Result<bool> {
    setup::run()?;
    // The daemon too: `control` and `ha` start it.
    let bench = ["-p", "fairlead-bench", "--bin", "fairlead-bench", "-p", "lb-user", "--bin", "fairlead"];
    // And the lab's servers: `ha` needs them.
    let peers = ["-p", "fairlead-tests", "--bin", "lab-peer"];
    run(cargo().args(["build", "--release"]).args(bench).args(peers)).context("the bench can't be built")?;
    let bench = target_dir().join("release/fairlead-bench");
    let mut command = as_root(&bench.to_string_lossy())?;
    Ok(command.args(&options.words).status().context("cannot run the bench")?.success())
}

//! `cargo xtask verify`: what the BPF programs cost. The test `budget` finds out, since it may need the BPF toolchain.

use crate::machine::{cargo, find_program, is_root, shell_line};
use crate::setup;
use anyhow::{Context, Result};

/// What `cargo xtask verify` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Write the figures found to tests/budget.toml
    #[arg(long)]
    update: bool,
}

/// Runs the comparison; false: a figure is more than a tenth above the one in the file.
///
/// # Errors
/// Cargo cannot be started.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::run()?;
    let mut command = cargo();
    if !is_root() {
        let sudo = find_program("sudo").context("root is needed and sudo is not here")?;
        command.arg("--config").arg(format!("target.'cfg(unix)'.runner = ['{}', '-E']", sudo.display()));
    }
    command.args(["test", "--quiet", "-p", "fairlead-tests", "--test", "budget", "--", "--only"]);
    command.args(options.json.then_some("--json")).args(options.update.then_some("--update"));
    let line = shell_line(&command);
    Ok(command.status().with_context(|| format!("cannot start `{line}`"))?.success())
}

//! `cargo xtask lint`: the checks that need no test.

use crate::machine::{cargo, find_program, run, shell_line};
use anyhow::Result;
use std::process::Command;

/// Runs every check, also after one failed, and says at the end whether all passed.
///
/// # Errors
/// A check could not be started.
pub(crate) fn run_all() -> Result<bool> {
    let mut docs = cargo_with(&["doc", "--quiet", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut checks = vec![
        cargo_with(&["fmt", "--all", "--check"]),
        cargo_with(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]),
        // The BPF binary itself has no host target; everything but its entry points is in the library.
        cargo_with(&["clippy", "--quiet", "-p", "lb-ebpf", "--lib", "--", "-D", "warnings"]),
        docs,
        // The fuzz targets are a workspace of their own: a dependency added here must be locked there too.
        cargo_with(&["fetch", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]),
    ];
    if find_program("cargo-deny").is_some() {
        checks.push(cargo_with(&["deny", "--log-level", "error", "check"]));
    } else {
        eprintln!("lint: cargo-deny is not installed, licences and advisories are not checked here");
    }
    let mut failed = 0;
    for check in &mut checks {
        eprintln!("lint: $ {}", shell_line(check));
        if let Err(error) = run(check) {
            eprintln!("lint: {error:#}");
            failed += 1;
        }
    }
    eprintln!("lint: {} of {} checks passed", checks.len() - failed, checks.len());
    Ok(failed == 0)
}

fn cargo_with(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(args);
    command
}

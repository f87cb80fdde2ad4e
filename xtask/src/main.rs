//! `cargo xtask`: set-up, checks, tests and the demo, each in one command.

mod bench;
mod clean;
mod demo;
mod fuzz;
mod lint;
mod machine;
mod setup;
mod tally;
mod test;
mod toolchain;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Work on Fairlead: set-up, checks, tests, demo")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing to build and to run the lab, and say what it does
    Setup,
    /// rustfmt, clippy (host crates and the BPF library), rustdoc, and cargo-deny where it is installed
    Lint,
    /// Set-up, lint and every test; needs root (or sudo) for the tests in network namespaces
    Test(test::Options),
    /// Play a minute of a load balancer's life in network namespaces, and measure it; needs root (or sudo)
    Demo(demo::Options),
    /// Measure what packets cost (or `control`: how long changes take; `ha`: what failovers do); needs root (or sudo)
    Bench(bench::Options),
    /// What the BPF programs cost the verifier and the machine, compared with tests/budget.toml; needs root (or sudo)
    Verify(verify::Options),
    /// Look for inputs that break what must hold, guided by the code that they reach
    Fuzz(fuzz::Options),
    /// Remove what an interrupted run, or `demo --keep`, left on this machine
    Clean(clean::Options),
}

fn main() -> ExitCode {
    let outcome: Result<bool> = match Args::parse().task {
        Task::Setup => setup::run().map(|()| true),
        Task::Lint => setup::run().and_then(|()| lint::run_all()),
        Task::Test(options) => test::run(&options),
        Task::Demo(options) => demo::run_demo(&options),
        Task::Bench(options) => bench::run_bench(&options),
        Task::Verify(options) => verify::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Clean(options) => clean::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

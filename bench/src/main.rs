//! `fairlead-bench`: what a packet costs, how long a change takes, what a failover does. `cargo xtask bench` builds and runs it.

mod control;
mod ha;
mod packets;
mod stats;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measure what packets and changes cost; needs root")]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    packets: packets::Options,
}

#[derive(Subcommand)]
enum What {
    /// Measure what each packet costs (this is what happens without a word)
    Packets(packets::Options),
    /// Measure how long changes take: tables, commands, starts
    Control(control::Options),
    /// Measure what a client notices when a balancer fails
    Ha(ha::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.what {
        None => packets::run(&args.packets),
        Some(What::Packets(options)) => packets::run(&options),
        Some(What::Control(options)) => control::run(&options),
        Some(What::Ha(options)) => ha::run(&options),
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

//! `cargo xtask bench control`: how long it takes until a decision reaches the packets.

mod change;
mod cold_start;
mod rebuild;
mod scrape;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fairlead_tests::lab::{self, interrupt};
use fairlead_tests::report::{Promise, Reach, Report};

use crate::stats::Summary;

/// What `cargo xtask bench control` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
}

const PROMISES: [Promise; 4] = [
    ("table_rebuild_ms", "ms", Reach::AtMost(10.0)),
    ("change_to_packets_ms", "ms", Reach::AtMost(20.0)),
    ("cold_start_s", "s", Reach::AtMost(2.0)),
    ("scrape_ms", "ms", Reach::AtMost(150.0)),
];

/// Measures; false: a value was not reached.
///
/// # Errors
/// What was to be measured did not happen.
pub(crate) fn run(options: &Options) -> Result<bool> {
    lab::use_folder(own_folder()?);
    let mut report = Report::new(&PROMISES);
    let started = Instant::now();
    eprintln!("== one of 1,000 backends changes: the table anew");
    rebuild::measure(&mut report).context("table_rebuild_ms")?;
    eprintln!("== a command, until packets follow it");
    change::measure(&mut report).context("change_to_packets_ms")?;
    eprintln!("== 500 services of 8 backends, from nothing");
    cold_start::measure(&mut report).context("cold_start_s")?;
    eprintln!("== all metrics of 4,096 backends");
    scrape::measure(&mut report).context("scrape_ms")?;
    interrupt::stand_still_if_interrupted();
    report.environment("seconds", started.elapsed().as_secs());
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(report.ok())
}

/// Where cargo put this program, and `fairlead` beside it.
pub(crate) fn own_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the bench's own path")?;
    Ok(own.parent().context("a program is in a folder")?.to_owned())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Records the median of a series, and the whole of it for whoever wants to know.
fn record(report: &mut Report, name: &str, series: &[f64]) -> Result<()> {
    let summary = Summary::of(series.iter().copied());
    eprintln!(
        "   {name}: {:.2} to {:.2}, median {:.2}, spread {:.2}, of {}",
        summary.min,
        series.iter().copied().fold(f64::MIN, f64::max),
        summary.median,
        summary.spread,
        series.len()
    );
    report.environment(name, summary.json());
    report.measured(name, summary.median)
}

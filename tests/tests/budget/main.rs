//! What the BPF programs cost, compared with `tests/budget.toml`: more than a tenth above a figure there is a failure.
//!
//! `--json` prints one object, `--update` rewrites the file, `--only` leaves out the summary for `cargo xtask test`.

mod file;
mod program;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use lb_user::bpf::program::{BALANCER, DECAPSULATOR, DRY, LOST, PASS, REFUSED};

use file::{Figures, Verdict};

/// All programs of the object.
const PROGRAMS: [&str; 6] = [BALANCER, DRY, DECAPSULATOR, PASS, REFUSED, LOST];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |word: &str| arguments.iter().any(|argument| argument == word);
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if asked("--list") || filter.is_some_and(|filter| !"budget".contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let outcome = run(asked("--json"), asked("--update"));
    let failed = match &outcome {
        Ok(failed) => *failed,
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    };
    if !asked("--only") {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("\ntest result: {word}. {} passed; {failed} failed", usize::from(failed == 0));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many figures are too high.
fn run(json: bool, update: bool) -> Result<usize> {
    let mut found = Figures::of_this_kernel()?;
    for name in PROGRAMS {
        found.values.extend(program::figures(name)?);
    }
    ensure!(!found.values.is_empty(), "no program was measured");
    if update {
        found.write()?;
    }
    let kept = Figures::read()?;
    let rows = found.compare(&kept);
    let same_kernel = found.kernel == kept.kernel;
    let failed = if same_kernel { rows.iter().filter(|row| row.verdict != Verdict::Fine).count() } else { 0 };
    if json {
        println!("{}", file::json(&found, &rows, failed == 0));
    } else {
        rows.iter().for_each(|row| println!("{row}"));
    }
    if !same_kernel {
        eprintln!(
            "warning: tests/budget.toml is of Linux {}, this is {}: nothing fails here",
            kept.kernel, found.kernel
        );
    }
    if failed > 0 {
        eprintln!("{failed} figures differ by too much; `cargo xtask verify --update` if they are meant to");
    }
    Ok(failed)
}

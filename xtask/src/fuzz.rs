//! `cargo xtask fuzz`: coverage-guided runs of the targets in `fuzz/`, with the stable toolchain.

use crate::machine::{cargo, run as run_command, shell_line, target_dir, workspace};
use crate::setup;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::env::consts::ARCH;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// What `cargo xtask fuzz` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which target, or all one after another
    #[arg(value_enum)]
    target: Target,
    /// Minutes for each target
    // To libFuzzer, no time is for ever.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Processes that fuzz side by side
    #[arg(long, default_value_t = 1)]
    jobs: u32,
    /// Make the corpus in the repository anew, from what it has and what was found: small inputs that reach up to the
    /// same code
    #[arg(long)]
    keep: bool,
    /// Run this input once instead, for instance one that was found to fail
    #[arg(long, value_name = "FILE", conflicts_with_all = ["minutes", "jobs", "keep"])]
    replay: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Frames and events through the packet's journey in plain memory
    Journey,
    /// Configuration files, changes to them, and the operations on the maps that they ask for
    Config,
    /// Octets on a connection of the API
    Api,
    /// All of these
    All,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Journey => "journey",
            Self::Config => "config",
            Self::Api => "api",
            Self::All => "all",
        }
    }

    fn each(self) -> Vec<Self> {
        if self == Self::All { vec![Self::Journey, Self::Config, Self::Api] } else { vec![self] }
    }

    /// The longest input that is tried: longer ones show nothing that these do not.
    const fn longest(self) -> u32 {
        match self {
            Self::Journey => 2_048,
            _ => 4_096,
        }
    }
}

/// What rustc must do for libFuzzer to see which code an input reaches; as cargo-fuzz does it, without its need of a
/// nightly compiler, since no sanitizer is asked for.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";
/// An input that takes longer is a finding.
const SECONDS_PER_INPUT: u32 = 25;
/// More memory than this is a finding.
const MEMORY_MB: u32 = 2_048;
/// What of one target's corpus is kept in the repository: all three stay below 200 files and 300 KB.
const KEPT_FILES: usize = 60;
const KEPT_BYTES: u64 = 90_000;

/// Builds and runs. False: something was found.
///
/// # Errors
/// The build fails, or a file cannot be read or written.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::run()?;
    setup::need("c++", "g++")?;
    let mut clean = true;
    for target in options.target.each() {
        let program = build(target)?;
        let nothing_found = match &options.replay {
            Some(file) => replay(&program, target, file)?,
            None => fuzz(&program, target, options)?,
        };
        // What one target found says nothing about the corpus of another.
        if nothing_found && options.keep {
            keep(&program, target)?;
        }
        clean &= nothing_found;
    }
    Ok(clean)
}

fn build(target: Target) -> Result<PathBuf> {
    let triple = format!("{ARCH}-unknown-linux-gnu");
    let folder = target_dir().join("fuzz");
    let mut command = cargo();
    command.current_dir(workspace().join("fuzz")).env("RUSTFLAGS", FLAGS);
    // With a target named, build scripts and macros are built without these flags.
    command.args([
        "build",
        "--release",
        "--locked",
        "--bin",
        target.name(),
        "--target",
        &triple,
        "--target-dir",
    ]);
    run_command(command.arg(&folder)).context("the target cannot be built")?;
    Ok(folder.join(triple).join("release").join(target.name()))
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Where new inputs go: below `target/`, so that runs add to each other and the repository stays as it is.
fn grown(target: Target) -> Result<PathBuf> {
    folder(target_dir().join("fuzz/corpus").join(target.name()))
}

fn kept(target: Target) -> Result<PathBuf> {
    folder(workspace().join("fuzz/corpus").join(target.name()))
}

fn fuzz(program: &Path, target: Target, options: &Options) -> Result<bool> {
    let name = target.name();
    let findings = folder(target_dir().join("fuzz/findings").join(name))?;
    let known = files(&findings)?;
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    let mut command = Command::new(program);
    command.args([
        format!("-max_total_time={}", u64::from(options.minutes) * 60),
        format!("-max_len={}", target.longest()),
        format!("-timeout={SECONDS_PER_INPUT}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-seed={seed}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    if options.jobs > 1 {
        command.arg(format!("-fork={}", options.jobs));
    }
    command.arg(grown(target)?).arg(kept(target)?);
    let regressions = workspace().join("fuzz/regressions").join(name);
    if regressions.is_dir() {
        command.arg(regressions);
    }
    let (ok, runs) = watch(&mut command)?;
    println!(
        "{name}: {runs} runs in {} minutes, seed {seed}: {}",
        options.minutes,
        if ok { "nothing found" } else { "FOUND" }
    );
    let new = files(&findings)?.into_iter().filter(|file| !known.contains(file));
    for file in new {
        println!("{name}: finding {}", file.display());
        println!("  repeat: cargo xtask fuzz {name} --replay {}", file.display());
        let case = file.display();
        println!("  mend it, and keep the case under a name that says what it is:");
        println!("  mkdir -p fuzz/regressions/{name} && cp {case} fuzz/regressions/{name}/");
    }
    Ok(ok)
}

/// Runs it with its words on our stderr; whether it ended well, and how many inputs were run.
fn watch(command: &mut Command) -> Result<(bool, u64)> {
    let line = shell_line(command);
    eprintln!("fuzz: $ {line}");
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let Some(output) = child.stderr.take() else { bail!("`{line}` has no output to read") };
    let mut runs = 0;
    for text in BufReader::new(output).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        eprintln!("{text}");
        runs = executed(&text).unwrap_or(runs);
    }
    Ok((child.wait()?.success(), runs))
}

/// The number of runs that a line of libFuzzer tells: `#123 NEW …`, in fork mode `#123: cov: …`, at the end its statistics.
fn executed(line: &str) -> Option<u64> {
    let digits =
        line.strip_prefix("stat::number_of_executed_units:").or_else(|| line.strip_prefix('#'))?.trim_start();
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn replay(program: &Path, target: Target, file: &Path) -> Result<bool> {
    let (ok, _) = watch(Command::new(program).arg(format!("-timeout={SECONDS_PER_INPUT}")).arg(file))?;
    println!("{}: {} {}", target.name(), file.display(), if ok { "does no harm" } else { "fails" });
    Ok(ok)
}

/// Replaces the corpus of the repository by the fewest and smallest inputs that reach the same code as all there are;
/// of these the smallest up to [`KEPT_FILES`] and [`KEPT_BYTES`], which may reach less.
fn keep(program: &Path, target: Target) -> Result<()> {
    let (kept, fresh) = (kept(target)?, target_dir().join("fuzz/merged").join(target.name()));
    let _ = fs::remove_dir_all(&fresh);
    let fresh = folder(fresh)?;
    let mut command = Command::new(program);
    command.args(["-set_cover_merge=1", "-use_counters=0"]).arg(format!("-max_len={}", target.longest()));
    let (ok, _) = watch(command.arg(&fresh).arg(&kept).arg(grown(target)?))?;
    if !ok {
        bail!("the corpus cannot be merged");
    }
    let sized = |file: PathBuf| Ok((fs::metadata(&file)?.len(), file));
    let mut all = files(&fresh)?.into_iter().map(sized).collect::<Result<Vec<_>>>()?;
    all.sort();
    let mut bytes = 0;
    let chosen = all.iter().take(KEPT_FILES).take_while(|(size, _)| {
        bytes += size;
        bytes <= KEPT_BYTES
    });
    for old in files(&kept)? {
        fs::remove_file(old)?;
    }
    let mut count = 0;
    for (_, file) in chosen {
        fs::copy(file, kept.join(file.file_name().unwrap_or_default()))?;
        count += 1;
    }
    println!("{}: {count} of {} inputs are kept in {}", target.name(), all.len(), kept.display());
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Options, executed};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_run_ends_after_a_minute_at_least() {
        let line = |minutes| Line::try_parse_from(["fuzz", "api", "--minutes", minutes]);
        assert_eq!(line("1").map(|line| line.options.minutes).ok(), Some(1));
        assert!(line("0").is_err());
    }

    #[test]
    fn the_number_of_runs_is_read_from_all_lines_that_tell_it() {
        assert_eq!(executed("#1093\tNEW    cov: 5563 ft: 18933"), Some(1_093));
        assert_eq!(executed("#2048: cov: 12 ft: 13 corp: 4"), Some(2_048));
        assert_eq!(executed("stat::number_of_executed_units: 60419"), Some(60_419));
        assert_eq!(executed("\tNEW_FUNC[1/2]: 0x5623"), None);
    }
}

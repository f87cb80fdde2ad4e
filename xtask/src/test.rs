//! `cargo xtask test`: everything that can turn red, summed up in one line.

use crate::machine::{as_root, cargo, find_program, is_root, run as run_command, shell_line};
use crate::tally::Tally;
use crate::{clean, lint, setup};
use anyhow::{Context, Result, bail};
use fairlead_tests::lab::interrupt;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What `cargo xtask test` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer repetitions and cases, and no demo at the end: minutes instead of a quarter of an hour
    #[arg(long)]
    quick: bool,
}

/// How long interrupted tests may take to remove their namespaces before they are killed.
const INTERRUPTED_WITHIN: Duration = Duration::from_secs(15);

/// The process group of the cargo that runs now, 0 when none does.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Runs everything; the last line on stdout is `N passed, N failed`. False: something failed, or nothing ran.
///
/// # Errors
/// None: what goes wrong is printed and counts as a failure.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut tally = Tally::default();
    if let Err(error) = everything(options, &mut tally) {
        eprintln!("error: {error:#}");
        tally.check(false);
    }
    interrupt::stand_still_if_interrupted();
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.ok())
}

fn everything(options: &Options, tally: &mut Tally) -> Result<()> {
    setup::run()?;
    if !is_root() {
        run_command(as_root("true")?.stdin(Stdio::inherit()))
            .context("the tests in network namespaces need root")?;
    }
    interrupt::install(stop_running)?;
    clean::leftovers()?;
    tally.check(lint::run_all()?);
    run_command(cargo().args([
        "build",
        "-p",
        "lb-user",
        "--bin",
        "fairlead",
        "-p",
        "fairlead-tests",
        "--bin",
        "lab-peer",
    ]))
    .context("the tests need the binaries")?;
    let quick = options.quick;
    let unit =
        ["test", "--no-fail-fast", "--workspace", "--exclude", "lb-ebpf", "--exclude", "fairlead-tests"];
    tally.add(tests(&unit, quick, false)?);
    tally.add(tests(&["test", "--no-fail-fast", "-p", "lb-ebpf", "--lib"], quick, false)?);
    tally.add(tests(&["test", "--no-fail-fast", "-p", "fairlead-tests"], quick, true)?);
    if !quick {
        tally.add(demo(&[])?);
        tally.add(demo(&["--ha"])?);
    }
    let left = clean::leftovers()?;
    if !left {
        eprintln!("test: something was left behind, see above");
    }
    tally.check(left);
    Ok(())
}

/// One `cargo test`: its output goes through, its sums are added up.
fn tests(args: &[&str], quick: bool, root: bool) -> Result<Tally> {
    let mut command = cargo();
    if root && !is_root() {
        let sudo = find_program("sudo").context("root is needed and sudo is not here")?;
        command.arg("--config").arg(format!("target.'cfg(unix)'.runner = ['{}', '-E']", sudo.display()));
    }
    command.args(args);
    if quick {
        command.env("FAIRLEAD_QUICK", "1").env("PROPTEST_CASES", "64");
    }
    let mut tally = Tally::default();
    let ok = streamed(&mut command, |line| tally.absorb(line))?;
    if !ok && tally.failed == 0 {
        // It did not compile, or a test binary died without a summary.
        tally.check(false);
    }
    Ok(tally)
}

/// The demos are the last test: each of their checks counts.
fn demo(which: &[&str]) -> Result<Tally> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "xtask", "--", "demo"]).args(which);
    let mut tally = Tally::default();
    let ok = streamed(&mut command, |line| match line.split_whitespace().next() {
        Some("pass") => tally.check(true),
        Some("FAIL") => tally.check(false),
        _ => {}
    })?;
    if ok == (tally.failed > 0) || tally.passed == 0 {
        tally.check(false);
    }
    Ok(tally)
}

/// Runs a command in a process group of its own (Ctrl-C comes to us first), its stdout line by line to ours.
fn streamed(command: &mut Command, mut each: impl FnMut(&str)) -> Result<bool> {
    let line = shell_line(command);
    eprintln!("test: $ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    RUNNING.store(i32::try_from(child.id()).context("a process number")?, Ordering::SeqCst);
    let Some(output) = child.stdout.take() else { bail!("`{line}` has no output to read") };
    let mut stdout = std::io::stdout();
    for text in BufReader::new(output).split(b'\n') {
        let text = text.with_context(|| format!("reading what `{line}` prints"))?;
        let text = String::from_utf8_lossy(&text);
        each(&text);
        writeln!(stdout, "{text}")?;
    }
    let status = child.wait()?;
    interrupt::stand_still_if_interrupted();
    RUNNING.store(0, Ordering::SeqCst);
    Ok(status.success())
}

/// Ctrl-C: the tests get the signal, may clean up, and what they leave is removed.
fn stop_running() {
    let group = RUNNING.load(Ordering::SeqCst);
    if group > 0 {
        let group = Pid::from_raw(group);
        // An error means that the group has ended already.
        let _ = killpg(group, Signal::SIGINT);
        let deadline = Instant::now() + INTERRUPTED_WITHIN;
        while killpg(group, None) != Err(Errno::ESRCH) {
            if Instant::now() > deadline {
                let _ = killpg(group, Signal::SIGKILL);
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    if let Err(error) = clean::leftovers() {
        eprintln!("error: {error:#}; run `cargo xtask clean`");
    }
}

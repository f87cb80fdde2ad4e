//! `cargo xtask demo`: a client, a balancer and backends in namespaces, real traffic, and everything that may happen
//! to a load balancer in a minute. Nothing of it is left afterwards.

mod add_backend;
mod config;
mod daemon_gone;
mod drain;
mod ha;
mod kill_backend;
mod reload;
mod spread;
mod stage;
mod table;
mod watch;

use crate::machine::{self, as_root, cargo, is_root, run, target_dir};
use crate::setup;
use anyhow::{Context, Result};
use fairlead_tests::lab::{self, interrupt};
use fairlead_tests::report::{Promise, Reach, Report};
use stage::Stage;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo              # a balancer and four backends, and what may happen to them
  cargo xtask demo --ha         # two balancers: one is killed, hangs, is cut off, hands over
  cargo xtask demo --ha --json > ha.json
  FAIRLEAD_QUICK=1 cargo xtask demo --ha   # 100 connections instead of 500";

/// What `cargo xtask demo` can be asked.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// Two balancers that stand in for each other instead of one: for each failover and each way back how long nobody
    /// answered, whether two did, what was lost, what broke
    #[arg(long, conflicts_with = "keep")]
    ha: bool,
    /// Leave the lab up and print commands to play with; `cargo xtask clean` removes it
    #[arg(long)]
    keep: bool,
    /// Everything is built already
    #[arg(long, hide = true)]
    built: bool,
}

/// What the demo promises.
const PROMISES: [Promise; 18] = [
    ("spread_error_percent", "%", Reach::AtMost(5.0)),
    ("native_mode", "", Reach::Exactly(1.0)),
    ("detection_seconds", "s", Reach::AtMost(2.0)),
    ("failed_new_connections_after_detection", "connections", Reach::Exactly(0.0)),
    ("broken_by_backend_kill", "connections", Reach::Exactly(0.0)),
    ("broken_by_backend_add", "connections", Reach::Exactly(0.0)),
    ("broken_by_backend_drain", "connections", Reach::Exactly(0.0)),
    ("broken_by_reload", "connections", Reach::Exactly(0.0)),
    ("broken_by_daemon_kill", "connections", Reach::Exactly(0.0)),
    ("broken_by_daemon_restart", "connections", Reach::Exactly(0.0)),
    ("broken_by_stop_and_start", "connections", Reach::Exactly(0.0)),
    ("moved_slots_percent_add_to_100", "%", Reach::AtMost(2.0)),
    ("new_backend_share_percent", "%", Reach::Between(0.9, 1.1)),
    ("established_flows_moved_by_add", "flows", Reach::Exactly(0.0)),
    ("new_connections_to_draining_backend", "connections", Reach::Exactly(0.0)),
    ("bad_reload_refused", "", Reach::Exactly(1.0)),
    ("failed_new_connections_during_changes", "connections", Reach::Exactly(0.0)),
    ("failed_uploads_of_1_mb", "uploads", Reach::Exactly(0.0)),
];

type Scene = fn(&mut Stage, &mut Report) -> Result<()>;

const SCENES: [(&str, Scene); 8] = [
    ("new connections spread by weight 1:2:3", spread::play),
    ("a backend is killed", kill_backend::play),
    ("a backend is added", add_backend::play),
    ("a backend is added to a hundred", table::play),
    ("a backend is drained", drain::play),
    ("the configuration is reloaded", reload::play),
    ("the daemon is killed and restarted under load", daemon_gone::killed),
    ("the daemon is stopped and started", daemon_gone::stopped),
];

/// Plays every scene. False: a promise was not kept.
///
/// # Errors
/// Nothing could be built; what goes wrong later is part of the report.
pub(crate) fn run_demo(options: &Options) -> Result<bool> {
    if !options.built {
        setup::run()?;
        run(cargo().args(["build", "--release", "-p", "lb-user", "--bin", "fairlead"]).args([
            "-p",
            "fairlead-tests",
            "--bin",
            "lab-peer",
        ]))?;
    }
    if !is_root() {
        return again_as_root(options);
    }
    lab::use_folder(target_dir().join("release"));
    if options.keep {
        lab::survive_us();
    }
    let mut report = Report::new(if options.ha { &ha::PROMISES } else { &PROMISES });
    let started = Instant::now();
    let played = if options.ha { ha::play(&mut report) } else { play(options, &mut report) };
    interrupt::stand_still_if_interrupted();
    describe(&mut report, started);
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if let Err(error) = &played {
        eprintln!("error: {error:#}");
    }
    Ok(played.is_ok() && report.ok())
}

fn play(options: &Options, report: &mut Report) -> Result<()> {
    eprintln!("== the lab: a client with 16 addresses, a balancer, four backends; IPv4 and IPv6");
    let mut stage = Stage::set()?;
    stage.check_native(report)?;
    for (number, (title, scene)) in SCENES.iter().enumerate() {
        eprintln!("== {}. {title}", number + 1);
        scene(&mut stage, report).with_context(|| format!("scene {}, {title}", number + 1))?;
    }
    report.counted("failed_new_connections_during_changes", stage.failed_connections)?;
    report.counted("failed_uploads_of_1_mb", stage.failed_uploads)?;
    if options.keep { stage.keep() } else { Ok(()) }
}

/// The same again with the rights of root; the build is the user's.
fn again_as_root(options: &Options) -> Result<bool> {
    let own = std::env::current_exe().context("xtask's own path")?;
    // sudo keeps no variables.
    let mut command = as_root("env")?;
    command
        .args(lab::quick().then_some("FAIRLEAD_QUICK=1"))
        .arg(own)
        .args(["demo", "--built"])
        .args(options.json.then_some("--json"))
        .args(options.ha.then_some("--ha"))
        .args(options.keep.then_some("--keep"));
    eprintln!("demo: $ {}", machine::shell_line(&command));
    Ok(command.status().context("cannot run the demo as root")?.success())
}

fn describe(report: &mut Report, started: Instant) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.environment("kernel", kernel.trim());
    report.environment("cpus", std::thread::available_parallelism().map_or(0, usize::from));
    report.environment("version", env!("CARGO_PKG_VERSION"));
    report.environment("profile", "release");
    report.environment("seconds", started.elapsed().as_secs());
}

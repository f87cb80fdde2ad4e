//! `fairlead run`: what the daemon is started with.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::logging::LogOptions;
use super::options::{Global, PinDir};

pub(super) const LONG_ABOUT: &str = "\
Start the daemon in the foreground. It attaches the XDP program to the interfaces that the configuration names and \
keeps its maps right. If a program of this instance is attached already, it is taken over without a packet noticing. \
SIGHUP reloads the configuration; SIGTERM and SIGINT stop the daemon while the program keeps forwarding.";

const EXAMPLES: &str = "\
Examples:
  fairlead run --config /etc/fairlead/fairlead.toml
  fairlead run --config f.toml --try 60s       # over ssh: detaches unless `fairlead confirm` comes within a minute
  fairlead run --config f.toml --netns balancer --instance lab --log-level debug";

/// Bounds of a trial: time enough to type, and an end on the same day.
const TRIAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Network namespace to work in, by name or path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Detach and stop after this time unless confirmed
    #[arg(long = "try", value_name = "TIME", value_parser = trial)]
    pub try_for: Option<Duration>,
    /// Where BPF objects are pinned.
    #[command(flatten)]
    pub pins: PinDir,
    /// Directory for what survives a restart of the machine
    #[arg(long, value_name = "DIR", env = "FAIRLEAD_STATE_DIR", default_value = "/var/lib/fairlead")]
    pub state_dir: PathBuf,
    /// Log lines from the BPF program: off, error, warn, info, debug or trace; costs speed
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    pub bpf_log: LevelFilter,
    /// The log.
    #[command(flatten)]
    pub log: LogOptions,
}

fn trial(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if TRIAL.contains(&duration) => Ok(duration),
        _ => Err("write 1s to 24h, with unit, such as 60s".to_owned()),
    }
}

/// What the daemon is started with. The network namespace is entered and the log is on already.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// Name of the instance: letters, digits, `-` and `_`, so that it can be part of a pin's path.
    pub instance: String,
    /// The API's Unix socket.
    pub socket: PathBuf,
    /// The namespace as the user named it, for messages.
    pub netns: Option<String>,
    /// Detach and stop after this time unless confirmed.
    pub try_for: Option<Duration>,
    /// Directory for pins of all instances.
    pub pin_dir: PathBuf,
    /// Directory for sockets and locks of all instances.
    pub run_dir: PathBuf,
    /// Directory for what survives a restart of the machine, of all instances.
    pub state_dir: PathBuf,
    /// Level of log lines from the BPF program.
    pub bpf_log: LevelFilter,
    /// How the log was set up.
    pub log: LogOptions,
}

pub(super) fn execute(args: RunArgs, global: &Global) -> anyhow::Result<()> {
    args.log.init(args.bpf_log);
    crate::daemon::run(options(args, global))
}

fn options(args: RunArgs, global: &Global) -> RunOptions {
    RunOptions {
        config: args.config,
        instance: global.instance.clone(),
        socket: global.socket_path(),
        netns: args.netns,
        try_for: args.try_for,
        pin_dir: args.pins.pin_dir,
        run_dir: global.run_dir.clone(),
        state_dir: args.state_dir,
        bpf_log: args.bpf_log,
        log: args.log,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn parsed(arguments: &str) -> RunOptions {
        let cli = Cli::try_parse_from(arguments.split(' ')).expect("parses");
        let Command::Run(args) = cli.command else { panic!("not `run`: {arguments}") };
        options(args, &cli.global)
    }

    #[test]
    fn options_say_where_everything_is() {
        let options = parsed(
            "fairlead run --config f.toml --instance edge --netns blue --try 1m --pin-dir /p --run-dir /r \
             --state-dir /s --bpf-log debug --log-level warn --log-format json",
        );
        assert_eq!((options.instance.as_str(), options.netns.as_deref()), ("edge", Some("blue")));
        assert_eq!(options.try_for, Some(Duration::from_secs(60)));
        assert_eq!(options.socket, PathBuf::from("/r/edge.sock"));
        assert_eq!((options.pin_dir, options.state_dir), (PathBuf::from("/p"), PathBuf::from("/s")));
        assert_eq!(options.bpf_log, LevelFilter::DEBUG);
    }

    #[test]
    fn a_socket_by_name_wins_over_the_instance() {
        let options = parsed("fairlead --socket /tmp/s run --config f.toml --instance edge");
        assert_eq!(options.socket, PathBuf::from("/tmp/s"));
        assert_eq!(options.try_for, None);
    }
}

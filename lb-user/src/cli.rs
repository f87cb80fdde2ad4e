//! The command line: what can be said, and from what is said to an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid configuration, 4 daemon unreachable, 5 conflict.

pub mod backend;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod decap;
pub mod failure;
pub mod flow;
mod frames;
pub mod ha;
pub mod logging;
pub mod metrics;
pub mod netns;
pub mod options;
pub mod output;
pub mod run;
pub mod service;
mod session;
pub mod status;
pub mod trace;

use std::ffi::OsString;
use std::io::Write;

use clap::{Parser, Subcommand};

use failure::{EXIT_OK, EXIT_USAGE};
use options::Global;
use session::Session;

const LONG_ABOUT: &str = "\
Fairlead is a layer-4 load balancer: an XDP program steers packets for virtual addresses to backends, and the daemon \
(`fairlead run`) checks the backends and keeps the program's maps right. All other commands talk to the daemon over \
its Unix socket, but for `config check` and `decap`, which need none.";

const EXAMPLES: &str = "\
Examples:
  fairlead config check /etc/fairlead/fairlead.toml
  fairlead run --config /etc/fairlead/fairlead.toml
  fairlead status
  fairlead backend drain web 10.0.0.11
  fairlead -o json service list | jq '.services[].name'

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid configuration, 4 daemon unreachable, 5 conflict";

/// Layer-4 load balancer on XDP
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the daemon in the foreground
    #[command(long_about = run::LONG_ABOUT)]
    Run(run::RunArgs),
    /// Show how the daemon and its program are
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// Show services
    #[command(subcommand, after_help = service::EXAMPLES)]
    Service(service::ServiceCommand),
    /// Show and change backends
    #[command(subcommand, after_help = backend::EXAMPLES)]
    Backend(backend::BackendCommand),
    /// Show flows and where they go
    #[command(subcommand, after_help = flow::EXAMPLES)]
    Flow(flow::FlowCommand),
    /// Explain what the program does with a frame
    #[command(long_about = trace::LONG_ABOUT)]
    Trace(trace::TraceArgs),
    /// Show what became of all packets, by reason
    Counters(counters::CountersArgs),
    /// Print the metrics as Prometheus gets them
    #[command(after_help = metrics::EXAMPLES)]
    Metrics,
    /// Show and change who answers for groups of VIPs
    #[command(subcommand, after_help = ha::EXAMPLES)]
    Ha(ha::HaCommand),
    /// Check, show and reload the configuration
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::ConfigCommand),
    /// Keep the program attached after `run --try`
    #[command(long_about = daemon::CONFIRM_ABOUT, after_help = daemon::CONFIRM_EXAMPLES)]
    Confirm,
    /// Stop the daemon; forwarding goes on unless --detach is given
    Stop(daemon::StopArgs),
    /// Decapsulate on a backend what balancers send in mode `ipip`
    #[command(subcommand, after_help = decap::EXAMPLES)]
    Decap(decap::DecapCommand),
}

impl Command {
    /// The network namespace to work in, if one is named.
    fn netns(&self) -> Option<&str> {
        match self {
            Self::Run(args) => args.netns.as_deref(),
            Self::Config(command) => command.netns(),
            Self::Decap(command) => command.netns(),
            _ => None,
        }
    }
}

/// Does what the arguments say and returns the exit code.
///
/// `--netns` is entered before anything else: call this before the process has a second thread.
pub fn run(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to hear about a broken stream.
            let _ = match error.use_stderr() {
                true => write!(err, "{}", error.render()),
                false => write!(out, "{}", error.render()),
            };
            return if error.exit_code() == 0 { EXIT_OK } else { EXIT_USAGE };
        }
    };
    let format = cli.global.output;
    match execute(cli, out) {
        Ok(code) => code,
        Err(error) => failure::report(&error, format, err),
    }
}

fn execute(cli: Cli, out: &mut dyn Write) -> anyhow::Result<u8> {
    if let Some(netns) = cli.command.netns() {
        netns::enter(netns)?;
    }
    let mut session = Session::new(&cli.global, out);
    match cli.command {
        Command::Run(args) => run::execute(args, &cli.global)?,
        Command::Status => status::execute(&mut session)?,
        Command::Service(command) => service::execute(command, &mut session)?,
        Command::Backend(command) => backend::execute(command, &mut session)?,
        Command::Flow(command) => flow::execute(command, &mut session)?,
        Command::Trace(args) => trace::execute(args, &mut session)?,
        Command::Counters(args) => counters::execute(args, &mut session)?,
        Command::Metrics => metrics::execute(&mut session)?,
        Command::Ha(command) => ha::execute(command, &mut session)?,
        Command::Config(command) => return config::execute(command, &mut session),
        Command::Confirm => daemon::confirm(&mut session)?,
        Command::Stop(args) => daemon::stop(args, &cli.global, &mut session)?,
        Command::Decap(command) => decap::execute(command, &mut session)?,
    }
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests;

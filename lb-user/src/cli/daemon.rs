//! `fairlead confirm` and `fairlead stop`.

use std::io;
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::options::{Global, PinDir};
use super::session::Session;
use crate::api::ClientError;
use crate::api::socket::remove_stale;
use crate::api::types::{Done, StopRequest};

pub(super) const CONFIRM_ABOUT: &str = "\
Keep the program attached after `run --try`. Without it the daemon detaches the program at the end of the trial and \
stops: a way back in when the program cuts off the very connection it was started over.";

pub(super) const CONFIRM_EXAMPLES: &str = "\
Examples:
  fairlead run --config /etc/fairlead/fairlead.toml --try 60s &
  fairlead confirm";

const STOP_EXAMPLES: &str = "\
Examples:
  fairlead stop            # the program keeps forwarding; the next `run` takes over
  fairlead stop --hold 5s  # the same, and peers leave this node the VIPs of groups for so long: a restart
  fairlead stop --detach   # the program and its pins are removed: forwarding ends

--detach needs no daemon: what a killed one left attached is removed as well.";

const MIN_HOLD: Duration = Duration::from_millis(100);
const MAX_HOLD: Duration = Duration::from_secs(60);

/// Arguments of `stop`.
#[derive(Debug, Args)]
#[command(after_help = STOP_EXAMPLES)]
pub struct StopArgs {
    /// Remove the program and its pins too: forwarding ends
    #[arg(long)]
    detach: bool,
    /// Keep the VIPs of groups for so long, up to 1m: for a restart that needs no failover. Peers are told by flow sync
    #[arg(long, value_name = "TIME", conflicts_with = "detach", value_parser = hold)]
    hold: Option<Duration>,
    /// Where the BPF objects are pinned: only needed with --detach when no daemon runs.
    #[command(flatten)]
    pins: PinDir,
}

fn hold(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (MIN_HOLD..=MAX_HOLD).contains(&time) => Ok(time),
        _ => Err("write a time from 100ms to 1m, such as 5s".to_owned()),
    }
}

pub(super) fn confirm(session: &mut Session<'_>) -> anyhow::Result<()> {
    session.send(Method::POST, "/v1/confirm", None::<&()>, |done: &Done| done.message.clone())
}

pub(super) fn stop(args: StopArgs, global: &Global, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = StopRequest {
        detach: args.detach,
        hold_ms: args.hold.and_then(|time| u32::try_from(time.as_millis()).ok()),
    };
    let stopped = session.send(Method::POST, "/v1/stop", Some(&request), |done: &Done| done.message.clone());
    let unreachable = |error: &anyhow::Error| matches!(error.downcast_ref(), Some(ClientError::Unreachable { source, .. }) if is_absence(source));
    match stopped {
        Err(error) if args.detach && unreachable(&error) => {}
        other => return other,
    }
    let done = crate::daemon::detach_without_daemon(&args.pins.pin_dir, &global.instance)?;
    remove_stale(&global.socket_path())?;
    session.print_value(&done, |done| done.message.clone())
}

/// Whether nobody is there, as opposed to somebody who may not be talked to.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

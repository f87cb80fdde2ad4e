//! `fairlead confirm` and `fairlead stop`.

use clap::Args;
use hyper::Method;

use super::session::Session;
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
  fairlead stop --detach   # the program and its pins are removed: forwarding ends";

/// Arguments of `stop`.
#[derive(Debug, Args)]
#[command(after_help = STOP_EXAMPLES)]
pub struct StopArgs {
    /// Remove the program and its pins too: forwarding ends
    #[arg(long)]
    detach: bool,
}

pub(super) fn confirm(session: &mut Session<'_>) -> anyhow::Result<()> {
    session.send(Method::POST, "/v1/confirm", None::<&()>, |done: &Done| done.message.clone())
}

pub(super) fn stop(args: StopArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = StopRequest { detach: args.detach };
    session.send(Method::POST, "/v1/stop", Some(&request), |done: &Done| done.message.clone())
}

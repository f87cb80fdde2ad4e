//! Two balancers with a VIP, whoever makes them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use fairlead_tests::lab::Lab;
use nix::sys::signal::Signal;

/// Two nodes of a lab, the first of which has the VIP whenever it can.
pub(super) trait Pair {
    /// Who they are.
    fn name(&self) -> &'static str;
    /// Where they are: two balancers, a client, the control pair.
    fn lab(&self) -> &Lab;
    /// The VIP that is watched.
    fn vip(&self) -> IpAddr;
    /// How often the active advertises.
    fn advert_interval(&self) -> Duration;
    /// Starts whatever does not run, and waits until the first has the VIP and the second is ready to take over.
    fn settle(&mut self) -> Result<()>;
    /// Kills the first's daemon with SIGKILL.
    fn kill(&mut self) -> Result<()>;
    /// Sends the first's daemon a signal: SIGSTOP, SIGCONT.
    fn signal(&self, signal: Signal) -> Result<()>;
    /// Whether the first takes its VIP back from a live peer; that is no part of what a failover is watched for.
    fn may_take_back(&self, may: bool) -> Result<()>;
    /// Lets the first give its VIPs to the second, as for planned work.
    fn hand_over(&mut self) -> Result<()>;
}

//! Two balancers with a VIP, whoever makes them, and how the first of them is taken away.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Cut, CutLink};
use crate::lab::Lab;

/// How the first node is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its link carries nothing any more, and it does not notice.
    Cut,
    /// Its daemon dies.
    Kill,
    /// Its daemon is stopped, and goes on when the other has taken over.
    Stop,
    /// It is asked to give its VIPs away.
    HandOver,
}

impl How {
    /// As in the names of measurements: `cut`, `kill`, `stop`, `handover`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::HandOver => "handover",
        }
    }
}

/// Two nodes of a lab, the first of which has the VIP whenever it can.
pub trait Pair {
    /// Who they are.
    fn name(&self) -> &'static str;
    /// Where they are: two balancers, a client, the control pair.
    fn lab(&self) -> &Lab;
    /// The VIP that is watched.
    fn vip(&self) -> IpAddr;
    /// How often the active advertises.
    fn advert_interval(&self) -> Duration;
    /// Starts whatever does not run, and waits until the first has the VIP and the second is ready to take over.
    ///
    /// # Errors
    /// That does not come to pass.
    fn settle(&mut self) -> Result<()>;
    /// Kills the first's daemon with SIGKILL.
    ///
    /// # Errors
    /// It cannot be killed.
    fn kill(&mut self) -> Result<()>;
    /// Sends the first's daemon a signal: SIGSTOP, SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    fn signal(&self, signal: Signal) -> Result<()>;
    /// Whether the first takes its VIP back from a live peer; that is no part of what a failover is watched for.
    ///
    /// # Errors
    /// It refuses.
    fn may_take_back(&self, may: bool) -> Result<()>;
    /// Lets the first give its VIPs to the second, as for planned work.
    ///
    /// # Errors
    /// It refuses.
    fn hand_over(&mut self) -> Result<()>;

    /// Takes the first away; a link that was cut is to be healed.
    ///
    /// # Errors
    /// It is not possible.
    fn disturb(&mut self, how: How) -> Result<Option<CutLink>> {
        match how {
            How::Cut => {
                let first = self.lab().balancers.first().context("a pair has two nodes")?;
                return Cut::Detached.apply(self.lab(), first).map(Some);
            }
            How::Kill => self.kill()?,
            How::Stop => self.signal(Signal::SIGSTOP)?,
            How::HandOver => self.hand_over()?,
        }
        Ok(None)
    }
}

//! A pair of Fairlead.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use fairlead_tests::lab::Lab;
pub(super) use fairlead_tests::lab::ha::FairleadPair;
use nix::sys::signal::Signal;

use super::pair::Pair;

impl Pair for FairleadPair {
    fn name(&self) -> &'static str {
        "fairlead"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn vip(&self) -> IpAddr {
        Self::vip(self)
    }

    fn advert_interval(&self) -> Duration {
        Self::advert_interval(self)
    }

    fn settle(&mut self) -> Result<()> {
        Self::settle(self)
    }

    fn kill(&mut self) -> Result<()> {
        Self::kill(self, 0)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.node(0)?.signal(signal)
    }

    fn may_take_back(&self, may: bool) -> Result<()> {
        self.node(0)?.ok(&["ha", if may { "resume" } else { "pause" }, "--all"]).map(|_| ())
    }

    fn hand_over(&mut self) -> Result<()> {
        self.node(0)?.ok(&["ha", "handover", "--all"]).map(|_| ())
    }
}

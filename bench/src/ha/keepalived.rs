//! A pair of keepalived: what the machine and the method come to with the peer that everybody knows.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use fairlead_tests::lab::Lab;
use fairlead_tests::lab::ha::keepalived::{Instance, State};
use fairlead_tests::lab::ha::{Keepalived, Pair};
use nix::sys::signal::Signal;

const INSTANCE: &str = "v4";
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Two keepalived with a VIP of IPv4, by multicast.
pub(super) struct KeepalivedPair {
    nodes: [Keepalived; 2],
    interval: Duration,
    lab: Lab,
}

impl KeepalivedPair {
    /// A lab with the two, not started yet. `real_time`: with `vrrp_rt_priority`.
    pub(super) fn new(interval: Duration, real_time: bool) -> Result<Self> {
        let lab = Lab::builder().balancers(2).backends(0).control().build()?;
        let (vip, _) = *lab.vips.first().context("the lab has a VIP")?;
        let node = |index: usize, priority| {
            let host = lab.balancers.get(index).context("the lab has two balancers")?;
            let instance = Instance::new(INSTANCE, 51, priority, interval, &[vip.into()]);
            let mut node = Keepalived::new(&lab, host, vec![instance])?;
            node.set_real_time(real_time);
            anyhow::Ok(node)
        };
        let nodes = [node(0, 150)?, node(1, 100)?];
        Ok(Self { nodes, interval, lab })
    }
}

impl Pair for KeepalivedPair {
    fn name(&self) -> &'static str {
        "keepalived"
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn vip(&self) -> IpAddr {
        self.lab.vips.first().map_or(IpAddr::from([0; 4]), |(v4, _)| (*v4).into())
    }

    fn advert_interval(&self) -> Duration {
        self.interval
    }

    fn settle(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_started()) {
            node.clean_addresses()?;
            node.start()?;
        }
        let [first, second] = &self.nodes;
        first.until(INSTANCE, State::Master, SETTLES_WITHIN)?;
        second.until(INSTANCE, State::Backup, SETTLES_WITHIN)
    }

    fn kill(&mut self) -> Result<()> {
        let [first, _] = &mut self.nodes;
        first.kill()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let [first, _] = &self.nodes;
        first.signal(signal)
    }

    /// keepalived has no command for that.
    fn may_take_back(&self, _may: bool) -> Result<()> {
        Ok(())
    }

    /// keepalived has no handing over: it ends, and says so.
    fn hand_over(&mut self) -> Result<()> {
        let [first, _] = &mut self.nodes;
        first.stop()
    }
}

//! A pair of keepalived with a VIP of each family, and a balancer with a herd.

use anyhow::{Context, Result};
use fairlead_tests::lab::ha::keepalived::{Instance, Keepalived, State};
use fairlead_tests::lab::ha::{AnswerWatch, Mac, mac_of};
use fairlead_tests::lab::{Lab, wait_until};
use std::net::IpAddr;
use std::time::Duration;

/// How often the pair advertises: quick, and slow enough for a machine that does other work as well.
pub(crate) const ADVERT: Duration = Duration::from_millis(100);
/// Limit for whatever is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Both families, as `v6`.
pub(crate) const FAMILIES: [bool; 2] = [false, true];

/// Two keepalived with a VIP of each family; the first has the higher priority.
pub(crate) struct Pair {
    pub(crate) nodes: Vec<Keepalived>,
    pub(crate) macs: Vec<Mac>,
    pub(crate) lab: Lab,
}

pub(crate) fn name(v6: bool) -> &'static str {
    if v6 { "v6" } else { "v4" }
}

impl Pair {
    pub(crate) fn start(unicast: bool) -> Result<Self> {
        let lab = Lab::builder().balancers(2).backends(0).control().build()?;
        let macs = lab.balancers.iter().map(mac_of).collect::<Result<_>>()?;
        let mut new = Self { nodes: vec![], macs, lab };
        for (index, host) in new.lab.balancers.iter().enumerate() {
            let instances = FAMILIES.map(|v6| {
                let peer = &new.lab.balancers[1 - index];
                let priority = if index == 0 { 150 } else { 100 };
                let instance = Instance::new(name(v6), 51, priority, ADVERT, &[new.vip(v6)]);
                if unicast { instance.unicast(&[peer.address_like(new.vip(v6))]) } else { instance }
            });
            new.nodes.push(Keepalived::new(&new.lab, host, instances.to_vec())?);
        }
        for node in &mut new.nodes {
            node.start()?;
        }
        new.settle()?;
        Ok(new)
    }

    /// Waits until the first is master and the second is backup of both families.
    pub(crate) fn settle(&self) -> Result<()> {
        for v6 in FAMILIES {
            self.nodes[0].until(name(v6), State::Master, SOON)?;
            self.nodes[1].until(name(v6), State::Backup, SOON)?;
        }
        Ok(())
    }

    pub(crate) fn vip(&self, v6: bool) -> IpAddr {
        let (v4, six) = self.lab.vips[0];
        if v6 { six.into() } else { v4.into() }
    }

    /// A watch that has been answered by the first node.
    pub(crate) fn watch(&self, v6: bool) -> Result<AnswerWatch> {
        let watch = AnswerWatch::start(&self.lab.client, self.vip(v6))?;
        until_answered_by(&watch, self.macs[0])?;
        Ok(watch)
    }
}

/// Waits until this station answers.
pub(crate) fn until_answered_by(watch: &AnswerWatch, mac: Mac) -> Result<()> {
    let waited = wait_until(&format!("{mac} answers"), SOON, || Ok(watch.answering() == Some(mac)));
    waited.with_context(|| format!("last answered by {:?}", watch.answering()))
}

/// Waits until the watch has been answered so many more times.
pub(crate) fn more_answers(watch: &AnswerWatch, count: u64) -> Result<()> {
    let goal = watch.answers() + count;
    wait_until("more answers", SOON, || Ok(watch.answers() >= goal))
}

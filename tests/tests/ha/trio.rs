//! Two or three Fairleads with a herd's servers behind them.

use anyhow::{Result, ensure};
use fairlead_tests::lab::ha::{AnswerWatch, Cluster, GROUP, Herd, HerdPlan, Mac, mac_of};
use fairlead_tests::lab::{Fairlead, Lab, Peer, quick, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::scene::*;

pub(crate) const PORT: u16 = 7100;

/// See above.
pub(crate) struct Trio {
    pub(crate) nodes: Vec<Fairlead>,
    pub(crate) macs: Vec<Mac>,
    _servers: Vec<Peer>,
    pub(crate) lab: Lab,
}

impl Trio {
    pub(crate) fn new(count: u8, change: impl FnOnce(&mut Cluster)) -> Result<Self> {
        Self::within(Lab::builder().balancers(count).backends(3).control().build()?, change)
    }

    /// In a lab with three backends, where each balancer is a node.
    pub(crate) fn within(lab: Lab, change: impl FnOnce(&mut Cluster)) -> Result<Self> {
        let servers = Herd::servers(&lab, PORT)?;
        let (v4, v6) = lab.vips[0];
        let mut rest = "[limits]\nflows = 65536\n".to_owned();
        for (name, vip) in [("herd", IpAddr::from(v4)), ("herd6", v6.into())] {
            writeln!(
                rest,
                "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\nmode = \"l2\"\ntable_size = 4093"
            )?;
            for host in &lab.backends {
                writeln!(rest, "[[service.backend]]\naddress = \"{}\"", host.address_like(vip))?;
            }
        }
        let mut cluster = Cluster::new(ADVERT, &rest);
        change(&mut cluster);
        let nodes = cluster.daemons(&lab)?;
        let macs = lab.balancers.iter().map(mac_of).collect::<Result<_>>()?;
        Ok(Self { nodes, macs, _servers: servers, lab })
    }

    pub(crate) fn start(count: u8, change: impl FnOnce(&mut Cluster)) -> Result<Self> {
        let mut new = Self::new(count, change)?;
        new.nodes.iter_mut().try_for_each(Fairlead::start)?;
        new.until_only(0)?;
        Ok(new)
    }

    pub(crate) fn vip(&self, v6: bool) -> IpAddr {
        let (v4, six) = self.lab.vips[0];
        if v6 { six.into() } else { v4.into() }
    }

    pub(crate) fn watch(&self, v6: bool) -> Result<AnswerWatch> {
        AnswerWatch::start(&self.lab.client, self.vip(v6))
    }

    /// Waits until this node is active, and every other one that runs is backup.
    pub(crate) fn until_only(&self, active: usize) -> Result<()> {
        wait_until(&format!("node {active} is the only active one"), SOON, || {
            for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
                let wanted = if index == active { "active" } else { "backup" };
                if role(&node.json(&["ha", "status"])?) != Some(wanted) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Waits until this node, a backup, may take over from a live peer: it has all flows. Nothing without flow sync.
    pub(crate) fn until_ready(&self, node: usize, sync: &str) -> Result<()> {
        if sync.is_empty() {
            return Ok(());
        }
        wait_until(&format!("node {node} has all flows"), SOON, || Ok(self.group(node)?["ready"] == true))
    }

    /// The group as this node shows it.
    pub(crate) fn group(&self, node: usize) -> Result<Value> {
        let status = self.nodes[node].json(&["ha", "status"])?;
        Ok(status["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|group| group["name"] == GROUP)
            .cloned()
            .unwrap_or_default())
    }

    /// What this node says of its only peer.
    pub(crate) fn peer(&self, node: usize) -> Result<Value> {
        Ok(self.nodes[node].json(&["ha", "status"])?["sync"]["peers"][0].clone())
    }

    /// The last backend joins the herd's services on these nodes, or leaves them: tables change.
    pub(crate) fn change_pool(&self, nodes: &[usize], add: bool) -> Result<()> {
        for (node, vip) in
            nodes.iter().flat_map(|node| [("herd", false), ("herd6", true)].map(|vip| (node, vip)))
        {
            let (service, v6) = vip;
            let backend = self.lab.backends[2].address_like(self.vip(v6)).to_string();
            self.nodes[*node].ok(&["backend", if add { "add" } else { "remove" }, service, &backend])?;
        }
        Ok(())
    }

    pub(crate) fn herd(&self, v6: bool) -> Result<Herd> {
        let plan = HerdPlan::new(if quick() { 200 } else { 2_000 });
        let vip = self.vip(v6);
        Herd::open(&self.lab.client, self.lab.client.address_like(vip), (vip, PORT).into(), plan)
    }
}

pub(crate) fn role(status: &Value) -> Option<&str> {
    status["groups"].as_array()?.iter().find(|group| group["name"] == GROUP)?["role"].as_str()
}

pub(crate) fn whole(herd: Herd) -> Result<()> {
    let checkup = herd.check(SOON)?;
    ensure!(checkup.broken.is_empty(), "{} broken: {:?}", checkup.broken.len(), checkup.reasons());
    Ok(())
}

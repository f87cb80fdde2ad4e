//! Two Fairleads that stand in for each other, with services at a VIP of IPv4.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Cluster, CutLink, GROUP, Herd, How, Pair};
use crate::lab::{Fairlead, Lab, Peer, wait_until};

/// The port of the service that the herd is served at.
pub const HERD: u16 = 7_100;
/// The port of the service that the stream is answered at.
pub const STREAM: u16 = 5_300;
/// The port of the service whose flows are made of frames.
pub const FLOWS: u16 = 7_200;
/// Backends that serve from the beginning; the last of the lab's is added and removed.
const SERVING: u8 = 3;
/// Entries of the flow table: four times the flows of the largest row.
const TABLE: u32 = 1 << 20;
/// New flows a second before the guard stands in: it never does.
const GUARD: u32 = 10_000_000;
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// Two Fairleads with services at a VIP of IPv4.
#[derive(Debug)]
pub struct FairleadPair {
    nodes: Vec<Fairlead>,
    interval: Duration,
    _servers: Vec<Peer>,
    /// Where they are.
    pub lab: Lab,
}

impl FairleadPair {
    /// A lab with the two, not started yet; `sync`: as in the configuration, nothing if empty.
    ///
    /// # Errors
    /// A part of the lab, or a file, can't be had.
    pub fn new(interval: Duration, sync: &str) -> Result<Self> {
        let lab = Lab::builder().balancers(2).backends(SERVING + 1).control().build()?;
        let mut servers = Herd::servers(&lab, HERD)?;
        let (vip, _) = *lab.vips.first().context("the lab has a VIP")?;
        for host in &lab.backends {
            servers.push(Peer::udp(&lab, host, STREAM, &[vip.into()])?);
        }
        let cluster = Cluster {
            sync: sync.to_owned(),
            vips: vec![vip.into()],
            ..Cluster::new(interval, &services(&lab))
        };
        let nodes = cluster.daemons(&lab)?;
        Ok(Self { nodes, interval, _servers: servers, lab })
    }

    /// One of the nodes.
    ///
    /// # Errors
    /// There is no such node.
    pub fn node(&self, index: usize) -> Result<&Fairlead> {
        self.nodes.get(index).context("a pair has two nodes")
    }

    /// Gives the first backend of the herd's service this weight on these nodes, so that their tables change.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn weigh(&self, nodes: &[usize], weight: u32) -> Result<()> {
        let backend = self.lab.backends.first().context("the lab has backends")?.v4.to_string();
        for node in nodes {
            self.node(*node)?.ok(&["backend", "weight", "herd", &backend, &weight.to_string()])?;
        }
        Ok(())
    }

    /// Adds or removes the last backend of the herd's service on these nodes, so that their tables change.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn change_pool(&self, nodes: &[usize], add: bool) -> Result<()> {
        let backend = self.lab.backends.last().context("the lab has backends")?.v4.to_string();
        for node in nodes {
            self.node(*node)?.ok(&["backend", if add { "add" } else { "remove" }, "herd", &backend])?;
        }
        Ok(())
    }

    /// Starts the nodes that do not run.
    ///
    /// # Errors
    /// One does not start.
    pub fn start_missing(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.pid().is_none()).try_for_each(Fairlead::start)
    }

    /// Where a node's flow table is pinned.
    ///
    /// # Errors
    /// There is no such node.
    pub fn flow_table(&self, index: usize) -> Result<(PathBuf, u32)> {
        Ok((self.node(index)?.pins().join("main/maps/FLOWS"), TABLE))
    }

    /// Makes the first well again after it was taken away so. It takes the VIP back by itself, once it has all flows and
    /// the pools are alike.
    ///
    /// # Errors
    /// It is not possible.
    pub fn bring_back(&mut self, how: How, link: Option<CutLink>) -> Result<()> {
        match how {
            How::Stop => self.signal(Signal::SIGCONT)?,
            // Nothing but an operator's word gives it back.
            How::HandOver => drop(self.node(0)?.ok(&["ha", "resume", "--all"])?),
            How::Cut | How::Kill => {}
        }
        if let Some(link) = link {
            link.heal()?;
        }
        self.start_missing()
    }
}

impl Pair for FairleadPair {
    fn name(&self) -> &'static str {
        "fairlead"
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
        self.start_missing()?;
        let mut last = [Value::Null, Value::Null];
        let settled = wait_until("the first is active and the second ready", SETTLES_WITHIN, || {
            for (last, node) in last.iter_mut().zip(&self.nodes) {
                *last = node.json(&["ha", "status"])?;
            }
            let [first, second] = &last;
            Ok(role(first) == Some("active") && role(second) == Some("backup") && is_ready(second))
        });
        settled.with_context(|| format!("{} and {}", last[0], last[1]))
    }

    fn kill(&mut self) -> Result<()> {
        self.nodes.first_mut().context("a pair has two nodes")?.kill();
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.node(0)?.signal(signal)
    }

    fn may_take_back(&self, may: bool) -> Result<()> {
        self.node(0)?.ok(&["ha", if may { "resume" } else { "pause" }, "--all"]).map(drop)
    }

    fn hand_over(&mut self) -> Result<()> {
        self.node(0)?.ok(&["ha", "handover", "--all"]).map(drop)
    }
}

fn services(lab: &Lab) -> String {
    let mut text = format!("[limits]\nflows = {TABLE}\nnew_flows_per_second = {GUARD}\n");
    let Some((vip, _)) = lab.vips.first() else { return text };
    for (name, port, protocol) in [("herd", HERD, "tcp"), ("stream", STREAM, "udp"), ("flows", FLOWS, "tcp")]
    {
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"l2\"\n"
        );
        for backend in lab.backends.iter().take(usize::from(SERVING)) {
            let _ = write!(text, "[[service.backend]]\naddress = \"{}\"\n", backend.v4);
        }
    }
    text
}

/// What `fairlead ha status -o json` says the group's role is here: `active`, `backup`.
fn role(status: &Value) -> Option<&str> {
    let mut groups = status["groups"].as_array()?.iter();
    groups.find(|group| group["name"] == GROUP)?["role"].as_str()
}

/// Whether it may take over from a live peer: its flows are complete.
fn is_ready(status: &Value) -> bool {
    let mut groups = status["groups"].as_array().into_iter().flatten();
    groups.any(|group| group["name"] == GROUP && group["ready"] != false)
}

//! What becomes of flows when the pool changes.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Broken, Fairlead, Lab, Line, LineClient, Peer, wait_until};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::scene::*;

/// Flows of each kind: so many that no backend is left out by chance.
const FLOWS: usize = 30;

/// A balancer over the first `backends` of its lab, with TCP and UDP flows in both families that have been answered.
struct Pool {
    lines: LineClient,
    sockets: Vec<UdpSocket>,
    /// Who answered each of the sockets at first.
    answered: Vec<String>,
    balancer: Fairlead,
    _servers: Vec<Peer>,
    lab: Lab,
}

impl Pool {
    fn start(all: u8, backends: usize) -> Result<Self> {
        let lab = Lab::builder().backends(all).build()?;
        decaps(&lab)?;
        let mut servers = liners(&lab)?;
        servers.extend(echoes(&lab)?);
        let services = FAMILIES.into_iter().flat_map(|v6| {
            let lines = Service::new(&named("lines", v6), vip(v6, 0), LINES);
            let echo = Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp");
            [lines, echo].map(|service| service.over(&lab.backends[..backends]))
        });
        let config = config(&services.collect::<Vec<_>>());
        let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config)?;
        let lines = LineClient::start(&lab.client.ns);
        let mut new = Self { lines, sockets: vec![], answered: vec![], balancer, _servers: servers, lab };
        new.lines.open(&new.ends())?;
        for v6 in FAMILIES {
            new.sockets.extend(asking(&new.lab, vip(v6, 0), FLOWS)?);
        }
        new.answered = ask_all(&new.sockets, "first")?;
        ensure_served_by(&census(&new.answered), &new.lab.backends[..backends])?;
        ensure_served_by(&new.line_census(), &new.lab.backends[..backends])?;
        Ok(new)
    }

    fn ends(&self) -> Vec<(IpAddr, SocketAddr)> {
        let end = |v6| (own(&self.lab.client, v6), SocketAddr::new(vip(v6, 0), LINES));
        FAMILIES.into_iter().flat_map(|v6| std::iter::repeat_n(end(v6), FLOWS)).collect()
    }

    fn line_census(&self) -> Census {
        census(&self.lines.lines().into_iter().map(|line| line.backend).collect::<Vec<_>>())
    }

    /// Runs `fairlead backend <command> SERVICE <backend's address> <argument>` for all services.
    fn change(&self, command: &str, backend: usize, arguments: &[&str]) -> Result<()> {
        for v6 in FAMILIES {
            let address = own(&self.lab.backends[backend], v6).to_string();
            for service in ["lines", "echo"] {
                let service = named(service, v6);
                self.balancer.ok(&[&["backend", command, &service, &address], arguments].concat())?;
            }
        }
        Ok(())
    }

    fn line_broken(&self) -> Vec<Line> {
        self.lines.lines().into_iter().filter(|line| line.broken.is_some()).collect()
    }

    /// Every flow that there is is answered by its backend still.
    fn ensure_none_moved(&self, after: &str) -> Result<()> {
        ensure!(ask_all(&self.sockets, after)? == self.answered, "UDP flows moved after: {after}");
        let before = self.lines.lines();
        wait_until("each connection has carried two more lines", SOON, || {
            let broken = self.line_broken();
            ensure!(broken.is_empty(), "after: {after}: {broken:?}");
            let now = self.lines.lines();
            Ok(now.iter().zip(&before).all(|(now, before)| now.heard >= before.heard + 2))
        })
    }

    /// Who answers new flows, TCP and UDP of both families.
    fn newcomers(&self) -> Result<Census> {
        let fresh = LineClient::start(&self.lab.client.ns);
        fresh.open(&self.ends())?;
        let mut names: Vec<String> = fresh.lines().into_iter().map(|line| line.backend).collect();
        for v6 in FAMILIES {
            names.extend(ask_all(&asking(&self.lab, vip(v6, 0), FLOWS)?, "newcomer")?);
        }
        Ok(census(&names))
    }
}

#[test]
fn flows_stay_when_weights_change_and_when_a_backend_is_added() -> Result<()> {
    let pool = Pool::start(3, 2)?;
    pool.change("weight", 0, &["9"])?;
    pool.ensure_none_moved("weight 9")?;
    ensure_served_by(&pool.newcomers()?, &pool.lab.backends[..2])?;
    pool.change("weight", 0, &["1"])?;
    pool.change("add", 2, &["--weight", "2"])?;
    pool.ensure_none_moved("a third backend")?;
    ensure_served_by(&pool.newcomers()?, &pool.lab.backends)?;
    Ok(())
}

#[test]
fn flows_of_a_disabled_backend_are_picked_anew_and_others_stay() -> Result<()> {
    let pool = Pool::start(3, 3)?;
    let left = &pool.lab.backends[1..];
    pool.change("disable", 0, &[])?;
    let after = ask_all(&pool.sockets, "second")?;
    ensure_served_by(&census(&after), left)?;
    for (before, after) in pool.answered.iter().zip(&after) {
        ensure!(before == "backend1" || before == after, "a flow moved from {before} to {after}");
    }
    // The new backend knows nothing of the connection and resets it.
    let lost = pool.lines.lines().iter().filter(|line| line.backend == "backend1").count();
    wait_until("the connections are reset", SOON, || Ok(pool.line_broken().len() >= lost))?;
    for line in pool.line_broken() {
        ensure!(line.backend == "backend1", "{line:?}");
        let why = line.broken.as_ref().map(|(_, why)| why);
        ensure!(matches!(why, Some(Broken::Reset(_))), "{line:?}");
    }
    ensure_served_by(&pool.newcomers()?, left)?;
    ensure!(counter(&pool.balancer, "flow_repicked")? > 0, "flows were picked anew without being counted");
    Ok(())
}

/// `leave` makes a backend keep what it has and take nothing new; `back` ends that.
fn only_old_flows_stay(leave: (&str, &[&str]), back: (&str, &[&str])) -> Result<()> {
    let pool = Pool::start(2, 2)?;
    pool.change(leave.0, 0, leave.1)?;
    let state: Value = backend_of(&pool.balancer, "lines4", own(&pool.lab.backends[0], false))?;
    ensure!(state["slot_state"] == "draining", "{state}");
    for after in [leave.0, "once more"] {
        pool.ensure_none_moved(after)?;
    }
    ensure_served_by(&pool.newcomers()?, &pool.lab.backends[1..])?;
    pool.change(back.0, 0, back.1)?;
    pool.ensure_none_moved(back.0)?;
    ensure_served_by(&pool.newcomers()?, &pool.lab.backends)
}

#[test]
fn drained_backend_keeps_its_flows_and_takes_no_new_ones_until_enabled() -> Result<()> {
    only_old_flows_stay(("drain", &[]), ("enable", &[]))
}

#[test]
fn backend_of_weight_0_keeps_its_flows_and_takes_no_new_ones_until_it_weighs_something() -> Result<()> {
    only_old_flows_stay(("weight", &["0"]), ("weight", &["1"]))
}

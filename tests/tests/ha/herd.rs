//! The herd on a real balancer: whole where nothing breaks, and every break told.

use anyhow::{Result, ensure};
use fairlead_tests::lab::ha::herd::Break;
use fairlead_tests::lab::ha::{Herd, HerdPlan};
use fairlead_tests::lab::{Fairlead, Lab, Peer, quick, wait_until};
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::scene::*;

const PORT: u16 = 7100;

/// A balancer without high availability, and a herd through it.
struct Grazing {
    herd: Herd,
    balancer: Fairlead,
    servers: Vec<Peer>,
    lab: Lab,
}

impl Grazing {
    fn start(v6: bool, backends: usize, plan: HerdPlan) -> Result<Self> {
        let lab = Lab::builder().backends(3).build()?;
        let servers = Herd::servers(&lab, PORT)?;
        let (v4, six) = lab.vips[0];
        let vip: IpAddr = if v6 { six.into() } else { v4.into() };
        let mut config = format!(
            "[[interface]]\nname = \"eth0\"\n[limits]\nflows = 65536\n[[service]]\nname = \"herd\"\nvip = \"{vip}\"\n\
             port = {PORT}\nmode = \"l2\"\ntable_size = 4093\n"
        );
        for host in &lab.backends[..backends] {
            writeln!(config, "[[service.backend]]\naddress = \"{}\"", host.address_like(vip))?;
        }
        let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config)?;
        let herd = Herd::open(&lab.client, lab.client.address_like(vip), (vip, PORT).into(), plan)?;
        ensure!(herd.backends().len() == backends, "served by {:?}", herd.backends());
        ensure!(herd.backends().values().sum::<usize>() == plan.connections);
        Ok(Self { herd, balancer, servers, lab })
    }
}

#[test]
fn herd_is_whole_over_a_changed_pool_and_a_restarted_daemon() -> Result<()> {
    for v6 in FAMILIES {
        let plan = HerdPlan::new(if quick() { 200 } else { 2_000 });
        let mut grazing = Grazing::start(v6, 2, plan)?;
        let before = grazing.herd.answers();
        let added = grazing.lab.backends[2].address_like(grazing.lab.vips[0].0.into());
        let added = if v6 { grazing.lab.backends[2].v6.into() } else { added };
        grazing.balancer.ok(&["backend", "add", "herd", &added.to_string()])?;
        grazing.balancer.kill();
        wait_until("requests are answered", SOON, || Ok(grazing.herd.answers() > before + 100))?;
        grazing.balancer.start()?;
        let checkup = grazing.herd.check(SOON)?;
        ensure!(checkup.broken.is_empty(), "{:?}", checkup.reasons());
        assert_eq!(checkup.connections, plan.connections);
        ensure!(grazing.herd.check(SOON)?.broken.is_empty(), "a second check");
    }
    Ok(())
}

#[test]
fn herd_tells_those_that_a_repicked_backend_resets_idle_ones_at_the_check() -> Result<()> {
    let grazing = Grazing::start(false, 3, HerdPlan { idle: 60, bulk: 2, ..HerdPlan::new(90) })?;
    let lost = grazing.herd.backends()["backend1"];
    let address = grazing.lab.backends[0].v4.to_string();
    grazing.balancer.ok(&["backend", "disable", "herd", &address])?;
    let checkup = grazing.herd.check(SOON)?;
    assert_eq!(checkup.broken.len(), lost, "{:?}", checkup.reasons());
    for one in &checkup.broken {
        ensure!(one.backend == "backend1" && matches!(one.why, Break::Reset(_)), "{one:?}");
    }
    assert_eq!(grazing.herd.check(SOON)?.broken.len(), lost, "the others live on");
    Ok(())
}

#[test]
fn herd_tells_those_that_are_not_answered_in_time() -> Result<()> {
    let plan = HerdPlan { idle: 10, bulk: 2, ..HerdPlan::new(30) };
    let grazing = Grazing::start(false, 2, plan)?;
    let silent = grazing.herd.backends()["backend2"];
    grazing.servers[1].signal(nix::sys::signal::Signal::SIGSTOP)?;
    let checkup = grazing.herd.check(std::time::Duration::from_secs(1))?;
    assert_eq!(checkup.broken.len(), silent, "{:?}", checkup.reasons());
    ensure!(checkup.broken.iter().all(|one| matches!(one.why, Break::Silent(_))), "{:?}", checkup.reasons());
    Ok(())
}

#[test]
fn herd_tells_those_whose_server_has_died() -> Result<()> {
    let mut grazing = Grazing::start(true, 2, HerdPlan { idle: 10, bulk: 2, ..HerdPlan::new(30) })?;
    let dead = grazing.herd.backends()["backend1"];
    grazing.servers[0].kill();
    let checkup = grazing.herd.check(SOON)?;
    assert_eq!(checkup.broken.len(), dead, "{:?}", checkup.reasons());
    Ok(())
}

#[test]
fn larger_herd_than_there_are_files_for_is_refused() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let (vip, _) = lab.vips[0];
    let plan = HerdPlan::new(100_000);
    ensure!(Herd::open(&lab.client, lab.client.v4.into(), (vip, PORT).into(), plan).is_err());
    Ok(())
}

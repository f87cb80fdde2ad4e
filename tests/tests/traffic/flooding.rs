//! Two balancers with the same VIP on a switch that floods everything to everyone.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab, VipRoute, wait_until};
use serde_json::Value;

use crate::scene::*;

fn packets_of(balancer: &Fairlead, service: &str) -> Result<u64> {
    let shown = balancer.get(&format!("/v1/services/{service}"))?;
    shown["packets"].as_u64().ok_or_else(|| anyhow::anyhow!("packets in {shown}"))
}

/// A lab whose switch learns nothing; IPv4 goes to the first balancer, IPv6 to the second.
fn hub() -> Result<Lab> {
    let lab = Lab::builder().balancers(2).backends(2).vip_route(VipRoute::Balancer(0)).build()?;
    lab.client.ns.ip(&format!("route replace {}/128 via {}", vip(true, 0), lab.balancers[1].v6))?;
    for host in [&lab.client].into_iter().chain(&lab.balancers).chain(&lab.backends) {
        lab.bridge.ip(&format!("link set dev {} type bridge_slave learning off flood on", host.role))?;
    }
    lab.bridge.ip("link set br0 type bridge ageing_time 0\nlink set br0 type bridge fdb_flush")?;
    Ok(lab)
}

fn launch(lab: &Lab, mode: &str) -> Result<Vec<Fairlead>> {
    let service = |v6| Service::new(&named("web", v6), vip(v6, 0), WEB).key("mode", mode).over(&lab.backends);
    let config = config(&FAMILIES.map(service));
    lab.balancers.iter().map(|host| Fairlead::launch(lab, host, &config)).collect()
}

/// Each balancer has forwarded what was addressed to it and seen the other's frames pass.
fn each_forwards_its_own(balancers: &[Fairlead]) -> Result<()> {
    for (balancer, [its, others]) in balancers.iter().zip([["web4", "web6"], ["web6", "web4"]]) {
        ensure!(packets_of(balancer, its)? > 0, "{its} went another way");
        assert_eq!(packets_of(balancer, others)?, 0, "{others} was forwarded by the wrong balancer");
    }
    for (one, other, service) in [(0, 1, "web4"), (1, 0, "web6")] {
        let (forwarded, seen) =
            (packets_of(&balancers[one], service)?, counter(&balancers[other], "passed_other_mac")?);
        ensure!(seen >= forwarded, "{seen} frames were flooded, {forwarded} forwarded: that was no hub");
    }
    Ok(())
}

#[test]
fn flooded_frames_are_forwarded_once_by_the_balancer_they_are_addressed_to_through_ipip() -> Result<()> {
    let lab = hub()?;
    let (decaps, _webs) = (decaps(&lab)?, webs(&lab)?);
    let balancers = launch(&lab, "ipip")?;
    for v6 in FAMILIES {
        let served = visit(&lab, vip(v6, 0), 40)?;
        ensure_served_by(&served, &lab.backends)?;
    }
    each_forwards_its_own(&balancers)?;
    // A hub shows every tunnelled frame to every backend: each must have seen exactly what was forwarded once.
    let mut last = Value::Null;
    let all_seen = wait_until("every backend has seen each forwarded frame once", SOON, || {
        let forwarded = counter(&balancers[0], "forwarded")? + counter(&balancers[1], "forwarded")?;
        let seen =
            decaps.iter().map(|decap| decap_counter(decap, "decapsulated")).collect::<Result<Vec<_>>>()?;
        last = serde_json::json!({ "forwarded": forwarded, "seen": seen });
        Ok(seen.iter().all(|seen| *seen == forwarded))
    });
    ensure!(all_seen.is_ok(), "{last}");
    Ok(())
}

#[test]
fn flooded_frames_are_forwarded_once_by_the_balancer_they_are_addressed_to_through_l2() -> Result<()> {
    let lab = hub()?;
    let _webs = webs(&lab)?;
    let balancers = launch(&lab, "l2")?;
    for v6 in FAMILIES {
        let served = visit(&lab, vip(v6, 0), 40)?;
        ensure_served_by(&served, &lab.backends)?;
    }
    each_forwards_its_own(&balancers)
}

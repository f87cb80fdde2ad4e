//! What is not steered: ports without a service, fragments, and what is the balancer's own.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab, LineClient, Peer, http, udp, wait_until};
use std::io::ErrorKind;
use std::time::Duration;

use crate::scene::*;

const UNKNOWN: u16 = 4444;

fn echo_services(lab: &Lab) -> [Service; 2] {
    FAMILIES.map(|v6| {
        Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp").over(&lab.backends)
    })
}

#[test]
fn packets_to_a_port_without_service_are_dropped_and_counted() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&echo_services(&lab)))?;
    for v6 in FAMILIES {
        let (vip, source) = (vip(v6, 0), own(&lab.client, v6));
        let before = counter(&balancer, "unknown_port")?;
        let socket =
            lab.client.ns.enter(|| udp::open((source, 0).into(), (vip, UNKNOWN).into(), http::PATIENCE))?;
        for _ in 0..5 {
            socket.send(b"anybody?")?;
        }
        wait_until("all five are dropped", SOON, || Ok(counter(&balancer, "unknown_port")? >= before + 5))?;
        assert_eq!(counter(&balancer, "unknown_port")?, before + 5);
        // TCP on the port of a UDP service is unknown as well: no answer, not even a refusal.
        let patience = Duration::from_millis(300);
        let refused = lab.client.ns.enter(|| http::connect(Some(source), (vip, ECHO).into(), patience));
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
        ensure!(counter(&balancer, "unknown_port")? > before + 5, "the SYN was not counted");
        assert_eq!(ask_all(&asking(&lab, vip, 1)?, "known port")?, ["backend1"]);
    }
    Ok(())
}

#[test]
fn packets_to_a_port_without_service_reach_the_balancers_kernel_if_they_may_pass() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    let services = echo_services(&lab).map(|service| service.key("unknown_port", "pass"));
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&services))?;
    for v6 in FAMILIES {
        let (vip, source) = (vip(v6, 0), own(&lab.client, v6));
        // So that the kernel takes the VIP for its own and says something; it does not get the address.
        lab.balancers[0].ns.ip(&format!("route add local {vip} dev lo"))?;
        let connect = || http::connect(Some(source), (vip, UNKNOWN).into(), http::PATIENCE).map(drop);
        let answer = lab.client.ns.enter(connect).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::ConnectionRefused), "{vip}");
        // A service is not the kernel's business even so.
        assert_eq!(ask_all(&asking(&lab, vip, 1)?, "known port")?, ["backend1"]);
    }
    assert_eq!((counter(&balancer, "passed_unknown_port")?, counter(&balancer, "unknown_port")?), (2, 0));
    Ok(())
}

#[test]
fn fragments_are_dropped_and_counted() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&echo_services(&lab)))?;
    for v6 in FAMILIES {
        let socket = &asking(&lab, vip(v6, 0), 1)?[0];
        // Two whole frames and a rest.
        let (before, large) = (counter(&balancer, "fragment")?, "x".repeat(3500));
        socket.send(large.as_bytes())?;
        wait_until("all fragments are dropped", SOON, || Ok(counter(&balancer, "fragment")? >= before + 3))?;
        assert_eq!(counter(&balancer, "fragment")?, before + 3);
        // The next answer is not that to the large datagram.
        assert_eq!(udp::ask(socket, "small")?, "backend1");
    }
    Ok(())
}

#[test]
fn traffic_to_the_balancers_own_address_is_the_kernels() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let host = &lab.balancers[0];
    let own_addresses = [host.v4.into(), host.v6.into()];
    let _ssh = (Peer::lines(&lab, host, 22)?, Peer::udp(&lab, host, ECHO, &own_addresses)?);
    let lines = LineClient::start(&lab.client.ns);
    let end = |v6| (own(&lab.client, v6), (own(host, v6), 22).into());
    lines.open(&FAMILIES.map(end)).context("before the balancer starts")?;
    let balancer = Fairlead::launch(&lab, host, &config(&echo_services(&lab)))?;
    lines.open(&FAMILIES.map(end)).context("while the balancer runs")?;
    for v6 in FAMILIES {
        let (source, target) = ((own(&lab.client, v6), 0).into(), (own(host, v6), ECHO).into());
        let socket = lab.client.ns.enter(|| udp::open(source, target, http::PATIENCE))?;
        assert_eq!(udp::ask(&socket, "own")?, "balancer1");
    }
    wait_until("each connection has carried five lines", SOON, || {
        let now = lines.lines();
        ensure!(now.iter().all(|line| line.broken.is_none() && line.backend == "balancer1"), "{now:?}");
        Ok(now.iter().all(|line| line.heard >= 5))
    })?;
    ensure!(counter(&balancer, "passed_not_vip")? > 0, "nothing was counted");
    assert_eq!(counter(&balancer, "forwarded")?, 0);
    Ok(())
}

//! The client reaches the VIP on every backend, over each transport, family and mode.

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab};

use crate::scene::*;

/// So many connections that none of three backends is left out by chance.
const MANY: usize = 90;

fn all_services(lab: &Lab, mode: &str) -> String {
    let services = FAMILIES.into_iter().flat_map(|v6| {
        let web = Service::new(&named("web", v6), vip(v6, 0), WEB);
        let echo = Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp");
        [web, echo].map(|service| service.key("mode", mode).over(&lab.backends))
    });
    config(&services.collect::<Vec<_>>())
}

/// TCP and UDP, both families: all backends answer, from the VIP, and a UDP flow stays where it is.
fn every_backend_answers(lab: &Lab) -> Result<()> {
    for v6 in FAMILIES {
        let vip = vip(v6, 0);
        let served = visit(lab, vip, MANY)?;
        ensure_served_by(&served, &lab.backends)?;
        let sockets = asking(lab, vip, MANY)?;
        let first = ask_all(&sockets, "first")?;
        ensure_served_by(&census(&first), &lab.backends)?;
        for round in ["second", "third", "fourth"] {
            ensure!(ask_all(&sockets, round)? == first, "{vip}: a UDP flow moved at its {round} datagram");
        }
    }
    Ok(())
}

#[test]
fn every_backend_answers_tcp_and_udp_in_both_families_through_ipip() -> Result<()> {
    let lab = Lab::builder().backends(3).build()?;
    let (decaps, _webs, _echoes) = (decaps(&lab)?, webs(&lab)?, echoes(&lab)?);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &all_services(&lab, "ipip"))?;
    every_backend_answers(&lab)?;
    let mut decapsulated = 0;
    for decap in &decaps {
        decapsulated += decap_counter(decap, "decapsulated")?;
    }
    assert_eq!(decapsulated, counter(&balancer, "forwarded")?, "each forwarded packet is decapsulated once");
    Ok(())
}

#[test]
fn every_backend_answers_tcp_and_udp_in_both_families_through_l2() -> Result<()> {
    let lab = Lab::builder().backends(3).build()?;
    let (_webs, _echoes) = (webs(&lab)?, echoes(&lab)?);
    let _balancer = Fairlead::launch(&lab, &lab.balancers[0], &all_services(&lab, "l2"))?;
    every_backend_answers(&lab)
}

#[test]
fn backend_without_decapsulator_answers_nothing_sent_through_ipip() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let _echoes = echoes(&lab)?;
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &all_services(&lab, "ipip"))?;
    for v6 in FAMILIES {
        let socket = &asking(&lab, vip(v6, 0), 1)?[0];
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300)))?;
        assert!(fairlead_tests::lab::udp::ask(socket, "tunnel?").is_err(), "that was no tunnel");
    }
    assert_eq!(counter(&balancer, "forwarded")?, 2);
    Ok(())
}

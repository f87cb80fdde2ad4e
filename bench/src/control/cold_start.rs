//! How long a fresh daemon takes until it is ready and the first packet was steered.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fairlead_tests::lab::{Fairlead, Lab, VipRoute, wait_until};
use fairlead_tests::report::Report;
use std::fmt::Write;

use super::record;

const SERVICES: u16 = 500;
/// Backends of each service.
pub(super) const BACKENDS: u8 = 8;
const TIMES: usize = 5;
const FIRST_PORT: u16 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// In each of a backend's networks there are this many addresses.
const IN_NETWORK: u16 = 250;

/// From the start of the process until its API answers and a packet was sent on, whichever comes last. Each of the 4,000
/// backends has an address of its own, behind one of eight next hops.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    let lab = lab()?;
    let (vip, _) = *lab.vips.first().context("the lab has a VIP")?;
    let balancer = lab.balancers.first().context("the lab has a balancer")?;
    let text = config(vip, SERVICES);
    let end = Arc::new(AtomicBool::new(false));
    let (stop, to) = (Arc::clone(&end), SocketAddr::new(vip.into(), FIRST_PORT + SERVICES - 1));
    let sender = lab.client.ns.spawn(move || {
        let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return };
        while !stop.load(Ordering::Relaxed) {
            // Nobody answers before the daemon runs.
            let _ = socket.send_to(b"x", to);
            sleep(Duration::from_millis(1));
        }
    });
    let mut daemon = Fairlead::new(&lab, balancer, &text)?;
    let series = (0..TIMES).map(|_| start(&mut daemon)).collect::<Result<Vec<_>>>();
    end.store(true, Ordering::Relaxed);
    drop(sender.join());
    record(report, "cold_start_s", &series?)
}

/// A lab in which all addresses that backends may have are behind one of eight next hops.
pub(super) fn lab() -> Result<Lab> {
    let lab = Lab::builder().backends(BACKENDS).vip_route(VipRoute::Balancer(0)).build()?;
    let balancer = lab.balancers.first().context("the lab has a balancer")?;
    for (number, backend) in (0..BACKENDS).zip(&lab.backends) {
        let network = Ipv4Addr::new(10, 40 + number, 0, 0);
        balancer.ns.ip(&format!("route add {network}/16 via {}", backend.v4))?;
    }
    Ok(lab)
}

fn start(daemon: &mut Fairlead) -> Result<f64> {
    let begun = Instant::now();
    daemon.start()?;
    wait_until("the first packet is sent on", PATIENCE, || {
        let answer = daemon.get("/v1/counters")?;
        let counters = answer["counters"].as_array().context("counters are a list")?;
        Ok(counters.iter().any(|counter| counter["name"] == "forwarded" && counter["packets"] != 0))
    })?;
    let took = begun.elapsed().as_secs_f64();
    daemon.detach()?;
    Ok(took)
}

/// Tables of 4,093 entries: five hundred to a backend, as is advised.
pub(super) fn config(vip: Ipv4Addr, services: u16) -> String {
    let mut text = String::from("[[interface]]\nname = \"eth0\"\n");
    for service in 0..services {
        let port = FIRST_PORT + service;
        let _ = write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"udp\"\nmode = \"ipip\"\n\
             table_size = 4093\n"
        );
        for backend in 0..BACKENDS {
            let [_, low] = (service % IN_NETWORK + 1).to_be_bytes();
            let [_, network] = (service / IN_NETWORK).to_be_bytes();
            let _ = write!(
                text,
                "[[service.backend]]\naddress = \"{}\"\n",
                Ipv4Addr::new(10, 40 + backend, network, low)
            );
        }
    }
    text
}

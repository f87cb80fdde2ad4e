//! The network under a running daemon changes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Fairlead, Lab, Peer, attach_pass, udp, wait_until};
use serde_json::Value;

use crate::fixture::{HEAD, LINES, PATIENCE, Stage, plain, service};

/// Pulls the balancer's cable and plugs in a new one: another interface with the old name and addresses.
pub(crate) fn replace(stage: &Stage) -> Result<()> {
    let (host, bridge) = (stage.balancer(), &stage.lab.bridge);
    let off = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];
    host.ns.ip("link del eth0")?;
    bridge.ip(&format!(
        "link add {} type veth peer name eth0 netns {}\nlink set {0} master br0 up",
        host.role,
        host.ns.name()
    ))?;
    host.ns.ip("link set eth0 up")?;
    host.ns.features("eth0", &off)?;
    bridge.features(&host.role, &off)?;
    attach_pass(bridge, &host.role, &stage.lab.pin_folder("plug")?)?;
    host.add_addresses(Row::Balancer, 0..1)?;
    stage.lab.client.ns.ip("neigh flush dev eth0")
}

/// Datagrams, of which half would go to either of two backends.
const ASKED: u16 = 24;

fn counter(daemon: &Fairlead, name: &str) -> Result<u64> {
    let counters = daemon.get("/v1/counters")?;
    let mut all = counters["counters"].as_array().into_iter().flatten();
    let found = all.find(|counter| counter["name"] == name);
    found.and_then(|counter| counter["packets"].as_u64()).with_context(|| format!("no counter {name}"))
}

#[test]
fn backends_new_mac_is_followed() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.forwards()?;
    let backend = &stage.lab.backends[0].ns;
    // As machines that fail over do: they announce themselves.
    backend.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    backend.ip("link set eth0 address 02:00:00:00:00:99")?;
    wait_until("new connections reach the backend", PATIENCE, || Ok(stage.forwards().is_ok()))
}

#[test]
fn balancers_own_mac_is_followed() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.forwards()?;
    stage.balancer().ns.ip("link set eth0 address 02:00:00:00:00:77")?;
    stage.lab.client.ns.ip("neigh flush dev eth0")?;
    wait_until("the VIP answers with the new MAC", PATIENCE, || {
        stage.lab.client.ns.ip("neigh flush dev eth0")?;
        let tried = stage.forwards().is_ok();
        Ok(tried && neighbour(&stage)?.contains("02:00:00:00:00:77"))
    })?;
    stage.forwards()
}

/// What the client knows of the VIP's MAC.
fn neighbour(stage: &Stage) -> Result<String> {
    let output =
        stage.lab.client.ns.command("ip").args(["neigh", "show", &stage.vip().to_string()]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn balancers_own_mtu_is_followed() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let text = plain(&lab).replace("\"l2\"", "\"ipip\"\nprotocol = \"udp\"");
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.start()?;
    let (client, vip) = (&stage.lab.client, stage.vip());
    for mtu in [1400, 1300] {
        stage.balancer().ns.ip(&format!("link set eth0 mtu {mtu}"))?;
        // The outer header takes 20 bytes.
        let learned = format!("mtu {}", mtu - 20);
        wait_until(&format!("the client learns {learned}"), PATIENCE, || {
            client.ns.enter(|| {
                let socket =
                    udp::open((client.v4, 0).into(), (vip, LINES).into(), Duration::from_millis(50))?;
                // Refused once the client knows better.
                let _ = udp::ask(&socket, &"x".repeat(mtu - 28));
                anyhow::Ok(())
            })?;
            let output = client.ns.command("ip").args(["route", "get", &vip.to_string()]).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).contains(&learned))
        })?;
    }
    Ok(())
}

#[test]
fn backend_whose_next_hop_is_silent_is_warned_of_and_serves_once_it_speaks() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (vip, backend, silent) =
        (IpAddr::from(lab.vips[0].0), lab.backends[0].v4.into(), Row::Farm.v4(0).into());
    let text = format!("{HEAD}{}", service("echo", vip, &[backend, silent]))
        .replace("port = 7000", "port = 7001\nprotocol = \"udp\"");
    let _echo = Peer::udp(&lab, &lab.backends[0], 7001, &[vip])?;
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.start()?;
    let source = stage.lab.client.v4.into();
    let mut answered = 0;
    for port in 0..ASKED {
        let name = stage.lab.client.ns.enter(|| {
            let source = SocketAddr::new(source, 20_000 + port);
            udp::ask(&udp::open(source, SocketAddr::new(vip, 7001), Duration::from_millis(200))?, "who")
        });
        answered += u64::from(name.is_ok_and(|name| name == "backend1"));
    }
    assert_eq!((answered, counter(&stage.daemon, "no_neighbour")?), (u64::from(ASKED), 0));
    stage.daemon.until("status warns", "/v1/status", PATIENCE, |status| {
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        let about =
            |warning: &&Value| warning.as_str().is_some_and(|text| text.contains(&silent.to_string()));
        warnings.len() == 1 && warnings.iter().filter(about).count() == 1
    })?;
    // It joins the others when it speaks.
    stage.lab.backends[0].add_addresses(Row::Farm, 0..1)?;
    stage.daemon.until("it has its share", "/v1/services/echo", PATIENCE, |service| {
        service["backends"][1]["share_percent"].as_f64().is_some_and(|share| share > 49.0)
    })?;
    stage.daemon.until("status is content", "/v1/status", PATIENCE, |status| {
        status["warnings"] == Value::Array(Vec::new())
    })
}

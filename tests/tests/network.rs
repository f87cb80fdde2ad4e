//! Interfaces, routes and neighbours as the daemon reads them from the kernel, in namespaces of the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use fairlead_tests::lab::{Host, Lab, Namespace};
use lb_user::net::{Link, Network, Resolved, host_facts_blocking};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Far longer than the kernel takes to give up a neighbour and look for it anew (its clock for managed entries ticks
/// every 5 s).
const PATIENCE: Duration = Duration::from_secs(60);
/// No tick for this long: what happened before has been told.
const QUIET: Duration = Duration::from_millis(300);

/// Routes of every kind, as lines of `ip` in the balancer's namespace; `{v4}` and `{v6}` are a backend's addresses.
const ROUTES: &str = "\
    route add 192.0.2.0/24 via {v4}\n\
    route add 198.18.0.0/24 via inet6 fe80::1 dev eth0\n\
    route add unreachable 198.51.100.0/24\n\
    route add blackhole 203.0.113.0/24\n\
    route add prohibit 192.88.99.0/24\n\
    route add 2001:db8:1::/64 via {v6}\n\
    route add 2001:db8:2::/64 via fe80::1 dev eth0\n\
    route add unreachable 2001:db8:3::/64\n\
    route add blackhole 2001:db8:4::/64\n";

/// Addresses there is no way to.
const NOWHERE: [&str; 7] = [
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "8.8.8.8",
    "2001:db8:3::1",
    "2001:db8:4::1",
    "2001:db8:ffff::1",
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

/// Runs `work` in the namespace, in a runtime of its own.
fn inside<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    })
}

fn link(namespace: &Namespace, name: &str) -> Result<Link> {
    let links = inside(namespace, async || Network::open().await?.0.links().await)?;
    links.into_iter().find(|link| link.name == name).with_context(|| format!("no interface {name}"))
}

/// What the kernel has to say on neighbour `address`, as `ip neigh` prints it.
fn neighbour(host: &Host, address: IpAddr) -> Result<String> {
    let output = host.ns.command("ip").args(["neigh", "show", "to", &address.to_string()]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Follows the network as the daemon does, looking only when told to, until `holds`.
async fn follow(
    (network, changes): &mut (Network, Receiver<()>),
    backends: &BTreeSet<IpAddr>,
    holds: impl Fn(&BTreeMap<IpAddr, Resolved>) -> bool,
) -> Result<BTreeMap<IpAddr, Resolved>> {
    let mut last = BTreeMap::new();
    let wait = async {
        loop {
            last = network.resolve(backends).await;
            network.keep_fresh(&last).await;
            if holds(&last) {
                return;
            }
            changes.recv().await;
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.with_context(|| format!("in vain; last resolved: {last:#?}"))?;
    Ok(last)
}

#[test]
fn way_to_a_backend_is_on_link_behind_a_gateway_or_there_is_none() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (balancer, backend) = (&lab.balancers[0], &lab.backends[0]);
    let (v4, v6) = (backend.v4.to_string(), backend.v6.to_string());
    balancer.ns.ip(&ROUTES.replace("{v4}", &v4).replace("{v6}", &v6))?;
    let expected: BTreeMap<IpAddr, Option<IpAddr>> = BTreeMap::from([
        (backend.v4.into(), None),
        (ip("192.0.2.1"), Some(backend.v4.into())),
        (ip("198.18.0.1"), Some(ip("fe80::1"))),
        (backend.v6.into(), None),
        (ip("2001:db8:1::1"), Some(backend.v6.into())),
        (ip("2001:db8:2::1"), Some(ip("fe80::1"))),
    ]);
    let asked: BTreeSet<IpAddr> =
        expected.keys().copied().chain(NOWHERE.map(ip)).chain([balancer.v4.into()]).collect();
    let device = link(&balancer.ns, "eth0")?;

    let resolved = inside(&balancer.ns, async || Ok(Network::open().await?.0.resolve(&asked).await))?;
    let gateways = resolved.iter().map(|(backend, way)| (*backend, way.gateway)).collect();
    assert_eq!(expected, gateways);
    for (backend, way) in &resolved {
        assert_eq!((way.ifindex, way.source), (device.index, balancer.address_like(*backend)), "{backend}");
    }

    let config =
        lb_core::config::parse(&config(&asked)).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let facts = balancer.ns.enter(|| host_facts_blocking(&config.config))?;
    for (backend, gateway) in &expected {
        let route = facts.routes[backend].as_ref().with_context(|| format!("no route to {backend}"))?;
        let source = Some(balancer.address_like(*backend));
        assert_eq!((route.interface.as_str(), route.gateway, route.source), ("eth0", *gateway, source));
    }
    for nowhere in NOWHERE.map(ip) {
        assert_eq!(facts.routes.get(&nowhere), Some(&None), "{nowhere}");
    }
    let eth0 = &facts.interfaces["eth0"];
    assert_eq!((eth0.index, eth0.mac, eth0.mtu, eth0.is_vlan), (device.index, device.mac, 1500, false));
    for own in [balancer.v4.into(), balancer.v6.into()] {
        assert!(eth0.addresses.contains(&own), "{own} is not among {:?}", eth0.addresses);
    }
    assert!(facts.interfaces.contains_key("lo"));
    Ok(())
}

/// A configuration with a service of each family for these backends.
fn config(backends: &BTreeSet<IpAddr>) -> String {
    let mut text = "[[interface]]\nname = \"eth0\"\n".to_owned();
    for (name, vip) in [("four", ip("10.20.9.1")), ("six", ip("fd20::29:1"))] {
        text += &format!("[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = 80\n");
        for backend in backends.iter().filter(|backend| backend.is_ipv4() == vip.is_ipv4()) {
            text += &format!("[[service.backend]]\naddress = \"{backend}\"\n");
        }
    }
    text
}

#[test]
fn next_hop_is_learned_and_its_new_mac_noticed_without_any_traffic() -> Result<()> {
    const NEW: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
    let lab = Lab::builder().backends(1).build()?;
    let (balancer, backend) = (&lab.balancers[0], &lab.backends[0]);
    hurry(balancer)?;
    // Known even while the interface has another MAC than its link-local address says.
    backend.ns.ip("addr add fe80::77/64 dev eth0 nodad")?;
    balancer.ns.ip("route add 2001:db8:2::/64 via fe80::77 dev eth0")?;
    let backends = BTreeSet::from([backend.v4.into(), backend.v6.into(), ip("2001:db8:2::1")]);
    let all_have = |mac| {
        move |resolved: &BTreeMap<IpAddr, Resolved>| {
            resolved.len() == 3 && resolved.values().all(|way| way.mac == Some(mac))
        }
    };
    let old = link(&backend.ns, "eth0")?.mac;
    inside(&balancer.ns, async || {
        let mut network = Network::open().await?;
        follow(&mut network, &backends, all_have(old)).await.context("learning")?;
        backend.ns.ip("link set eth0 address 02:00:00:00:00:99")?;
        follow(&mut network, &backends, all_have(NEW)).await.context("learning anew")?;
        Ok(())
    })
}

#[test]
fn next_hop_that_falls_silent_is_told_and_keeps_its_mac() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (balancer, backend) = (&lab.balancers[0], &lab.backends[0]);
    hurry(balancer)?;
    let address = IpAddr::from(backend.v4);
    let backends = BTreeSet::from([address]);
    inside(&balancer.ns, async || {
        let mut network = Network::open().await?;
        let known = follow(&mut network, &backends, |resolved| resolved[&address].mac.is_some()).await?;
        assert!(!known[&address].failed);
        backend.ns.ip("link set eth0 down")?;
        let silent = follow(&mut network, &backends, |resolved| resolved[&address].failed).await?;
        assert_eq!(silent[&address].mac, known[&address].mac);
        backend.ns.ip("link set eth0 up")?;
        let back = follow(&mut network, &backends, |resolved| !resolved[&address].failed).await?;
        assert_eq!(back, known);
        Ok(())
    })
}

/// Lets the kernel doubt its neighbours sooner: after a second instead of half a minute.
fn hurry(host: &Host) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        for (key, value) in
            [("base_reachable_time_ms", "300"), ("retrans_time_ms", "100"), ("delay_first_probe_time", "1")]
        {
            host.ns.sysctl(&format!("net/{family}/neigh/eth0/{key}"), value)?;
        }
    }
    Ok(())
}

#[test]
fn entries_are_managed_while_needed_and_those_of_the_administrator_left_alone() -> Result<()> {
    const WRITTEN: [u8; 6] = [2, 0, 0, 0, 0, 0x42];
    let lab = Lab::builder().backends(2).build()?;
    let (balancer, backend, written) = (&lab.balancers[0], &lab.backends[0], &lab.backends[1]);
    balancer.ns.ip(&format!("neigh add {} lladdr 02:00:00:00:00:42 dev eth0 nud permanent", written.v4))?;
    let (ours, theirs) = (IpAddr::from(backend.v4), IpAddr::from(written.v4));
    let managed = |address| neighbour(balancer, address).map(|entry| entry.contains(" managed "));
    let untouched = || {
        let entry = neighbour(balancer, theirs)?;
        anyhow::ensure!(entry.contains("PERMANENT") && !entry.contains("managed"), "{entry}");
        Ok(())
    };
    let needed = BTreeSet::from([ours, theirs]);
    let learned = |resolved: &BTreeMap<IpAddr, Resolved>| resolved.values().all(|way| way.mac.is_some());
    inside(&balancer.ns, async || {
        let mut network = Network::open().await?;
        let resolved = follow(&mut network, &needed, learned).await?;
        assert_eq!(resolved[&theirs].mac, Some(WRITTEN));
        assert!(managed(ours)?, "{}", neighbour(balancer, ours)?);
        untouched()?;
        network.0.keep_fresh(&BTreeMap::new()).await;
        assert!(!managed(ours)?, "{}", neighbour(balancer, ours)?);
        untouched()?;

        network.0.keep_fresh(&resolved).await;
        assert!(managed(ours)?, "{}", neighbour(balancer, ours)?);
        drop(network);
        let (after_restart, _) = Network::open().await?;
        after_restart.keep_fresh(&BTreeMap::new()).await;
        assert!(!managed(ours)?, "{}", neighbour(balancer, ours)?);
        untouched()
    })
}

#[test]
fn every_kind_of_change_is_told_and_a_burst_not_one_by_one() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let balancer = &lab.balancers[0];
    let burst: String = (0..200).map(|n| format!("route add 192.0.2.{n}/32 dev eth0\n")).collect();
    inside(&balancer.ns, async || {
        let (_network, mut changes) = Network::open().await?;
        let ticks = async |changes: &mut Receiver<()>| {
            let mut ticks = 0;
            while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {
                ticks += 1;
            }
            ticks
        };
        for line in [
            "link set eth0 mtu 1400",
            "addr add 10.99.0.1/24 dev eth0",
            "addr add fd99::1/64 dev eth0 nodad",
            "route add 198.51.100.0/24 dev eth0",
            "route add 2001:db8:1::/64 dev eth0",
            "rule add from 10.99.0.1 lookup 99",
            "-6 rule add from fd99::1 lookup 99",
            "nexthop add id 7 dev eth0",
            "neigh add 10.99.0.2 lladdr 02:00:00:00:00:42 dev eth0",
            "link set eth0 down",
        ] {
            ticks(&mut changes).await;
            if let Some(line) = line.strip_prefix("-6 ") {
                let status = balancer.ns.command("ip").arg("-6").args(line.split(' ')).status()?;
                anyhow::ensure!(status.success(), "ip -6 {line}");
            } else {
                balancer.ns.ip(line)?;
            }
            timeout(PATIENCE, changes.recv()).await.with_context(|| format!("not told of: {line}"))?;
        }
        balancer.ns.ip("link set eth0 up")?;
        ticks(&mut changes).await;
        balancer.ns.ip(&burst)?;
        let told = ticks(&mut changes).await;
        assert!((1..100).contains(&told), "200 changes were told by {told} ticks");
        Ok(())
    })
}

#[test]
fn attached_xdp_program_is_seen_until_it_is_gone() -> Result<()> {
    // The lab attaches a program to the far end of the balancer's interface, in the driver.
    let lab = Lab::builder().backends(1).build()?;
    let port = link(&lab.bridge, "balancer1")?;
    let program = port.xdp.with_context(|| "no program on balancer1")?;
    assert!(program.native && program.program_id != 0, "{program:?}");
    assert_eq!(link(&lab.bridge, "backend1")?.xdp, None);
    lab.bridge.ip("link set dev balancer1 xdpdrv off")?;
    assert_eq!(link(&lab.bridge, "balancer1")?.xdp, None);
    Ok(())
}

//! The decapsulator on a backend: whom it trusts and for what.

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use fairlead_tests::lab::{Decap, Fairlead, Host, Lab, Peer, binary, http, udp, wait_until};
use fairlead_tests::packets::Client;
use fairlead_tests::packets::wire::{self, Ip4};
use serde_json::Value;
use std::net::{IpAddr, UdpSocket};

use crate::scene::*;
use crate::tap::Tap;

/// A backend with UDP servers on its VIPs and its own addresses, and a client that makes tunnels by hand.
struct Tunnel {
    tap: Tap,
    client: [u8; 6],
    backend: [u8; 6],
    _servers: [Peer; 2],
    lab: Lab,
}

impl Tunnel {
    fn new() -> Result<Self> {
        let lab = Lab::builder().backends(1).vips(2).build()?;
        let host = &lab.backends[0];
        let own = [host.v4.into(), host.v6.into()];
        let vips: Vec<IpAddr> = lab.vips.iter().flat_map(|(v4, v6)| [(*v4).into(), (*v6).into()]).collect();
        let servers = [Peer::udp(&lab, host, ECHO, &vips)?, Peer::udp(&lab, host, ECHO, &own)?];
        let (client, backend) = (mac(&lab.client)?, mac(host)?);
        Ok(Self { tap: Tap::open(&lab.client.ns, "eth0")?, client, backend, _servers: servers, lab })
    }

    fn host(&self) -> &Host {
        &self.lab.backends[0]
    }

    /// The client's end of a flow to `to`.
    fn socket(&self, to: IpAddr) -> Result<UdpSocket> {
        let source = (self.lab.client.address_like(to), 0).into();
        Ok(self.lab.client.ns.enter(|| udp::open(source, (to, ECHO).into(), http::PATIENCE))?)
    }

    /// Sends `text` of the socket's flow to the backend in a tunnel from `balancer`.
    fn send(&self, balancer: IpAddr, socket: &UdpSocket, text: &str) -> Result<()> {
        let (from, to) = (socket.local_addr()?, socket.peer_addr()?);
        let inner = Client {
            from: from.ip(),
            port: from.port(),
            to_port: to.port(),
            data: text.as_bytes().to_vec(),
            ..Client::new("192.0.2.1", &to.ip().to_string()).udp(0)
        };
        let (inner, v6) = (inner.packet(), to.is_ipv6());
        let destination = own(self.host(), v6);
        let (kind, packet) = if v6 {
            (wire::IPV6, wire::ipv6(balancer, destination, 64, 41, 0, &inner))
        } else {
            let outer = Ip4 {
                source: balancer,
                destination,
                ttl: 64,
                protocol: 4,
                identification: 0,
                fragment: 0x4000,
                options: &[],
            };
            (wire::IPV4, wire::ipv4(&outer, &inner))
        };
        self.tap.send(&wire::ethernet(self.backend, self.client, &[], kind, &packet))
    }
}

/// The next answer on the socket.
fn heard(socket: &UdpSocket) -> Result<String> {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).context("no answer")?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What `change` adds to each of the decapsulator's counters that are named.
fn added<const N: usize>(
    decap: &Decap,
    names: [&str; N],
    change: impl FnOnce() -> Result<()>,
) -> Result<[u64; N]> {
    let read = || names.iter().map(|name| decap_counter(decap, name)).collect::<Result<Vec<_>>>();
    let before = read()?;
    change()?;
    let after = read()?;
    Ok(std::array::from_fn(|at| after[at] - before[at]))
}

fn attach(tunnel: &Tunnel, vips: &[IpAddr], from: &[String]) -> Result<Decap> {
    let vips: Vec<String> = vips.iter().map(IpAddr::to_string).collect();
    Decap::attach_for(&tunnel.lab, tunnel.host(), &vips, from)
}

#[test]
fn tunnels_are_taken_only_from_the_named_networks_and_only_for_the_named_vips() -> Result<()> {
    const OUTCOMES: [&str; 3] = ["decapsulated", "passed_foreign_source", "dropped_foreign_vip"];
    let tunnel = Tunnel::new()?;
    let trusted = &tunnel.lab.balancers[0];
    let from = [format!("{}/31", trusted.v4), trusted.v6.to_string()];
    let decap = attach(&tunnel, &[vip(false, 0), vip(true, 0)], &from)?;
    for v6 in FAMILIES {
        let (trusted, stranger) = (own(trusted, v6), own(&tunnel.lab.client, v6));
        let (known, foreign, host) =
            (tunnel.socket(vip(v6, 0))?, tunnel.socket(vip(v6, 1))?, tunnel.socket(own(tunnel.host(), v6))?);
        // What must not arrive goes first: an answer to it would come before that to the last.
        let counted = added(&decap, OUTCOMES, || {
            tunnel.send(stranger, &known, "from a stranger")?;
            tunnel.send(trusted, &foreign, "to a foreign VIP")?;
            tunnel.send(trusted, &host, "to the backend itself")?;
            tunnel.send(trusted, &known, "from the balancer")?;
            assert_eq!(heard(&known)?, "from the balancer backend1");
            Ok(())
        })?;
        assert_eq!(counted, [1, 1, 2], "{OUTCOMES:?}, v6 {v6}");
        for socket in [foreign, host] {
            socket.set_nonblocking(true)?;
            ensure!(heard(&socket).is_err(), "an answer from {}", socket.peer_addr()?);
        }
    }
    Ok(())
}

#[test]
fn attaching_again_replaces_the_lists_and_keeps_program_and_counters_in_sight() -> Result<()> {
    let tunnel = Tunnel::new()?;
    let (first, second) = (&tunnel.lab.balancers[0], &tunnel.lab.client);
    let decap = attach(&tunnel, &[vip(false, 0)], &[first.v4.to_string()])?;
    let before = tunnel.socket(vip(false, 0))?;
    tunnel.send(first.v4.into(), &before, "first")?;
    assert_eq!(heard(&before)?, "first backend1");

    let decap_again =
        attach(&tunnel, &[vip(false, 1), vip(true, 1)], &[second.v4.to_string(), "fd20::/64".into()])?;
    let status = decap_again.status()?;
    let one = &status["decapsulators"][0];
    ensure!(status["decapsulators"].as_array().is_some_and(|all| all.len() == 1), "{status}");
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    assert_eq!(words(&one["vips"]), [vip(false, 1).to_string(), vip(true, 1).to_string()], "{status}");
    assert_eq!(words(&one["from"]), [format!("{}/32", second.v4), "fd20::/64".to_owned()], "{status}");
    assert_eq!((one["device"].as_str(), one["mode"].as_str()), (Some("eth0"), Some("native")), "{status}");

    // The old balancer is a stranger now, the old VIP a foreign one.
    let after = tunnel.socket(vip(false, 1))?;
    let counted = added(&decap, ["decapsulated", "passed_foreign_source", "dropped_foreign_vip"], || {
        tunnel.send(first.v4.into(), &after, "old balancer")?;
        tunnel.send(second.v4.into(), &before, "old VIP")?;
        tunnel.send(second.v4.into(), &after, "second")?;
        assert_eq!(heard(&after)?, "second backend1");
        Ok(())
    })?;
    assert_eq!(counted, [1, 1, 1]);
    Ok(())
}

#[test]
fn detached_decapsulator_leaves_neither_program_nor_pins() -> Result<()> {
    let tunnel = Tunnel::new()?;
    let host = tunnel.host();
    let decap = attach(&tunnel, &[vip(false, 0)], &[tunnel.lab.balancers[0].v4.to_string()])?;
    let pins = tunnel.lab.pin_folder(&host.role)?;
    let link = || ip_json(&host.ns, "-d link show eth0").map(|all| all[0].clone());
    ensure!(pins.exists() && link()?.get("xdp").is_some(), "{}", link()?);
    decap.detach()?;
    assert_eq!(decap.status()?["decapsulators"], Value::Array(Vec::new()));
    wait_until("the program is gone", SOON, || Ok(link()?.get("xdp").is_none()))?;
    ensure!(!pins.join("decap").exists(), "pins are left in {}", pins.display());
    // A second time there is nothing to detach, and that is said.
    let error = decap.detach().expect_err("nothing is attached").to_string();
    ensure!(error.contains("eth0"), "{error}");
    // Then tunnels are not understood, and attaching works as on the first day.
    let socket = tunnel.socket(vip(false, 0))?;
    tunnel.send(tunnel.lab.balancers[0].v4.into(), &socket, "while detached")?;
    attach(&tunnel, &[vip(false, 0)], &[tunnel.lab.balancers[0].v4.to_string()])?;
    tunnel.send(tunnel.lab.balancers[0].v4.into(), &socket, "attached anew")?;
    assert_eq!(heard(&socket)?, "attached anew backend1");
    Ok(())
}

#[test]
fn decapsulator_in_generic_mode_says_so_and_works() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    for host in &lab.backends {
        let mut command = std::process::Command::new(binary("fairlead")?);
        command.env("FAIRLEAD_PIN_DIR", lab.pin_folder(&host.role)?).args(["-o", "json", "decap", "attach"]);
        command.args(["--dev", "eth0", "--mode", "generic", "--netns", host.ns.name()]);
        for v6 in FAMILIES {
            let (vip, from) = (vip(v6, 0).to_string(), own(&lab.balancers[0], v6).to_string());
            command.args(["--vip", &vip, "--from", &from]);
        }
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let attached: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(attached["mode"], "generic", "{attached}");
    }
    let (_webs, _echoes) = (webs(&lab)?, echoes(&lab)?);
    let services = FAMILIES.into_iter().flat_map(|v6| {
        let web = Service::new(&named("web", v6), vip(v6, 0), WEB);
        let echo = Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp");
        [web, echo].map(|service| service.over(&lab.backends))
    });
    let _balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&services.collect::<Vec<_>>()))?;
    for v6 in FAMILIES {
        ensure_served_by(&visit(&lab, vip(v6, 0), 40)?, &lab.backends)?;
        ensure_served_by(&census(&ask_all(&asking(&lab, vip(v6, 0), 40)?, "who")?), &lab.backends)?;
    }
    Ok(())
}

#[test]
fn pins_that_are_no_maps_of_ours_are_refused_and_the_program_goes_on() -> Result<()> {
    let tunnel = Tunnel::new()?;
    let (vip, balancer) = (tunnel.lab.vips[0].0.into(), own(&tunnel.lab.balancers[0], false));
    let decap = attach(&tunnel, &[vip], &[balancer.to_string()])?;
    let folder = tunnel.lab.pin_folder(&tunnel.host().role)?.join("decap");
    let inner = std::fs::read_dir(&folder)?.next().context("no pins")??.path();
    let (pin, other) = (inner.join("DECAP_VIPS4"), inner.join("DECAP_VIPS6"));
    std::fs::remove_file(&pin)?;
    MapData::from_pin(&other)?.pin(&pin)?;
    for said in [decap.status().map(drop), attach(&tunnel, &[vip], &[balancer.to_string()]).map(drop)] {
        let said = said.err().context("a pin of another kind was taken")?.to_string();
        ensure!(said.contains("DECAP_VIPS4 is no map of this fairlead"), "{said}");
        ensure!(said.contains("decap detach --dev eth0"), "no remedy: {said}");
    }
    let socket = tunnel.socket(vip)?;
    tunnel.send(balancer, &socket, "still here")?;
    ensure!(heard(&socket)?.contains("still here"), "the program no longer works");
    // The remedy works.
    decap.detach()?;
    attach(&tunnel, &[vip], &[balancer.to_string()])?;
    tunnel.send(balancer, &socket, "and again")?;
    ensure!(heard(&socket)?.contains("and again"), "the new program does not work");
    Ok(())
}

//! What the tests have in common: configurations, servers on the backends, clients that say who answered.

use anyhow::{Context, Result, anyhow, ensure};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Decap, Fairlead, Host, Lab, Namespace, Nginx, Peer, Tries, http, udp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Port of nginx.
pub(crate) const WEB: u16 = 80;
/// Port of the UDP server.
pub(crate) const ECHO: u16 = 5300;
/// Port of the TCP server of numbered lines.
pub(crate) const LINES: u16 = 7000;
/// Limit for whatever is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(8);
/// Both families, as `v6`.
pub(crate) const FAMILIES: [bool; 2] = [false, true];

/// VIP number `index` of a family.
pub(crate) fn vip(v6: bool, index: u8) -> IpAddr {
    if v6 { Row::Vip.v6(index).into() } else { Row::Vip.v4(index).into() }
}

/// A host's own address of a family.
pub(crate) fn own(host: &Host, v6: bool) -> IpAddr {
    if v6 { host.v6.into() } else { host.v4.into() }
}

/// A host's address of a family in the second segment.
pub(crate) fn second(host: &Host, v6: bool) -> IpAddr {
    let (v4, six) = host.second();
    if v6 { six.into() } else { v4.into() }
}

/// A name of a service: `web4`, `web6`.
pub(crate) fn named(what: &str, v6: bool) -> String {
    format!("{what}{}", if v6 { 6 } else { 4 })
}

/// A service of the configuration.
pub(crate) struct Service {
    keys: String,
    check: String,
    backends: String,
    v6: bool,
}

impl Service {
    /// A service with everything left to its defaults but a small table.
    pub(crate) fn new(name: &str, vip: IpAddr, port: u16) -> Self {
        let keys = format!("name = \"{name}\"\nvip = \"{vip}\"\nport = {port}\ntable_size = 4093\n");
        Self { keys, check: String::new(), backends: String::new(), v6: vip.is_ipv6() }
    }

    /// With a further key.
    pub(crate) fn key(mut self, key: &str, word: &str) -> Self {
        let _ = writeln!(self.keys, "{key} = \"{word}\"");
        self
    }

    /// With checks, told by lines of TOML; those for intervals are there.
    pub(crate) fn check(mut self, lines: &str) -> Self {
        self.check = format!(
            "[service.check]\ninterval = \"200ms\"\nfast = \"50ms\"\ndown = \"200ms\"\n{}\n",
            lines.replace("; ", "\n")
        );
        self
    }

    /// With a backend of weight 1.
    pub(crate) fn backend(mut self, host: &Host) -> Self {
        let _ = write!(self.backends, "[[service.backend]]\naddress = \"{}\"\n", own(host, self.v6));
        self
    }

    /// With all of these as backends, by their addresses in the second segment.
    pub(crate) fn by_second(mut self, hosts: &[Host]) -> Self {
        for host in hosts {
            let _ = write!(self.backends, "[[service.backend]]\naddress = \"{}\"\n", second(host, self.v6));
        }
        self
    }

    /// With all of these as backends, by their addresses of the family that the VIP is not of.
    pub(crate) fn across(mut self, hosts: &[Host]) -> Self {
        for host in hosts {
            let _ = write!(self.backends, "[[service.backend]]\naddress = \"{}\"\n", own(host, !self.v6));
        }
        self
    }

    /// With all of these as backends.
    pub(crate) fn over(self, hosts: &[Host]) -> Self {
        hosts.iter().fold(self, Self::backend)
    }
}

/// A configuration with these services.
pub(crate) fn config(services: &[Service]) -> String {
    config_in("auto", services)
}

/// The same with the program attached in this mode.
pub(crate) fn config_in(mode: &str, services: &[Service]) -> String {
    let mut text = format!("[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n\n[limits]\nflows = 65536\n");
    for Service { keys, check, backends, .. } in services {
        let _ = write!(text, "\n[[service]]\n{keys}{check}{backends}");
    }
    text
}

/// Decapsulators on all backends.
pub(crate) fn decaps(lab: &Lab) -> Result<Vec<Decap>> {
    lab.backends.iter().map(|host| Decap::attach(lab, host)).collect()
}

/// nginx on all backends.
pub(crate) fn webs(lab: &Lab) -> Result<Vec<Nginx>> {
    lab.backends.iter().map(|host| Nginx::start(lab, host)).collect()
}

/// Servers of numbered lines on all backends.
pub(crate) fn liners(lab: &Lab) -> Result<Vec<Peer>> {
    lab.backends.iter().map(|host| Peer::lines(lab, host, LINES)).collect()
}

/// UDP servers on all VIPs of all backends.
pub(crate) fn echoes(lab: &Lab) -> Result<Vec<Peer>> {
    let vips: Vec<IpAddr> = lab.vips.iter().flat_map(|(v4, v6)| [(*v4).into(), (*v6).into()]).collect();
    lab.backends.iter().map(|host| Peer::udp(lab, host, ECHO, &vips)).collect()
}

/// How often each backend answered.
pub(crate) type Census = BTreeMap<String, usize>;

/// Makes `count` HTTP requests, all of which must be answered; by whom. A connected socket takes answers from nobody
/// but the VIP.
pub(crate) fn visit(lab: &Lab, vip: IpAddr, count: usize) -> Result<Census> {
    let tries = Tries { threads: 4, ..Tries::new(vec![lab.client.address_like(vip)], (vip, WEB).into()) };
    let mut census = Census::new();
    for attempt in tries.run(&lab.client.ns, count) {
        let name = attempt.outcome.map_err(|error| anyhow!("a request to {vip}: {error}"))?;
        *census.entry(name).or_default() += 1;
    }
    Ok(census)
}

/// Opens `count` UDP sockets to the VIP's UDP port, each from a port of its own.
pub(crate) fn asking(lab: &Lab, vip: IpAddr, count: usize) -> Result<Vec<UdpSocket>> {
    let source = SocketAddr::new(lab.client.address_like(vip), 0);
    let open = || udp::open(source, (vip, ECHO).into(), http::PATIENCE);
    lab.client.ns.enter(|| (0..count).map(|_| open()).collect::<io::Result<_>>()).context("UDP sockets")
}

/// Who answers each of these; all must be answered.
pub(crate) fn ask_all(sockets: &[UdpSocket], question: &str) -> Result<Vec<String>> {
    let ask = |socket: &UdpSocket| udp::ask(socket, question);
    sockets.iter().map(ask).collect::<io::Result<_>>().with_context(|| format!("asking {question:?}"))
}

/// Counts names.
pub(crate) fn census(names: &[String]) -> Census {
    let mut census = Census::new();
    for name in names {
        *census.entry(name.clone()).or_default() += 1;
    }
    census
}

/// Whether exactly these hosts answered.
pub(crate) fn ensure_served_by(census: &Census, hosts: &[Host]) -> Result<()> {
    let expected: Vec<&String> = hosts.iter().map(|host| &host.role).collect();
    ensure!(census.keys().eq(expected.iter().copied()), "served by {census:?}, not by {expected:?}");
    Ok(())
}

/// A counter of the balancer.
pub(crate) fn counter(balancer: &Fairlead, name: &str) -> Result<u64> {
    value_of(&balancer.get("/v1/counters")?["counters"], name)
}

/// A counter of a decapsulator.
pub(crate) fn decap_counter(decap: &Decap, name: &str) -> Result<u64> {
    value_of(&decap.status()?["decapsulators"][0]["counters"], name)
}

fn value_of(counters: &Value, name: &str) -> Result<u64> {
    let mut all = counters.as_array().into_iter().flatten();
    let counter = all.find(|counter| counter["name"] == name);
    counter.and_then(|counter| counter["packets"].as_u64()).with_context(|| format!("{name} in {counters}"))
}

/// The backend `host` of a service, as of `backend list -o json`.
pub(crate) fn backend_of(balancer: &Fairlead, service: &str, address: IpAddr) -> Result<Value> {
    let list = balancer.json(&["backend", "list", service])?;
    let mut all = list["backends"].as_array().into_iter().flatten();
    let found = all.find(|backend| backend["address"] == address.to_string());
    found.cloned().with_context(|| format!("{address} in {list}"))
}

/// Waits until the checks of a backend say `verdict`.
pub(crate) fn until_verdict(
    balancer: &Fairlead,
    service: &str,
    address: IpAddr,
    verdict: &str,
) -> Result<Value> {
    let mut last = Value::Null;
    let what = format!("{address} of {service} is {verdict}");
    let waited = fairlead_tests::lab::wait_until(&what, SOON, || {
        last = backend_of(balancer, service, address)?;
        Ok(last["health"]["verdict"] == verdict)
    });
    waited.with_context(|| format!("last: {last}")).map(|()| last)
}

/// What `ip -j` prints in a namespace.
pub(crate) fn ip_json(ns: &Namespace, arguments: &str) -> Result<Value> {
    let output = Command::new("ip").args(["-n", ns.name(), "-j"]).args(arguments.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    // Nothing found is printed as nothing.
    if output.stdout.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("ip -j {arguments}"))
}

/// The hardware address of a host's device in the first segment.
pub(crate) fn mac(host: &Host) -> Result<[u8; 6]> {
    mac_of(host, "eth0")
}

/// The hardware address of one of a host's devices.
pub(crate) fn mac_of(host: &Host, device: &str) -> Result<[u8; 6]> {
    let link = ip_json(&host.ns, &format!("link show {device}"))?;
    let text = link[0]["address"].as_str().context("a hardware address")?;
    let octets: Vec<u8> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    octets.try_into().map_err(|_| anyhow!("{text} is no hardware address"))
}

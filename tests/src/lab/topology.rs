//! The lab's network: a bridge, and around it a client, balancers and backends, each in a namespace of its own.

use super::leftover::{self, KEPT, LabName};
use super::netns::Namespace;
use super::plan::{self, MAX_IN_ROW, PREFIX4, PREFIX6, Row};
use super::{fairlead, interrupt, xdp_pass};
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The device of every namespace but the bridge's.
pub(super) const DEVICE: &str = "eth0";
/// The device in the second segment.
pub(super) const SECOND: &str = "eth1";

/// How the client reaches a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VipRoute {
    /// The VIP is in the client's segment: whoever answers ARP or neighbour solicitation gets the packets.
    OnLink,
    /// By a host route through this balancer.
    Balancer(usize),
}

/// One member of the segment.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its namespace; its device is `eth0`, which a bridge port named after the role leads to.
    pub ns: Namespace,
    /// `client`, `balancer1`, `backend1`, …; backends give it as their name.
    pub role: String,
    /// Its own (first) IPv4 address.
    pub v4: Ipv4Addr,
    /// Its own (first) IPv6 address.
    pub v6: Ipv6Addr,
}

/// What a lab shall consist of; see [`Lab::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    client_addresses: u8,
    balancers: u8,
    backends: u8,
    vips: u8,
    mtu: u32,
    second_mtu: Option<u32>,
    vip_route: VipRoute,
    control: bool,
}

impl Builder {
    /// Two idle members beside all others, for [`super::ha::ControlPing`].
    #[must_use]
    pub fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// How many source addresses of each family the client has (1 to 254, default 1).
    #[must_use]
    pub fn client_addresses(mut self, count: u8) -> Self {
        self.client_addresses = count;
        self
    }

    /// How many balancers there are (default 1).
    #[must_use]
    pub fn balancers(mut self, count: u8) -> Self {
        self.balancers = count;
        self
    }

    /// How many backends there are (default 2).
    #[must_use]
    pub fn backends(mut self, count: u8) -> Self {
        self.backends = count;
        self
    }

    /// How many VIPs of each family every backend has on its loopback (default 1).
    #[must_use]
    pub fn vips(mut self, count: u8) -> Self {
        self.vips = count;
        self
    }

    /// The MTU of every device, in bytes (default 1500).
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = bytes;
        self
    }

    /// Balancers and backends share a second segment, the client not: `eth1` with this MTU, in bytes (default: none).
    #[must_use]
    pub fn second_segment(mut self, mtu: u32) -> Self {
        self.second_mtu = Some(mtu);
        self
    }

    /// How the client reaches the VIPs (default [`VipRoute::OnLink`]).
    #[must_use]
    pub fn vip_route(mut self, route: VipRoute) -> Self {
        self.vip_route = route;
        self
    }

    /// Makes it all.
    ///
    /// # Errors
    /// No rights, a tool is missing, or more members than addresses; what was made until then is removed.
    pub fn build(self) -> Result<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "the lab makes network namespaces: run it as root (`cargo xtask test` uses sudo by itself)"
            );
        }
        let most =
            [self.client_addresses, self.balancers, self.backends, self.vips].into_iter().max().unwrap_or(0);
        if most > MAX_IN_ROW || self.client_addresses == 0 {
            bail!("{self:?}: at most {MAX_IN_ROW} of a kind, and at least one client address");
        }
        interrupt::install(|| {})?;
        let name = LabName { owner: std::process::id(), number: NUMBER.fetch_add(1, Ordering::SeqCst) };
        // From here on, a failure removes what there is.
        let cleanup = Cleanup { name };
        fs::create_dir_all(name.folder())
            .with_context(|| format!("cannot make {}", name.folder().display()))?;
        let bridge = Namespace::create(name, "bridge")?;
        bridge.ip(&format!("link add br0 type bridge mcast_snooping 0\nlink set br0 mtu {} up", self.mtu))?;
        let member = |row, index, role: String| join(name, &bridge, self.mtu, row, index, role);
        if let Some(mtu) = self.second_mtu {
            bridge.ip(&format!("link add br1 type bridge mcast_snooping 0\nlink set br1 mtu {mtu} up"))?;
        }
        let client = member(Row::Client, 0, "client".to_owned())?;
        let balancers = (0..self.balancers).map(|i| member(Row::Balancer, i, format!("balancer{}", i + 1)));
        let balancers = balancers.collect::<Result<Vec<_>>>()?;
        let backends = (0..self.backends).map(|i| member(Row::Backend, i, format!("backend{}", i + 1)));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let control = 0..if self.control { 2 } else { 0 };
        let control = control.map(|i| member(Row::Control, i, format!("control{}", i + 1)));
        let control = control.collect::<Result<Vec<_>>>()?;
        self.prepare_client(&client, &balancers)?;
        let scratch = Path::new(leftover::BPFFS).join(format!("{name}-pass"));
        for balancer in &balancers {
            fairlead::mount_bpffs()?;
            xdp_pass::attach(&bridge, &balancer.role, &scratch)?;
        }
        for backend in &backends {
            self.prepare_backend(backend)?;
        }
        if let Some(mtu) = self.second_mtu {
            for host in balancers.iter().chain(&backends) {
                join_second(&bridge, mtu, host)?;
            }
            for balancer in &balancers {
                xdp_pass::attach(&bridge, &balancer.second_port(), &scratch)?;
            }
        }
        let vips = plan::vips(self.vips).collect();
        Ok(Lab { bridge, client, balancers, backends, control, vips, cleanup })
    }

    fn prepare_client(&self, client: &Host, balancers: &[Host]) -> Result<()> {
        client.add_addresses(Row::Client, 1..self.client_addresses)?;
        let VipRoute::Balancer(index) = self.vip_route else { return Ok(()) };
        let balancer = balancers.get(index).with_context(|| format!("the lab has no balancer {index}"))?;
        let routes = plan::vips(self.vips).map(|(v4, v6)| {
            format!("route add {v4}/32 via {}\nroute add {v6}/128 via {}\n", balancer.v4, balancer.v6)
        });
        client.ns.ip(&routes.collect::<String>())
    }

    /// VIPs on the loopback, never announced, and packets from the tunnel accepted.
    fn prepare_backend(&self, backend: &Host) -> Result<()> {
        for device in ["all", DEVICE] {
            backend.ns.sysctl(&format!("net/ipv4/conf/{device}/arp_ignore"), "1")?;
            backend.ns.sysctl(&format!("net/ipv4/conf/{device}/arp_announce"), "2")?;
            backend.ns.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0")?;
        }
        let lines = plan::vips(self.vips)
            .map(|(v4, v6)| format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo nodad\n"));
        backend.ns.ip(&lines.collect::<String>())
    }
}

/// Makes a member's namespace and plugs its device into the bridge.
fn join(lab: LabName, bridge: &Namespace, mtu: u32, row: Row, index: u8, role: String) -> Result<Host> {
    let ns = Namespace::create(lab, &role)?;
    bridge.ip(&format!(
        "link add {role} mtu {mtu} type veth peer name {DEVICE} mtu {mtu} netns {}\n\
         link set {role} master br0 up",
        ns.name()
    ))?;
    ns.ip(&format!("link set {DEVICE} up"))?;
    // XDP sees frames as they are: no partial checksums, nothing larger than the MTU.
    let off = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];
    ns.features(DEVICE, &off)?;
    bridge.features(&role, &off)?;
    let host = Host { ns, role, v4: row.v4(index), v6: row.v6(index) };
    host.add_addresses(row, index..index + 1)?;
    Ok(host)
}

/// Plugs another device of a member into the second bridge.
fn join_second(bridge: &Namespace, mtu: u32, host: &Host) -> Result<()> {
    let (port, (v4, v6)) = (host.second_port(), host.second());
    bridge.ip(&format!(
        "link add {port} mtu {mtu} type veth peer name {SECOND} mtu {mtu} netns {}\nlink set {port} master br1 up",
        host.ns.name()
    ))?;
    host.ns.ip(&format!(
        "link set {SECOND} up\naddr add {v4}/{PREFIX4} dev {SECOND}\naddr add {v6}/{PREFIX6} dev {SECOND} nodad"
    ))?;
    let off = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];
    host.ns.features(SECOND, &off)?;
    bridge.features(&port, &off)?;
    // Answers leave by the first segment, where the client is.
    host.ns.sysctl(&format!("net/ipv4/conf/{SECOND}/rp_filter"), "0")
}

impl Host {
    /// Its addresses in the second segment.
    #[must_use]
    pub fn second(&self) -> (Ipv4Addr, Ipv6Addr) {
        (plan::second4(self.v4), plan::second6(self.v6))
    }

    /// The port of the second bridge that it is plugged into.
    #[must_use]
    pub fn second_port(&self) -> String {
        format!("{}b", self.role)
    }

    /// Gives the host addresses of both families: members `indexes` of `row`.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn add_addresses(&self, row: Row, indexes: std::ops::Range<u8>) -> Result<()> {
        let lines = indexes.map(|i| {
            let (v4, v6) = (row.v4(i), row.v6(i));
            format!("addr add {v4}/{PREFIX4} dev {DEVICE}\naddr add {v6}/{PREFIX6} dev {DEVICE} nodad\n")
        });
        self.ns.ip(&lines.collect::<String>())
    }

    /// Its own address of `vip`'s family.
    #[must_use]
    pub fn address_like(&self, vip: IpAddr) -> IpAddr {
        if vip.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// A running lab. Dropping it, also by a panic, removes everything it made.
#[derive(Debug)]
pub struct Lab {
    /// The segment: `br0` with a port for each member, named after its role.
    pub bridge: Namespace,
    /// Where connections come from.
    pub client: Host,
    /// Where `fairlead run` belongs.
    pub balancers: Vec<Host>,
    /// Where the services are.
    pub backends: Vec<Host>,
    /// Two that do nothing, if the lab was built with [`Builder::control`].
    pub control: Vec<Host>,
    /// The VIPs of both families.
    pub vips: Vec<(Ipv4Addr, Ipv6Addr)>,
    cleanup: Cleanup,
}

impl Lab {
    /// A lab of one client address, one balancer, two backends and one VIP of each family, unless told otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            client_addresses: 1,
            balancers: 1,
            backends: 2,
            vips: 1,
            mtu: 1500,
            second_mtu: None,
            vip_route: VipRoute::OnLink,
            control: false,
        }
    }

    /// The folder for configuration, logs and sockets; it goes with the lab.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.name().folder()
    }

    /// Where daemons in this lab pin their maps, one folder for each role; they go with the lab.
    ///
    /// # Errors
    /// The BPF file system is not mounted and cannot be.
    pub fn pin_folder(&self, role: &str) -> Result<PathBuf> {
        fairlead::mount_bpffs()?;
        Ok(Path::new(leftover::BPFFS).join(format!("{}-{role}", self.name())))
    }

    /// Lets the lab outlive this process; `cargo xtask clean` removes it. Processes need [`super::survive_us`] as well.
    ///
    /// # Errors
    /// The mark cannot be written; the lab is removed.
    pub fn keep(self) -> Result<()> {
        fs::write(self.folder().join(KEPT), "").context("cannot mark the lab as kept")?;
        std::mem::forget(self);
        Ok(())
    }

    pub(super) fn name(&self) -> LabName {
        self.cleanup.name
    }
}

#[derive(Debug)]
struct Cleanup {
    name: LabName,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Err(error) = leftover::remove(|lab| lab == self.name) {
            eprintln!("error: {error:#}; run `cargo xtask clean`");
        }
    }
}

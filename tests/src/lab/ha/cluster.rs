//! Configurations of Fairlead for the balancers of a lab that stand in for each other.

use crate::lab::{DEVICE, Fairlead, Host, Lab};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the nodes send each other their flows.
const SYNC_PORT: u16 = 7301;
/// The key that the nodes of a lab share: 32 octets in hexadecimal digits. It protects nothing.
const KEY: &str = "61206b657920666f7220746865206c61623a206e6f7420612073656372657421";
/// The group's name in the configuration.
pub const GROUP: &str = "pair";

/// What the nodes of a cluster have in common, and how their priorities differ.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How often the active advertises.
    pub advert_interval: Duration,
    /// Whether adverts go to the others one by one; else by multicast.
    pub unicast: bool,
    /// Whether a better one takes over from a worse one.
    pub preempt: bool,
    /// How long it waits with that after its start.
    pub preempt_delay: Duration,
    /// The VIPs of the group: every one of the lab's, of both families, if none is named.
    pub vips: Vec<IpAddr>,
    /// `vrrp`, or `external`.
    pub mode: String,
    /// What of the flows the others are told: `full`, `exceptions`; nothing if empty.
    pub sync: String,
    /// Whether they tell each other over the second segment, which a cut of the first leaves whole.
    pub sync_apart: bool,
    /// The most that is told a second, as the configuration writes it; the daemon's own default if empty.
    pub max_rate: String,
    /// The rest of the configuration: limits, services.
    pub rest: String,
}

impl Cluster {
    /// Nodes that advertise so often, by multicast, preempt at once, and tell each other of all flows.
    #[must_use]
    pub fn new(advert_interval: Duration, rest: &str) -> Self {
        Self {
            advert_interval,
            unicast: false,
            preempt: true,
            preempt_delay: Duration::ZERO,
            vips: Vec::new(),
            mode: "vrrp".to_owned(),
            sync: "full".to_owned(),
            sync_apart: false,
            max_rate: String::new(),
            rest: rest.to_owned(),
        }
    }

    /// The configuration of node `index` among the lab's balancers; the first has the highest priority.
    ///
    /// # Errors
    /// There is no such node, or the key cannot be written.
    pub fn config(&self, lab: &Lab, index: usize) -> Result<String> {
        let own = lab.balancers.get(index).with_context(|| format!("the lab has no balancer {index}"))?;
        let others = || lab.balancers.iter().filter(|host| host.role != own.role);
        let all = lab.vips.iter().flat_map(|(v4, v6)| [IpAddr::from(*v4), (*v6).into()]);
        let vips: Vec<IpAddr> = if self.vips.is_empty() { all.collect() } else { self.vips.clone() };
        let mut text = format!(
            "[[interface]]\nname = \"{DEVICE}\"\n\n[cluster]\nname = \"lab\"\nnode = \"{}\"\nkey_file = \"{}\"\n\n",
            own.role,
            key_file(lab)?.display()
        );
        writeln!(text, "[ha]\nmode = \"{}\"\n\n[[ha.group]]\nname = \"{GROUP}\"\nvrid = 51", self.mode)?;
        writeln!(text, "vips = {}\ninterface = \"{DEVICE}\"", list(&vips))?;
        writeln!(text, "priority = {}", 200_usize.saturating_sub(50 * index).max(1))?;
        writeln!(text, "advert_interval = \"{}ms\"", self.advert_interval.as_millis())?;
        writeln!(
            text,
            "preempt = {}\npreempt_delay = \"{}ms\"",
            self.preempt,
            self.preempt_delay.as_millis()
        )?;
        if self.unicast {
            let families = [vips.iter().any(IpAddr::is_ipv4), vips.iter().any(IpAddr::is_ipv6)];
            let peers = others().flat_map(|host| {
                let own: [IpAddr; 2] = [host.v4.into(), host.v6.into()];
                own.into_iter().zip(families).filter(|(_, wanted)| *wanted).map(|(address, _)| address)
            });
            writeln!(text, "peers = {}", list(&peers.collect::<Vec<_>>()))?;
        }
        if !self.sync.is_empty() {
            let peers: Vec<SocketAddr> = others().map(|host| self.sync_address(host)).collect();
            writeln!(text, "\n[sync]\nlisten = \"{}\"", self.sync_address(own))?;
            writeln!(text, "peers = {}\nmode = \"{}\"", list(&peers), self.sync)?;
            if !self.max_rate.is_empty() {
                writeln!(text, "max_rate = \"{}\"", self.max_rate)?;
            }
        }
        writeln!(text, "\n{}", self.rest)?;
        Ok(text)
    }

    /// A daemon for each balancer of the lab, not started yet.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn daemons(&self, lab: &Lab) -> Result<Vec<Fairlead>> {
        let nodes = lab.balancers.iter().enumerate();
        nodes.map(|(index, host)| Fairlead::new(lab, host, &self.config(lab, index)?)).collect()
    }

    fn sync_address(&self, host: &Host) -> SocketAddr {
        let address = if self.sync_apart { host.second().0 } else { host.v4 };
        SocketAddr::new(address.into(), SYNC_PORT)
    }
}

/// An array of strings in TOML.
fn list(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{}\"", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// The key's file, made if it is not there, for nobody else to read.
fn key_file(lab: &Lab) -> Result<PathBuf> {
    let path = lab.folder().join("cluster.key");
    let file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    std::io::Write::write_all(&mut file, format!("{KEY}\n").as_bytes())?;
    Ok(path)
}

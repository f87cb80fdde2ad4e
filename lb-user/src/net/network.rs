//! The network as the daemon follows it: interfaces, and the way to each backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::hops::Hops;
use super::link::{self, Link};
use super::neighbour::{self, Key, Neighbour};
use super::route::{self, Route};
use super::watch::Watch;

/// How frames to a backend leave this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Interface they leave through.
    pub ifindex: u32,
    /// Next hop, of either family; `None` if the backend is on the interface's own segment.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose; all zeros if it has none in the backend's family.
    pub source: IpAddr,
    /// MAC of the next hop: the kernel's, or while it has none the last one it had.
    pub mac: Option<[u8; 6]>,
    /// The next hop did not answer. Its last known MAC stays in force.
    pub failed: bool,
}

impl Resolved {
    fn new(backend: IpAddr, route: Route) -> Self {
        let zeros = match backend {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = route.source.unwrap_or(zeros);
        Self { ifindex: route.ifindex, gateway: route.gateway, source, mac: None, failed: false }
    }

    /// Whose MAC frames to `backend` carry.
    fn next_hop(&self, backend: IpAddr) -> Key {
        (self.ifindex, self.gateway.unwrap_or(backend))
    }
}

/// A view of the network that can be asked and tells when to ask again.
#[derive(Debug)]
pub struct Network {
    connection: Connection,
    _watch: Watch,
    /// The last MAC seen of each next hop of the last [`Network::resolve`].
    macs: Mutex<BTreeMap<Key, [u8; 6]>>,
    hops: Mutex<Hops>,
}

impl Network {
    /// Opens the netlink sockets, in the namespace of this thread and inside a tokio runtime.
    ///
    /// The receiver gets a tick, shortly later and one for many, when links, addresses, routes or neighbours changed.
    ///
    /// # Errors
    /// The kernel refuses a socket.
    #[expect(clippy::unused_async, reason = "it must be called inside a runtime, which async says")]
    pub async fn open() -> Result<(Self, mpsc::Receiver<()>)> {
        // Listening first: what changes after this line is told.
        let (watch, changes) = Watch::open()?;
        let connection = Connection::open()?;
        Ok((Self { connection, _watch: watch, macs: Mutex::default(), hops: Mutex::default() }, changes))
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let found = link::dump(self.connection.handle()).await?;
        Ok(found.into_iter().map(|found| found.link).collect())
    }

    /// The way to each backend, as far as there is one: a backend without a route, or one that is this machine, is not
    /// in the map.
    pub async fn resolve(&self, backends: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Resolved> {
        let mut resolved = BTreeMap::new();
        for backend in backends {
            let route = route::look_up(self.connection.handle(), *backend).await;
            if let Some(route) = route.filter(|route| !route.local) {
                resolved.insert(*backend, Resolved::new(*backend, route));
            }
        }
        let neighbours = self.neighbours().await.unwrap_or_default();
        let mut macs = self.macs.lock().unwrap_or_else(PoisonError::into_inner);
        *macs = with_macs(&mut resolved, &neighbours, &macs);
        drop(macs);
        resolved
    }

    /// Has the kernel resolve the next hops of `hops` and keep them resolved: it does not see the traffic that goes
    /// there, so it would forget them. Next hops of earlier calls that are not among them are let go; entries that the
    /// administrator or another program looks after are left alone. Cheap if nothing changed.
    pub async fn keep_fresh(&self, hops: &BTreeMap<IpAddr, Resolved>) {
        let Some(kernel) = self.neighbours().await else { return };
        let needed = hops.iter().map(|(backend, resolved)| resolved.next_hop(*backend)).collect();
        let requests = self.hops.lock().unwrap_or_else(PoisonError::into_inner).turn(&kernel, needed);
        let handle = self.connection.handle();
        for key in requests.manage {
            if let Err(error) = neighbour::manage(handle, key).await {
                tracing::warn!(ifindex = key.0, address = %key.1, %error, "the kernel does not resolve the next hop");
            }
        }
        for key in requests.release {
            if let Err(error) = neighbour::release(handle, key).await {
                tracing::debug!(ifindex = key.0, address = %key.1, %error, "the kernel does not let go a neighbour");
            }
        }
    }

    /// `None`, and a warning, if the kernel does not tell.
    async fn neighbours(&self) -> Option<BTreeMap<Key, Neighbour>> {
        neighbour::dump(self.connection.handle())
            .await
            .inspect_err(|error| tracing::warn!(error = %format!("{error:#}"), "cannot read the neighbours"))
            .ok()
    }
}

/// Fills in MACs, from the kernel or else the last known ones; gives those to be remembered.
fn with_macs(
    resolved: &mut BTreeMap<IpAddr, Resolved>,
    neighbours: &BTreeMap<Key, Neighbour>,
    last: &BTreeMap<Key, [u8; 6]>,
) -> BTreeMap<Key, [u8; 6]> {
    let mut known = BTreeMap::new();
    for (backend, way) in resolved {
        let key = way.next_hop(*backend);
        let neighbour = neighbours.get(&key);
        way.failed = neighbour.is_some_and(|neighbour| neighbour.failed);
        way.mac = neighbour.and_then(|neighbour| neighbour.mac).or_else(|| last.get(&key).copied());
        known.extend(way.mac.map(|mac| (key, mac)));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// One backend on interface 3, behind a gateway or not; its MAC and whether it failed.
    fn check(
        gateway: Option<&str>,
        kernel: Option<Neighbour>,
        last: Option<[u8; 6]>,
    ) -> (Option<[u8; 6]>, bool) {
        let backend: IpAddr = "10.0.0.9".parse().expect("literal");
        let gateway = gateway.map(|address| address.parse().expect("literal"));
        let key = (3, gateway.unwrap_or(backend));
        let route = Route { ifindex: 3, gateway, source: None, local: false };
        let mut resolved = BTreeMap::from([(backend, Resolved::new(backend, route))]);
        let neighbours = kernel.map(|neighbour| (key, neighbour)).into_iter().collect();
        let last = last.map(|mac| (key, mac)).into_iter().collect();
        let known = with_macs(&mut resolved, &neighbours, &last);
        let way = &resolved[&backend];
        assert_eq!(known.get(&key).copied(), way.mac, "what is in force is remembered");
        assert_eq!(way.source, IpAddr::from(Ipv4Addr::UNSPECIFIED));
        (way.mac, way.failed)
    }

    #[test]
    fn mac_is_the_next_hops_and_the_last_known_one_while_the_kernel_has_none() {
        let entry = |mac, failed| Some(Neighbour { mac, failed, fixed: false, managed: true, ours: true });
        for gateway in [None, Some("10.0.0.1"), Some("fe80::1")] {
            assert_eq!(check(gateway, None, None), (None, false));
            assert_eq!(check(gateway, entry(Some(MAC), false), None), (Some(MAC), false));
            assert_eq!(check(gateway, entry(Some(MAC), false), Some(OTHER)), (Some(MAC), false));
            assert_eq!(check(gateway, entry(None, true), Some(OTHER)), (Some(OTHER), true));
            assert_eq!(check(gateway, entry(None, false), Some(OTHER)), (Some(OTHER), false));
            assert_eq!(check(gateway, None, Some(OTHER)), (Some(OTHER), false));
            assert_eq!(check(gateway, entry(None, true), None), (None, true));
        }
    }
}

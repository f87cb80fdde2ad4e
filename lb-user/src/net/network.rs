//! The network as the daemon follows it: interfaces, and the way to each backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use rtnetlink::Handle;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::hops::Hops;
use super::known::Known;
use super::link::{self, Link};
use super::neighbour::{self, Key, Neighbour};
use super::route::{self, Route};
use super::watch::Watch;
use super::ways::Ways;

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
    /// Without what neighbours tell.
    pub(super) fn new(backend: IpAddr, route: Route) -> Self {
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
    connection: Mutex<Connection>,
    _watch: Watch,
    ways: Mutex<Ways>,
    /// What is known of each next hop of the last [`Network::resolve`].
    known: Mutex<BTreeMap<Key, Known>>,
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
        let network = Self {
            connection: Mutex::new(Connection::open()?),
            _watch: watch,
            ways: Mutex::default(),
            known: Mutex::default(),
            hops: Mutex::default(),
        };
        Ok((network, changes))
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let found = link::dump(&self.handle()).await?;
        Ok(found.into_iter().map(|found| found.link).collect())
    }

    /// The way to each backend, as far as there is one: a backend without a route, or one that is this machine, is not
    /// in the map. Where the kernel does not tell, the last known way stays in force, and [`Network::unsure`] says so.
    pub async fn resolve(&self, backends: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Resolved> {
        let handle = self.handle();
        let mut answers = BTreeMap::new();
        for backend in backends {
            answers.insert(*backend, route::look_up(&handle, *backend).await);
        }
        let mut resolved = self.ways.lock().unwrap_or_else(PoisonError::into_inner).turn(answers);
        let neighbours = self.neighbours().await.unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = fill_in(&mut resolved, &neighbours, &known);
        drop(known);
        resolved
    }

    /// Whether the last [`Network::resolve`] did without an answer of the kernel. Nothing tells when there will be one:
    /// ask again after a while.
    pub fn unsure(&self) -> bool {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).unsure
    }

    /// Has the kernel resolve the next hops of `hops` and keep them resolved: it does not see the traffic that goes
    /// there, so it would forget them. Next hops of earlier calls that are not among them are let go; entries that the
    /// administrator or another program looks after are left alone. Cheap if nothing changed.
    pub async fn keep_fresh(&self, hops: &BTreeMap<IpAddr, Resolved>) {
        let Some(kernel) = self.neighbours().await else { return };
        let needed = hops.iter().map(|(backend, resolved)| resolved.next_hop(*backend)).collect();
        let requests = self.hops.lock().unwrap_or_else(PoisonError::into_inner).turn(&kernel, needed);
        let handle = self.handle();
        for key in requests.manage {
            if let Err(error) = neighbour::manage(&handle, key).await {
                tracing::warn!(ifindex = key.0, address = %key.1, %error, "the kernel does not resolve the next hop");
            }
        }
        for key in requests.release {
            if let Err(error) = neighbour::release(&handle, key).await {
                tracing::debug!(ifindex = key.0, address = %key.1, %error, "the kernel does not let go a neighbour");
            }
        }
    }

    /// For making requests, by another socket if the last one failed.
    fn handle(&self) -> Handle {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.is_closed() {
            match Connection::open() {
                Ok(opened) => *connection = opened,
                // The requests will fail, and say so.
                Err(error) => tracing::debug!(error = %format!("{error:#}"), "cannot connect anew"),
            }
        }
        connection.handle().clone()
    }

    /// `None`, and a warning, if the kernel does not tell.
    async fn neighbours(&self) -> Option<BTreeMap<Key, Neighbour>> {
        neighbour::dump(&self.handle())
            .await
            .inspect_err(|error| tracing::warn!(error = %format!("{error:#}"), "cannot read the neighbours"))
            .ok()
    }
}

/// Fills in MACs and failures; gives what is known now, to be remembered.
fn fill_in(
    resolved: &mut BTreeMap<IpAddr, Resolved>,
    neighbours: &BTreeMap<Key, Neighbour>,
    before: &BTreeMap<Key, Known>,
) -> BTreeMap<Key, Known> {
    let mut after = BTreeMap::new();
    for (backend, way) in resolved {
        let key = way.next_hop(*backend);
        let known = before.get(&key).copied().unwrap_or_default().after(neighbours.get(&key));
        (way.mac, way.failed) = (known.mac, known.failed);
        after.insert(key, known);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn mac_is_that_of_the_next_hop_on_its_interface_and_remembered_while_needed() {
        let backend: IpAddr = "10.0.0.9".parse().expect("literal");
        for gateway in [None, Some("10.0.0.1"), Some("fe80::1")] {
            let gateway = gateway.map(|address| address.parse().expect("literal"));
            let route = Route { ifindex: 3, gateway, source: None, local: false };
            let way = Resolved::new(backend, route);
            assert_eq!((way.source, way.mac), (Ipv4Addr::UNSPECIFIED.into(), None));
            let hop = (3, gateway.unwrap_or(backend));
            let entry = Neighbour { mac: Some(MAC), failed: false, fixed: false, managed: true, ours: true };
            let elsewhere = BTreeMap::from([((4, hop.1), entry)]);
            let here = BTreeMap::from([(hop, entry)]);

            let mut resolved = BTreeMap::from([(backend, way)]);
            let known = fill_in(&mut resolved, &elsewhere, &BTreeMap::new());
            assert_eq!(resolved[&backend].mac, None, "{hop:?}");
            let known = fill_in(&mut resolved, &here, &known);
            assert_eq!(resolved[&backend].mac, Some(MAC), "{hop:?}");
            let known = fill_in(&mut resolved, &BTreeMap::new(), &known);
            assert_eq!(resolved[&backend].mac, Some(MAC), "{hop:?}");
            assert_eq!(fill_in(&mut BTreeMap::new(), &here, &known), BTreeMap::new());
        }
    }
}

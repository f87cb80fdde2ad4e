//! What the engine is shown of its node at each call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::plan::ServiceKey;
use crate::sync::apply::Table;
use crate::sync::wire::BackendSaid;

/// Which slot is which backend of which service, both ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    by_slot: Vec<Option<(ServiceKey, IpAddr)>>,
    by_pair: BTreeMap<(ServiceKey, IpAddr), u16>,
}

impl FromIterator<(u16, ServiceKey, IpAddr)> for Directory {
    /// Of slots that may have flows. Where a backend has two, the last one takes the flows received.
    fn from_iter<I: IntoIterator<Item = (u16, ServiceKey, IpAddr)>>(slots: I) -> Self {
        let mut directory = Self::default();
        for (slot, service, backend) in slots {
            let at = usize::from(slot);
            if directory.by_slot.len() <= at {
                directory.by_slot.resize(at + 1, None);
            }
            directory.by_slot[at] = Some((service, backend));
            directory.by_pair.insert((service, backend), slot);
        }
        directory
    }
}

impl Directory {
    /// Service and backend of a slot.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<(ServiceKey, IpAddr)> {
        self.by_slot.get(usize::from(slot)).copied().flatten()
    }

    /// Slot of a backend.
    #[must_use]
    pub fn slot(&self, service: ServiceKey, backend: IpAddr) -> Option<u16> {
        self.by_pair.get(&(service, backend)).copied()
    }

    /// By slot: whether its service is one of these.
    #[must_use]
    pub fn slots_of(&self, services: &BTreeSet<ServiceKey>) -> Vec<bool> {
        let is_one =
            |owner: &Option<(ServiceKey, IpAddr)>| owner.is_some_and(|(key, _)| services.contains(&key));
        self.by_slot.iter().map(is_one).collect()
    }
}

/// A group of VIPs that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// This node's VRRP priority for it.
    pub priority: u8,
    /// Whether this node is active.
    pub active: bool,
    /// Services of its VIPs.
    pub services: BTreeSet<ServiceKey>,
}

/// What a node believes of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSaid {
    /// The service.
    pub service: ServiceKey,
    /// Its backends.
    pub backends: Vec<BackendSaid>,
    /// Of its configuration: where it is equal both nodes steer alike.
    pub digest: u64,
}

/// The node at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a, W> {
    /// Its flow table.
    pub table: Table<'a, W>,
    /// Its slots.
    pub directory: &'a Directory,
    /// Its groups.
    pub groups: &'a [GroupFacts],
    /// What it believes of all its services.
    pub verdicts: &'a [ServiceSaid],
}

impl<W> Context<'_, W> {
    /// Services that this node is active for.
    pub(super) fn active_services(&self) -> BTreeSet<ServiceKey> {
        let active = self.groups.iter().filter(|group| group.active);
        active.flat_map(|group| group.services.iter().copied()).collect()
    }
}

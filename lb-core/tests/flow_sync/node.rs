//! A node: a flow table that its packets write, and the engine beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_common::flow::FlowEntry;
use lb_common::hash::FlowHash;
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;
use lb_core::config::{AdminState, Protocol};
use lb_core::health::Verdict;
use lb_core::plan::ServiceKey;
use lb_core::sync::apply::{Table, adopt};
use lb_core::sync::wire::BackendSaid;
use lb_core::sync::{ClusterKey, Context, Directory, GroupFacts, ServiceSaid, Settings, Sync, ToldOf};

pub(crate) const GROUPS: u8 = 2;
pub(crate) const SERVICES: u8 = 4;
pub(crate) const BACKENDS: u8 = 3;
const BUCKETS: u32 = 128;

/// Flows by bucket and fingerprint: service and backend.
pub(crate) type Flows = BTreeMap<(usize, u32), (ServiceKey, IpAddr, u8)>;

pub(crate) fn service(number: u8) -> ServiceKey {
    ServiceKey { vip: [192, 0, 2, number].into(), port: 80, protocol: Protocol::Tcp }
}

pub(crate) fn backend(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

/// Services of a group.
pub(crate) fn services(group: u8) -> BTreeSet<ServiceKey> {
    (0..SERVICES).filter(|number| number % GROUPS == group).map(service).collect()
}

pub(crate) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, u8::try_from(node).expect("few nodes")], 7_000))
}

pub(crate) struct Node {
    pub(crate) words: Vec<AtomicU64>,
    pub(crate) directory: Directory,
    pub(crate) groups: Vec<GroupFacts>,
    verdicts: Vec<ServiceSaid>,
    pub(crate) sync: Sync,
}

impl Node {
    pub(crate) fn new(number: usize, nodes: usize, session: u64, now: Duration) -> Self {
        let pairs = (0..SERVICES).flat_map(|one| (0..BACKENDS).map(move |other| (one, other)));
        // Each node has slot numbers of its own.
        let first = 1 + 20 * u16::try_from(number).expect("few nodes");
        let slots = (first..).zip(pairs).map(|(slot, (one, other))| (slot, service(one), backend(other)));
        let group = |group: u8| GroupFacts {
            name: format!("group {group}"),
            priority: 100,
            active: false,
            services: services(group),
        };
        Self {
            words: (0..BUCKETS as usize * WAYS).map(|_| AtomicU64::new(0)).collect(),
            directory: slots.collect(),
            groups: (0..GROUPS).map(group).collect(),
            verdicts: (0..SERVICES).map(|one| said(service(one))).collect(),
            sync: engine(number, nodes, session, now),
        }
    }

    pub(crate) fn restart(&mut self, number: usize, nodes: usize, session: u64, now: Duration) {
        self.sync = engine(number, nodes, session, now);
    }

    /// What the engine is shown, and the engine.
    pub(crate) fn parts(&mut self, now: Duration) -> (Context<'_, AtomicU64>, &mut Sync) {
        let table = Table { words: &self.words, tick: tick(now), idle: IdleTicks::default() };
        let context =
            Context { table, directory: &self.directory, groups: &self.groups, verdicts: &self.verdicts };
        (context, &mut self.sync)
    }

    pub(crate) fn set_role(&mut self, group: u8, active: bool, now: Duration) {
        self.groups[usize::from(group)].active = active;
        if active {
            let slots = self.directory.slots_of(&services(group));
            adopt(&self.words, |slot| slots.get(usize::from(slot)) == Some(&true), tick(now));
        }
    }

    /// A packet of a flow comes: it is stored with this backend.
    pub(crate) fn store(&self, hash: u64, to: (ServiceKey, IpAddr), state: u8, now: Duration) {
        let slot = self.directory.slot(to.0, to.1).expect("all backends are known");
        let fingerprint = FlowHash(hash).fingerprint();
        let bucket = FlowHash(hash).bucket(BUCKETS - 1) as usize * WAYS;
        let ways = (0..WAYS).map(|step| bucket + (fingerprint as usize).wrapping_add(step) % WAYS);
        let entry = |at: &usize| FlowEntry(self.words[*at].load(Ordering::Relaxed));
        let own = ways.clone().find(|at| !entry(at).is_empty() && entry(at).fingerprint() == fingerprint);
        if let Some(at) = own.or_else(|| ways.clone().find(|at| entry(at).is_empty())) {
            let new = FlowEntry::new(fingerprint, slot, tick(now), state);
            self.words[at].store(new.0, Ordering::Relaxed);
        }
    }

    /// The sweeper gives up the entry at an index, if it is of a service that this node is active for.
    pub(crate) fn give_up(&self, index: usize) {
        let word = &self.words[index % self.words.len()];
        let owner = self.directory.owner(FlowEntry(word.load(Ordering::Relaxed)).slot());
        let is_ours = |key| self.groups.iter().any(|group| group.active && group.services.contains(&key));
        if owner.is_some_and(|(key, _)| is_ours(key)) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Flows of a group, confirmed or not.
    pub(crate) fn flows(&self, group: u8, confirmed_only: bool) -> Flows {
        let services = services(group);
        let mut flows = Flows::new();
        for (index, word) in self.words.iter().enumerate() {
            let entry = FlowEntry(word.load(Ordering::Relaxed));
            let Some((key, backend)) = self.directory.owner(entry.slot()) else { continue };
            if services.contains(&key) && (entry.is(FlowEntry::CONFIRMED) || !confirmed_only) {
                let state = entry.state() & (FlowEntry::CONFIRMED | FlowEntry::CLOSING);
                flows.insert((index / WAYS, entry.fingerprint()), (key, backend, state));
            }
        }
        flows
    }
}

fn engine(number: usize, nodes: usize, session: u64, now: Duration) -> Sync {
    let settings = Settings {
        cluster: "simulated".into(),
        node: format!("node {number}"),
        key: ClusterKey::from_file(b"the key of a simulated cluster").expect("a key"),
        session,
        peers: (0..nodes).filter(|other| *other != number).map(address).collect(),
        max_rate: 100_000,
        told_of: ToldOf::All,
    };
    Sync::new(settings, now)
}

fn said(service: ServiceKey) -> ServiceSaid {
    let backend = |number| BackendSaid {
        backend: backend(number),
        state: AdminState::Enabled,
        weight: 1,
        verdict: Verdict::Up,
    };
    ServiceSaid { service, backends: (0..BACKENDS).map(backend).collect(), digest: 7 }
}

fn tick(now: Duration) -> u16 {
    u16::try_from(now.as_secs() / 8 % 2_048).expect("eleven bits")
}

//! Which backend a packet may go to: the Maglev table's choice, and for known flows where they went before.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::backend::SlotState;
use lb_common::hash::{FlowHash, HashKey, flow_hash};
use lb_common::packet::Tuple;
use lb_common::service::ServiceWord;

use crate::packets::balancer::Change;
use crate::packets::client::{ACK, FIN, RST, SYN};
use crate::packets::setup::{Backend, INGRESS, SEED, ServiceSetup, Setup};

/// A flow: source and destination with their ports, protocol.
pub(super) type Key = (IpAddr, u16, IpAddr, u16, u8);

/// Where a flow's entry may lead, if it has one.
struct Flow {
    slots: Vec<u16>,
    /// What its bucket had lost when it was seen last.
    losses: u64,
    fingerprint: u32,
}

/// Where a packet may go.
pub(super) struct Ways {
    /// All slots that it may go to.
    pub(super) allowed: Vec<u16>,
    /// Whether it must go to one of them and is not dropped instead, and is not: what the documents say nothing of is both.
    pub(super) sent: bool,
    pub(super) dropped: bool,
    /// Whether it may go to one slot only, and only since its flow went there before: the table names another.
    pub(super) sticks: bool,
}

/// Services, backends and flows.
pub(super) struct Pool {
    pub(super) setup: Setup,
    key: HashKey,
    flows: HashMap<Key, Flow>,
    /// By bucket: entries that lost their place, so that flows may have been picked anew.
    losses: HashMap<u32, u64>,
    /// By bucket and fingerprint: entries that nobody saw made.
    planted: HashMap<(u32, u32), Planted>,
}

/// An entry that nobody saw made.
#[derive(Clone, Copy)]
struct Planted {
    slot: u16,
    /// What its bucket had lost when it was put there.
    losses: u64,
}

impl Pool {
    pub(super) fn new(setup: &Setup) -> Self {
        let key = HashKey::from_seed(SEED);
        let (flows, losses, planted) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { setup: setup.clone(), key, flows, losses, planted }
    }

    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Backend(slot, word) => {
                let backend = self.setup.backends.iter_mut().find(|backend| backend.slot == *slot);
                backend.expect("a slot of the setup").word = *word;
            }
            Change::Table(index, word, table) => {
                let service = &mut self.setup.services[usize::from(*index)];
                service.word = *word;
                service.table.clone_from(table);
            }
        }
    }

    /// The published service that a packet is for.
    pub(super) fn service(&self, key: &Key) -> Option<&ServiceSetup> {
        let (_, _, vip, port, protocol) = *key;
        let fits = |service: &&ServiceSetup| {
            let is = (service.vip, service.port, service.protocol) == (vip, port, protocol);
            is && service.word.has(ServiceWord::PUBLISHED)
        };
        self.setup.services.iter().find(fits)
    }

    pub(super) fn backend(&self, slot: u16) -> Option<&Backend> {
        self.setup.backends.iter().find(|backend| backend.slot == slot)
    }

    fn hash(&self, key: &Key) -> FlowHash {
        let (source, from, destination, to, protocol) = *key;
        let tuple = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Tuple::v4(source.octets(), destination.octets(), from, to, protocol)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Tuple::v6(source.octets(), destination.octets(), from, to, protocol)
            }
            _ => unreachable!("addresses of one packet are of one family"),
        };
        flow_hash(&self.key, &tuple)
    }

    /// The table's choice; 0 if there is none.
    fn choice(&self, service: &ServiceSetup, key: &Key) -> u16 {
        if !service.word.has(ServiceWord::SERVE | ServiceWord::PUBLISHED) || service.table.is_empty() {
            return 0;
        }
        let entries = u64::from(service.word.class().entries());
        let place = (u64::from(self.hash(key).fingerprint()) * entries) >> 32;
        service.table[place as usize % service.table.len()]
    }

    fn state(&self, slot: u16) -> SlotState {
        self.backend(slot).map_or(SlotState::Free, |backend| backend.word.state())
    }

    /// Whether packets can be sent to a slot of a service.
    fn reaches(&self, service: &ServiceSetup, slot: u16) -> bool {
        self.backend(slot).is_some_and(|backend| {
            backend.spec.service == service.index
                && backend.word.mac() != [0; 6]
                && (u32::from(backend.word.egress()) == INGRESS || self.setup.elsewhere(backend).is_some())
        })
    }

    pub(super) fn ways(&self, service: &ServiceSetup, key: &Key, flags: u8) -> Ways {
        let choice = self.choice(service, key);
        let opens = flags & SYN != 0;
        // A SYN with something else beside is not said to be "new", nor not to be.
        let odd = opens && flags & (ACK | FIN | RST) != 0;
        // Known flows need no table.
        let flow = self.flows.get(key).filter(|_| service.tracks());
        let planted = self.planted(service, key).filter(|_| service.tracks() && flow.is_none());
        let keeps = |slot: &u16| match self.state(*slot) {
            SlotState::Serving => true,
            SlotState::Draining => !opens || odd,
            _ => false,
        };
        let left = planted.map(|planted| planted.slot);
        let slots = flow.map_or(left.as_slice(), |flow| &flow.slots);
        let kept: Vec<u16> = slots.iter().copied().filter(keeps).collect();
        let stored = planted.is_some_and(|planted| planted.losses == self.losses(key))
            || flow.is_some_and(|flow| flow.slots.len() == 1 && flow.losses == self.losses(key));
        let surely = stored && !kept.is_empty() && !(odd && self.state(kept[0]) == SlotState::Draining);
        let sticks = surely && kept[0] != choice;
        let mut allowed = kept;
        if !surely && choice != 0 && !allowed.contains(&choice) {
            allowed.push(choice);
        }
        let clear = surely || choice == 0 || self.state(choice) == SlotState::Serving;
        let reached = allowed.iter().filter(|slot| self.reaches(service, **slot)).count();
        let sent = clear && reached == allowed.len() && (surely || choice != 0);
        let dropped = reached == 0;
        allowed.retain(|slot| self.reaches(service, *slot));
        Ways { allowed, sent, dropped, sticks }
    }

    /// A packet of the flow went to a slot.
    pub(super) fn went(&mut self, key: Key, slot: u16, losses: u64) {
        let fingerprint = self.hash(&key).fingerprint();
        self.flows.insert(key, Flow { slots: vec![slot], losses, fingerprint });
    }

    /// A packet of the flow was picked a backend that nobody saw.
    pub(super) fn unseen(&mut self, key: Key) {
        let Some(service) = self.service(&key) else { return };
        let (choice, fingerprint) = (self.choice(service, &key), self.hash(&key).fingerprint());
        let flow = self.flows.entry(key).or_insert_with(|| Flow {
            slots: Vec::new(),
            losses: u64::MAX,
            fingerprint,
        });
        if choice != 0 && !flow.slots.contains(&choice) {
            flow.slots.push(choice);
        }
        flow.losses = u64::MAX;
    }

    fn bucket(&self, key: &Key) -> u32 {
        self.hash(key).bucket(self.setup.buckets - 1)
    }

    /// What the bucket of a flow has lost so far.
    pub(super) fn losses(&self, key: &Key) -> u64 {
        self.losses.get(&self.bucket(key)).copied().unwrap_or(0)
    }

    /// A packet of this flow cost its bucket so many entries, or found no place.
    pub(super) fn lost(&mut self, key: &Key, entries: u64) {
        if entries > 0 {
            *self.losses.entry(self.bucket(key)).or_default() += entries;
        }
    }

    /// An entry is there of which nobody saw the packets.
    pub(super) fn plant(&mut self, bucket: u32, fingerprint: u32, slot: u16) {
        let losses = self.losses.get(&bucket).copied().unwrap_or(0);
        self.planted.insert((bucket, fingerprint), Planted { slot, losses });
    }

    /// The entry of unknown origin for a flow, if it is of the flow's service.
    fn planted(&self, service: &ServiceSetup, key: &Key) -> Option<Planted> {
        if self.planted.is_empty() {
            return None;
        }
        let hash = self.hash(key);
        let planted = *self.planted.get(&(hash.bucket(self.setup.buckets - 1), hash.fingerprint()))?;
        self.backend(planted.slot).filter(|backend| backend.spec.service == service.index).map(|_| planted)
    }

    /// The entries with this fingerprint are gone.
    pub(super) fn forget(&mut self, fingerprint: u32) {
        for flow in self.flows.values_mut().filter(|flow| flow.fingerprint == fingerprint) {
            flow.losses = u64::MAX;
        }
        self.planted.retain(|(_, planted), _| *planted != fingerprint);
    }
}

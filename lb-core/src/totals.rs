//! Traffic of backends as metrics show it: sums that never go backwards, whatever becomes of the slots behind them.
//!
//! A slot's counters start anew when the slot gets another backend, and a backend gets another slot when it is removed
//! and added again or its service changes. [`Totals`] keeps for each (service, backend) what was counted in slots that it
//! had before, and the caller keeps [`Totals`] for as long as the maps live.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::counters::SlotCounter;
use serde::{Deserialize, Serialize};

use crate::health::Verdict;

/// Backends without a slot that are remembered: so many can be removed, and come back with what they had. Of those
/// beyond only their service's sum is kept.
pub const MAX_RETIRED: usize = 4_096;

/// Services without a backend that are remembered.
pub const MAX_RETIRED_SERVICES: usize = 512;

/// Packets, bytes and new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of these packets from the IP header on, without the outer header.
    pub bytes: u64,
    /// Flows stored for the backend or picked anew, and SYNs of flows that are not stored.
    pub flows: u64,
}

impl From<SlotCounter> for Traffic {
    fn from(counter: SlotCounter) -> Self {
        Self { packets: counter.packets, bytes: counter.bytes, flows: counter.flows }
    }
}

impl Traffic {
    fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
            flows: self.flows.saturating_add(other.flows),
        }
    }

    /// What was counted since `base`; everything, if the counters were cleared since.
    fn since(self, base: Self) -> Self {
        if !self.reaches(base) {
            return self;
        }
        Self {
            packets: self.packets - base.packets,
            bytes: self.bytes - base.bytes,
            flows: self.flows - base.flows,
        }
    }

    /// Whether nothing of `other` is larger: else the counters were cleared in between.
    fn reaches(self, other: Self) -> bool {
        self.packets >= other.packets && self.bytes >= other.bytes && self.flows >= other.flows
    }
}

/// A backend of a service, by the names that metrics show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub backend: IpAddr,
}

/// A slot's counters as a backend has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    slot: u16,
    /// What the slot had counted when the backend got it.
    base: Traffic,
    /// What it had counted when it was last looked at.
    seen: Traffic,
}

/// What is known of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Entry {
    /// Counted in slots that it has no longer.
    earlier: Traffic,
    held: Option<Held>,
    /// When it lost its last slot, counted in such events.
    retired_at: u64,
    /// Not kept: nothing in the maps tells of changes while no daemon ran, so these count from its start.
    #[serde(skip)]
    transitions: Transitions,
}

/// How often the health of a backend changed since the daemon started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Transitions {
    /// To "up".
    pub up: u64,
    /// To "down".
    pub down: u64,
}

impl Entry {
    fn kept(&self) -> Self {
        Self { transitions: Transitions::default(), ..self.clone() }
    }

    fn total(&self) -> Traffic {
        self.held.map_or(self.earlier, |held| self.earlier.plus(held.seen.since(held.base)))
    }
}

/// Sums of all backends, and of services with those of their backends that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    entries: BTreeMap<Owner, Entry>,
    /// The backend that a slot counts for.
    owners: BTreeMap<u16, Owner>,
    /// What slots had counted when their backends got others, though they were not retired: not the next one's.
    left: BTreeMap<u16, Traffic>,
    /// Traffic of backends that are forgotten, by service, and when the last one was.
    forgotten: BTreeMap<String, (Traffic, u64)>,
    /// Counts backends that lost their slot.
    clock: u64,
    changed: bool,
}

/// [`Totals`] as they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    backends: Vec<KeptBackend>,
    services: Vec<KeptService>,
    clock: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptBackend {
    #[serde(flatten)]
    owner: Owner,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptService {
    service: String,
    traffic: Traffic,
    at: u64,
}

impl Totals {
    /// Goes on with what was kept.
    #[must_use]
    pub fn from_kept(kept: Kept) -> Self {
        let mut totals = Self { clock: kept.clock, ..Self::default() };
        for KeptBackend { owner, entry } in kept.backends {
            if let Some(held) = entry.held {
                totals.owners.insert(held.slot, owner.clone());
            }
            totals.entries.insert(owner, entry);
        }
        for KeptService { service, traffic, at } in kept.services {
            totals.forgotten.insert(service, (traffic, at));
        }
        totals.forget();
        totals
    }

    /// What to keep.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let backend =
            |(owner, entry): (&Owner, &Entry)| KeptBackend { owner: owner.clone(), entry: entry.kept() };
        let service = |(service, (traffic, at)): (&String, &(Traffic, u64))| KeptService {
            service: service.clone(),
            traffic: *traffic,
            at: *at,
        };
        Kept {
            backends: self.entries.iter().map(backend).collect(),
            services: self.forgotten.iter().map(service).collect(),
            clock: self.clock,
        }
    }

    /// Whether a backend got or lost a slot since this was last asked: then [`Self::kept`] is to be kept again. What is
    /// counted meanwhile is in the slots' own counters.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was to be kept is not: [`Self::take_changed`] says so once more.
    pub fn put_back_changed(&mut self) {
        self.changed = true;
    }

    /// A backend's slot has counted this much.
    pub fn observe(&mut self, owner: &Owner, slot: u16, seen: Traffic) {
        let entry = self.entries.get_mut(owner);
        if let Some(held) = entry.and_then(|entry| entry.held.as_mut()).filter(|held| held.slot == slot)
            && seen.reaches(held.seen)
        {
            held.seen = seen;
            return;
        }
        // Another slot, or the same one used anew.
        self.leave(owner);
        if let Some(other) = self.owners.get(&slot).cloned() {
            // The service changed its name: what was counted so far is the other's.
            self.see(&other, seen);
            self.leave(&other);
        }
        let base = self.left.remove(&slot).filter(|left| seen.reaches(*left)).unwrap_or_default();
        self.owners.insert(slot, owner.clone());
        self.entries.entry(owner.clone()).or_default().held = Some(Held { slot, base, seen });
        self.changed = true;
        self.forget();
    }

    /// A slot has counted this much and is about to be used anew.
    pub fn retire(&mut self, slot: u16, seen: Traffic) {
        if let Some(owner) = self.owners.get(&slot).cloned() {
            self.see(&owner, seen);
            self.leave(&owner);
        }
        self.left.remove(&slot);
        self.forget();
    }

    /// Traffic of a backend, in all slots that it ever had.
    #[must_use]
    pub fn of_backend(&self, owner: &Owner) -> Traffic {
        self.entries.get(owner).map(Entry::total).unwrap_or_default()
    }

    /// Traffic of all backends that services ever had, by service.
    #[must_use]
    pub fn of_services(&self) -> BTreeMap<&str, Traffic> {
        let mut sums: BTreeMap<&str, Traffic> =
            self.forgotten.iter().map(|(service, (traffic, _))| (service.as_str(), *traffic)).collect();
        for (owner, entry) in &self.entries {
            let sum = sums.entry(&owner.service).or_default();
            *sum = sum.plus(entry.total());
        }
        sums
    }

    /// The health of a backend changed to this.
    pub fn transition(&mut self, owner: &Owner, to: Verdict) {
        let transitions = &mut self.entries.entry(owner.clone()).or_default().transitions;
        match to {
            Verdict::Up => transitions.up += 1,
            Verdict::Down => transitions.down += 1,
            Verdict::Unknown | Verdict::Unchecked => {}
        }
        self.forget();
    }

    /// How often the health of a backend changed.
    #[must_use]
    pub fn transitions(&self, owner: &Owner) -> Transitions {
        self.entries.get(owner).map(|entry| entry.transitions).unwrap_or_default()
    }

    /// What a backend's slot had counted at last, unless it was cleared since.
    fn see(&mut self, owner: &Owner, seen: Traffic) {
        let held = self.entries.get_mut(owner).and_then(|entry| entry.held.as_mut());
        if let Some(held) = held.filter(|held| seen.reaches(held.seen)) {
            held.seen = seen;
        }
    }

    /// A backend has its slot no longer; what it counted there stays its own.
    fn leave(&mut self, owner: &Owner) {
        let Some(entry) = self.entries.get_mut(owner) else { return };
        entry.earlier = entry.total();
        let Some(held) = entry.held.take() else { return };
        // Kept in a file, which may say anything.
        self.clock = self.clock.saturating_add(1);
        entry.retired_at = self.clock;
        self.owners.remove(&held.slot);
        self.left.insert(held.slot, held.seen);
        self.changed = true;
    }

    /// Keeps to the limits: who has been without a slot for longest goes first.
    fn forget(&mut self) {
        // A file that contradicts itself may give a backend two slots.
        while self.entries.len().saturating_sub(self.owners.len()) > MAX_RETIRED {
            let retired = self.entries.iter().filter(|(_, entry)| entry.held.is_none());
            let Some(oldest) =
                retired.min_by_key(|(_, entry)| entry.retired_at).map(|(owner, _)| owner.clone())
            else {
                return;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                let (sum, at) = self.forgotten.entry(oldest.service).or_default();
                *sum = sum.plus(entry.earlier);
                *at = (*at).max(entry.retired_at);
            }
        }
        while self.forgotten.len() > MAX_RETIRED_SERVICES {
            let alive = |service: &str| self.entries.keys().any(|owner| owner.service == *service);
            let gone = self.forgotten.iter().filter(|(service, _)| !alive(service));
            let Some(oldest) = gone.min_by_key(|(_, (_, at))| *at).map(|(service, _)| service.clone()) else {
                return;
            };
            self.forgotten.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;

//! The operations from what the maps hold to what they should hold.
//!
//! Additions are made visible last (row, word, table, service word, service key, VIP), removals first. What is no longer
//! named by anything waits for a grace period, its flow entries are swept, and only then may it be used again. All that
//! waits is freed together at the end, or before if room is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use lb_common::maglev::Candidate;
use lb_common::service::TableClass;
use lb_common::{BackendWord, ServiceWord, SlotState};

use super::actual::Actual;
use super::slots::{assign, pool_of, row};
use super::{Desired, DesiredBackend, DesiredService, MapOp, Region, ServiceKey, region};

/// Why there is no way to what is desired in maps of this size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// Fewer free slots than new backends.
    #[error(
        "service \"{service}\" needs {needed} new backend rows, but only {free} of {limit} are free; raise \
         `backends` under [limits] and restart, or make the change in smaller steps"
    )]
    NoFreeSlot {
        /// Name of the service.
        service: String,
        /// Rows it needs.
        needed: usize,
        /// Rows that can be had.
        free: usize,
        /// Rows there are.
        limit: u32,
    },
    /// No room for a table.
    #[error(
        "there is no room for a table of {entries} entries for service \"{service}\"; raise `table_slots` under \
         [limits] and restart, or choose a smaller `table_size`"
    )]
    NoFreeRegion {
        /// Name of the service.
        service: String,
        /// Entries of the table.
        entries: u32,
    },
    /// All service indexes are in use.
    #[error(
        "there is no room for service \"{service}\": all {limit} are in use; raise `services` under [limits] and restart"
    )]
    NoFreeService {
        /// Name of the service.
        service: String,
        /// Services there can be.
        limit: u32,
    },
}

/// Gives the operations from `actual` to `desired`, in the order in which they must be performed. Empty if nothing is
/// to be done; the same for equal arguments.
///
/// # Errors
/// If the maps are too small for the way there. Nothing must be performed then.
pub fn diff(actual: &Actual, desired: &Desired) -> Result<Vec<MapOp>, DiffError> {
    let mut steps = Steps { work: actual.clone(), ops: Vec::new(), retired: Retired::default(), desired };
    steps.clear_leftovers();
    for (key, service) in in_order(actual, desired) {
        steps.bring_about(key, service)?;
    }
    for (addr, flags) in &desired.vips {
        if steps.work.vips.get(addr) != Some(flags) {
            steps.push(MapOp::InsertVip { addr: *addr, flags: *flags });
        }
    }
    steps.remove_services();
    steps.free_retired();
    Ok(steps.ops)
}

/// Services whose tables shrink come first: they make room for the others.
fn in_order<'d>(actual: &Actual, desired: &'d Desired) -> Vec<(&'d ServiceKey, &'d DesiredService)> {
    let growth = |key: &ServiceKey, service: &DesiredService| {
        let now = actual.service(key).filter(|(_, word)| word.has(ServiceWord::SERVE));
        let now = now.map_or(0, |(_, word)| i64::from(word.class().units()));
        i64::from(service.class.units()) - now
    };
    let mut services: Vec<_> = desired.services.iter().collect();
    services.sort_by_key(|(key, service)| (growth(key, service), **key));
    services
}

/// What is named by nothing any more and waits for its grace period.
#[derive(Clone, Default)]
struct Retired {
    slots: BTreeSet<u16>,
    regions: BTreeSet<Region>,
    services: BTreeSet<u32>,
}

/// Whether backends without a slot may get one.
#[derive(Clone, Copy, PartialEq)]
enum NewSlots {
    Allowed,
    Refused,
}

/// The operations so far, and what the maps will hold after them.
struct Steps<'d> {
    work: Actual,
    ops: Vec<MapOp>,
    retired: Retired,
    desired: &'d Desired,
}

impl Steps<'_> {
    fn push(&mut self, op: MapOp) {
        self.work.apply(&op);
        self.ops.push(op);
    }

    /// Frees rows of services that no packet can find: an earlier daemon died while adding or removing them.
    fn clear_leftovers(&mut self) {
        let published: BTreeSet<u32> = self.work.keys.values().copied().collect();
        let lost = |service: u16| !published.contains(&u32::from(service));
        self.retired.slots = self
            .work
            .slots
            .iter()
            .filter(|(_, slot)| lost(slot.spec.service))
            .map(|(slot, _)| *slot)
            .collect();
        self.free_retired();
    }

    /// Adds a service or changes it.
    fn bring_about(&mut self, key: &ServiceKey, service: &DesiredService) -> Result<(), DiffError> {
        let known = self.work.keys.get(key).copied();
        let index = match known.or_else(|| self.work.free_index()) {
            Some(index) => index,
            None => {
                self.make_room();
                self.work.free_index().ok_or_else(|| DiffError::NoFreeService {
                    service: service.name.clone(),
                    limit: self.work.limits.services,
                })?
            }
        };
        self.reserve_slots(index, service)?;
        self.update(index, service, NewSlots::Allowed)?;
        if known.is_none() {
            self.push(MapOp::InsertService { key: *key, index });
        }
        Ok(())
    }

    /// Makes sure that there are slots for all backends that need a new one.
    fn reserve_slots(&mut self, index: u32, service: &DesiredService) -> Result<(), DiffError> {
        let kept = assign(&self.work, index, service, &self.retired.slots);
        let needs_new = |(address, backend): &(&IpAddr, &DesiredBackend)| {
            !kept.contains_key(address) && row(index, **address, backend).is_some()
        };
        let needed = service.backends.iter().filter(needs_new).count();
        let enough = |steps: &Self| steps.work.free_slots().take(needed).count() == needed;
        if enough(self) {
            return Ok(());
        }
        self.make_room();
        if enough(self) {
            return Ok(());
        }
        self.shrink_all()?;
        self.free_retired();
        if enough(self) {
            return Ok(());
        }
        Err(DiffError::NoFreeSlot {
            service: service.name.clone(),
            needed,
            free: self.work.free_slots().count(),
            limit: self.work.limits.backends,
        })
    }

    /// Gives up what no service will need, before anything is added.
    fn shrink_all(&mut self) -> Result<(), DiffError> {
        let desired = self.desired;
        for (key, service) in &desired.services {
            if let Some(index) = self.work.keys.get(key).copied() {
                self.update(index, service, NewSlots::Refused)?;
            }
        }
        Ok(())
    }

    /// Brings slots, table and word of a service to what they should be. Without new slots it only goes part of the
    /// way, and no step if the service were left with nothing that serves.
    fn update(&mut self, index: u32, service: &DesiredService, new_slots: NewSlots) -> Result<(), DiffError> {
        let mut slots = assign(&self.work, index, service, &self.retired.slots);
        if new_slots == NewSlots::Allowed {
            self.add_rows(index, service, &mut slots);
        } else if pool_of(service, &slots).is_empty() {
            return Ok(());
        }
        // What shall serve does so before a table names it; what shall not, still does until no table names it.
        self.set_words(service, &slots, |state| state == SlotState::Serving);
        self.switch_table(index, service, pool_of(service, &slots))?;
        self.set_words(service, &slots, |state| state != SlotState::Serving);
        self.retire_slots_but(index, &slots);
        Ok(())
    }

    /// Writes rows for the backends that have none.
    fn add_rows(&mut self, index: u32, service: &DesiredService, slots: &mut BTreeMap<IpAddr, u16>) {
        let new = service.backends.iter().filter(|(address, _)| !slots.contains_key(*address));
        let rows: Vec<_> =
            new.filter_map(|(address, backend)| Some((*address, row(index, *address, backend)?))).collect();
        let free: Vec<u16> = self.work.free_slots().take(rows.len()).collect();
        for ((address, row), slot) in rows.into_iter().zip(free) {
            self.push(MapOp::WriteRow { slot, row });
            slots.insert(address, slot);
        }
    }

    fn set_words(
        &mut self,
        service: &DesiredService,
        slots: &BTreeMap<IpAddr, u16>,
        concerns: impl Fn(SlotState) -> bool,
    ) {
        for (address, backend) in service.backends.iter().filter(|(_, backend)| concerns(backend.state)) {
            let Some(slot) = slots.get(address).copied() else { continue };
            let Some(now) = self.work.slots.get(&slot).map(|slot| slot.word) else { continue };
            // Without a route nothing is known about the way: the last one stays.
            let egress = if backend.source.is_some() { backend.egress } else { now.egress() };
            let last_mac = if egress == now.egress() { now.mac() } else { [0; 6] };
            self.set_word(slot, backend.mac.unwrap_or(last_mac), egress, backend.state);
        }
    }

    fn set_word(&mut self, slot: u16, mac: [u8; 6], egress: u16, state: SlotState) {
        let now = self.work.slots.get(&slot).map(|slot| slot.word);
        if now != Some(BackendWord::new(mac, egress, state)) {
            self.push(MapOp::SetWord { slot, mac, egress, state });
        }
    }

    /// Gives a service the table of this pool, or none if the pool is empty, unless it has that already.
    fn switch_table(
        &mut self,
        index: u32,
        service: &DesiredService,
        pool: Vec<Candidate>,
    ) -> Result<(), DiffError> {
        let now = self.work.words.get(&index).copied().unwrap_or_default();
        let flags = ServiceWord::PUBLISHED | if service.track { ServiceWord::TRACK } else { 0 };
        let (place, generation) = match self.new_table(index, service, &pool) {
            TableChange::Same(region) => (Some(region), now.generation()),
            TableChange::None => (None, now.generation()),
            TableChange::Write(table) => {
                let region = self.obtain(service.class, &[]).ok_or_else(|| DiffError::NoFreeRegion {
                    service: service.name.clone(),
                    entries: service.class.entries(),
                })?;
                self.push(MapOp::WriteTable { region, table, pool });
                // Making room may have moved the table that is being replaced.
                let now = self.work.words.get(&index).copied().unwrap_or_default();
                (Some(region), next_generation(now))
            }
        };
        let word = match place {
            Some(region) => {
                ServiceWord::new(region.unit, region.class, flags | ServiceWord::SERVE, generation)
            }
            None => ServiceWord::new(0, service.class, flags, generation),
        };
        self.store(index, word);
        Ok(())
    }

    fn new_table(&self, index: u32, service: &DesiredService, pool: &[Candidate]) -> TableChange {
        if pool.is_empty() {
            return TableChange::None;
        }
        let now = self.work.written(index).filter(|written| written.region.class == service.class);
        if let Some(written) = now
            && written.pool.as_deref() == Some(pool)
        {
            return TableChange::Same(written.region);
        }
        let table = region::populate(service.class, pool);
        match now {
            Some(written) if written.table == table => TableChange::Same(written.region),
            _ => TableChange::Write(table),
        }
    }

    /// Stores a service's word; the region that it named before, if it is another, is retired.
    fn store(&mut self, index: u32, word: ServiceWord) {
        let before = self.work.words.get(&index).copied();
        if before == Some(word) {
            return;
        }
        let old = self.work.written(index).map(|written| written.region);
        self.push(MapOp::StoreService { index, word });
        let new = self.work.written(index).map(|written| written.region);
        self.retired.regions.extend(old.filter(|old| Some(*old) != new));
    }

    /// Retires all slots of a service but these: from now on their flows are picked anew.
    fn retire_slots_but(&mut self, index: u32, keep: &BTreeMap<IpAddr, u16>) {
        let keep: BTreeSet<u16> = keep.values().copied().collect();
        let gone = self.work.slots_of(index).filter(|(number, _)| !keep.contains(number));
        let slots: Vec<_> = gone.map(|(number, slot)| (number, slot.word)).collect();
        for (slot, word) in slots {
            self.set_word(slot, word.mac(), word.egress(), SlotState::Dead);
            self.retired.slots.insert(slot);
        }
    }

    /// Takes away all VIPs and services that are not desired.
    fn remove_services(&mut self) {
        let vips: Vec<_> =
            self.work.vips.keys().filter(|addr| !self.desired.vips.contains_key(addr)).copied().collect();
        for addr in vips {
            self.push(MapOp::RemoveVip { addr });
        }
        let unwanted = |(key, _): &(&ServiceKey, &u32)| !self.desired.services.contains_key(key);
        let services: Vec<_> =
            self.work.keys.iter().filter(unwanted).map(|(key, index)| (*key, *index)).collect();
        for (key, index) in services {
            self.push(MapOp::RemoveService { key });
            self.retired.regions.extend(self.work.written(index).map(|written| written.region));
            self.retire_slots_but(index, &BTreeMap::new());
            self.retired.services.insert(index);
        }
    }

    /// Waits for a grace period and frees what is retired. `false` if nothing was.
    fn free_retired(&mut self) -> bool {
        let Retired { slots, regions, services } = std::mem::take(&mut self.retired);
        if slots.is_empty() && regions.is_empty() && services.is_empty() {
            return false;
        }
        self.push(MapOp::Grace);
        slots.iter().for_each(|slot| self.push(MapOp::SweepSlot { slot: *slot }));
        slots.iter().for_each(|slot| self.push(MapOp::FreeSlot { slot: *slot }));
        regions.iter().for_each(|region| self.push(MapOp::FreeRegion { region: *region }));
        services.iter().for_each(|index| self.push(MapOp::FreeService { index: *index }));
        true
    }

    /// Removes what is not desired and frees what is retired. `false` if there was nothing to free.
    fn make_room(&mut self) -> bool {
        self.remove_services();
        self.free_retired()
    }

    /// A free region; if there is none, frees what is retired, then moves smaller tables out of the way.
    fn obtain(&mut self, class: TableClass, forbidden: &[Range<u32>]) -> Option<Region> {
        if let Some(region) = region::find_free(&self.work, class, forbidden) {
            return Some(region);
        }
        if self.make_room()
            && let Some(region) = region::find_free(&self.work, class, forbidden)
        {
            return Some(region);
        }
        for (place, occupants) in region::clearable(&self.work, class, forbidden) {
            let before = (self.work.clone(), self.ops.len(), self.retired.clone());
            let forbidden: Vec<_> = forbidden.iter().cloned().chain([place.units()]).collect();
            if occupants.into_iter().all(|occupant| self.relocate(occupant, &forbidden)) {
                self.free_retired();
                return Some(place);
            }
            self.ops.truncate(before.1);
            (self.work, self.retired) = (before.0, before.2);
        }
        None
    }

    /// Moves a table to another region. `false` if there is no room for it.
    fn relocate(&mut self, from: Region, forbidden: &[Range<u32>]) -> bool {
        let names = |word: &ServiceWord| word.has(ServiceWord::SERVE) && word.unit() == from.unit;
        let Some((index, word)) = self.work.words.iter().find(|(_, word)| names(word)).map(|(i, w)| (*i, *w))
        else {
            return false;
        };
        let Some((table, pool)) = self.work.written(index).map(|w| (Arc::clone(&w.table), w.pool.clone()))
        else {
            return false;
        };
        let Some(region) = self.obtain(from.class, forbidden) else { return false };
        // Making room may have moved it already.
        if self.work.written(index).is_none_or(|written| written.region != from) {
            return true;
        }
        self.push(MapOp::WriteTable { region, table, pool: pool.unwrap_or_default() });
        self.store(index, ServiceWord::new(region.unit, region.class, word.flags(), next_generation(word)));
        true
    }
}

enum TableChange {
    /// The pool is empty.
    None,
    /// The table in force is the right one.
    Same(Region),
    /// Another table is needed.
    Write(Arc<[u16]>),
}

fn next_generation(word: ServiceWord) -> u32 {
    (word.generation() + 1) % ServiceWord::GENERATIONS
}

//! The maps as packets see them, with a grim eye on every operation. Shares no code with `Actual`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::backend::RowSpec;
use lb_common::service::TableClass;
use lb_common::{BackendWord, ServiceWord, SlotState};

use crate::config::{Limits, Mode};
use crate::plan::{Desired, DesiredService, MapOp, Region, ServiceKey, Snapshot, VipFlags};

/// How far a slot is from being forgotten by all packets and flow entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Memory {
    /// Packets can reach it, or could since the last grace period.
    Fresh,
    /// A grace period has passed since; flow entries may still name it.
    Graced,
    /// Nothing names it.
    Swept,
}

#[derive(Clone, Debug)]
struct Row {
    spec: RowSpec,
    word: BackendWord,
    memory: Memory,
}

#[derive(Clone, Debug)]
struct Table {
    region: Region,
    content: Arc<[u16]>,
    distinct: BTreeSet<u16>,
}

/// What must hold at every step from one state to another.
#[derive(Default)]
pub(super) struct Promises {
    /// Services that have backends before and after: they must never be without a table.
    served: BTreeSet<ServiceKey>,
    /// Slots that take flows before and after.
    steady: BTreeSet<u16>,
    /// VIPs that there are afterwards: one stays, and is answered for, while the last service that it had makes room for
    /// those that it gets.
    vips: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug)]
pub(super) struct Kernel {
    limits: Limits,
    rows: BTreeMap<u16, Row>,
    tables: BTreeMap<u32, Table>,
    words: BTreeMap<u32, ServiceWord>,
    keys: BTreeMap<ServiceKey, u32>,
    vips: BTreeMap<IpAddr, VipFlags>,
    /// Regions and indexes that packets on their way may still read.
    recent_regions: Vec<Region>,
    recent_indexes: BTreeSet<u32>,
}

impl Kernel {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            rows: BTreeMap::new(),
            tables: BTreeMap::new(),
            words: BTreeMap::new(),
            keys: BTreeMap::new(),
            vips: BTreeMap::new(),
            recent_regions: Vec::new(),
            recent_indexes: BTreeSet::new(),
        }
    }

    /// What the next daemon finds. It waits a grace period before it reads.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.grace();
        let table = |word: &ServiceWord| {
            let table = word.has(ServiceWord::SERVE).then(|| self.tables.get(&word.unit())).flatten();
            table.map_or_else(Vec::new, |table| table.content.to_vec())
        };
        Snapshot {
            slots: self.rows.iter().map(|(slot, row)| (*slot, row.spec, row.word)).collect(),
            services: self
                .keys
                .iter()
                .map(|(key, index)| (*key, *index, self.words[index], table(&self.words[index])))
                .collect(),
            vips: self.vips.iter().map(|(addr, flags)| (*addr, *flags)).collect(),
            limits: self.limits.clone(),
        }
    }

    /// What must hold on the way from here to `desired`.
    pub(super) fn promises(&self, desired: &Desired) -> Promises {
        let mut promises = Promises { vips: desired.vips.keys().copied().collect(), ..Promises::default() };
        for (key, service) in &desired.services {
            let Some(index) = self.keys.get(key) else { continue };
            let will_serve = service.backends.values().any(|backend| backend.table_weight > 0);
            let kept = |row: &Row| {
                let Some(backend) = service.backends.get(&row.spec.address) else { return false };
                let takes = |state| matches!(state, SlotState::Serving | SlotState::Draining);
                let same = row.spec.l2 == (backend.mode == Mode::L2)
                    && (row.spec.l2 || Some(row.spec.source) == backend.source);
                same && takes(backend.state) && takes(row.word.state())
            };
            let of_service = |row: &Row| u32::from(row.spec.service) == *index;
            let steady: Vec<_> = self.rows.iter().filter(|(_, row)| of_service(row) && kept(row)).collect();
            // While one row replaces another of the same backend only one of them is promised to stay.
            let mut seen = BTreeSet::new();
            let twice: BTreeSet<_> = steady
                .iter()
                .map(|(_, row)| row.spec.address)
                .filter(|address| !seen.insert(*address))
                .collect();
            promises.steady.extend(
                steady.iter().filter(|(_, row)| !twice.contains(&row.spec.address)).map(|(slot, _)| **slot),
            );
            if will_serve && self.words[index].has(ServiceWord::SERVE) {
                promises.served.insert(*key);
            }
        }
        promises
    }

    /// Performs an operation.
    ///
    /// # Panics
    /// If a packet could be harmed.
    #[track_caller]
    pub(super) fn perform(&mut self, op: &MapOp, promises: &Promises) {
        match op {
            MapOp::WriteRow { slot, row } => {
                assert!((1..=self.limits.backends).contains(&u32::from(*slot)), "no such slot: {op:?}");
                assert!(!self.rows.contains_key(slot), "written over a row in use: {op:?}");
                assert!(
                    !self.recent_indexes.contains(&u32::from(row.service)),
                    "index reused at once: {op:?}"
                );
                let row = Row { spec: *row, word: BackendWord::default(), memory: Memory::Fresh };
                self.rows.insert(*slot, row);
            }
            MapOp::SetWord { slot, mac, egress, state } => {
                assert_ne!(*state, SlotState::Free, "{op:?}");
                let row = self.rows.get_mut(slot).unwrap_or_else(|| panic!("no row: {op:?}"));
                row.word = BackendWord::new(*mac, *egress, *state);
            }
            MapOp::WriteTable { region, table, .. } => self.write_table(*region, table),
            MapOp::StoreService { index, word } => {
                assert!(word.has(ServiceWord::PUBLISHED), "{op:?}");
                assert!(*index < self.limits.services && !self.recent_indexes.contains(index), "{op:?}");
                let before = self.in_force(*index).map(|table| table.region);
                let old = self.words.insert(*index, *word).unwrap_or_default();
                let after = self.in_force(*index).map(|table| table.region);
                assert_eq!(
                    after.is_some(),
                    word.has(ServiceWord::SERVE),
                    "names an unwritten region: {op:?}"
                );
                // An index that no key leads to can hold anything: an earlier daemon died while preparing it.
                if before != after && self.keys.values().any(|used| used == index) {
                    self.recent_regions.extend(before);
                    let counted = word.generation() == old.generation() + 1;
                    assert!(after.is_none() || counted, "{op:?} after {old:?}");
                }
            }
            MapOp::InsertService { key, index } => {
                assert!(self.words.contains_key(index) && !self.recent_indexes.contains(index), "{op:?}");
                assert!(!self.keys.values().any(|used| used == index), "index in use: {op:?}");
                self.keys.insert(*key, *index);
            }
            MapOp::RemoveService { key } => {
                let index = self.keys.remove(key).unwrap_or_else(|| panic!("not there: {op:?}"));
                self.recent_indexes.insert(index);
                self.recent_regions.extend(self.in_force(index).map(|table| table.region));
                let last = !self.keys.keys().any(|other| other.vip == key.vip);
                let stays = promises.vips.contains(&key.vip);
                let left_over = last && !stays && self.vips.contains_key(&key.vip);
                assert!(!left_over, "VIP without a service: {op:?}");
            }
            MapOp::InsertVip { addr, flags } => {
                assert!(self.keys.keys().any(|key| key.vip == *addr), "VIP before its service: {op:?}");
                self.vips.insert(*addr, *flags);
            }
            MapOp::RemoveVip { addr } => assert!(self.vips.remove(addr).is_some(), "not there: {op:?}"),
            MapOp::Grace => self.grace(),
            MapOp::SweepSlot { slot } => {
                let row = self.rows.get_mut(slot).unwrap_or_else(|| panic!("no row: {op:?}"));
                assert_ne!(row.memory, Memory::Fresh, "packets may still enter it: {op:?}");
                row.memory = Memory::Swept;
            }
            MapOp::FreeSlot { slot } => {
                let row = self.rows.remove(slot).unwrap_or_else(|| panic!("no row: {op:?}"));
                assert_eq!(row.memory, Memory::Swept, "something may still name it: {op:?}");
            }
            MapOp::FreeRegion { region } => {
                assert!(!self.recent_regions.contains(region), "packets may still read it: {op:?}");
                assert!(!self.is_in_force(*region), "a service names it: {op:?}");
                assert!(self.tables.remove(&region.unit).is_some(), "not there: {op:?}");
            }
            MapOp::FreeService { index } => {
                assert!(!self.keys.values().any(|used| used == index), "still published: {op:?}");
                assert!(!self.recent_indexes.contains(index), "packets may still read it: {op:?}");
                self.words.remove(index);
            }
        }
        self.forget_what_is_out_of_reach();
        self.assert_sound(op, promises);
    }

    fn write_table(&mut self, region: Region, table: &Arc<[u16]>) {
        assert_eq!(table.len(), region.class.entries() as usize, "{region:?}");
        assert_eq!(region.unit % region.class.units(), 0, "not aligned: {region:?}");
        assert!(region.units().end <= self.limits.table_slots / 4_096, "beyond the end: {region:?}");
        let overlaps = |other: &Region| other.units().any(|unit| region.units().contains(&unit));
        assert!(!self.recent_regions.iter().any(overlaps), "packets may still read it: {region:?}");
        let used = |table: &&Table| overlaps(&table.region) && self.is_in_force(table.region);
        assert!(self.tables.values().find(used).is_none(), "a service names it: {region:?}");
        self.tables.retain(|_, table| !overlaps(&table.region));
        let distinct = table.iter().copied().collect();
        self.tables.insert(region.unit, Table { region, content: Arc::clone(table), distinct });
    }

    fn grace(&mut self) {
        self.recent_regions.clear();
        self.recent_indexes.clear();
        let reachable = self.reachable();
        for (slot, row) in &mut self.rows {
            row.memory =
                if reachable.contains(slot) { Memory::Fresh } else { row.memory.max(Memory::Graced) };
        }
    }

    /// A slot that can be reached once more is fresh once more.
    fn forget_what_is_out_of_reach(&mut self) {
        for slot in self.reachable() {
            if let Some(row) = self.rows.get_mut(&slot) {
                row.memory = Memory::Fresh;
            }
        }
    }

    /// Slots that a packet may be sent to now: by a table, or by its flow entry.
    fn reachable(&self) -> BTreeSet<u16> {
        let published: BTreeSet<u32> = self.keys.values().copied().collect();
        let by_table = published
            .iter()
            .filter_map(|index| self.in_force(*index))
            .flat_map(|table| table.distinct.clone());
        let takes = |row: &Row| {
            published.contains(&u32::from(row.spec.service))
                && matches!(row.word.state(), SlotState::Serving | SlotState::Draining)
        };
        by_table.chain(self.rows.iter().filter(|(_, row)| takes(row)).map(|(slot, _)| *slot)).collect()
    }

    fn in_force(&self, index: u32) -> Option<&Table> {
        let word = self.words.get(&index).filter(|word| word.has(ServiceWord::SERVE))?;
        self.tables.get(&word.unit()).filter(|table| table.region.class == word.class())
    }

    fn is_in_force(&self, region: Region) -> bool {
        self.keys.values().filter_map(|index| self.in_force(*index)).any(|table| table.region == region)
    }

    fn assert_sound(&self, op: &MapOp, promises: &Promises) {
        for (key, index) in &self.keys {
            let word = self.words[index];
            assert!(word.has(ServiceWord::PUBLISHED), "{key} is not published after {op:?}");
            if !word.has(ServiceWord::SERVE) {
                continue;
            }
            let table = self.in_force(*index).unwrap_or_else(|| panic!("{key} names no table after {op:?}"));
            for slot in &table.distinct {
                let row = self
                    .rows
                    .get(slot)
                    .unwrap_or_else(|| panic!("{key} names free slot {slot} after {op:?}"));
                assert_eq!(
                    u32::from(row.spec.service),
                    *index,
                    "{key} names another's slot {slot} after {op:?}"
                );
                assert_eq!(row.word.state(), SlotState::Serving, "{key}: slot {slot} after {op:?}");
            }
        }
        for key in &promises.served {
            let serves = self.keys.get(key).is_some_and(|index| self.words[index].has(ServiceWord::SERVE));
            assert!(serves, "{key} has no backend after {op:?}");
        }
        for slot in &promises.steady {
            let state = self.rows.get(slot).map(|row| row.word.state());
            let takes = matches!(state, Some(SlotState::Serving | SlotState::Draining));
            assert!(takes, "flows of slot {slot} are lost after {op:?}");
        }
    }

    /// Compares with what should be there, and nothing else.
    pub(super) fn assert_is(&self, desired: &Desired) {
        assert_eq!(self.vips, desired.vips);
        let keys = |services: &mut dyn Iterator<Item = &ServiceKey>| services.copied().collect::<Vec<_>>();
        assert_eq!(keys(&mut self.keys.keys()), keys(&mut desired.services.keys()));
        let published: BTreeSet<u32> = self.keys.values().copied().collect();
        for (slot, row) in &self.rows {
            assert!(published.contains(&u32::from(row.spec.service)), "leftover slot {slot}: {row:?}");
        }
        for (key, service) in &desired.services {
            self.assert_service(key, service);
        }
    }

    fn assert_service(&self, key: &ServiceKey, service: &DesiredService) {
        let index = self.keys[key];
        let word = self.words[&index];
        assert_eq!(word.has(ServiceWord::TRACK), service.track, "{key}");
        let mut rows: BTreeMap<IpAddr, (u16, &Row)> = BTreeMap::new();
        for (slot, row) in self.rows.iter().filter(|(_, row)| u32::from(row.spec.service) == index) {
            let other = rows.insert(row.spec.address, (*slot, row));
            assert!(other.is_none(), "{key}: two slots of {}", row.spec.address);
        }
        assert!(rows.keys().all(|address| service.backends.contains_key(address)), "{key}: {rows:?}");
        for (address, backend) in &service.backends {
            let Some((_, row)) = rows.get(address) else {
                assert_eq!(backend.source, None, "{key}: no slot for {address}");
                continue;
            };
            assert_eq!(row.word.state(), backend.state, "{key}: {address}");
            let Some(source) = backend.source else { continue };
            assert_eq!(row.spec.l2, backend.mode == Mode::L2, "{key}: {address}");
            assert!(row.spec.l2 || row.spec.source == source, "{key}: {address}");
            assert_eq!(row.word.egress(), backend.egress, "{key}: {address}");
            assert!(backend.mac.is_none_or(|mac| mac == row.word.mac()), "{key}: {address}");
        }
        let shares = self.shares(key);
        let total: u32 = service.backends.values().map(|backend| backend.table_weight).sum();
        assert_eq!(word.has(ServiceWord::SERVE), total > 0, "{key}");
        for (address, backend) in &service.backends {
            let ideal = service.class.entries() * backend.table_weight / total.max(1);
            let share = shares.get(address).copied().unwrap_or(0);
            assert!(share.abs_diff(ideal) <= 4, "{key}: {address} has {share} places instead of {ideal}");
            assert_eq!(share > 0, backend.table_weight > 0, "{key}: {address}");
        }
    }

    /// Places in the table by backend.
    fn shares(&self, key: &ServiceKey) -> BTreeMap<IpAddr, u32> {
        let mut shares = BTreeMap::new();
        for address in self.addresses(key) {
            *shares.entry(address).or_default() += 1;
        }
        shares
    }

    /// The table in force by backend.
    pub(super) fn addresses(&self, key: &ServiceKey) -> Vec<IpAddr> {
        let table = self.keys.get(key).and_then(|index| self.in_force(*index));
        table.map_or_else(Vec::new, |table| {
            table.content.iter().map(|slot| self.rows[slot].spec.address).collect()
        })
    }

    pub(super) fn class(&self, key: &ServiceKey) -> Option<TableClass> {
        self.keys.get(key).and_then(|index| self.in_force(*index)).map(|table| table.region.class)
    }
}

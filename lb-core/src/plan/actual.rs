//! What the maps hold, as far as user space needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::backend::RowSpec;
use lb_common::limits::{MAX_SLOTS, REGION_UNIT};
use lb_common::maglev::Candidate;
use lb_common::{BackendWord, ServiceWord};

use super::slots::{assign, pool_of};
use super::{Desired, MapOp, Region, ServiceKey, VipFlags, region};
use crate::config::Limits;

/// What was read from the maps of a daemon that is gone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every row that is not all-zero.
    pub slots: Vec<(u16, RowSpec, BackendWord)>,
    /// Every service in the service maps, with its index, its word and, if the word has
    /// [`ServiceWord::SERVE`], the table of its region.
    pub services: Vec<(ServiceKey, u32, ServiceWord, Vec<u16>)>,
    /// Every address in the VIP maps.
    pub vips: Vec<(IpAddr, VipFlags)>,
    /// The sizes with which the maps were made.
    pub limits: Limits,
}

/// A row and its word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) spec: RowSpec,
    pub(super) word: BackendWord,
}

/// A table that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) region: Region,
    pub(super) table: Arc<[u16]>,
    /// What it was made of; `None` if it was found in the maps.
    pub(super) pool: Option<Vec<Candidate>>,
}

/// Mirror of the maps in user space: what is in use, and by that what is free.
#[derive(Clone, Debug)]
pub struct Actual {
    pub(super) limits: Limits,
    pub(super) slots: BTreeMap<u16, Slot>,
    /// The same slots by the service that their rows name.
    pub(super) slots_of: BTreeMap<u32, BTreeSet<u16>>,
    pub(super) keys: BTreeMap<ServiceKey, u32>,
    pub(super) words: BTreeMap<u32, ServiceWord>,
    /// By first unit. Regions that packets may still read are in here until they are freed.
    pub(super) regions: BTreeMap<u32, Written>,
    pub(super) vips: BTreeMap<IpAddr, VipFlags>,
}

impl Actual {
    /// Empty maps of these sizes. The BACKENDS map has a row 0 in addition, which is never used.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::from_snapshot(Snapshot { limits, ..Snapshot::default() })
    }

    /// Takes over maps that an earlier daemon left, whatever it was doing when it died. Free lists follow from what the
    /// published services name.
    ///
    /// The caller has waited a grace period since that daemon was gone: a region that the services no longer name is
    /// free from the start. Rows that are left over are swept and freed by the next [`super::diff`].
    #[must_use]
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        let mut actual = Self {
            limits: snapshot.limits,
            slots: BTreeMap::new(),
            slots_of: BTreeMap::new(),
            keys: BTreeMap::new(),
            words: BTreeMap::new(),
            regions: BTreeMap::new(),
            vips: snapshot.vips.into_iter().collect(),
        };
        for (slot, spec, word) in snapshot.slots {
            actual.add_slot(slot, Slot { spec, word });
        }
        for (key, index, word, table) in snapshot.services {
            actual.keys.insert(key, index);
            actual.words.insert(index, word);
            if word.has(ServiceWord::SERVE) {
                let region = Region { unit: word.unit(), class: word.class() };
                actual.regions.insert(region.unit, Written { region, table: table.into(), pool: None });
            }
        }
        actual
    }

    /// Recognises tables that were found in the maps as those of `desired`, so that later [`super::diff`]s need not
    /// populate them anew to compare. Changes nothing else; useful once after adoption.
    pub fn recognise(&mut self, desired: &Desired) {
        for (key, service) in &desired.services {
            let Some((index, Some(written))) = self.keys.get(key).map(|index| (*index, self.written(*index)))
            else {
                continue;
            };
            if written.pool.is_some() || written.region.class != service.class {
                continue;
            }
            let pool = pool_of(service, &assign(self, index, service, &BTreeSet::new()));
            if !pool.is_empty() && region::populate(service.class, &pool) == written.table {
                let unit = written.region.unit;
                if let Some(written) = self.regions.get_mut(&unit) {
                    written.pool = Some(pool);
                }
            }
        }
    }

    /// Follows an operation that was performed on the maps.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::WriteRow { slot, row } => {
                self.add_slot(*slot, Slot { spec: *row, word: BackendWord::default() });
            }
            MapOp::SetWord { slot, mac, egress, state } => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.word = BackendWord::new(*mac, *egress, *state);
                }
            }
            MapOp::WriteTable { region, table, pool } => {
                let pool = (!pool.is_empty()).then(|| pool.clone());
                let written = Written { region: *region, table: Arc::clone(table), pool };
                self.regions.insert(region.unit, written);
            }
            MapOp::StoreService { index, word } => {
                self.words.insert(*index, *word);
            }
            MapOp::InsertService { key, index } => {
                self.keys.insert(*key, *index);
            }
            MapOp::RemoveService { key } => {
                self.keys.remove(key);
            }
            MapOp::InsertVip { addr, flags } => {
                self.vips.insert(*addr, *flags);
            }
            MapOp::RemoveVip { addr } => {
                self.vips.remove(addr);
            }
            MapOp::Grace | MapOp::SweepSlot { .. } => {}
            MapOp::FreeSlot { slot } => self.drop_slot(*slot),
            MapOp::FreeRegion { region } => {
                self.regions.remove(&region.unit);
            }
            MapOp::FreeService { index } => {
                self.words.remove(index);
            }
        }
    }

    fn add_slot(&mut self, number: u16, slot: Slot) {
        self.drop_slot(number);
        self.slots_of.entry(u32::from(slot.spec.service)).or_default().insert(number);
        self.slots.insert(number, slot);
    }

    fn drop_slot(&mut self, number: u16) {
        let service = self.slots.remove(&number).map(|slot| u32::from(slot.spec.service));
        if let Some(slots) = service.and_then(|service| self.slots_of.get_mut(&service)) {
            slots.remove(&number);
        }
    }

    /// The slots whose rows name a service.
    pub(super) fn slots_of(&self, index: u32) -> impl Iterator<Item = (u16, &Slot)> {
        let numbers = self.slots_of.get(&index).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, self.slots.get(number)?)))
    }

    /// The sizes of the maps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Every slot in use, with its row and word.
    pub fn slots(&self) -> impl Iterator<Item = (u16, &RowSpec, BackendWord)> {
        self.slots.iter().map(|(slot, row)| (*slot, &row.spec, row.word))
    }

    /// A slot in use.
    #[must_use]
    pub fn slot(&self, slot: u16) -> Option<(&RowSpec, BackendWord)> {
        self.slots.get(&slot).map(|slot| (&slot.spec, slot.word))
    }

    /// The slots of each backend of a service, mostly one; of several (while one replaces another) the first is the one
    /// that takes most.
    #[must_use]
    pub fn slots_by_backend(&self, key: &ServiceKey) -> BTreeMap<IpAddr, Vec<u16>> {
        self.keys.get(key).map(|index| super::slots::by_backend(self, *index)).unwrap_or_default()
    }

    /// Every published service with its index and word.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceKey, u32, ServiceWord)> {
        self.keys.iter().map(|(key, index)| (key, *index, self.words.get(index).copied().unwrap_or_default()))
    }

    /// Index and word of a service.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<(u32, ServiceWord)> {
        let index = *self.keys.get(key)?;
        Some((index, self.words.get(&index).copied()?))
    }

    /// The table that packets of a service see; `None` if it has none.
    #[must_use]
    pub fn table(&self, key: &ServiceKey) -> Option<&[u16]> {
        self.written(*self.keys.get(key)?).map(|written| &*written.table)
    }

    /// What the table of a service was made of, by address: nothing if it has no table. `None` if that is not known:
    /// the table was found in the maps, or there is no such service.
    #[must_use]
    pub fn pool(&self, key: &ServiceKey) -> Option<&[Candidate]> {
        let (index, word) = self.service(key)?;
        if !word.has(ServiceWord::SERVE) {
            return Some(&[]);
        }
        self.written(index)?.pool.as_deref()
    }

    /// The slot of a backend; of several (while one replaces another) the one that takes most.
    #[must_use]
    pub fn slot_of(&self, key: &ServiceKey, backend: IpAddr) -> Option<u16> {
        super::slots::find(self, *self.keys.get(key)?, backend)
    }

    /// The table that the word of a service names.
    pub(super) fn written(&self, index: u32) -> Option<&Written> {
        let word = self.words.get(&index).filter(|word| word.has(ServiceWord::SERVE))?;
        self.regions.get(&word.unit()).filter(|written| written.region.class == word.class())
    }

    /// Slots that are in no use, lowest first.
    pub(super) fn free_slots(&self) -> impl Iterator<Item = u16> {
        let last = u16::try_from(self.limits.backends.min(MAX_SLOTS)).unwrap_or(u16::MAX);
        (1..=last).filter(|slot| !self.slots.contains_key(slot))
    }

    /// The lowest service index that is in no use.
    pub(super) fn free_index(&self) -> Option<u32> {
        let used: BTreeSet<u32> = self.keys.values().chain(self.words.keys()).copied().collect();
        (0..self.limits.services).find(|index| !used.contains(index))
    }

    /// Units that table regions can be in.
    pub(super) fn units(&self) -> u32 {
        self.limits.table_slots / REGION_UNIT
    }
}

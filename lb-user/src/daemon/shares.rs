//! How many places of the Maglev tables each slot has, counted once for each table: tables are long.

use std::collections::BTreeMap;

use lb_common::ServiceWord;
use lb_core::plan::Actual;

/// Places by slot.
#[derive(Debug, Default)]
pub(super) struct Shares {
    places: Vec<u32>,
    /// The tables that were counted: word and slots, by index of the service.
    counted: BTreeMap<u32, (ServiceWord, Vec<u16>)>,
}

impl Shares {
    /// Places of a slot.
    pub(super) fn of(&self, slot: u16) -> u32 {
        self.places.get(usize::from(slot)).copied().unwrap_or(0)
    }

    /// Counts the tables that are others than at the last time: a word names a table by place and generation.
    pub(super) fn update(&mut self, actual: &Actual) {
        self.places.resize(usize::from(u16::MAX) + 1, 0);
        let mut before = std::mem::take(&mut self.counted);
        let mut changed = Vec::new();
        for (key, index, word) in actual.services() {
            match before.remove(&index) {
                Some(counted) if counted.0 == word => {
                    self.counted.insert(index, counted);
                }
                old => {
                    old.iter().for_each(|(_, slots)| self.clear(slots));
                    changed.push((key, index, word));
                }
            }
        }
        before.values().for_each(|(_, slots)| self.clear(slots));
        for (key, index, word) in changed {
            let mut slots = Vec::new();
            for slot in actual.table(key).unwrap_or_default() {
                let places = &mut self.places[usize::from(*slot)];
                if *places == 0 {
                    slots.push(*slot);
                }
                *places += 1;
            }
            self.counted.insert(index, (word, slots));
        }
    }

    fn clear(&mut self, slots: &[u16]) {
        slots.iter().for_each(|slot| self.places[usize::from(*slot)] = 0);
    }
}

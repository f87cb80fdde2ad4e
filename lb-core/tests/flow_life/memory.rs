//! The maps in plain memory. Rows are written once and never moved, so that a packet can hold on to one.

use std::cell::{Cell, OnceCell};

use lb_common::backend::{BackendRow, BackendWord, RowSpec, SlotState};
use lb_common::service::ServiceWord;
use lb_common::world::table_index;

/// Rows that can ever be written.
const ROWS: usize = 4_096;

/// BACKENDS, with a number for each row that was ever written; 0 is the all-zero row.
pub(crate) struct Rows {
    written: Vec<OnceCell<BackendRow>>,
    next: Cell<u32>,
    /// By slot: the row that is there now.
    now: Vec<Cell<u32>>,
    /// By slot: when it took flows, or new ones, the last time it changed; `u64::MAX` while it does not.
    keeps_since: Vec<Cell<u64>>,
    serves_since: Vec<Cell<u64>>,
    /// By slot: when its state changed last.
    changed: Vec<Cell<u64>>,
}

impl Rows {
    pub(crate) fn new(slots: usize) -> Self {
        let rows = Self {
            written: (0..ROWS).map(|_| OnceCell::new()).collect(),
            next: Cell::new(1),
            now: (0..slots).map(|_| Cell::new(0)).collect(),
            keeps_since: (0..slots).map(|_| Cell::new(u64::MAX)).collect(),
            serves_since: (0..slots).map(|_| Cell::new(u64::MAX)).collect(),
            changed: (0..slots).map(|_| Cell::new(0)).collect(),
        };
        let zero = BackendRow {
            word: 0.into(),
            service: 0,
            encapsulation: 0,
            reserved: 0,
            partial_sum: 0,
            template: [0; 5],
            reserved_tail: 0,
        };
        assert!(rows.written[0].set(zero).is_ok());
        rows
    }

    pub(crate) const fn slots(&self) -> usize {
        self.now.len()
    }

    /// The row that a packet finds.
    pub(crate) fn get(&self, slot: u16) -> Option<&BackendRow> {
        self.written[self.now.get(usize::from(slot))?.get() as usize].get()
    }

    /// Number of the row that is at a slot now; 0: it is free.
    pub(crate) fn number(&self, slot: u16) -> u32 {
        self.now[usize::from(slot)].get()
    }

    pub(crate) fn written(&self, number: u32) -> &BackendRow {
        self.written[number as usize].get().expect("a row that was written")
    }

    pub(crate) fn write(&self, slot: u16, spec: &RowSpec, clock: u64) {
        let number = self.next.get();
        self.next.set(number + 1);
        assert!(self.written[number as usize].set(spec.row()).is_ok());
        self.now[usize::from(slot)].set(number);
        self.note(slot, SlotState::Free, clock);
    }

    pub(crate) fn set_word(&self, slot: u16, word: BackendWord, clock: u64) {
        self.written(self.number(slot)).word.store(word.0, std::sync::atomic::Ordering::Release);
        self.note(slot, word.state(), clock);
    }

    pub(crate) fn free(&self, slot: u16, clock: u64) {
        self.now[usize::from(slot)].set(0);
        self.note(slot, SlotState::Free, clock);
    }

    fn note(&self, slot: u16, state: SlotState, clock: u64) {
        let slot = usize::from(slot);
        let since = |at: &Cell<u64>, now: bool| match (now, at.get()) {
            (false, _) => at.set(u64::MAX),
            (true, u64::MAX) => at.set(clock),
            (true, _) => {}
        };
        since(&self.keeps_since[slot], matches!(state, SlotState::Serving | SlotState::Draining));
        since(&self.serves_since[slot], state == SlotState::Serving);
        self.changed[slot].set(clock);
    }

    /// Whether the row `number` is at the slot and has taken its flows (and new ones too, if `new`) ever since `from`.
    pub(crate) fn takes_since(&self, slot: u16, number: u32, new: bool, from: u64) -> bool {
        let since = if new { &self.serves_since } else { &self.keeps_since };
        self.number(slot) == number && since[usize::from(slot)].get() <= from
    }

    /// Whether the slot's backend has been dead or away ever since `from`.
    pub(crate) fn gone_since(&self, slot: u16, from: u64) -> bool {
        self.keeps_since[usize::from(slot)].get() == u64::MAX && self.changed[usize::from(slot)].get() <= from
    }
}

/// MAGLEV and SERVICES.
pub(crate) struct Tables {
    pub(crate) entries: Vec<Cell<u16>>,
    pub(crate) words: Vec<Cell<u64>>,
}

impl Tables {
    pub(crate) fn new(entries: usize, services: usize) -> Self {
        Self {
            entries: (0..entries).map(|_| Cell::new(0)).collect(),
            words: (0..services).map(|_| Cell::new(0)).collect(),
        }
    }

    /// What the table that a word names says of a fingerprint.
    pub(crate) fn choice(&self, word: ServiceWord, fingerprint: u32) -> u16 {
        if !word.has(ServiceWord::SERVE) {
            return 0;
        }
        self.entries[(word.first_entry() + table_index(word.class(), fingerprint)) as usize].get()
    }
}

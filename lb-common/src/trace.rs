//! What a dry run of the program tells about one frame: the row of the TRACE map.

use core::mem::size_of;

use crate::counters::Event;
use crate::flow::FlowEntry;
use crate::hash::FlowHash;
use crate::pick::{Pick, Service};

/// Something that the journey found out on its way, for those who want to see how it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The service that the packet is for.
    Service(Service),
    /// The hash of the packet's flow.
    Hash(FlowHash),
    /// The flow table's entry with the flow's fingerprint, and the way that it is in.
    Entry {
        /// Way of the bucket.
        way: usize,
        /// The entry.
        entry: FlowEntry,
    },
    /// What the Maglev table says.
    Table {
        /// Index into the table.
        index: u32,
        /// The slot there; 0 is "none".
        slot: u16,
    },
}

/// The one row of TRACE, a cache line. The program reads `ingress` and writes the rest; user space clears it before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TraceRow {
    /// Index of the interface that the frame is said to have come in by: a test run has none of its own.
    pub ingress: u32,
    /// [`crate::Outcome::row`] of what became of the frame.
    pub outcome: u32,
    /// Which of the fields below mean something: a union of the constants.
    pub known: u32,
    /// Events that the packet would count, as bits by their numbers.
    pub events: u32,
    /// Index of the service.
    pub service: u32,
    /// Way of the entry.
    pub way: u32,
    /// Word of the service.
    pub word: u64,
    /// Hash of the flow.
    pub hash: u64,
    /// The flow table's entry before the packet.
    pub entry: u64,
    /// Index into the service's Maglev table.
    pub table_index: u32,
    /// The slot there; 0 is "none".
    pub table_slot: u32,
    /// The [`Pick`].
    pub pick: u64,
}

const _: () = assert!(size_of::<TraceRow>() == 64);

impl TraceRow {
    /// Known: the pick.
    pub const PICKED: u32 = 1;
    /// Known: hash.
    pub const HASHED: u32 = 2;
    /// Known: entry and way.
    pub const FOUND: u32 = 4;
    /// Known: table index and slot.
    pub const BY_TABLE: u32 = 8;
    /// Known: service and its word.
    pub const SERVICE: u32 = 16;

    /// The row before a run.
    #[must_use]
    pub fn asking(ingress: u32) -> Self {
        Self { ingress, ..Self::default() }
    }

    /// Takes a fact down.
    #[inline(always)]
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Service(service) => {
                (self.service, self.word) = (service.index, service.word.0);
                self.known |= Self::SERVICE;
            }
            Fact::Hash(hash) => {
                self.hash = hash.0;
                self.known |= Self::HASHED;
            }
            Fact::Entry { way, entry } => {
                (self.way, self.entry) = (way as u32, entry.0);
                self.known |= Self::FOUND;
            }
            Fact::Table { index, slot } => {
                (self.table_index, self.table_slot) = (index, slot as u32);
                self.known |= Self::BY_TABLE;
            }
        }
    }

    /// Takes down that an event would have been counted.
    #[inline(always)]
    pub fn note(&mut self, event: Event) {
        self.events |= 1u32.wrapping_shl(event as u32);
    }

    /// Whether all of these are known.
    #[must_use]
    pub const fn knows(&self, what: u32) -> bool {
        self.known & what == what
    }

    /// Whether the packet would count this event.
    #[must_use]
    pub const fn has(&self, event: Event) -> bool {
        self.events & 1u32.wrapping_shl(event as u32) != 0
    }

    /// The pick, if the packet came that far.
    #[must_use]
    pub const fn picked(&self) -> Option<Pick> {
        if self.knows(Self::PICKED) { Some(Pick(self.pick)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_learned_is_not_known() {
        let mut row = TraceRow::asking(7);
        assert_eq!((row.ingress, row.picked(), row.knows(TraceRow::HASHED)), (7, None, false));
        row.learn(Fact::Table { index: 5, slot: 3 });
        assert!(row.knows(TraceRow::BY_TABLE) && !row.knows(TraceRow::BY_TABLE | TraceRow::FOUND));
        assert_eq!((row.table_index, row.table_slot), (5, 3));
        row.note(Event::Unstored);
        assert!(row.has(Event::Unstored) && !row.has(Event::Stored));
    }
}

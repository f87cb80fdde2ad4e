//! One operation on the maps.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::ServiceWord;
use lb_common::backend::{RowSpec, SlotState};
use lb_common::limits::REGION_UNIT;
use lb_common::maglev::Candidate;
use lb_common::service::TableClass;

use super::{ServiceKey, VipFlags};

/// Place of a Maglev table among all table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// First entry in units of [`REGION_UNIT`]; a multiple of the class's stride.
    pub unit: u32,
    /// How large the table is.
    pub class: TableClass,
}

impl Region {
    /// First table entry.
    #[must_use]
    pub const fn first_entry(self) -> u32 {
        self.unit * REGION_UNIT
    }

    /// Units that it occupies.
    #[must_use]
    pub const fn units(self) -> std::ops::Range<u32> {
        self.unit..self.unit + self.class.units()
    }
}

/// One operation on the maps. They are performed in the order given; the daemon may die after any of them.
#[derive(Clone, Debug, PartialEq)]
pub enum MapOp {
    /// Writes a whole row with the word [`SlotState::Free`]. No reader knows the slot yet.
    WriteRow {
        /// A free slot.
        slot: u16,
        /// What the row says.
        row: RowSpec,
    },
    /// Stores a slot's word.
    SetWord {
        /// A slot with a row.
        slot: u16,
        /// Next hop; all-zero while it is not resolved.
        mac: [u8; 6],
        /// Row of the egress table.
        egress: u16,
        /// Whether it takes flows.
        state: SlotState,
    },
    /// Writes a whole table into a region that no reader knows.
    WriteTable {
        /// Where to.
        region: Region,
        /// Slots, as many as the class has entries.
        table: Arc<[u16]>,
        /// What the table was made of, by address.
        pool: Vec<Candidate>,
    },
    /// Stores a service's word: from here on packets see the table that it names.
    StoreService {
        /// Index of the service.
        index: u32,
        /// Its word.
        word: ServiceWord,
    },
    /// Makes a service known to packets; its word is stored already.
    InsertService {
        /// What packets are recognised by.
        key: ServiceKey,
        /// Index of the service.
        index: u32,
    },
    /// Makes a service unknown to packets that come from now on.
    RemoveService {
        /// What packets were recognised by.
        key: ServiceKey,
    },
    /// Answers for an address (again, if only the flags change).
    InsertVip {
        /// The VIP.
        addr: IpAddr,
        /// How to treat it.
        flags: VipFlags,
    },
    /// Answers no longer for an address.
    RemoveVip {
        /// The VIP.
        addr: IpAddr,
    },
    /// Waits until every packet that was on its way has been dealt with.
    Grace,
    /// Clears the flow-table entries of a slot. Directly consecutive ones can be done in one pass.
    SweepSlot {
        /// A slot that is in no table and takes no flows.
        slot: u16,
    },
    /// Zeroes a row: the slot may be used again.
    FreeSlot {
        /// A slot that was swept.
        slot: u16,
    },
    /// The region may be used again. Only book-keeping: no map changes.
    FreeRegion {
        /// A region that no service names.
        region: Region,
    },
    /// Zeroes a service's word: the index may be used again.
    FreeService {
        /// An index that no key leads to.
        index: u32,
    },
}

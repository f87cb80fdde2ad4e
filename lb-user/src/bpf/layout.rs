//! How large the maps are, and what a pinned map must look like to be used again.
#![expect(clippy::cast_possible_truncation, reason = "sizes of map rows are small numbers")]

use aya::maps::MapType;
use lb_common::backend::BackendRow;
use lb_common::counters::{COUNTERS_PER_CPU, SlotCounter};
use lb_common::egress::{EgressFaults, EgressRow};
use lb_common::guard::GUARD_WORDS;
use lb_common::limits::{ABI_VERSION, MAX_EGRESS, MAX_SLOTS, REGION_UNIT, TABLE_ENTRIES_PER_VALUE, WAYS};
use lb_common::packet::Tuple;
use lb_common::service::{ServiceKey4, ServiceKey6, VipRow};
use lb_core::config::Limits;

/// Sizes of all maps, fixed when they are created, and what else `[limits]` says, fixed when the program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Services, and VIPs.
    pub services: u32,
    /// Rows of BACKENDS, row 0 included.
    pub slots: u32,
    /// Buckets of the flow table, a power of two.
    pub buckets: u32,
    /// Whether 5-tuples of flows are kept.
    pub flow_tuples: bool,
    /// Units of Maglev tables.
    pub units: u32,
    /// CPUs that may ever run the program.
    pub cpus: u32,
    /// New flows stored in a second on one CPU at most; 0: any number.
    pub new_flows_per_second: u32,
}

/// One map: what it is called and how it must look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Name, also of its pin.
    pub name: &'static str,
    /// Kind.
    pub kind: MapType,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Entries.
    pub entries: u32,
}

/// The map that says what the others are.
pub const META: Shape =
    Shape { name: "META", kind: MapType::Array, key: 4, value: bytes_of::<Meta>(), entries: 1 };

const fn bytes_of<T>() -> u32 {
    size_of::<T>() as u32
}

impl Layout {
    /// The layout for these limits on a machine with this many possible CPUs.
    ///
    /// A slot more than backends for row 0, and a quarter as many again (at least 64) so that backends can be replaced before
    /// the old ones are freed.
    #[must_use]
    pub fn new(limits: &Limits, cpus: u32) -> Self {
        let spare = (limits.backends / 4).max(64);
        let slots = limits.backends.saturating_add(spare).saturating_add(1).min(MAX_SLOTS + 1);
        let buckets = (limits.flows / WAYS as u32).max(1).next_power_of_two();
        let units = limits.table_slots.div_ceil(REGION_UNIT).max(1);
        Self {
            services: limits.services.max(1),
            slots,
            buckets,
            flow_tuples: limits.flow_tuples,
            units,
            cpus,
            new_flows_per_second: limits.new_flows_per_second,
        }
    }

    /// The sizes as limits of the plan: all slots that there are, the spare ones too.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            services: self.services,
            backends: self.slots - 1,
            flows: self.buckets * WAYS as u32,
            table_slots: self.units * REGION_UNIT,
            flow_tuples: self.flow_tuples,
            new_flows_per_second: self.new_flows_per_second,
        }
    }

    /// All maps of the balancer program.
    #[must_use]
    pub fn shapes(&self) -> [Shape; 17] {
        let hash = |name, key, value| Shape { name, kind: MapType::Hash, key, value, entries: self.services };
        let array = |name, value, entries| Shape { name, kind: MapType::Array, key: 4, value, entries };
        let tuples = if self.flow_tuples { self.buckets.saturating_mul(WAYS as u32) } else { 1 };
        [
            hash("SERVICES4", bytes_of::<ServiceKey4>(), 4),
            hash("SERVICES6", bytes_of::<ServiceKey6>(), 4),
            hash("VIPS4", 4, bytes_of::<VipRow>()),
            hash("VIPS6", 16, bytes_of::<VipRow>()),
            array("SERVICES", 8, self.services),
            array("LEASES", 8, self.services.saturating_add(1)),
            array("BACKENDS", bytes_of::<BackendRow>(), self.slots),
            array("EGRESS", bytes_of::<EgressRow>(), MAX_EGRESS),
            // Index of the interface, and a program that could run there (Linux 5.8).
            Shape { name: "DEVICES", kind: MapType::DevMap, key: 4, value: 8, entries: MAX_EGRESS },
            array("FAULTS", bytes_of::<EgressFaults>(), MAX_EGRESS),
            array(
                "MAGLEV",
                bytes_of::<[u16; TABLE_ENTRIES_PER_VALUE]>(),
                self.units.saturating_mul(REGION_UNIT / TABLE_ENTRIES_PER_VALUE as u32),
            ),
            array("FLOWS", bytes_of::<[u64; WAYS]>(), self.buckets),
            array("GUARD", bytes_of::<[u64; GUARD_WORDS]>(), self.cpus),
            array("FLOW_TUPLES", bytes_of::<Tuple>(), tuples),
            array("COUNTERS", 8, self.cpus.saturating_mul(COUNTERS_PER_CPU)),
            array("SLOT_COUNTERS", bytes_of::<SlotCounter>(), self.cpus.saturating_mul(self.slots)),
            META,
        ]
    }

    /// Memory of all maps in bytes, without the kernel's own overhead.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let bytes = |shape: &Shape| match shape.kind {
            // Arrays do not store their keys.
            MapType::Array => u64::from(shape.entries) * u64::from(shape.value),
            _ => u64::from(shape.entries) * u64::from(shape.value + shape.key),
        };
        self.shapes().iter().map(bytes).sum()
    }
}

/// What a later daemon must know to go on with the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// [`ABI_VERSION`]; 0 until the maps are complete.
    pub abi: u32,
    /// Zero.
    pub reserved: u32,
    /// Seed of the flow hash.
    pub seed: [u64; 2],
    /// Zero, for what comes.
    pub spare: [u64; 5],
}

impl Meta {
    /// The row for maps of this version.
    #[must_use]
    pub const fn new(seed: [u64; 2]) -> Self {
        Self { abi: ABI_VERSION, reserved: 0, seed, spare: [0; 5] }
    }
    /// Whether a row of this version can be one that fairlead wrote: what is zero is zero, and the seed is not, which
    /// chance does not give in 128 bits.
    #[must_use]
    pub const fn is_plausible(&self) -> bool {
        self.reserved == 0 && matches!(self.spare, [0, 0, 0, 0, 0]) && !matches!(self.seed, [0, 0])
    }
}

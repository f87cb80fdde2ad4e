//! A service as the data plane sees it: immutable keys and one published word.

use core::mem::size_of;

use crate::limits::REGION_UNIT;

/// Key of the IPv4 service map: eight bytes, which the kernel hashes in half the time of twenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ServiceKey4 {
    /// VIP, octets as on the wire.
    pub address: u32,
    /// Port, octets as on the wire.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// Key of the IPv6 service map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ServiceKey6 {
    /// VIP, octets as on the wire.
    pub address: [u32; 4],
    /// Port, octets as on the wire.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<ServiceKey4>() == 8 && size_of::<ServiceKey6>() == 20);

/// Size class of a Maglev table. The numbers are part of the map layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TableClass {
    /// 4,093 entries, for pools up to 40 backends.
    Small = 0,
    /// 65,521 entries, the largest prime that fits sixteen bits; for pools up to 655 backends.
    Medium = 1,
    /// 1,048,573 entries, for pools up to 10,485 backends.
    Large = 2,
}

impl TableClass {
    /// The class behind its number.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Small),
            1 => Some(Self::Medium),
            2 => Some(Self::Large),
            _ => None,
        }
    }

    /// The class with this many entries.
    #[must_use]
    pub const fn from_entries(entries: u32) -> Option<Self> {
        match entries {
            4_093 => Some(Self::Small),
            65_521 => Some(Self::Medium),
            1_048_573 => Some(Self::Large),
            _ => None,
        }
    }

    /// Entries of the table, a prime.
    #[inline(always)]
    #[must_use]
    pub const fn entries(self) -> u32 {
        match self {
            Self::Small => 4_093,
            Self::Medium => 65_521,
            Self::Large => 1_048_573,
        }
    }

    /// Table entries that a region of this class occupies: a power of two, at which the region is aligned.
    #[must_use]
    pub const fn stride(self) -> u32 {
        match self {
            Self::Small => 4_096,
            Self::Medium => 65_536,
            Self::Large => 1_048_576,
        }
    }

    /// [`Self::stride`] in units of [`REGION_UNIT`].
    #[must_use]
    pub const fn units(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Medium => 16,
            Self::Large => 256,
        }
    }
}

const CLASS_SHIFT: u32 = 24;
const FLAGS_SHIFT: u32 = 28;
const GENERATION_SHIFT: u32 = 36;
const UNIT_MASK: u64 = (1 << CLASS_SHIFT) - 1;

/// What of a service changes while it is published: Maglev region (24 bits, in units of [`REGION_UNIT`] entries), size
/// class (4), flags (8), generation (28), in one aligned word. All-zero: not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceWord(pub u64);

impl ServiceWord {
    /// The region holds a table; without it every packet is dropped as "no backend", but for flows that are known.
    pub const SERVE: u8 = 1;
    /// Flows are remembered in the flow table.
    pub const TRACK: u8 = 2;
    /// The row is in use. Set on every published word.
    pub const PUBLISHED: u8 = 4;
    /// Generations wrap here.
    pub const GENERATIONS: u32 = 1 << 28;

    /// Packs the word; `unit` below 2^24 and `generation` below 2^28 count.
    #[must_use]
    pub const fn new(unit: u32, class: TableClass, flags: u8, generation: u32) -> Self {
        Self(
            (unit as u64 & UNIT_MASK)
                | ((class as u64) << CLASS_SHIFT)
                | ((flags as u64) << FLAGS_SHIFT)
                | ((generation as u64) << GENERATION_SHIFT),
        )
    }

    /// First unit of the region.
    #[inline(always)]
    #[must_use]
    pub const fn unit(self) -> u32 {
        (self.0 & UNIT_MASK) as u32
    }

    /// First table entry of the region.
    #[inline(always)]
    #[must_use]
    pub const fn first_entry(self) -> u32 {
        self.unit().wrapping_mul(REGION_UNIT)
    }

    /// Size class; unknown numbers read as small.
    #[inline(always)]
    #[must_use]
    pub const fn class(self) -> TableClass {
        match TableClass::from_bits((self.0 >> CLASS_SHIFT) as u8 & 0xf) {
            Some(class) => class,
            None => TableClass::Small,
        }
    }

    /// Flags, a union of the constants here.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> FLAGS_SHIFT) as u8
    }

    /// Whether all bits of `flag` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.flags() & flag == flag
    }

    /// Number of the table switch, modulo [`Self::GENERATIONS`].
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }
}

/// Value of the address-only VIP maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct VipRow {
    /// Row of the LEASES array: until when this node answers for the address.
    pub lease: u32,
    /// A union of the constants here.
    pub flags: u32,
}

impl VipRow {
    /// Packets to a port without a service go to the kernel instead of being dropped.
    pub const PASS_UNKNOWN_PORT: u32 = 1;
}

const _: () = assert!(size_of::<VipRow>() == 8);

/// Row of the LEASES array whose lease never ends.
pub const LEASE_ROW_FOR_EVER: u32 = 0;

/// A lease that never ends: the VIP has no high availability and is always answered for.
pub const LEASE_FOR_EVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_what_was_packed() {
        for class in [TableClass::Small, TableClass::Medium, TableClass::Large] {
            let word = ServiceWord::new(2_047, class, ServiceWord::SERVE | ServiceWord::TRACK, 0x0abc_def0);
            assert_eq!((word.unit(), word.class(), word.generation()), (2_047, class, 0x0abc_def0));
            assert!(word.has(ServiceWord::SERVE) && !word.has(ServiceWord::PUBLISHED));
        }
    }

    #[test]
    fn a_region_holds_its_table() {
        for class in [TableClass::Small, TableClass::Medium, TableClass::Large] {
            assert!(class.entries() <= class.stride());
            assert_eq!(class.units() * REGION_UNIT, class.stride());
        }
    }
}

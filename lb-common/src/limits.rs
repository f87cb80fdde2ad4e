//! Every bound of the data plane by name, with its reason.

/// Version of all map layouts together. A daemon refuses pins that carry another one.
pub const ABI_VERSION: u32 = 3;

/// VLAN tags looked through: 802.1ad allows an outer and an inner one.
pub const MAX_VLAN_TAGS: usize = 2;

/// IPv6 extension headers looked through; more than this is not seen outside of attacks.
pub const MAX_EXTENSION_HEADERS: usize = 4;

/// Entries of one flow-table bucket: eight entries of eight bytes are one cache line.
pub const WAYS: usize = 8;

/// Slots that a 16-bit number can name; slot 0 means "none".
pub const MAX_SLOTS: u32 = 65_535;

/// Rows of the egress table: the backend word has twelve bits for the row.
pub const MAX_EGRESS: u32 = 4_096;

/// Services that fit the `u16` in a backend row.
pub const MAX_SERVICES: u32 = 65_535;

/// Maglev regions are allocated in units of this many table entries.
pub const REGION_UNIT: u32 = 4_096;

/// Table entries that share one array value (array maps round values up to eight bytes, so single ones waste memory).
pub const TABLE_ENTRIES_PER_VALUE: usize = 32;

/// Prefixes of balancers that a decapsulator trusts, for each family: balancers in front of a backend are few, and one
/// prefix names a whole segment of them.
pub const MAX_DECAP_PREFIXES: u32 = 256;

/// VIPs of a decapsulator, for each family: twice as many as a balancer has services by default, since the map takes
/// memory for all of them at once.
pub const MAX_DECAP_VIPS: u32 = 1_024;

/// Bytes of the offending packet quoted in a "too big" answer: its IP header with options and at least its ports.
pub const QUOTED_BYTES: usize = 128;

/// Bytes in front of the IP header at most: Ethernet and two VLAN tags.
pub const MAX_LINK_BYTES: usize = 22;

/// What every IPv6 link must carry in one piece (RFC 8200 section 5), in bytes: no sender is asked for less.
pub const IPV6_MINIMUM_MTU: u32 = 1_280;

//! An interface as the data plane sees it.

use core::mem::size_of;

use crate::limits::MAX_EGRESS;

/// One row of the EGRESS map. The row of an interface is its index modulo [`MAX_EGRESS`], so that the receive side finds
/// its own without a hash look-up; two interfaces that fall together are refused when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct EgressRow {
    /// Interface index, 0 for an unused row.
    pub ifindex: u32,
    /// Largest IP packet that leaves here, in bytes.
    pub mtu: u32,
    /// The interface's own MAC, first octet lowest; the upper 16 bits are zero.
    pub mac_bits: u64,
}

const _: () = assert!(size_of::<EgressRow>() == 16);

impl EgressRow {
    /// The row in which this interface belongs.
    #[inline(always)]
    #[must_use]
    pub const fn position(ifindex: u32) -> u32 {
        ifindex & (MAX_EGRESS - 1)
    }
}

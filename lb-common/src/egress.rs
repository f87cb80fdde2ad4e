//! An interface as the data plane sees it, and what becomes of frames behind the program's back.

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

/// One row of the FAULTS map, beside the EGRESS row of the same interface: frames that were redirected to it and did not
/// leave by it. The program can't know: it has answered "redirect" by then. Tracepoints of the kernel tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct EgressFaults {
    /// Frames that the kernel did not even hand to the driver: interface down, frame too long for it, driver unable or not
    /// set up for redirected frames (from Linux 6.3 on: also a veth pair whose far end has no XDP program).
    pub refused: u64,
    /// Frames that the driver did not take: its queue is full, or the far end of a veth pair takes less.
    pub lost: u64,
    /// Why the last one was refused, as a positive errno.
    pub refused_error: u64,
    /// Why the last one was lost; 0: the driver took a part of those before it, and then no more.
    pub lost_error: u64,
}

const _: () = assert!(size_of::<EgressFaults>() == 32);

/// What the programs on the tracepoints must know, in the one row of WATCH. Offsets of the kernel's structures differ
/// from build to build; user space reads them from the kernel's type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct WatchRow {
    /// The kernel's number of the DEVICES map.
    pub devices: u32,
    /// Offset of the index in a `net_device`.
    pub ifindex_at: u32,
    /// Offset of the pointer to the namespace in a `net_device`.
    pub net_at: u32,
    /// Offset of the cookie in a `net`.
    pub cookie_at: u32,
    /// Cookie of the network namespace that the interfaces are in (Linux 5.14).
    pub cookie: u64,
}

const _: () = assert!(size_of::<WatchRow>() == 24);

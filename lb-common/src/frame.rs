//! Access to the bytes of a frame, the same for a packet in the kernel and for a vector in a test.

use network_types::arp::ArpHdr;
use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::answer::is_valid_solicitation;
use crate::packet::{Walk, walk_extensions};

/// A value that any bytes of its size make, at any alignment, with no padding.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes must be a valid value, and the type must have no padding.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),+) => {
        $(
            // SAFETY: an integer, an array of integers, or a packed header made of octets: any bytes are a value.
            unsafe impl Plain for $type {}
        )+
    };
}

plain!(u8, u16, u32, u64, [u8; 4], [u8; 6], [u8; 8], [u32; 2], [u32; 4], [u64; 5], [u64; 16]);
plain!(EthHdr, Ipv4Hdr, Ipv6Hdr, TcpHdr, UdpHdr, ArpHdr);

/// Reads of a frame. Offsets count from the first octet of the Ethernet header.
pub trait PacketView {
    /// Reads a value in wire order, or `None` if the frame's first buffer ends before.
    fn load<T: Plain>(&self, offset: usize) -> Option<T>;

    /// Length of the frame over all its buffers.
    fn length(&self) -> usize;

    /// Whether the first `bytes` bytes are in the frame's first buffer; cheaper than [`Self::length`].
    fn holds(&self, bytes: usize) -> bool;

    /// Walks IPv6 extension headers: [`walk_extensions`], which the BPF program calls as a function of its own, since the
    /// verifier then looks at it once and not for each shape of packet.
    #[inline(always)]
    fn walk(&self, offset: usize, protocol: u8) -> Walk
    where
        Self: Sized,
    {
        walk_extensions(self, offset, protocol)
    }

    /// Looks at a neighbour solicitation: [`is_valid_solicitation`], which the BPF program calls as a function of its
    /// own, too.
    #[inline(always)]
    fn solicits(&self, network: usize, bytes: usize) -> bool
    where
        Self: Sized,
    {
        is_valid_solicitation(self, network, bytes)
    }
}

/// Writes to a frame. Nothing read before a change of size stays valid at the same offset.
pub trait PacketEdit: PacketView {
    /// Writes a value in wire order; `false` if the frame ends before.
    #[must_use]
    fn store<T: Plain>(&self, offset: usize, value: T) -> bool;

    /// Adds bytes in front; their content is undefined. `false` if there is no room.
    #[must_use]
    fn grow_head(&self, bytes: usize) -> bool;

    /// Takes bytes away in front. `false` if the frame is too short.
    #[must_use]
    fn shrink_head(&self, bytes: usize) -> bool;

    /// Cuts the frame, or adds zeroes at its end, so that it has this length. `false` if that is impossible.
    #[must_use]
    fn set_length(&self, length: usize) -> bool;
}

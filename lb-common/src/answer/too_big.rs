//! "Fragmentation needed" (RFC 792, RFC 1191) and "packet too big" (RFC 4443 section 3.2) for a packet that does not
//! fit the interface to its backend: once encapsulated or, in mode `l2` and by another interface than it came by, as it
//! is. The source is the VIP: the sender knows it, and filters against spoofing let it through.

use super::nd::pseudo_sum;
use super::{ICMP_BYTES, TTL};
use crate::checksum;
use crate::egress::EgressRow;
use crate::limits::{IPV6_MINIMUM_MTU, QUOTED_BYTES};
use crate::packet::{Family, IPV6_BYTES, Packet, ethertype, is_answerable_mac, protocol};
use crate::reason::{DropReason, Verdict};
use crate::rewrite::{address_to, move_tags};
use crate::world::World;

const IPV4_BYTES: usize = 20;

/// Replaces the frame by an answer to its sender that quotes the packet's first [`QUOTED_BYTES`] bytes and says that
/// `fits` bytes would fit; to an IPv6 sender never less than the 1,280 bytes that every link must carry.
///
/// # Errors
/// [`DropReason::TooBig`] if the answer can't be written, if it would ask an IPv6 sender for less than it can be asked
/// for, or if the packet's source, MAC or address, is none that can be answered.
#[inline(always)]
pub fn too_big<W: World>(
    world: &W,
    own: &EgressRow,
    packet: &Packet,
    fits: u32,
) -> Result<Verdict, DropReason> {
    let network = packet.network;
    let fits = match packet.tuple.family {
        Family::V4 => fits,
        // A packet that no IPv6 sender has to make smaller (RFC 8200 section 5) would have to travel in fragments of
        // the outer packet (RFC 2473 section 7.1), which are not made: telling its sender anything would change
        // nothing.
        Family::V6 if packet.bytes as u32 <= IPV6_MINIMUM_MTU => return Err(DropReason::TooBig),
        Family::V6 => fits.max(IPV6_MINIMUM_MTU),
    };
    if !packet.tuple.has_answerable_source() || !is_answerable_mac(packet.link.source, own.mac_bits) {
        return Err(DropReason::TooBig);
    }
    if packet.bytes < QUOTED_BYTES || !world.set_length(network.wrapping_add(QUOTED_BYTES)) {
        return Err(DropReason::TooBig);
    }
    let written = match packet.tuple.family {
        Family::V4 => answer4(world, packet, fits),
        Family::V6 => answer6(world, packet, fits),
    };
    let sent = written == Some(true) && address_to(world, packet.link.source, own.mac_bits);
    if sent { Ok(Verdict::AnswerTooBig) } else { Err(DropReason::TooBig) }
}

#[inline(always)]
fn answer4<W: World>(world: &W, packet: &Packet, fits: u32) -> Option<bool> {
    let network = packet.network;
    world.grow_head(IPV4_BYTES.wrapping_add(ICMP_BYTES)).then_some(())?;
    move_tags(world, network, IPV4_BYTES.wrapping_add(ICMP_BYTES))?;
    let ([source, ..], [destination, ..]) = (packet.tuple.source, packet.tuple.destination);
    let total = (IPV4_BYTES.wrapping_add(ICMP_BYTES).wrapping_add(QUOTED_BYTES) as u16).to_be();
    let [total_high, total_low] = total.to_ne_bytes();
    let first = u32::from_ne_bytes([0x45, 0, total_high, total_low]);
    let third = u32::from_ne_bytes([TTL, protocol::ICMP, 0, 0]);
    let header = checksum::halves(first)
        .wrapping_add(checksum::halves(third))
        .wrapping_add(checksum::halves(source))
        .wrapping_add(checksum::halves(destination));
    let icmp = network.wrapping_add(IPV4_BYTES);
    let kind = u32::from_ne_bytes([3, 4, 0, 0]);
    let [high, low] = (fits as u16).to_be_bytes();
    let mtu = u32::from_ne_bytes([0, 0, high, low]);
    let sum = quoted_sum(world, icmp.wrapping_add(ICMP_BYTES))?
        .wrapping_add(checksum::halves(kind))
        .wrapping_add(checksum::halves(mtu));
    Some(
        world.store(network.wrapping_sub(2), ethertype::IPV4)
            && world.store(network, first)
            && world.store(network.wrapping_add(4), 0u32)
            && world.store(network.wrapping_add(8), third)
            && world.store(network.wrapping_add(10), checksum::finish(header))
            && world.store(network.wrapping_add(12), destination)
            && world.store(network.wrapping_add(16), source)
            && world.store(icmp, kind)
            && world.store(icmp.wrapping_add(2), checksum::finish(sum))
            && world.store(icmp.wrapping_add(4), mtu),
    )
}

#[inline(always)]
fn answer6<W: World>(world: &W, packet: &Packet, fits: u32) -> Option<bool> {
    let network = packet.network;
    world.grow_head(IPV6_BYTES.wrapping_add(ICMP_BYTES)).then_some(())?;
    move_tags(world, network, IPV6_BYTES.wrapping_add(ICMP_BYTES))?;
    let (source, destination) = (packet.tuple.source, packet.tuple.destination);
    let length = ICMP_BYTES.wrapping_add(QUOTED_BYTES);
    let icmp = network.wrapping_add(IPV6_BYTES);
    let kind = u32::from_ne_bytes([2, 0, 0, 0]);
    let mtu = fits.to_be();
    let sum = quoted_sum(world, icmp.wrapping_add(ICMP_BYTES))?
        .wrapping_add(checksum::halves(kind))
        .wrapping_add(checksum::halves(mtu))
        .wrapping_add(pseudo_sum(&destination, &source, length as u32));
    Some(
        world.store(network.wrapping_sub(2), ethertype::IPV6)
            && world.store(network, u32::from_ne_bytes([0x60, 0, 0, 0]))
            && world.store(network.wrapping_add(4), (length as u16).to_be())
            && world.store(network.wrapping_add(6), u16::from_ne_bytes([protocol::ICMPV6, TTL]))
            && world.store(network.wrapping_add(8), destination)
            && world.store(network.wrapping_add(24), source)
            && world.store(icmp, kind)
            && world.store(icmp.wrapping_add(2), checksum::finish(sum))
            && world.store(icmp.wrapping_add(4), mtu),
    )
}

/// Sum over the quoted bytes, read at once: a loop over the frame would make the compiler calculate with its end, which
/// the verifier does not allow.
#[inline(always)]
fn quoted_sum<W: World>(world: &W, start: usize) -> Option<u32> {
    let quoted: [u64; QUOTED_BYTES / 8] = world.load(start)?;
    Some(quoted.iter().fold(0u32, |sum, word| {
        sum.wrapping_add(checksum::halves(*word as u32)).wrapping_add(checksum::halves((*word >> 32) as u32))
    }))
}

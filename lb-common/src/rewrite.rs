//! What changes in a steered packet: TTL, outer header, MAC addresses.

use crate::backend::{BackendRow, BackendWord, Encapsulation};
use crate::checksum;
use crate::egress::EgressRow;
use crate::frame::PacketEdit;
use crate::packet::{ETHERNET_BYTES, Family, Packet, TAG_BYTES, ethertype};
use crate::reason::DropReason;

const TTL_OFFSET: usize = 8;
const CHECK_OFFSET: usize = 10;
const HOP_LIMIT_OFFSET: usize = 7;

/// The backend that a packet goes to.
#[derive(Clone, Copy)]
pub struct Choice<'w> {
    /// Its row.
    pub row: &'w BackendRow,
    /// The row's word, read once for the packet.
    pub word: BackendWord,
    /// Flow label of an outer IPv6 header, 20 bits.
    pub label: u32,
}

/// Decrements the TTL or hop limit.
///
/// # Errors
/// [`DropReason::TtlExpired`] if none is left.
#[inline(always)]
pub fn age<P: PacketEdit>(frame: &P, packet: &Packet) -> Result<(), DropReason> {
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let network = packet.network;
    let written = match packet.tuple.family {
        Family::V4 => {
            let at = network.wrapping_add(TTL_OFFSET);
            let old: u16 = frame.load(at).ok_or(DropReason::Malformed)?;
            let check_at = network.wrapping_add(CHECK_OFFSET);
            let check: u16 = frame.load(check_at).ok_or(DropReason::Malformed)?;
            // The TTL is the lower octet of its word in memory order.
            let new = old.wrapping_sub(1);
            frame.store(at, new) && frame.store(check_at, checksum::update(check, old, new))
        }
        Family::V6 => frame.store(network.wrapping_add(HOP_LIMIT_OFFSET), packet.ttl.wrapping_sub(1)),
    };
    if written { Ok(()) } else { Err(DropReason::Malformed) }
}

/// Encapsulates as the backend's row says and addresses the frame to its next hop.
///
/// # Errors
/// The reason why the frame could not be written; it must then be dropped.
#[inline(always)]
pub fn rewrite<P: PacketEdit>(
    frame: &P,
    packet: &Packet,
    choice: &Choice<'_>,
    egress: &EgressRow,
) -> Result<(), DropReason> {
    let kind = Encapsulation::from_bits(choice.row.encapsulation).ok_or(DropReason::Internal)?;
    age(frame, packet)?;
    let written = match kind {
        Encapsulation::L2 => address(frame, choice, egress),
        Encapsulation::Ipip4 => {
            grow(frame, packet, 20)?;
            outer4(frame, packet, choice)
                && address(frame, choice, egress)
                && frame.store(packet.network.wrapping_sub(2), ethertype::IPV4)
        }
        Encapsulation::Ipip6 => {
            grow(frame, packet, 40)?;
            outer6(frame, packet, choice)
                && address(frame, choice, egress)
                && frame.store(packet.network.wrapping_sub(2), ethertype::IPV6)
        }
    };
    if written { Ok(()) } else { Err(DropReason::NoHeadroom) }
}

/// Takes the VLAN tags off: they belong to the segment that the frame came from, and the kernel's route to the backend
/// names an interface without tags.
///
/// # Errors
/// [`DropReason::Malformed`] if the frame could not be written; it must then be dropped.
#[inline(always)]
pub fn untag<P: PacketEdit>(frame: &P, packet: &mut Packet) -> Result<(), DropReason> {
    let tags = packet.network.wrapping_sub(ETHERNET_BYTES);
    if tags == 0 {
        return Ok(());
    }
    packet.network = ETHERNET_BYTES;
    // Both addresses are written anew for each frame that is sent on.
    let written =
        frame.shrink_head(tags) && frame.store(ETHERNET_BYTES.wrapping_sub(2), packet.link.ethertype);
    if written { Ok(()) } else { Err(DropReason::Malformed) }
}

/// Makes room for an outer header; the VLAN tags move to the front with the link header.
#[inline(always)]
fn grow<P: PacketEdit>(frame: &P, packet: &Packet, bytes: usize) -> Result<(), DropReason> {
    if !frame.grow_head(bytes) {
        return Err(DropReason::NoHeadroom);
    }
    if packet.network > ETHERNET_BYTES {
        move_tags(frame, packet.network, bytes).ok_or(DropReason::NoHeadroom)?;
    }
    Ok(())
}

/// Copies the tags (from the EtherType of the first on) `bytes` towards the front.
#[inline(always)]
pub(crate) fn move_tags<P: PacketEdit>(frame: &P, network: usize, bytes: usize) -> Option<()> {
    let mut at = ETHERNET_BYTES.wrapping_sub(2);
    for _ in 0..crate::limits::MAX_VLAN_TAGS {
        if at.wrapping_add(2) >= network {
            break;
        }
        let tag: u32 = frame.load(at.wrapping_add(bytes))?;
        frame.store(at, tag).then_some(())?;
        at = at.wrapping_add(TAG_BYTES);
    }
    Some(())
}

#[inline(always)]
fn outer4<P: PacketEdit>(frame: &P, packet: &Packet, choice: &Choice<'_>) -> bool {
    let [first, second, addresses, ..] = choice.row.template;
    let total = (packet.bytes as u16).wrapping_add(20).to_be();
    let check = checksum::finish(choice.row.partial_sum.wrapping_add(u32::from(total)));
    let at = packet.network;
    // addresses spans octets 16 to 23 of the template: only its first half belongs to the header.
    frame.store(at, first | (u64::from(total) << 16))
        && frame.store(at.wrapping_add(8), second | (u64::from(check) << 16))
        && frame.store(at.wrapping_add(16), addresses as u32)
}

#[inline(always)]
fn outer6<P: PacketEdit>(frame: &P, packet: &Packet, choice: &Choice<'_>) -> bool {
    let [first, rest @ ..] = choice.row.template;
    let [b, c, d, e] = rest;
    let length = (packet.bytes as u16).to_be();
    // Flow label (RFC 6437) from bits that pick neither slot nor way, for the paths behind.
    let label = choice.label.to_be();
    let first = first | (u64::from(length) << 32) | u64::from(label);
    frame.store(packet.network, [first, b, c, d, e])
}

#[inline(always)]
fn address<P: PacketEdit>(frame: &P, choice: &Choice<'_>, egress: &EgressRow) -> bool {
    address_to(frame, choice.word.mac_bits(), egress.mac_bits)
}

/// Writes both MAC addresses, first octet lowest.
#[inline(always)]
pub(crate) fn address_to<P: PacketEdit>(frame: &P, to: u64, from: u64) -> bool {
    frame.store(0, to | (from << 48)) && frame.store(8, (from >> 16) as u32)
}

//! Echo (RFC 792, RFC 4443 section 4): a VIP that answers ping is a VIP that this node holds.

use crate::checksum;
use crate::egress::EgressRow;
use crate::packet::{Family, Packet, is_answerable_mac};
use crate::reason::{DropReason, Verdict};
use crate::rewrite::address_to;
use crate::service::VipRow;
use crate::world::World;

const REQUEST_WORD4: u16 = u16::from_ne_bytes([8, 0]);
const REQUEST_WORD6: u16 = u16::from_ne_bytes([128, 0]);
const REPLY_WORD6: u16 = u16::from_ne_bytes([129, 0]);

/// Turns a request into its reply in place.
///
/// # Errors
/// [`DropReason::Malformed`] if the request is cut short, or its source, MAC or address, can't be answered.
#[inline(always)]
pub(super) fn request<W: World>(
    world: &W,
    own: &EgressRow,
    packet: &Packet,
    vip: VipRow,
) -> Result<Verdict, DropReason> {
    if !world.lease_holds(vip.lease) {
        return Ok(Verdict::PassNoLease);
    }
    if !is_answerable_mac(packet.link.source, own.mac_bits) {
        return Err(DropReason::Malformed);
    }
    let at = packet.transport;
    let answered = match packet.tuple.family {
        Family::V4 => reply4(world, packet, at),
        Family::V6 => reply6(world, packet, at),
    };
    let written = answered == Some(true) && address_to(world, packet.link.source, own.mac_bits);
    if written { Ok(Verdict::AnswerEcho) } else { Err(DropReason::Malformed) }
}

/// Swapped addresses leave the header's sum as it is; the TTL does not.
#[inline(always)]
fn reply4<W: World>(world: &W, packet: &Packet, at: usize) -> Option<bool> {
    let network = packet.network;
    let ([source, ..], [destination, ..]) = (packet.tuple.source, packet.tuple.destination);
    let [kind, code]: [u8; 2] = world.load::<u16>(at)?.to_ne_bytes();
    if !packet.tuple.has_answerable_source() || code != 0 || kind != 8 {
        return None;
    }
    let ttl_at = network.wrapping_add(8);
    let ttl_word: u16 = world.load(ttl_at)?;
    let [_, protocol] = ttl_word.to_ne_bytes();
    let new_ttl = u16::from_ne_bytes([super::TTL, protocol]);
    let check: u16 = world.load(network.wrapping_add(10))?;
    let icmp_check: u16 = world.load(at.wrapping_add(2))?;
    // An update (RFC 1624) gives zero for a message of zeroes alone, of which the checksum is all ones; in any other
    // message the two are the same number.
    let reply_check = match checksum::update(icmp_check, REQUEST_WORD4, 0) {
        0 => u16::MAX,
        check => check,
    };
    Some(
        world.store(ttl_at, new_ttl)
            && world.store(network.wrapping_add(10), checksum::update(check, ttl_word, new_ttl))
            && world.store(network.wrapping_add(12), destination)
            && world.store(network.wrapping_add(16), source)
            && world.store(at, 0u16)
            && world.store(at.wrapping_add(2), reply_check),
    )
}

#[inline(always)]
fn reply6<W: World>(world: &W, packet: &Packet, at: usize) -> Option<bool> {
    let network = packet.network;
    if !packet.tuple.has_answerable_source() || world.load::<u16>(at)? != REQUEST_WORD6 {
        return None;
    }
    let check: u16 = world.load(at.wrapping_add(2))?;
    Some(
        world.store(network.wrapping_add(7), super::TTL)
            && world.store(network.wrapping_add(8), packet.tuple.destination)
            && world.store(network.wrapping_add(24), packet.tuple.source)
            && world.store(at, REPLY_WORD6)
            && world.store(at.wrapping_add(2), checksum::update(check, REQUEST_WORD6, REPLY_WORD6)),
    )
}

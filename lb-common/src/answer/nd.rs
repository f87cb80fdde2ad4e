//! Neighbour discovery (RFC 4861) for VIPs, duplicate address detection (RFC 4862) included.

use crate::checksum;
use crate::egress::EgressRow;
use crate::packet::{ETHERNET_BYTES, IPV6_BYTES, Packet, words};
use crate::reason::Verdict;
use crate::rewrite::address_to;
use crate::world::World;

/// Type, code, checksum, flags, target, and the option with our MAC.
const ADVERTISEMENT_BYTES: usize = 32;
const HOP_LIMIT: u8 = 255;
/// Type and code; any other code is invalid.
const SOLICITATION_WORD: u16 = u16::from_ne_bytes([super::SOLICITATION, 0]);
const TARGET: usize = 8;
const OPTION: usize = 24;
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: u64 = u64::from_le_bytes([0x33, 0x33, 0, 0, 0, 1, 0, 0]);
const SOLICITED: u32 = u32::from_ne_bytes([0x40, 0, 0, 0]);
const OVERRIDE: u32 = u32::from_ne_bytes([0x20, 0, 0, 0]);

/// Answers a solicitation for a VIP; one for another address, or with a hop limit, code or length that RFC 4861 section
/// 7.1.1 calls invalid, passes. Checksum and options are not looked at: an answer tells only what is true anyway.
#[inline(always)]
pub(super) fn solicitation<W: World>(world: &W, own: &EgressRow, packet: &Packet) -> Verdict {
    answer(world, own, packet).unwrap_or(Verdict::PassNotVip)
}

#[inline(always)]
fn answer<W: World>(world: &W, own: &EgressRow, packet: &Packet) -> Option<Verdict> {
    let at = packet.transport;
    // Behind an extension header there is no valid solicitation.
    let network = packet.network;
    if packet.ttl != HOP_LIMIT
        || at != network.wrapping_add(IPV6_BYTES)
        || packet.bytes < IPV6_BYTES.wrapping_add(OPTION)
    {
        return None;
    }
    if world.load::<u16>(at)? != SOLICITATION_WORD {
        return None;
    }
    let target: [u32; 4] = world.load(at.wrapping_add(TARGET))?;
    let vip = world.vip6(&target)?;
    if !world.lease_holds(vip.lease) {
        return Some(Verdict::PassNoLease);
    }
    let detection = packet.tuple.source == [0; 4];
    let (to, to_mac) =
        if detection { (words(ALL_NODES), ALL_NODES_MAC) } else { (packet.tuple.source, packet.link.source) };
    let flags = if detection { OVERRIDE } else { OVERRIDE | SOLICITED };
    // Whatever options came are replaced by ours, so the length is always the same.
    if !world.set_length(network.wrapping_add(IPV6_BYTES).wrapping_add(ADVERTISEMENT_BYTES)) {
        return None;
    }
    write(world, own, network, &target, &to, flags)?;
    address_to(world, to_mac, own.mac_bits).then_some(Verdict::AnswerNd)
}

#[inline(always)]
fn write<W: World>(
    world: &W,
    own: &EgressRow,
    network: usize,
    target: &[u32; 4],
    to: &[u32; 4],
    flags: u32,
) -> Option<()> {
    debug_assert!(network >= ETHERNET_BYTES);
    let length = (ADVERTISEMENT_BYTES as u16).to_be();
    let kind = u32::from_ne_bytes([136, 0, 0, 0]);
    let [a, b, c, d, e, f, _, _] = own.mac_bits.to_le_bytes();
    let option = [u32::from_ne_bytes([2, 1, a, b]), u32::from_ne_bytes([c, d, e, f])];
    let at = network.wrapping_add(IPV6_BYTES);
    let [first, second] = option;
    let sum = pseudo_sum(target, to, ADVERTISEMENT_BYTES as u32)
        .wrapping_add(checksum::halves(kind))
        .wrapping_add(checksum::halves(flags))
        .wrapping_add(sum_words(target))
        .wrapping_add(checksum::halves(first))
        .wrapping_add(checksum::halves(second));
    let written = world.store(network, u32::from_ne_bytes([0x60, 0, 0, 0]))
        && world.store(network.wrapping_add(4), length)
        && world.store(network.wrapping_add(6), u16::from_ne_bytes([58, HOP_LIMIT]))
        && world.store(network.wrapping_add(8), *target)
        && world.store(network.wrapping_add(24), *to)
        && world.store(at, kind)
        && world.store(at.wrapping_add(2), checksum::finish(sum))
        && world.store(at.wrapping_add(4), flags)
        && world.store(at.wrapping_add(TARGET), *target)
        && world.store(at.wrapping_add(OPTION), option);
    written.then_some(())
}

/// Sum over four words, in memory order.
#[inline(always)]
pub(super) fn sum_words(words: &[u32; 4]) -> u32 {
    let [a, b, c, d] = *words;
    checksum::halves(a)
        .wrapping_add(checksum::halves(b))
        .wrapping_add(checksum::halves(c))
        .wrapping_add(checksum::halves(d))
}

/// Sum of the ICMPv6 pseudo-header (RFC 8200 section 8.1) for a payload of `length` bytes, below 65,536.
#[inline(always)]
pub(super) fn pseudo_sum(source: &[u32; 4], destination: &[u32; 4], length: u32) -> u32 {
    sum_words(source)
        .wrapping_add(sum_words(destination))
        .wrapping_add(u32::from((length as u16).to_be()))
        .wrapping_add(u32::from(58u16.to_be()))
}

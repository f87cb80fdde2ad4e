//! Neighbour discovery (RFC 4861) for VIPs, duplicate address detection (RFC 4862) included.

use crate::checksum;
use crate::egress::EgressRow;
use crate::frame::PacketView;
use crate::packet::{ETHERNET_BYTES, IPV6_BYTES, Packet, is_answerable_mac, words};
use crate::reason::Verdict;
use crate::rewrite::address_to;
use crate::world::World;

/// Type, code, checksum, flags, target, and the option with our MAC.
const ADVERTISEMENT_BYTES: usize = 32;
const HOP_LIMIT: u8 = 255;
/// Offsets in the IPv6 header.
const SOURCE: usize = 8;
const DESTINATION: usize = 24;
/// Offsets in the message.
const TARGET: usize = 8;
const OPTION: usize = 24;
/// Options are whole units of eight octets.
const OPTION_UNIT: usize = 8;
/// Units of options that are looked at: a source link-layer address (RFC 4861 section 4.6.1) and a nonce (RFC 3971
/// section 5.3.2, RFC 7527) have one each. The verifier goes through each number of them.
const MAX_OPTION_UNITS: usize = 2;
/// Type of the option that tells the sender's MAC.
const SOURCE_LINK_LAYER: u8 = 1;
/// ff02::1:ff00:0, of which the last three octets are those of the address.
const SOLICITED_NODE: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: u64 = u64::from_le_bytes([0x33, 0x33, 0, 0, 0, 1, 0, 0]);
const SOLICITED: u32 = u32::from_ne_bytes([0x40, 0, 0, 0]);
const OVERRIDE: u32 = u32::from_ne_bytes([0x20, 0, 0, 0]);

/// Answers a solicitation for a VIP. One for another address passes, and so does one that RFC 4861 section 7.1.1 calls
/// invalid, that comes from where nothing can be answered, or that has more options than are looked at.
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
    let target: [u32; 4] = world.load(at.wrapping_add(TARGET))?;
    let vip = world.vip6(&target)?;
    let detection = packet.tuple.source == [0; 4];
    let answerable = detection || packet.tuple.has_answerable_source();
    if !answerable
        || !is_answerable_mac(packet.link.source, own.mac_bits)
        || !world.solicits(network, packet.bytes)
    {
        return None;
    }
    if !world.lease_holds(vip.lease) {
        return Some(Verdict::PassNoLease);
    }
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

/// Whether what is behind the IPv6 header at `network` is a valid solicitation by its code, target, checksum, options
/// and addresses, and has at most two units of eight bytes of options. `bytes` is the packet's own length.
#[inline(always)]
#[must_use]
pub fn is_valid_solicitation<P: PacketView>(frame: &P, network: usize, bytes: usize) -> bool {
    validate(frame, network, bytes).is_some()
}

#[inline(always)]
fn validate<P: PacketView>(frame: &P, network: usize, bytes: usize) -> Option<()> {
    let at = network.wrapping_add(IPV6_BYTES);
    let source: [u32; 4] = frame.load(network.wrapping_add(SOURCE))?;
    let destination: [u32; 4] = frame.load(network.wrapping_add(DESTINATION))?;
    let target: [u32; 4] = frame.load(at.wrapping_add(TARGET))?;
    let [head, reserved]: [u32; 2] = frame.load(at)?;
    let [first, ..] = target;
    let ([kind, code, ..], [group, ..]) = (head.to_ne_bytes(), first.to_ne_bytes());
    if kind != super::SOLICITATION || code != 0 || group == 0xff {
        return None;
    }
    let detection = source == [0; 4];
    if detection && destination != group_of(&target) {
        return None;
    }
    let length = bytes.wrapping_sub(IPV6_BYTES);
    let mut sum = pseudo_sum(&source, &destination, length as u32)
        .wrapping_add(checksum::halves(head))
        .wrapping_add(checksum::halves(reserved))
        .wrapping_add(sum_words(&target));
    // Units of eight octets of an option that goes on.
    let mut left = 0u8;
    let mut end = OPTION;
    for _ in 0..MAX_OPTION_UNITS {
        if end == length {
            break;
        }
        let [head, rest]: [u32; 2] = frame.load(at.wrapping_add(end))?;
        sum = sum.wrapping_add(checksum::halves(head)).wrapping_add(checksum::halves(rest));
        if left == 0 {
            let [kind, units, ..] = head.to_ne_bytes();
            if units == 0 || (detection && kind == SOURCE_LINK_LAYER) {
                return None;
            }
            left = units;
        }
        left = left.wrapping_sub(1);
        end = end.wrapping_add(OPTION_UNIT);
    }
    (end == length && left == 0 && checksum::fold(sum) == u16::MAX).then_some(())
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
#[inline(always)]
const fn group_of(address: &[u32; 4]) -> [u32; 4] {
    let [_, _, _, low] = *address;
    let [first, second, third, fourth] = words(SOLICITED_NODE);
    [first, second, third, fourth | low]
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

//! ARP (RFC 826, RFC 5227) for VIPs: the addresses are on no kernel interface, so nobody else would answer.

use crate::egress::EgressRow;
use crate::packet::{Link, is_answerable_mac, is_answerable4};
use crate::reason::Verdict;
use crate::rewrite::address_to;
use crate::world::World;

/// Ethernet, IPv4, lengths 6 and 4, request; in memory order.
const REQUEST: u64 = u64::from_ne_bytes([0, 1, 8, 0, 6, 4, 0, 1]);
const REPLY: u64 = u64::from_ne_bytes([0, 1, 8, 0, 6, 4, 0, 2]);

const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

/// Answers a request for a VIP in place; everything else passes. A probe (sender 0) is answered as any request; one
/// whose sender can't be answered, by its MAC in the frame or in the request or by its address, is not.
#[inline(always)]
pub fn arp<W: World>(world: &W, own: &EgressRow, link: Link) -> Verdict {
    answer(world, own, link).unwrap_or(Verdict::PassNotVip)
}

#[inline(always)]
fn answer<W: World>(world: &W, own: &EgressRow, link: Link) -> Option<Verdict> {
    let at = link.network;
    let kind: u64 = world.load(at)?;
    let sender: u32 = world.load(at.wrapping_add(SENDER_IP))?;
    let target: u32 = world.load(at.wrapping_add(TARGET_IP))?;
    if kind == REPLY || sender == target {
        return world.vip4(sender).map(|_| Verdict::PassAnnouncement);
    }
    if kind != REQUEST {
        return None;
    }
    let vip = world.vip4(target)?;
    if !world.lease_holds(vip.lease) {
        return Some(Verdict::PassNoLease);
    }
    let sender_mac: [u8; 6] = world.load(at.wrapping_add(SENDER_MAC))?;
    if !is_answerable(own, link.source, sender_mac, sender) {
        return None;
    }
    let [a, b, c, d, e, f, _, _] = own.mac_bits.to_le_bytes();
    let written = world.store(at, REPLY)
        && world.store(at.wrapping_add(SENDER_MAC), [a, b, c, d, e, f])
        && world.store(at.wrapping_add(SENDER_IP), target)
        && world.store(at.wrapping_add(TARGET_MAC), sender_mac)
        && world.store(at.wrapping_add(TARGET_IP), sender)
        && address_to(world, link.source, own.mac_bits);
    written.then_some(Verdict::AnswerArp)
}

#[inline(always)]
fn is_answerable(own: &EgressRow, from: u64, sender_mac: [u8; 6], sender: u32) -> bool {
    let [a, b, c, d, e, f] = sender_mac;
    let named = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let [octet, ..] = sender.to_ne_bytes();
    is_answerable_mac(from, own.mac_bits)
        && is_answerable_mac(named, own.mac_bits)
        && (sender == 0 || is_answerable4(octet))
}

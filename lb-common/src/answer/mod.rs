//! What the balancer answers itself, for VIPs only and only while this node holds the VIP's lease.

mod arp;
mod echo;
mod nd;
mod too_big;

pub use arp::arp;
pub use nd::is_valid_solicitation;
pub use too_big::too_big;

use crate::egress::EgressRow;
use crate::packet::{Family, Packet, Payload, protocol};
use crate::reason::{DropReason, Verdict};
use crate::service::VipRow;
use crate::world::World;

/// TTL and hop limit of what the balancer sends itself.
const TTL: u8 = 64;

/// Header of every message that has to do with a VIP.
const ICMP_BYTES: usize = 8;

const ECHO_REQUEST4: u8 = 8;
const ECHO_REQUEST6: u8 = 128;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A frame to a group: only a neighbour solicitation concerns us.
#[inline(always)]
pub fn group<W: World>(world: &W, own: &EgressRow, packet: &Packet) -> Verdict {
    if packet.tuple.family == Family::V6
        && packet.tuple.protocol == protocol::ICMPV6
        && packet.payload == Payload::Transport
        && world.load::<u8>(packet.transport) == Some(SOLICITATION)
    {
        return nd::solicitation(world, own, packet);
    }
    Verdict::PassNotVip
}

/// An ICMP or ICMPv6 message to a VIP.
///
/// # Errors
/// The reason for dropping it: errors are not steered yet, and nothing else has business with a VIP.
#[inline(always)]
pub fn icmp<W: World>(
    world: &W,
    own: &EgressRow,
    packet: &Packet,
    vip: VipRow,
) -> Result<Verdict, DropReason> {
    // By the packet's own length: what padding or a longer frame holds behind it is no message.
    if packet.transport.wrapping_add(ICMP_BYTES) > packet.network.wrapping_add(packet.bytes) {
        return Err(DropReason::Malformed);
    }
    let kind: u8 = world.load(packet.transport).ok_or(DropReason::Malformed)?;
    match (packet.tuple.family, kind) {
        (Family::V4, ECHO_REQUEST4) | (Family::V6, ECHO_REQUEST6) => echo::request(world, own, packet, vip),
        (Family::V6, SOLICITATION) => Ok(nd::solicitation(world, own, packet)),
        (Family::V6, ADVERTISEMENT) => Ok(Verdict::PassAnnouncement),
        // RFC 4443 section 2.1; the errors of RFC 792.
        (Family::V6, 0..=127) | (Family::V4, 3 | 4 | 5 | 11 | 12) => Err(DropReason::IcmpError),
        _ => Err(DropReason::IcmpOther),
    }
}

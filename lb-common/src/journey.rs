//! The packet's journey through the balancer, once for the kernel and for user space.

use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::answer;
use crate::backend::Encapsulation;
use crate::egress::EgressRow;
use crate::packet::{Family, Packet, Payload, Reach, ethertype, parse_link, parse_network, protocol};
use crate::pick::{Service, Signals};
use crate::reason::{DropReason, Outcome, Verdict};
use crate::rewrite::{Choice, rewrite, untag};
use crate::service::{ServiceKey4, ServiceKey6, ServiceWord, VipRow};
use crate::trace::Fact;
use crate::world::World;

/// Steers one frame, counts what became of it, and says so.
#[inline(always)]
pub fn journey<W: World>(world: &W) -> Outcome {
    let outcome = Outcome::from(travel(world));
    world.count(outcome);
    outcome
}

#[inline(always)]
fn travel<W: World>(world: &W) -> Result<Verdict, DropReason> {
    let Some(own) = own_row(world) else { return Ok(Verdict::PassUnknownInterface) };
    let Some(link) = parse_link(world) else { return Ok(Verdict::PassNotIp) };
    let reach = link.reach(own.mac_bits);
    if reach == Reach::Other {
        return Ok(Verdict::PassOtherMac);
    }
    if link.ethertype == ethertype::ARP {
        return Ok(answer::arp(world, own, link));
    }
    let Some(mut packet) = parse_network(world, link) else { return Ok(Verdict::PassNotIp) };
    if reach == Reach::Group {
        return Ok(answer::group(world, own, &packet));
    }
    let signals = read_transport(world, &mut packet);
    if let Some(signals) = signals
        && let Some(service) = classify(world, &packet)
    {
        world.observe(Fact::Service(service));
        return steer(world, own, &mut packet, signals, service);
    }
    match vip(world, &packet) {
        Some(row) => local(world, own, &packet, row, signals.is_some()),
        None => Ok(Verdict::PassNotVip),
    }
}

/// The egress row of the interface that the frame came in by.
#[inline(always)]
fn own_row<W: World>(world: &W) -> Option<&EgressRow> {
    let ifindex = world.ingress_ifindex();
    world.egress(EgressRow::position(ifindex)).filter(|row| row.ifindex == ifindex)
}

/// Reads ports and flags; `None` if there is no whole TCP or UDP header.
#[inline(always)]
fn read_transport<W: World>(world: &W, packet: &mut Packet) -> Option<Signals> {
    if packet.payload != Payload::Transport {
        return None;
    }
    let at = packet.transport;
    let end = packet.network.wrapping_add(packet.bytes);
    match packet.tuple.protocol {
        protocol::TCP => {
            let header: TcpHdr = world.load(at)?;
            packet.tuple.ports = ports(header.source, header.dest);
            let [offset, flags] = tcp_flags(world, at)?;
            let data_at = at.wrapping_add(usize::from(offset >> 4).wrapping_mul(4));
            let whole = offset >> 4 >= 5 && data_at <= end;
            whole.then_some(Signals::of_tcp(flags, data_at < end))
        }
        protocol::UDP => {
            let header: UdpHdr = world.load(at)?;
            packet.tuple.ports = ports(header.src, header.dst);
            (at.wrapping_add(8) <= end).then_some(Signals::DATAGRAM)
        }
        _ => None,
    }
}

/// Data offset and flags: network-types keeps them in a bit field, which costs more to unpack than to read again.
#[inline(always)]
fn tcp_flags<W: World>(world: &W, at: usize) -> Option<[u8; 2]> {
    world.load::<u16>(at.wrapping_add(12)).map(u16::to_ne_bytes)
}

#[inline(always)]
fn ports(from: [u8; 2], to: [u8; 2]) -> u32 {
    let ([a, b], [c, d]) = (from, to);
    u32::from_ne_bytes([a, b, c, d])
}

/// The service that the packet is for.
#[inline(always)]
fn classify<W: World>(world: &W, packet: &Packet) -> Option<Service> {
    let tuple = &packet.tuple;
    let [address, ..] = tuple.destination;
    let (port, protocol, reserved) = (tuple.destination_port(), tuple.protocol, 0);
    let index = match tuple.family {
        Family::V4 => world.service4(&ServiceKey4 { address, port, protocol, reserved }),
        Family::V6 => world.service6(&ServiceKey6 { address: tuple.destination, port, protocol, reserved }),
    }?;
    let word = world.service_word(index)?;
    word.has(ServiceWord::PUBLISHED).then_some(Service { index, word })
}

#[inline(always)]
fn vip<W: World>(world: &W, packet: &Packet) -> Option<VipRow> {
    let [address, ..] = packet.tuple.destination;
    match packet.tuple.family {
        Family::V4 => world.vip4(address),
        Family::V6 => world.vip6(&packet.tuple.destination),
    }
}

#[inline(always)]
fn steer<W: World>(
    world: &W,
    own: &EgressRow,
    packet: &mut Packet,
    signals: Signals,
    service: Service,
) -> Result<Verdict, DropReason> {
    if packet.link.source == own.mac_bits {
        return Err(DropReason::OwnSource);
    }
    if packet.ttl <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let picked = world.pick(&packet.tuple, signals, service);
    let slot = picked.slot()?;
    let row = world.backend(slot).ok_or(DropReason::Internal)?;
    let choice = Choice { row, word: row.load(), label: picked.label() };
    if choice.word.mac_bits() == 0 {
        return Err(DropReason::NoNeighbour);
    }
    let way = way_out(world, own, &choice)?;
    if let Some(fits) = size_that_fits(packet, &choice, way) {
        return answer::too_big(world, own, packet, fits);
    }
    let verdict = match way {
        Way::Back(own) => {
            rewrite(world, packet, &choice, own)?;
            Verdict::Forward
        }
        Way::Through(egress) => {
            untag(world, packet)?;
            rewrite(world, packet, &choice, egress)?;
            Verdict::Redirect
        }
    };
    world.count_slot(slot, packet.bytes, picked.is_new_flow());
    Ok(verdict)
}

/// The interface that leads to a backend.
#[derive(Clone, Copy)]
enum Way<'w> {
    /// The one that the frame came in by.
    Back(&'w EgressRow),
    /// Another one.
    Through(&'w EgressRow),
}

#[inline(always)]
fn way_out<'w, W: World>(
    world: &'w W,
    own: &'w EgressRow,
    choice: &Choice<'_>,
) -> Result<Way<'w>, DropReason> {
    let position = u32::from(choice.word.egress());
    if position == EgressRow::position(own.ifindex) {
        return Ok(Way::Back(own));
    }
    let known = world.egress(position).filter(|row| row.ifindex != 0 && world.redirect(position));
    known.map(Way::Through).ok_or(DropReason::NoEgress)
}

/// The largest packet that could be sent this way, if this one is larger. What goes back as it is came in by the same
/// interface, and fits.
#[inline(always)]
fn size_that_fits(packet: &Packet, choice: &Choice<'_>, way: Way<'_>) -> Option<u32> {
    let overhead = Encapsulation::from_bits(choice.row.encapsulation)?.overhead() as u32;
    let egress = match way {
        Way::Back(_) if overhead == 0 => return None,
        Way::Back(egress) | Way::Through(egress) => egress,
    };
    let fits = egress.mtu.saturating_sub(overhead);
    (packet.bytes as u32 > fits).then_some(fits)
}

/// A packet to a VIP that belongs to no service.
#[inline(always)]
fn local<W: World>(
    world: &W,
    own: &EgressRow,
    packet: &Packet,
    vip: VipRow,
    has_ports: bool,
) -> Result<Verdict, DropReason> {
    match packet.payload {
        Payload::Transport => {}
        Payload::Fragment => return Err(DropReason::Fragment),
        Payload::TooManyHeaders => return Err(DropReason::ExtensionHeaders),
        Payload::Malformed => return Err(DropReason::Malformed),
    }
    let passes = vip.flags & VipRow::PASS_UNKNOWN_PORT != 0;
    match (packet.tuple.protocol, packet.tuple.family) {
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            answer::icmp(world, own, packet, vip)
        }
        (protocol::TCP | protocol::UDP, _) if !has_ports => Err(DropReason::Malformed),
        _ if passes => Ok(Verdict::PassUnknownPort),
        (protocol::TCP | protocol::UDP, _) => Err(DropReason::UnknownPort),
        _ => Err(DropReason::UnknownProtocol),
    }
}

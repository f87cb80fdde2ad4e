//! A frame in words, from its headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};

/// A MAC address as `02:00:5e:00:00:01`.
#[must_use]
pub fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Octets as hexadecimal digits.
#[must_use]
pub fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets from hexadecimal digits.
///
/// # Errors
/// What is wrong, in words.
pub fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digit = |digit: char| {
        digit
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
            .ok_or_else(|| format!("{digit:?} is no hexadecimal digit"))
    };
    let values = digits.chars().map(digit).collect::<Result<Vec<u8>, String>>()?;
    if values.len() % 2 != 0 {
        return Err(format!("{} hexadecimal digits are no whole number of bytes", values.len()));
    }
    Ok(values.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

/// The IP addresses of a frame: of its outermost header, or what ARP asks for.
fn addresses(net: &LaxNetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Ipv6(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Arp(arp) => {
            let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from);
            Some((address(arp.sender_protocol_addr())?.into(), address(arp.target_protocol_addr())?.into()))
        }
    }
}

/// The address that a frame is for: its destination, or what ARP or a neighbour solicitation asks for.
#[must_use]
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    if let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport
        && icmp.type_u8() == NEIGHBOUR_SOLICITATION
    {
        return target(icmp.payload()).map(IpAddr::from);
    }
    addresses(packet.net.as_ref()?).map(|(_, to)| to)
}

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

fn target(payload: &[u8]) -> Option<Ipv6Addr> {
    payload.get(..16).and_then(|octets| <[u8; 16]>::try_from(octets).ok()).map(Ipv6Addr::from)
}

/// Both MAC addresses: destination, source.
pub(super) fn macs(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    Some((frame.get(..6)?.try_into().ok()?, frame.get(6..12)?.try_into().ok()?))
}

/// Length of the IP packet and its TTL or hop limit, by its outermost header.
pub(super) fn length_and_ttl(frame: &[u8]) -> Option<(usize, u8)> {
    match LaxSlicedPacket::from_ethernet(frame).ok()?.net? {
        LaxNetSlice::Ipv4(ip) => Some((usize::from(ip.header().total_len()), ip.header().ttl())),
        LaxNetSlice::Ipv6(ip) => {
            Some((usize::from(ip.header().payload_length()) + 40, ip.header().hop_limit()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

/// The outer header of a frame that carries an IP packet in an IP packet: what it is called, from where, to where, and
/// what lies inside.
pub(super) fn tunnel(frame: &[u8]) -> Option<(&'static str, IpAddr, IpAddr, &[u8])> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let net = packet.net.as_ref()?;
    let (from, to) = addresses(net)?;
    let payload = net.ip_payload_ref()?;
    let name = match (net, payload.ip_number.0) {
        (LaxNetSlice::Ipv4(_), 4) => "IPv4 in IPv4",
        (LaxNetSlice::Ipv4(_), 41) => "IPv6 in IPv4",
        (LaxNetSlice::Ipv6(_), 4) => "IPv4 in IPv6",
        (LaxNetSlice::Ipv6(_), 41) => "IPv6 in IPv6",
        _ => return None,
    };
    Some((name, from, to, payload.payload))
}

/// A frame in words: `VLAN 5, IPv4 198.51.100.7 -> 192.0.2.10, TCP 40000 -> 80 SYN, TTL 64, 40 bytes`.
pub(super) fn describe(frame: &[u8]) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return format!("{} bytes, too few for an Ethernet header", frame.len());
    };
    let mut parts: Vec<String> = packet
        .link_exts
        .iter()
        .map(|extension| match extension {
            LaxLinkExtSlice::Vlan(tag) => format!("VLAN {}", tag.vlan_identifier().value()),
            LaxLinkExtSlice::Macsec(_) => "MACsec".to_owned(),
        })
        .collect();
    match &packet.net {
        None => parts.push(match &packet.link {
            Some(LinkSlice::Ethernet2(link)) => format!("EtherType 0x{:04x}", link.ether_type().0),
            _ => "no network header".to_owned(),
        }),
        Some(LaxNetSlice::Arp(arp)) => parts.push(describe_arp(arp)),
        Some(net) => {
            parts.extend(describe_ip(net));
            parts.extend(packet.transport.as_ref().map(describe_transport));
            if let Some((bytes, ttl)) = length_and_ttl(frame) {
                parts.push(format!("TTL {ttl}"));
                parts.push(format!("{bytes} bytes"));
            }
        }
    }
    if let Some((error, _)) = &packet.stop_err {
        parts.push(format!("cut short or contradictory: {error}"));
    }
    parts.join(", ")
}

fn describe_arp(arp: &etherparse::ArpPacketSlice<'_>) -> String {
    let address = |octets: &[u8]| match <[u8; 4]>::try_from(octets) {
        Ok(octets) => Ipv4Addr::from(octets).to_string(),
        Err(_) => to_hex(octets),
    };
    let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
    match arp.operation().0 {
        1 if sender == target => format!("ARP announcement of {sender}"),
        1 => format!("ARP request, {sender} asks for {target}"),
        2 => format!("ARP reply, {sender} tells {target}"),
        other => format!("ARP operation {other}"),
    }
}

fn describe_ip(net: &LaxNetSlice<'_>) -> Option<String> {
    let (from, to) = addresses(net)?;
    let version = if from.is_ipv4() { "IPv4" } else { "IPv6" };
    let fragment = match net {
        LaxNetSlice::Ipv4(ip) => ip.is_payload_fragmented(),
        LaxNetSlice::Ipv6(ip) => ip.is_payload_fragmented(),
        LaxNetSlice::Arp(_) => false,
    };
    let fragment = if fragment { ", a fragment" } else { "" };
    Some(format!("{version} {from} -> {to}{fragment}"))
}

fn describe_transport(transport: &TransportSlice<'_>) -> String {
    match transport {
        TransportSlice::Tcp(tcp) => {
            let flags = [
                (tcp.syn(), "SYN"),
                (tcp.ack(), "ACK"),
                (tcp.fin(), "FIN"),
                (tcp.rst(), "RST"),
                (tcp.psh(), "PSH"),
            ];
            let flags: Vec<&str> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
            let flags = if flags.is_empty() { "no flags".to_owned() } else { flags.join(" ") };
            format!("TCP {} -> {} {flags}", tcp.source_port(), tcp.destination_port())
        }
        TransportSlice::Udp(udp) => format!("UDP {} -> {}", udp.source_port(), udp.destination_port()),
        TransportSlice::Icmpv4(icmp) => match icmp.type_u8() {
            8 => "ICMP echo request".to_owned(),
            0 => "ICMP echo reply".to_owned(),
            3 if icmp.code_u8() == 4 => {
                let [_, _, high, low] = icmp.bytes5to8();
                format!("ICMP \"fragmentation needed\", {} bytes would fit", u16::from_be_bytes([high, low]))
            }
            kind => format!("ICMP type {kind} code {}", icmp.code_u8()),
        },
        TransportSlice::Icmpv6(icmp) => match icmp.type_u8() {
            128 => "ICMPv6 echo request".to_owned(),
            129 => "ICMPv6 echo reply".to_owned(),
            2 => {
                format!("ICMPv6 \"packet too big\", {} bytes would fit", u32::from_be_bytes(icmp.bytes5to8()))
            }
            kind @ (NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT) => {
                let name = if kind == NEIGHBOUR_SOLICITATION { "solicitation" } else { "advertisement" };
                let target =
                    target(icmp.payload()).map(|target| format!(" for {target}")).unwrap_or_default();
                format!("neighbour {name}{target}")
            }
            kind => format!("ICMPv6 type {kind} code {}", icmp.code_u8()),
        },
        TransportSlice::Igmp(_) => "IGMP".to_owned(),
    }
}

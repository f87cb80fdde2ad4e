//! Headers as octets, written field by field from the RFCs and not with the code under test.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;

/// A hardware address.
pub type Mac = [u8; 6];

/// The balancer's interface.
pub const OWN: Mac = [0x02, 0x0b, 0xa1, 0x00, 0x00, 0x01];
/// The MAC of the balancer's other interface.
pub const ELSEWHERE: Mac = [0x02, 0x0b, 0xa1, 0x00, 0x00, 0x0e];
/// The station that client packets come from.
pub const ROUTER: Mac = [0x02, 0x0c, 0x11, 0xe7, 0x00, 0x02];
/// Broadcast.
pub const ALL: Mac = [0xff; 6];

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// IEEE 802.1Q with this TCI.
    Customer(u16),
    /// IEEE 802.1ad with this TCI.
    Service(u16),
}

/// An Ethernet frame; no padding is added.
#[must_use]
pub fn ethernet(to: Mac, from: Mac, tags: &[Tag], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for tag in tags {
        let (kind, control) = match tag {
            Tag::Customer(control) => (0x8100u16, control),
            Tag::Service(control) => (0x88a8, control),
        };
        frame.extend(kind.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 header with its checksum (RFC 791) in front of `payload`. `options` is padded to four octets with "end of
/// list"; `fragment` is the whole word of flags and offset.
#[must_use]
pub fn ipv4(ip: &Ip4<'_>, payload: &[u8]) -> Vec<u8> {
    let mut options = ip.options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let header_bytes = 20 + options.len();
    let total = short(header_bytes + payload.len());
    let mut packet = vec![0x40 | octet(header_bytes / 4), 0];
    packet.extend(total.to_be_bytes());
    packet.extend(ip.identification.to_be_bytes());
    packet.extend(ip.fragment.to_be_bytes());
    packet.extend([ip.ttl, ip.protocol, 0, 0]);
    packet.extend(octets(ip.source));
    packet.extend(octets(ip.destination));
    packet.extend(options);
    let check = checksum(&packet);
    packet[10..12].copy_from_slice(&check);
    packet.extend(payload);
    packet
}

/// Fields of an IPv4 header.
#[derive(Clone, Debug)]
pub struct Ip4<'o> {
    /// Source, IPv4.
    pub source: IpAddr,
    /// Destination, IPv4.
    pub destination: IpAddr,
    /// TTL.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Options, unpadded.
    pub options: &'o [u8],
}

/// An IPv6 header (RFC 8200) in front of `payload`.
#[must_use]
pub fn ipv6(
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    next: u8,
    label: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = (0x6000_0000 | label).to_be_bytes().to_vec();
    packet.extend(short(payload.len()).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    packet
}

/// A TCP segment (RFC 9293) with its checksum; options are not added.
#[must_use]
pub fn tcp(source: IpAddr, destination: IpAddr, ports: [u16; 2], flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = ports.map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0x10, 1, 0, 0, 0x20, 2, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(data);
    let check = pseudo_checksum(source, destination, TCP, &segment);
    segment[16..18].copy_from_slice(&check);
    segment
}

/// A UDP datagram (RFC 768) with its checksum.
#[must_use]
pub fn udp(source: IpAddr, destination: IpAddr, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut datagram = ports.map(u16::to_be_bytes).concat();
    datagram.extend(short(8 + data.len()).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let check = pseudo_checksum(source, destination, UDP, &datagram);
    datagram[6..8].copy_from_slice(&check);
    datagram
}

/// The Internet checksum of whole data, as it is stored: etherparse sums words as they lie in memory.
#[must_use]
pub fn checksum(data: &[u8]) -> [u8; 2] {
    Sum16BitWords::new().add_slice(data).ones_complement().to_ne_bytes()
}

/// The Internet checksum of data behind the pseudo-header of RFC 9293 or RFC 8200.
#[must_use]
pub fn pseudo_checksum(source: IpAddr, destination: IpAddr, protocol: u8, data: &[u8]) -> [u8; 2] {
    let mut all = octets(source);
    all.extend(octets(destination));
    all.extend(short(data.len()).to_be_bytes());
    all.extend([0, protocol]);
    all.extend(data);
    checksum(&all)
}

/// An address as on the wire.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("test packets are shorter than 65,536 octets")
}

fn octet(value: usize) -> u8 {
    u8::try_from(value).expect("test headers are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // Section 3: the sum of this example is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), (!0xddf2u16).to_be_bytes());
    }
}

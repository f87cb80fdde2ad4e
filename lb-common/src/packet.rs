//! What the balancer reads of a frame: link header, addresses, and the first octets of the transport header.

use core::net::IpAddr;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::frame::PacketView;
use crate::limits::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS};

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const TAG_BYTES: usize = 4;
pub(crate) const IPV6_BYTES: usize = 40;

/// EtherTypes as they lie in memory of a little-endian machine.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86ddu16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806u16.to_be();
    /// IEEE 802.1Q tag.
    pub const VLAN: u16 = 0x8100u16.to_be();
    /// IEEE 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8u16.to_be();
}

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

/// IP version of a packet. The numbers enter the flow hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The number that an outer header has for a packet of this family: RFC 2003 and RFC 2473 for IPv4, RFC 4213 and
    /// RFC 2473 for IPv6.
    #[must_use]
    pub const fn as_payload(self) -> u8 {
        match self {
            Self::V4 => protocol::IPIP,
            Self::V6 => protocol::IPV6,
        }
    }

    /// The family of what such an outer header carries, if it is IP.
    #[must_use]
    pub const fn from_payload(number: u8) -> Option<Self> {
        match number {
            protocol::IPIP => Some(Self::V4),
            protocol::IPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// What identifies a flow. Addresses are octets as on the wire; IPv4 is the first word, the others zero. It is also the
/// layout of the flow-tuple map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Tuple {
    /// Client.
    pub source: [u32; 4],
    /// VIP.
    pub destination: [u32; 4],
    /// Source port, then destination port, as on the wire.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// IP version.
    pub family: Family,
    /// Zero.
    pub reserved: u16,
}

/// The last word of an address as it lies in memory, but for the bit that makes `::` to `::1`.
const ALL_BUT_LOOPBACK: u32 = !u32::from_ne_bytes([0, 0, 0, 1]);

impl Tuple {
    /// A tuple from an IPv4 packet's fields; ports in host order.
    #[must_use]
    pub const fn v4(source: [u8; 4], destination: [u8; 4], from: u16, to: u16, protocol: u8) -> Self {
        Self {
            source: [u32::from_ne_bytes(source), 0, 0, 0],
            destination: [u32::from_ne_bytes(destination), 0, 0, 0],
            ports: join_ports(from, to),
            protocol,
            family: Family::V4,
            reserved: 0,
        }
    }

    /// A tuple from an IPv6 packet's fields; ports in host order.
    #[must_use]
    pub const fn v6(source: [u8; 16], destination: [u8; 16], from: u16, to: u16, protocol: u8) -> Self {
        Self {
            source: words(source),
            destination: words(destination),
            ports: join_ports(from, to),
            protocol,
            family: Family::V6,
            reserved: 0,
        }
    }

    /// Whether an answer may be sent to the source: it is one station's address, as far as can be told.
    #[inline(always)]
    #[must_use]
    pub const fn has_answerable_source(&self) -> bool {
        let [first, second, third, fourth] = self.source;
        let [octet, ..] = first.to_ne_bytes();
        match self.family {
            Family::V4 => is_answerable4(octet),
            // RFC 4291 sections 2.5.2 and 2.5.3: neither :: nor ::1.
            Family::V6 => octet != 0xff && (first | second | third | (fourth & ALL_BUT_LOOPBACK)) != 0,
        }
    }

    /// Destination port as on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        let [_, _, high, low] = self.ports.to_ne_bytes();
        u16::from_ne_bytes([high, low])
    }
}

/// Whether an IPv4 address with this first octet is one station's (RFC 1122 sections 3.2.1.3 and 3.2.2): neither "this
/// network" nor loopback, class D, E or broadcast.
#[inline(always)]
#[must_use]
pub const fn is_answerable4(octet: u8) -> bool {
    octet != 0 && octet != 127 && octet < 224
}

/// Whether a frame may come from this MAC, first octet lowest, and be answered on an interface with the MAC `own`: zero
/// is nobody's, a group is no source (IEEE 802.3 section 3.2.3), and from ourselves it only comes in a loop.
#[inline(always)]
#[must_use]
pub const fn is_answerable_mac(mac: u64, own: u64) -> bool {
    mac != 0 && mac & 1 == 0 && mac != own
}

const fn join_ports(from: u16, to: u16) -> u32 {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// Sixteen octets as four words in memory order.
#[inline(always)]
#[must_use]
pub const fn words(octets: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

/// Whom a frame is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The MAC of the interface that it came in by.
    Own,
    /// A group, or all.
    Group,
    /// Another station: the frame was flooded here.
    Other,
}

/// The link header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC, first octet lowest.
    pub destination: u64,
    /// Source MAC, first octet lowest.
    pub source: u64,
    /// EtherType behind the tags, in memory order.
    pub ethertype: u16,
    /// Offset of the network header: 14 and 4 for each tag.
    pub network: usize,
}

impl Link {
    /// Whom the frame is addressed to, for an interface with this MAC.
    #[inline(always)]
    #[must_use]
    pub const fn reach(&self, own: u64) -> Reach {
        if self.destination == own {
            Reach::Own
        } else if self.destination & 1 == 1 {
            Reach::Group
        } else {
            Reach::Other
        }
    }
}

/// Reads the link header with up to [`MAX_VLAN_TAGS`] tags; `None` if the frame is cut short.
#[inline(always)]
#[must_use]
pub fn parse_link<P: PacketView>(frame: &P) -> Option<Link> {
    let first: u64 = frame.load(0)?;
    let second: u32 = frame.load(8)?;
    let mut ethertype: u16 = frame.load(12)?;
    let mut network = ETHERNET_BYTES;
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != ethertype::VLAN && ethertype != ethertype::SERVICE_VLAN {
            break;
        }
        ethertype = frame.load(network.wrapping_add(2))?;
        network = network.wrapping_add(TAG_BYTES);
    }
    let destination = first & 0x0000_ffff_ffff_ffff;
    Some(Link { destination, source: (first >> 48) | (u64::from(second) << 16), ethertype, network })
}

/// What follows the IP header.
///
/// Where the transport header starts is kept beside it ([`Packet::transport`]) and not in the variant: the compiler leaves
/// the data of other variants unset, and the verifier refuses to copy what is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Payload {
    /// A whole datagram.
    Transport = 0,
    /// A fragment (RFC 791, RFC 8200; an atomic one, RFC 6946, counts as whole).
    Fragment = 1,
    /// More than [`MAX_EXTENSION_HEADERS`] extension headers.
    TooManyHeaders = 2,
    /// Lengths contradict each other or the frame.
    Malformed = 3,
}

/// An IP packet up to its transport header. Ports are zero where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The link header.
    pub link: Link,
    /// Offset of the IP header.
    pub network: usize,
    /// Addresses, protocol; ports once the transport header was read.
    pub tuple: Tuple,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes from the IP header to the end of the packet, by the header.
    pub bytes: usize,
    /// What follows.
    pub payload: Payload,
    /// Offset of what follows; means nothing unless that is a whole datagram.
    pub transport: usize,
}

/// Reads the IP header; `None` if the frame is neither, or cut short before the addresses.
#[inline(always)]
#[must_use]
pub fn parse_network<P: PacketView>(frame: &P, link: Link) -> Option<Packet> {
    match link.ethertype {
        ethertype::IPV4 => parse_ipv4(frame, link),
        ethertype::IPV6 => parse_ipv6(frame, link),
        _ => None,
    }
}

#[inline(always)]
fn parse_ipv4<P: PacketView>(frame: &P, link: Link) -> Option<Packet> {
    let network = link.network;
    let header: Ipv4Hdr = frame.load(network)?;
    if header.vihl >> 4 != 4 {
        return None;
    }
    let header_bytes = usize::from(header.vihl & 0xf).wrapping_mul(4);
    let bytes = usize::from(u16::from_be_bytes(header.tot_len));
    // Offset and "more fragments" of the third word; DF and the reserved bit do not matter.
    let fragment = u16::from_ne_bytes(header.frags) & 0x3fffu16.to_be() != 0;
    let payload = if header_bytes < 20 || bytes < header_bytes || !covers(frame, network.wrapping_add(bytes))
    {
        Payload::Malformed
    } else if fragment {
        Payload::Fragment
    } else {
        Payload::Transport
    };
    let tuple = Tuple {
        source: [u32::from_ne_bytes(header.src_addr), 0, 0, 0],
        destination: [u32::from_ne_bytes(header.dst_addr), 0, 0, 0],
        ports: 0,
        protocol: header.proto,
        family: Family::V4,
        reserved: 0,
    };
    Some(Packet {
        link,
        network,
        tuple,
        ttl: header.ttl,
        bytes,
        payload,
        transport: network.wrapping_add(header_bytes),
    })
}

#[inline(always)]
fn parse_ipv6<P: PacketView>(frame: &P, link: Link) -> Option<Packet> {
    let network = link.network;
    let header: Ipv6Hdr = frame.load(network)?;
    let [version, ..] = header.vcf;
    if version >> 4 != 6 {
        return None;
    }
    let bytes = usize::from(u16::from_be_bytes(header.payload_len)).wrapping_add(IPV6_BYTES);
    let mut protocol = header.next_hdr;
    let mut transport = network.wrapping_add(IPV6_BYTES);
    let payload = if !covers(frame, network.wrapping_add(bytes)) {
        Payload::Malformed
    } else if is_extension(protocol) {
        let walk = frame.walk(transport, protocol);
        (transport, protocol) = (walk.offset(), walk.protocol());
        // What a longer frame holds behind the packet is no header of it.
        if transport > network.wrapping_add(bytes) { Payload::Malformed } else { walk.payload() }
    } else {
        Payload::Transport
    };
    let tuple = Tuple {
        source: words(header.src_addr),
        destination: words(header.dst_addr),
        ports: 0,
        protocol,
        family: Family::V6,
        reserved: 0,
    };
    Some(Packet { link, network, tuple, ttl: header.hop_limit, bytes, payload, transport })
}

/// Where a walk over extension headers ended, in one word, as a BPF function may return it: offset (32 bits), protocol
/// (8), [`Payload`] (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk(pub u64);

impl Walk {
    /// Bits of the offset: more than the longest walk, and few enough for the verifier.
    const OFFSET_MASK: u64 = 0x3fff;

    #[inline(always)]
    const fn new(offset: usize, protocol: u8, payload: Payload) -> Self {
        Self((offset as u64 & Self::OFFSET_MASK) | ((protocol as u64) << 32) | ((payload as u64) << 40))
    }

    #[inline(always)]
    const fn offset(self) -> usize {
        (self.0 & Self::OFFSET_MASK) as usize
    }

    #[inline(always)]
    const fn protocol(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline(always)]
    const fn payload(self) -> Payload {
        match (self.0 >> 40) as u8 {
            0 => Payload::Transport,
            1 => Payload::Fragment,
            2 => Payload::TooManyHeaders,
            _ => Payload::Malformed,
        }
    }
}

const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::DESTINATION
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
    )
}

/// Walks the extension headers of RFC 8200 and RFC 4302 from `offset` on, where one of this protocol starts.
#[inline(always)]
#[must_use]
pub fn walk_extensions<P: PacketView>(frame: &P, mut offset: usize, mut protocol: u8) -> Walk {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            break;
        }
        let Some([next, length, high, low]) = frame.load::<[u8; 4]>(offset) else {
            return Walk::new(offset, protocol, Payload::Malformed);
        };
        let skip = match protocol {
            // Offset in the upper 13 bits, "more" in the lowest.
            protocol::FRAGMENT if u16::from_be_bytes([high, low]) & 0xfff9 != 0 => {
                return Walk::new(offset, protocol, Payload::Fragment);
            }
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => usize::from(length).wrapping_add(2).wrapping_mul(4),
            _ => usize::from(length).wrapping_add(1).wrapping_mul(8),
        };
        protocol = next;
        offset = offset.wrapping_add(skip);
    }
    let payload = if is_extension(protocol) { Payload::TooManyHeaders } else { Payload::Transport };
    Walk::new(offset, protocol, payload)
}

/// Whether the frame has this many bytes; asks for the length over all buffers only if the first one is shorter.
#[inline(always)]
fn covers<P: PacketView>(frame: &P, bytes: usize) -> bool {
    frame.holds(bytes) || frame.length() >= bytes
}

//! ARP (RFC 826) and neighbour discovery (RFC 4861) frames.

use std::net::IpAddr;

use super::icmp;
use super::wire::{self, ARP, IPV6, Mac, Tag, octets};

/// ARP operation.
pub const REQUEST: u16 = 1;
/// ARP operation.
pub const REPLY: u16 = 2;

/// All nodes, and their MAC group.
pub const ALL_NODES: (&str, Mac) = ("ff02::1", [0x33, 0x33, 0, 0, 0, 1]);

/// Content of an ARP packet for Ethernet and IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// Sender.
    pub sender: (Mac, IpAddr),
    /// Target.
    pub target: (Mac, IpAddr),
}

impl Arp {
    /// The packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0, 1, 8, 0, 6, 4];
        packet.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            packet.extend(mac);
            packet.extend(octets(address));
        }
        packet
    }

    /// The frame, from the sender.
    #[must_use]
    pub fn frame(&self, to: Mac, tags: &[Tag]) -> Vec<u8> {
        wire::ethernet(to, self.sender.0, tags, ARP, &self.packet())
    }
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1), and its MAC group (RFC 2464 section 7).
///
/// # Panics
/// If the address is not IPv6.
#[must_use]
pub fn group_of(address: IpAddr) -> (IpAddr, Mac) {
    let IpAddr::V6(address) = address else { panic!("{address} has no solicited-node group") };
    let [.., a, b, c] = address.octets();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    (IpAddr::from(group), [0x33, 0x33, 0xff, a, b, c])
}

/// A neighbour solicitation.
#[derive(Clone, Debug)]
pub struct Solicitation {
    /// Source, `::` for duplicate address detection.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Destination MAC.
    pub mac: Mac,
    /// Source MAC.
    pub source_mac: Mac,
    /// Address asked for.
    pub target: IpAddr,
    /// Hop limit, 255 if valid.
    pub hop_limit: u8,
    /// ICMPv6 code, 0 if valid.
    pub code: u8,
    /// What is wrong in the checksum, 0 if valid.
    pub flipped: u16,
    /// Options behind the target.
    pub options: Vec<u8>,
    /// VLAN tags.
    pub tags: Vec<Tag>,
}

impl Solicitation {
    /// As sent for an unknown neighbour: to the group, with the sender's MAC as option.
    #[must_use]
    pub fn new(source: IpAddr, target: IpAddr) -> Self {
        let (destination, mac) = group_of(target);
        let options = [&[1, 1], &wire::ROUTER[..]].concat();
        Self {
            source,
            destination,
            mac,
            source_mac: wire::ROUTER,
            target,
            hop_limit: 255,
            code: 0,
            flipped: 0,
            options,
            tags: Vec::new(),
        }
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let data = [octets(self.target), self.options.clone()].concat();
        let mut message = icmp::v6(self.source, self.destination, 135, self.code, [0; 4], &data);
        for (octet, flipped) in message[2..4].iter_mut().zip(self.flipped.to_be_bytes()) {
            *octet ^= flipped;
        }
        let packet = wire::ipv6(self.source, self.destination, self.hop_limit, wire::ICMPV6, 0, &message);
        wire::ethernet(self.mac, self.source_mac, &self.tags, IPV6, &packet)
    }
}

/// The advertisement of `target` at `mac` to `destination`, as a packet. `flags`: 0x40 solicited, 0x20 override.
#[must_use]
pub fn advertisement(target: IpAddr, mac: Mac, destination: IpAddr, flags: u8) -> Vec<u8> {
    let data = [octets(target), vec![2, 1], mac.to_vec()].concat();
    let message = icmp::v6(target, destination, 136, 0, [flags, 0, 0, 0], &data);
    wire::ipv6(target, destination, 255, wire::ICMPV6, 0, &message)
}

//! A packet from a client to a VIP, field by field, and what the balancer must make of it.

use std::net::IpAddr;

use super::extension::{Extension, chain};
use super::wire::{self, Ip4, Mac, Tag};

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const PUSH: u8 = 0x08;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// What is behind the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A TCP segment with these flags.
    Tcp(u8),
    /// A UDP datagram.
    Udp,
    /// The data as they are, under this protocol number.
    Raw(u8),
}

/// A packet from a client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Source address.
    pub from: IpAddr,
    /// Source port.
    pub port: u16,
    /// Destination address.
    pub to: IpAddr,
    /// Destination port.
    pub to_port: u16,
    /// Transport.
    pub upper: Upper,
    /// Payload of the transport.
    pub data: Vec<u8>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// VLAN tags, outer first.
    pub tags: Vec<Tag>,
    /// IPv4 options.
    pub options: Vec<u8>,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    /// Octets behind the IP packet.
    pub padding: Vec<u8>,
    /// Destination MAC.
    pub mac: Mac,
    /// Source MAC.
    pub source_mac: Mac,
}

/// What the balancer adds for a backend.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The next hop's MAC.
    pub mac: Mac,
    /// Source and destination of the outer header; `None` for `l2`.
    pub outer: Option<(IpAddr, IpAddr)>,
    /// Flow label of an outer IPv6 header.
    pub label: u32,
    /// By the other interface, without the tags.
    pub redirected: bool,
}

/// Parses an address; for literals.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

impl Client {
    /// A SYN from `from` to port 80 of `to`.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Self {
        Self {
            from: ip(from),
            port: 40_000,
            to: ip(to),
            to_port: 80,
            upper: Upper::Tcp(SYN),
            data: Vec::new(),
            ttl: 61,
            tags: Vec::new(),
            options: Vec::new(),
            fragment: 0,
            extensions: Vec::new(),
            padding: Vec::new(),
            mac: wire::OWN,
            source_mac: wire::ROUTER,
        }
    }

    /// The same as changed by `change`.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The same connection, with these flags and this many octets of data.
    #[must_use]
    pub fn tcp(&self, flags: u8, data: usize) -> Self {
        self.with(|packet| {
            packet.upper = Upper::Tcp(flags);
            packet.data = pattern(data);
        })
    }

    /// A datagram with this many octets of data.
    #[must_use]
    pub fn udp(&self, data: usize) -> Self {
        self.with(|packet| {
            packet.upper = Upper::Udp;
            packet.data = pattern(data);
        })
    }

    /// The same from another port.
    #[must_use]
    pub fn port(&self, port: u16) -> Self {
        self.with(|packet| packet.port = port)
    }

    /// The same packet with enough data for this many octets from the IP header on.
    ///
    /// # Panics
    /// If the headers alone are longer.
    #[must_use]
    pub fn sized(&self, bytes: usize) -> Self {
        let headers = self.with(|packet| packet.data.clear()).packet().len();
        self.with(|packet| packet.data = pattern(bytes.checked_sub(headers).expect("room for the headers")))
    }

    /// From the IP header on, without padding.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let ports = [self.port, self.to_port];
        let (protocol, payload) = match self.upper {
            Upper::Tcp(flags) => (wire::TCP, wire::tcp(self.from, self.to, ports, flags, &self.data)),
            Upper::Udp => (wire::UDP, wire::udp(self.from, self.to, ports, &self.data)),
            Upper::Raw(protocol) => (protocol, self.data.clone()),
        };
        if self.from.is_ipv4() {
            let header = Ip4 {
                source: self.from,
                destination: self.to,
                ttl: self.ttl,
                protocol,
                identification: 0x1d0f,
                fragment: self.fragment,
                options: &self.options,
            };
            wire::ipv4(&header, &payload)
        } else {
            let (next, payload) = chain(&self.extensions, protocol, &payload);
            wire::ipv6(self.from, self.to, self.ttl, next, 0xabcde, &payload)
        }
    }

    /// The frame as it comes in.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.framed(&[self.packet(), self.padding.clone()].concat())
    }

    /// A frame with the packet's link header and other content behind it.
    #[must_use]
    pub fn framed(&self, content: &[u8]) -> Vec<u8> {
        wire::ethernet(self.mac, self.source_mac, &self.tags, ethertype(self.from), content)
    }

    /// The frame as it must go out to a backend.
    #[must_use]
    pub fn forwarded(&self, route: &Route) -> Vec<u8> {
        let aged = self.with(|packet| packet.ttl -= 1).packet();
        let (kind, packet) = match route.outer {
            None => (ethertype(self.from), aged),
            Some((source, destination)) if source.is_ipv4() => {
                let outer = Ip4 {
                    source,
                    destination,
                    ttl: 64,
                    protocol: payload_number(self.from),
                    identification: 0,
                    fragment: 0x4000,
                    options: &[],
                };
                (wire::IPV4, wire::ipv4(&outer, &aged))
            }
            Some((source, destination)) => (
                wire::IPV6,
                wire::ipv6(source, destination, 64, payload_number(self.from), route.label, &aged),
            ),
        };
        let content = [packet, self.padding.clone()].concat();
        if route.redirected {
            return wire::ethernet(route.mac, wire::ELSEWHERE, &[], kind, &content);
        }
        wire::ethernet(route.mac, wire::OWN, &self.tags, kind, &content)
    }

    /// The frame as it must go back with the answer `packet` to the station that sent it.
    #[must_use]
    pub fn answered(&self, packet: &[u8]) -> Vec<u8> {
        wire::ethernet(self.source_mac, wire::OWN, &self.tags, ethertype(self.from), packet)
    }
}

/// What an outer header calls a packet of this family.
fn payload_number(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 41 }
}

fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { wire::IPV4 } else { wire::IPV6 }
}

/// Octets that differ from their neighbours, so that a shift is noticed.
#[must_use]
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

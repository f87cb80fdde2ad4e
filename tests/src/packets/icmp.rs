//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages.

use std::net::IpAddr;

use super::wire::{self, Ip4};

/// An ICMP message with its checksum: type, code, the second word, data.
#[must_use]
pub fn v4(kind: u8, code: u8, word: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &word[..], data].concat();
    let check = wire::checksum(&message);
    message[2..4].copy_from_slice(&check);
    message
}

/// An ICMPv6 message with its checksum.
#[must_use]
pub fn v6(source: IpAddr, destination: IpAddr, kind: u8, code: u8, word: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &word[..], data].concat();
    let check = wire::pseudo_checksum(source, destination, wire::ICMPV6, &message);
    message[2..4].copy_from_slice(&check);
    message
}

/// The packet that says "`fits` octets would fit" about `packet`, from the packet's destination to its source, with
/// `quoted` octets of it.
#[must_use]
pub fn too_big(source: IpAddr, destination: IpAddr, packet: &[u8], quoted: usize, fits: u16) -> Vec<u8> {
    let [high, low] = fits.to_be_bytes();
    let quote = &packet[..quoted];
    if source.is_ipv4() {
        let header = Ip4 {
            source: destination,
            destination: source,
            ttl: 64,
            protocol: wire::ICMP,
            identification: 0,
            fragment: 0,
            options: &[],
        };
        wire::ipv4(&header, &v4(3, 4, [0, 0, high, low], quote))
    } else {
        let message = v6(destination, source, 2, 0, [0, 0, high, low], quote);
        wire::ipv6(destination, source, 64, wire::ICMPV6, 0, &message)
    }
}

//! Whether a frame's checksums and lengths hold, as etherparse sees it.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Looks at the frame's outermost IP header and what is right behind it.
///
/// # Errors
/// What does not hold.
pub fn checksums_hold(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| format!("not a packet: {error}"))?;
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Ipv4(ip)), transport) => {
            let header = ip.header().to_header();
            if header.calc_header_checksum() != header.header_checksum {
                return Err(format!("IPv4 header checksum {:04x}", header.header_checksum));
            }
            transport4(&header, transport.as_ref())
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(message))) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            let valid = message.is_checksum_valid(source, destination);
            if valid { Ok(()) } else { Err(format!("ICMPv6 checksum {:04x}", message.checksum())) }
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(segment))) => {
            let header = ip.header();
            let right =
                segment.calc_checksum_ipv6(header.source_addr().octets(), header.destination_addr().octets());
            match right {
                Ok(right) if right == segment.checksum() => Ok(()),
                _ => Err(format!("TCP checksum {:04x}", segment.checksum())),
            }
        }
        _ => Ok(()),
    }
}

fn transport4(header: &etherparse::Ipv4Header, transport: Option<&TransportSlice<'_>>) -> Result<(), String> {
    match transport {
        Some(TransportSlice::Icmpv4(message)) => {
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(message.slice()).ones_complement();
            if sum == 0 { Ok(()) } else { Err(format!("ICMP checksum {:04x}", message.checksum())) }
        }
        Some(TransportSlice::Tcp(segment)) => {
            match segment.calc_checksum_ipv4(header.source, header.destination) {
                Ok(right) if right == segment.checksum() => Ok(()),
                _ => Err(format!("TCP checksum {:04x}", segment.checksum())),
            }
        }
        _ => Ok(()),
    }
}

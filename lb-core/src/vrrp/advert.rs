//! The packet: VRRP advertisement, version 3, over IPv4 and IPv6 (RFC 9568, 5.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{AdvertInterval, Family, HOP_LIMIT, PROTOCOL};

/// Addresses in one packet: their number is a byte (RFC 9568, 5.2.5).
pub const MAX_ADDRESSES: usize = 255;

/// Bytes before the addresses.
const HEADER_LEN: usize = 8;
const VERSION: u8 = 3;
/// The only type there is (5.2.2).
const ADVERTISEMENT: u8 = 1;

/// What an advertisement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Number of the virtual router.
    pub vrid: u8,
    /// Of the sender: 0 if it ceases to be active, 255 if it owns the addresses (a foreign router may).
    pub priority: u8,
    /// Time between its adverts.
    pub interval: AdvertInterval,
    /// What the virtual router answers for; all of the family of the packet.
    pub addresses: Vec<IpAddr>,
}

/// Whether the sum of an IPv4 packet covers source and destination. That of IPv6 always does.
///
/// RFC 5798 could be read both ways, RFC 9568 (5.2.8) says no. keepalived 2.2 reads it as yes, drops everything else, and
/// has no setting for it before 2.2.8: what we send is a setting too, what we receive may be either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumForm {
    /// Of the message alone: RFC 9568.
    Message,
    /// With a pseudo-header: keepalived, and others after RFC 5798.
    #[default]
    PseudoHeader,
}

/// A packet as it came, without its IP header, and what that said.
#[derive(Clone, Copy, Debug)]
pub struct Received<'p> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom: the group, or this node.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub hop_limit: u8,
    /// What follows the IP header and its extensions.
    pub payload: &'p [u8],
}

/// What was in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What it says.
    pub advert: Advert,
    /// How its sum was formed.
    pub checksum: ChecksumForm,
}

/// Why a packet is no advert for a virtual router: the checks of RFC 9568, 7.1 with errata 8299 and 8301. Each calls for
/// the packet to be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdvertError {
    /// 7.1, first check.
    #[error("TTL or hop limit {0} instead of 255: not sent on this link")]
    HopLimit(u8),
    /// Source and destination are not of one family, or not of the virtual router's.
    #[error("addresses of the IP header are not of the same family")]
    Family,
    /// Shorter than the header, or than the number of addresses calls for.
    #[error("{len} bytes where {needed} are needed")]
    Length {
        /// Bytes there are.
        len: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// Another version of VRRP.
    #[error("VRRP version {0} instead of 3")]
    Version(u8),
    /// Not an advertisement.
    #[error("type {0} instead of 1")]
    Type(u8),
    /// The sum is neither right with nor, over IPv4, without a pseudo-header.
    #[error("wrong checksum")]
    Checksum,
    /// For another virtual router.
    #[error("VRID {0} is not configured here")]
    Vrid(u8),
    /// No address at all (erratum 8299).
    #[error("no address")]
    NoAddress,
    /// An interval of zero would make every backup take over at once (erratum 8301).
    #[error("an advert interval of zero")]
    Interval,
}

/// Why an advert cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// None, or more than [`MAX_ADDRESSES`].
    #[error("{0} addresses; an advert has 1 to 255")]
    Addresses(usize),
    /// Source, destination and addresses are not of one family (5.2.9).
    #[error("{0} is not of the family of the packet's source")]
    Family(IpAddr),
}

/// VRID of what may be an advert, so that its virtual router can be found before it is decoded.
#[must_use]
pub fn vrid_of(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied()
}

impl Advert {
    /// Reads a packet for the virtual router `vrid`. What the RFC leaves to the receiver (another interval, other
    /// addresses than configured) is the machine's affair and no error.
    ///
    /// # Errors
    /// Says which check it failed. Bytes behind the last address are ignored, the reserved bits too (5.2.6).
    pub fn decode(received: &Received<'_>, vrid: u8) -> Result<Decoded, AdvertError> {
        if received.hop_limit != HOP_LIMIT {
            return Err(AdvertError::HopLimit(received.hop_limit));
        }
        let family = Family::of(received.source);
        if family != Family::of(received.destination) {
            return Err(AdvertError::Family);
        }
        let len = received.payload.len();
        let Some((header, rest)) = received.payload.split_first_chunk::<HEADER_LEN>() else {
            return Err(AdvertError::Length { len, needed: HEADER_LEN });
        };
        let [version_and_type, their_vrid, priority, count, interval_high, interval_low, ..] = *header;
        if version_and_type >> 4 != VERSION {
            return Err(AdvertError::Version(version_and_type >> 4));
        }
        if version_and_type & 0x0f != ADVERTISEMENT {
            return Err(AdvertError::Type(version_and_type & 0x0f));
        }
        let needed = usize::from(count) * address_len(family);
        let Some(listed) = rest.get(..needed) else {
            return Err(AdvertError::Length { len, needed: HEADER_LEN + needed });
        };
        let sum = add(add(0, header), listed);
        let pseudo = pseudo_header(received.source, received.destination, HEADER_LEN + needed);
        let checksum = match (fold(sum + pseudo), fold(sum), family) {
            (0xffff, _, _) => ChecksumForm::PseudoHeader,
            (_, 0xffff, Family::V4) => ChecksumForm::Message,
            _ => return Err(AdvertError::Checksum),
        };
        if their_vrid != vrid {
            return Err(AdvertError::Vrid(their_vrid));
        }
        if count == 0 {
            return Err(AdvertError::NoAddress);
        }
        let centis = u16::from_be_bytes([interval_high & 0x0f, interval_low]);
        let interval = AdvertInterval::from_centis(centis).ok_or(AdvertError::Interval)?;
        let advert = Self { vrid, priority, interval, addresses: addresses(family, listed) };
        Ok(Decoded { advert, checksum })
    }

    /// The packet without its IP header, which the caller gives TTL 255 and protocol 112 (7.2).
    ///
    /// # Errors
    /// If the addresses cannot be in one packet.
    pub fn encode(
        &self,
        source: IpAddr,
        destination: IpAddr,
        form: ChecksumForm,
    ) -> Result<Vec<u8>, EncodeError> {
        let count = self.addresses.len();
        let count = u8::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or(EncodeError::Addresses(self.addresses.len()))?;
        let family = Family::of(source);
        let mut all = self.addresses.iter().chain([&destination]);
        if let Some(other) = all.find(|address| Family::of(**address) != family) {
            return Err(EncodeError::Family(*other));
        }
        let [interval_high, interval_low] = self.interval.centis().to_be_bytes();
        let first = VERSION << 4 | ADVERTISEMENT;
        let mut packet = vec![first, self.vrid, self.priority, count, interval_high, interval_low, 0, 0];
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => packet.extend(address.octets()),
                IpAddr::V6(address) => packet.extend(address.octets()),
            }
        }
        let pseudo = match (family, form) {
            (Family::V4, ChecksumForm::Message) => 0,
            _ => pseudo_header(source, destination, packet.len()),
        };
        let sum = !fold(add(pseudo, &packet));
        for (place, byte) in packet.iter_mut().skip(6).zip(sum.to_be_bytes()) {
            *place = byte;
        }
        Ok(packet)
    }
}

const fn address_len(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// Addresses of the listing, which is a multiple of their length.
fn addresses(family: Family, listed: &[u8]) -> Vec<IpAddr> {
    match family {
        Family::V4 => {
            listed.as_chunks().0.iter().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into()).collect()
        }
        Family::V6 => {
            listed.as_chunks().0.iter().map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into()).collect()
        }
    }
}

/// Adds 16-bit words to a sum whose carries are still above (RFC 1071). All parts have an even length; 2^16 words fit.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks();
    words.iter().fold(sum, |sum, word| sum + u32::from(u16::from_be_bytes(*word)))
}

/// The sum with its carries added in. 0xffff for a packet whose sum is right.
const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    // Nothing is left above: the second folding adds 1 at most, to 0xfffe at most.
    (twice & 0xffff) as u16
}

/// Sum of the pseudo-header (RFC 8200, 8.1; over IPv4 as for UDP).
fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> u32 {
    let part = |address| match address {
        IpAddr::V4(address) => add(0, &Ipv4Addr::octets(&address)),
        IpAddr::V6(address) => add(0, &Ipv6Addr::octets(&address)),
    };
    // At most 8 + 255 * 16.
    part(source) + part(destination) + u32::from(PROTOCOL) + u32::try_from(len).unwrap_or(0)
}

#[cfg(test)]
mod tests;

//! What a frame is, as etherparse reads it.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Ethernet2Slice, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    SingleVlanSlice,
};

use crate::packets::wire::{ARP, ICMPV6, IPV4, IPV6, Mac, TCP, UDP, octets};

/// Tags that are looked through (docs/ARCHITECTURE.md, step 2).
const TAGS: usize = 2;
/// Extension headers followed here, more than the balancer follows.
const CHAIN: usize = 16;

/// Link header and what is behind it.
pub(super) struct Frame<'f> {
    pub(super) to: Mac,
    pub(super) from: Mac,
    /// The tags, as they are.
    pub(super) tags: &'f [u8],
    pub(super) ethertype: u16,
    pub(super) content: &'f [u8],
}

impl<'f> Frame<'f> {
    pub(super) fn read(frame: &'f [u8]) -> Result<Self, String> {
        let link = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|error| error.to_string())?;
        let (mut ethertype, mut content) = (link.ether_type().0, link.payload_slice());
        for _ in 0..TAGS {
            let Ok(tag) = SingleVlanSlice::from_slice(content) else { break };
            if !matches!(ethertype, 0x8100 | 0x88a8) {
                break;
            }
            (ethertype, content) = (tag.ether_type().0, tag.payload_slice());
        }
        let tags = &frame[12..frame.len() - content.len() - 2];
        Ok(Self { to: link.destination(), from: link.source(), tags, ethertype, content })
    }

    /// Whether it is to many stations.
    pub(super) const fn is_grouped(&self) -> bool {
        self.to[0] & 1 != 0
    }

    pub(super) const fn is_arp(&self) -> bool {
        self.ethertype == ARP
    }

    pub(super) const fn is_ip(&self) -> bool {
        matches!(self.ethertype, IPV4 | IPV6)
    }
}

/// Whether something is a part of a packet only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Whole,
    /// With an IPv6 fragment header that says "all of it" (RFC 6946).
    Atomic,
    Fragment,
}

/// An IP packet whose lengths fit.
pub(super) struct Ip<'f> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) part: Part,
    /// IPv6 extension headers, and their octets; octets of IPv4 options.
    pub(super) extensions: usize,
    pub(super) extra: usize,
    pub(super) payload: &'f [u8],
    /// From the IP header to its end by its own length.
    pub(super) packet: &'f [u8],
    /// Whether the header's checksum is right, if it has one.
    pub(super) sums: bool,
}

/// Whether data with their checksum in it sum up.
pub(super) fn sums(data: &[u8]) -> bool {
    Sum16BitWords::new().add_slice(data).ones_complement() == 0
}

impl<'f> Ip<'f> {
    /// The packet, or its destination if no more can be said.
    pub(super) fn read(ethertype: u16, content: &'f [u8]) -> Result<Self, Option<IpAddr>> {
        match ethertype {
            IPV4 => Self::read4(content).ok_or_else(|| destination4(content)),
            _ => Self::read6(content).ok_or_else(|| destination6(content)),
        }
    }

    fn read4(content: &'f [u8]) -> Option<Self> {
        let header = Ipv4HeaderSlice::from_slice(content).ok()?;
        let bytes = header.slice().len();
        let packet = content.get(..usize::from(header.total_len()))?;
        Some(Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.ttl(),
            protocol: header.protocol().0,
            part: if header.is_fragmenting_payload() { Part::Fragment } else { Part::Whole },
            extensions: 0,
            extra: header.options().len(),
            payload: packet.get(bytes..)?,
            packet,
            sums: sums(header.slice()),
        })
    }

    fn read6(content: &'f [u8]) -> Option<Self> {
        let header = Ipv6HeaderSlice::from_slice(content).ok()?;
        let packet = content.get(..40 + usize::from(header.payload_length()))?;
        let mut ip = Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            ttl: header.hop_limit(),
            protocol: header.next_header().0,
            part: Part::Whole,
            extensions: 0,
            extra: 0,
            payload: packet.get(40..)?,
            packet,
            sums: true,
        };
        for _ in 0..CHAIN {
            let Some((next, bytes)) = ip.next()? else { return Some(ip) };
            (ip.protocol, ip.payload) = (next, ip.payload.get(bytes..)?);
            ip.extensions += 1;
            ip.extra += bytes;
            if ip.part == Part::Fragment {
                return Some(ip);
            }
        }
        None
    }

    /// The protocol behind the extension header that comes first now, and the header's length.
    #[expect(clippy::option_option, reason = "cut short, no extension header, or one")]
    fn next(&mut self) -> Option<Option<(u8, usize)>> {
        let found = match self.protocol {
            0 | 43 | 60 => {
                let header = Ipv6RawExtHeaderSlice::from_slice(self.payload).ok()?;
                (header.next_header().0, header.slice().len())
            }
            44 => {
                let header = Ipv6FragmentHeaderSlice::from_slice(self.payload).ok()?;
                let fragments = header.is_fragmenting_payload();
                self.part = if fragments { Part::Fragment } else { Part::Atomic };
                (header.next_header().0, header.slice().len())
            }
            51 => {
                // By its length alone (RFC 4302 section 2.2): etherparse refuses one without a sequence number.
                let [next, words, ..] = self.payload else { return None };
                (*next, (usize::from(*words) + 2) * 4)
            }
            _ => return Some(None),
        };
        Some(Some(found))
    }

    /// Source port, destination port and TCP flags, if the transport header is whole and fits.
    pub(super) fn ports(&self) -> Option<(u16, u16, u8)> {
        let flags = match self.protocol {
            TCP => etherparse::TcpSlice::from_slice(self.payload).ok()?.slice()[13],
            UDP => {
                etherparse::UdpHeaderSlice::from_slice(self.payload).ok()?;
                0
            }
            _ => return None,
        };
        let port = |at: usize| u16::from_be_bytes([self.payload[at], self.payload[at + 1]]);
        Some((port(0), port(2), flags))
    }

    /// Whether the checksum of an ICMPv6 message holds.
    pub(super) fn sums_icmp6(&self) -> bool {
        let pseudo = [octets(self.source), octets(self.destination)].concat();
        let length = (self.payload.len() as u32).to_be_bytes();
        sums(&[&pseudo, &length[..], &[0, 0, 0, ICMPV6], self.payload].concat())
    }
}

fn destination4(content: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 4] = content.get(16..20)?.try_into().ok()?;
    (content[0] >> 4 == 4).then(|| octets.into())
}

fn destination6(content: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = content.get(24..40)?.try_into().ok()?;
    (content[0] >> 4 == 6).then(|| octets.into())
}

/// Whether an address names one host that can be answered.
pub(super) fn is_plain(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
    }
}

/// Whether a MAC is one station's: neither zero nor a group, which no frame comes from (IEEE 802.3 section 3.2.3).
pub(super) fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

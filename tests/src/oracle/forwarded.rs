//! A packet on its way to a backend.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use lb_common::egress::EgressRow;

use super::asked::{Frame, Ip, sums};
use super::{Judgement, Oracle, holds, key_of};
use crate::packets::setup::{Backend, INGRESS};
use crate::packets::wire::{IPV4, IPV6};

/// Protocol numbers of a packet in a packet (RFC 2003, RFC 2473).
const INSIDE: [u8; 2] = [4, 41];

impl Oracle {
    /// The slot that the packet went to by the interface of this row.
    pub(super) fn forwarded(
        &self,
        came: &Frame<'_>,
        ip: &Ip<'_>,
        went: &Frame<'_>,
        by: &EgressRow,
    ) -> Result<u16, String> {
        holds!(!came.is_grouped() && came.from != self.own(), "forwarded to {:02x?}", came.to);
        let (Some(key), Some((_, _, flags))) = (key_of(ip), ip.ports()) else {
            return Err("forwarded, and has no ports".to_owned());
        };
        let Some(service) = self.pool.service(&key) else {
            return Err(format!("forwarded, and no service has {key:?}"));
        };
        let hop = |backend: &&Backend| {
            backend.spec.service == service.index
                && backend.word.mac() == went.to
                && u32::from(backend.word.egress()) == by.ifindex
        };
        let Some(backend) = self.pool.setup.backends.iter().find(hop) else {
            return Err(format!("{:02x?} is no next hop of this service", went.to));
        };
        let ways = self.pool.ways(service, &key, flags);
        let slot = backend.slot;
        holds!(ways.allowed.contains(&slot), "went to slot {slot}, may go to {:?}", ways.allowed);
        let overhead = self.overhead(slot).unwrap_or(0);
        let mtu = by.mtu as usize;
        holds!(
            overhead == 0 && by.ifindex == INGRESS || ip.packet.len() + overhead <= mtu,
            "{} octets and {overhead}",
            ip.packet.len()
        );
        let inner = went.content.get(overhead..).ok_or("cut short")?;
        if overhead == 0 {
            holds!(went.ethertype == came.ethertype, "ethertype {:04x}", went.ethertype);
        } else {
            outer(went, ip, backend, overhead)?;
        }
        untouched(came, ip, inner)?;
        Ok(slot)
    }
}

/// The outer header says what it must.
fn outer(went: &Frame<'_>, ip: &Ip<'_>, backend: &Backend, overhead: usize) -> Judgement {
    let inside = INSIDE[usize::from(ip.source.is_ipv6())];
    let (source, destination) = (backend.spec.source, backend.spec.address);
    let bytes = overhead + ip.packet.len();
    if overhead == 20 {
        holds!(went.ethertype == IPV4, "ethertype {:04x}", went.ethertype);
        let outer = Ipv4HeaderSlice::from_slice(went.content).map_err(|error| error.to_string())?;
        holds!(outer.slice().len() == 20 && sums(outer.slice()), "outer header {:02x?}", outer.slice());
        let addresses = (outer.source_addr().into(), outer.destination_addr().into());
        holds!(addresses == (source, destination), "outer addresses {addresses:?}");
        holds!(usize::from(outer.total_len()) == bytes, "outer length {}", outer.total_len());
        holds!(outer.protocol().0 == inside, "protocol {:?}", outer.protocol());
        holds!(outer.dont_fragment() && !outer.is_fragmenting_payload(), "without DF");
        holds!(outer.ttl() > 1, "outer TTL {}", outer.ttl());
    } else {
        holds!(went.ethertype == IPV6, "ethertype {:04x}", went.ethertype);
        let outer = Ipv6HeaderSlice::from_slice(went.content).map_err(|error| error.to_string())?;
        let addresses = (outer.source_addr().into(), outer.destination_addr().into());
        holds!(addresses == (source, destination), "outer addresses {addresses:?}");
        let length = 40 + usize::from(outer.payload_length());
        holds!(length == bytes, "outer length {length}");
        holds!(outer.next_header().0 == inside, "next header {:?}", outer.next_header());
        holds!(outer.hop_limit() > 1, "outer hop limit {}", outer.hop_limit());
    }
    Ok(())
}

/// All is as it came, but for one hop less to go.
fn untouched(came: &Frame<'_>, ip: &Ip<'_>, inner: &[u8]) -> Judgement {
    holds!(inner.len() == came.content.len(), "{} octets became {}", came.content.len(), inner.len());
    let mut expected = came.content.to_vec();
    if ip.source.is_ipv4() {
        let header = Ipv4HeaderSlice::from_slice(inner).map_err(|error| error.to_string())?;
        // A header that was wrong when it came must not become right on the way.
        holds!(sums(header.slice()) == ip.sums, "header checksum {:04x}", header.header_checksum());
        holds!(header.header_checksum() != 0xffff || !ip.sums, "a header checksum that no sender writes");
        expected[8] = expected[8].wrapping_sub(1);
        expected[10..12].copy_from_slice(&inner[10..12]);
    } else {
        expected[7] = expected[7].wrapping_sub(1);
    }
    let differs = (0..inner.len()).find(|at| inner[*at] != expected[*at]);
    holds!(differs.is_none(), "octet {differs:?} of the packet was changed");
    Ok(())
}

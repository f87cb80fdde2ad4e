//! What is said in the name of a VIP.

use std::net::IpAddr;

use etherparse::{ArpPacketSlice, Icmpv6Slice};

use super::asked::{Frame, Ip, Part, is_plain, sums};
use super::expected::solicitation;
use super::{Judgement, Oracle, holds, key_of};
use crate::packets::wire::{ICMP, ICMPV6, octets};

/// Octets that an ICMP error is sent with at most (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
const LONGEST_ERROR: [usize; 2] = [576, 1_280];
/// All nodes on the link and their MAC.
const ALL_NODES: ([u16; 8], [u8; 6]) = ([0xff02, 0, 0, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]);

impl Oracle {
    pub(super) fn arp(&self, came: &Frame<'_>, went: &Frame<'_>) -> Judgement {
        holds!(came.is_arp() && went.is_arp(), "no ARP");
        let read = |frame: &Frame<'_>| {
            let arp = ArpPacketSlice::from_slice(frame.content).map_err(|error| error.to_string())?;
            let packet = (arp.slice().to_vec(), arp.operation().0);
            Ok::<_, String>(packet)
        };
        let ((asked, operation), (said, reply)) = (read(came)?, read(went)?);
        holds!((operation, reply) == (1, 2), "operation {reply} answers {operation}");
        holds!(asked[..6] == [0, 1, 8, 0, 6, 4] && said[..6] == asked[..6], "kinds {:02x?}", &said[..6]);
        let target: [u8; 4] = asked[24..28].try_into().map_err(|_| "no target")?;
        holds!(self.holds_vip(target.into()), "answered for {target:?}");
        holds!(said[8..14] == self.own(), "tells {:02x?}", &said[8..14]);
        holds!(said[14..18] == target, "answers for {:?}", &said[14..18]);
        holds!(said[18..28] == asked[8..18], "told to {:02x?}", &said[18..28]);
        holds!(self.is_known(came) && went.to == came.from, "sent to {:02x?}", went.to);
        holds!(came.content.len() == went.content.len(), "another length");
        Ok(())
    }

    pub(super) fn advertisement(&self, came: &Frame<'_>, ip: &Ip<'_>, went: &Frame<'_>) -> Judgement {
        let Some(asked) = solicitation(ip) else { return Err("no solicitation".to_owned()) };
        holds!(self.holds_vip(asked.target), "answered for {}", asked.target);
        holds!(asked.valid, "answers what RFC 4861 section 7.1.1 calls invalid");
        holds!(self.is_known(came), "answers {:02x?}", came.from);
        let said = whole(went)?;
        let detects = ip.source.is_unspecified();
        let (to, mac) =
            if detects { (IpAddr::from(ALL_NODES.0), ALL_NODES.1) } else { (ip.source, came.from) };
        holds!(
            (said.source, said.destination) == (asked.target, to),
            "from {} to {}",
            said.source,
            said.destination
        );
        holds!(went.to == mac, "sent to {:02x?}", went.to);
        holds!(said.ttl == 255, "hop limit {}", said.ttl);
        holds!(said.protocol == ICMPV6 && said.extensions == 0, "no ICMPv6");
        let message = Icmpv6Slice::from_slice(said.payload).map_err(|error| error.to_string())?;
        holds!((message.type_u8(), message.code_u8()) == (136, 0), "type {}", message.type_u8());
        holds!(said.sums_icmp6(), "checksum {:04x}", message.checksum());
        // Solicited and override, or override alone (RFC 4861 section 4.4); no router.
        let flags = if detects { 0x20 } else { 0x60 };
        holds!(message.bytes5to8() == [flags, 0, 0, 0], "flags {:02x?}", message.bytes5to8());
        let link = [&[2, 1], &self.own()[..]].concat();
        holds!(
            message.payload() == [octets(asked.target), link].concat(),
            "content {:02x?}",
            message.payload()
        );
        Ok(())
    }

    pub(super) fn echo(&self, came: &Frame<'_>, ip: &Ip<'_>, went: &Frame<'_>) -> Judgement {
        holds!(!came.is_grouped(), "answers what went to many");
        holds!(self.holds_vip(ip.destination), "answered for {}", ip.destination);
        holds!(is_plain(ip.source), "answered to {}", ip.source);
        holds!(self.is_known(came), "answers {:02x?}", came.from);
        holds!(ip.part != Part::Fragment, "answers a fragment");
        let said = Ip::read(went.ethertype, went.content).map_err(|_| "no packet")?;
        holds!(went.to == came.from && went.ethertype == came.ethertype, "sent to {:02x?}", went.to);
        holds!((said.source, said.destination) == (ip.destination, ip.source), "to {}", said.destination);
        holds!(said.ttl > 1 && said.part != Part::Fragment, "TTL {}", said.ttl);
        holds!(came.content.len() == went.content.len(), "another length");
        let (request, reply) = if ip.source.is_ipv4() { (8, 0) } else { (128, 129) };
        holds!(ip.payload.first() == Some(&request) && ip.payload.len() >= 8, "no echo request");
        holds!(said.protocol == ip.protocol && said.payload.len() == ip.payload.len(), "another message");
        holds!(said.payload[..2] == [reply, 0], "type and code {:02x?}", &said.payload[..2]);
        holds!(said.payload[4..] == ip.payload[4..], "the payload is not what came");
        let (asked, sums) = if ip.source.is_ipv4() {
            holds!(said.sums == ip.sums, "header checksum");
            let headers = (&came.content[20..20 + ip.extra], &went.content[20..20 + said.extra]);
            holds!(headers.0 == headers.1, "options {:02x?}", headers.1);
            (sums(ip.payload), sums(said.payload))
        } else {
            (ip.sums_icmp6(), said.sums_icmp6())
        };
        // A message that was wrong when it came must not become right.
        holds!(asked == sums, "checksum of the message");
        let (end, tail) = (said.packet.len(), ip.packet.len());
        holds!(went.content[end..] == came.content[tail..], "padding was changed");
        fixed(went, &said)
    }

    pub(super) fn too_big(&self, came: &Frame<'_>, ip: &Ip<'_>, went: &Frame<'_>) -> Judgement {
        holds!(!came.is_grouped(), "answers what went to many");
        let Some(key) = key_of(ip) else { return Err("no ports".to_owned()) };
        let Some(service) = self.pool.service(&key) else { return Err(format!("no service has {key:?}")) };
        holds!(is_plain(ip.source) && self.is_known(came), "told to {}", ip.source);
        let said = whole(went)?;
        holds!(went.to == came.from && went.ethertype == came.ethertype, "sent to {:02x?}", went.to);
        holds!((said.source, said.destination) == (ip.destination, ip.source), "to {}", said.destination);
        holds!(said.ttl > 1 && said.part == Part::Whole && said.extra == 0 && said.sums, "header");
        let v4 = ip.source.is_ipv4();
        holds!(said.packet.len() <= LONGEST_ERROR[usize::from(!v4)], "{} octets", said.packet.len());
        holds!(said.payload.len() >= 8, "cut short");
        let flags = ip.ports().map_or(0, |(_, _, flags)| flags);
        let ways = self.pool.ways(service, &key, flags).allowed;
        let fits: Vec<u32> = ways.iter().filter_map(|slot| self.fits_not(ip, *slot)).collect();
        holds!(!fits.is_empty(), "{} octets fit", ip.packet.len());
        let (start, holds) = if v4 {
            ([3, 4], said.protocol == ICMP && sums(said.payload))
        } else {
            ([2, 0], said.protocol == ICMPV6 && said.sums_icmp6())
        };
        holds!(said.payload[..2] == start && holds, "message {:02x?}", &said.payload[..8]);
        let told = fits.iter().any(|fits| said.payload[4..8] == fits.to_be_bytes());
        holds!(told, "tells {:02x?}, {fits:?} fit", &said.payload[4..8]);
        let quoted = &said.payload[8..];
        let least = ip.packet.len() - ip.payload.len() + 8;
        holds!(quoted.len() >= least.min(ip.packet.len()).min(128), "quotes {} octets", quoted.len());
        holds!(ip.packet.starts_with(quoted), "quotes something else");
        fixed(went, &said)
    }

    /// How much would fit on the way to a slot, if the packet does not.
    fn fits_not(&self, ip: &Ip<'_>, slot: u16) -> Option<u32> {
        let (backend, overhead) = (self.pool.backend(slot)?, self.overhead(slot)?);
        let elsewhere = self.pool.setup.elsewhere(backend);
        let room = elsewhere.or(self.pool.setup.egress.first())?.mtu.saturating_sub(overhead as u32);
        // RFC 8200 section 5: nobody is asked for less than what every IPv6 link carries.
        let fits = if ip.source.is_ipv4() { room } else { room.max(1_280) };
        // What goes back as it is came in by the same interface.
        let checked = overhead > 0 || elsewhere.is_some();
        (checked && ip.packet.len() > fits as usize).then_some(fits)
    }
}

/// The packet in a frame that holds nothing else.
fn whole<'f>(went: &Frame<'f>) -> Result<Ip<'f>, String> {
    let said = Ip::read(went.ethertype, went.content).map_err(|_| "no packet")?;
    holds!(
        said.packet.len() == went.content.len(),
        "{} octets behind it",
        went.content.len() - said.packet.len()
    );
    fixed(went, &said)?;
    Ok(said)
}

/// Fields of a header that is written anew: no reserved or fragment bits in IPv4.
fn fixed(went: &Frame<'_>, said: &Ip<'_>) -> Judgement {
    if said.source.is_ipv4() {
        holds!(said.part == Part::Whole, "flags {:02x?}", &went.content[6..8]);
    }
    Ok(())
}

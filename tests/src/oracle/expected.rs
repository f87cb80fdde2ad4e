//! What must become of a frame, as far as the documents say.

use std::net::IpAddr;

use etherparse::ArpPacketSlice;
use lb_common::reason::Action;
use lb_common::service::VipRow;

use super::asked::{Frame, Ip, Part, is_plain, is_station, sums};
use super::{Done, Oracle, key_of};
use crate::packets::setup::{INGRESS, Setup};
use crate::packets::wire::{ICMP, ICMPV6, TCP, UDP};

/// Extension headers that are looked through (docs/OPERATIONS.md, `extension_headers`).
const EXTENSIONS: usize = 4;
/// Octets of headers that a first buffer surely holds.
const READABLE: usize = 2_000;
/// Octets of a solicitation's options that are looked at.
const OPTIONS: usize = 16;
/// Sizes below this are no path's MTU, and may be dropped where larger ones are answered (`too_big`).
const SMALL: usize = 200;

/// What must become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The kernel gets it.
    Pass,
    /// It is dropped.
    Drop,
    /// This is counted, and it is sent.
    Sent(&'static str),
    /// It is neither answered nor forwarded: the documents do not say whether the kernel gets it.
    Unanswered,
    /// The documents do not say.
    Open,
}

impl Expected {
    pub(super) fn allows(self, done: Done<'_>) -> bool {
        match self {
            Self::Pass => done.action == Action::Pass,
            Self::Drop => done.action == Action::Drop,
            Self::Sent(outcome) => {
                let elsewhere = outcome == "redirected";
                let action = if elsewhere { Action::Redirect } else { Action::Transmit };
                (done.action, done.outcome) == (action, outcome)
            }
            Self::Unanswered => matches!(done.action, Action::Pass | Action::Drop),
            Self::Open => true,
        }
    }
}

/// A neighbour solicitation.
pub(super) struct Solicitation {
    pub(super) target: IpAddr,
    /// Whether it is valid by all rules of RFC 4861 section 7.1.1; what is not must be discarded.
    pub(super) valid: bool,
    /// Whether its options are few enough to be looked at (docs/ARCHITECTURE.md, step 5).
    short: bool,
}

/// The neighbour solicitation in a packet, valid or not (RFC 4861 sections 4.3 and 7.1.1).
pub(super) fn solicitation(ip: &Ip<'_>) -> Option<Solicitation> {
    if ip.protocol != ICMPV6 || !ip.source.is_ipv6() || ip.payload.first() != Some(&135) {
        return None;
    }
    let target: [u8; 16] = ip.payload.get(8..24)?.try_into().ok()?;
    let target = IpAddr::from(target);
    let mut options = &ip.payload[24..];
    let (mut fit, mut names_source) = (true, false);
    while let [kind, length, ..] = options {
        names_source |= *kind == 1;
        match options.get(usize::from(*length) * 8..) {
            Some(rest) if *length > 0 => options = rest,
            _ => {
                fit = false;
                break;
            }
        }
    }
    let detects = ip.source.is_unspecified();
    let valid = ip.ttl == 255
        && ip.extensions == 0
        && ip.sums_icmp6()
        && ip.payload[1] == 0
        && !target.is_multicast()
        && fit
        && options.is_empty()
        && (!detects || is_solicited_group(ip.destination) && !names_source);
    Some(Solicitation { target, valid, short: ip.payload.len() <= 24 + OPTIONS })
}

/// Whether an address is a solicited-node group, whoever's (RFC 4291 section 2.7.1).
fn is_solicited_group(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if matches!(address.segments(), [0xff02, 0, 0, 0, 0, 1, 0xff00..=0xffff, _]))
}

/// The solicited-node group (RFC 4291 section 2.7.1).
fn group_of(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address else { return address };
    let low = address.segments();
    IpAddr::from([0xff02, 0, 0, 0, 0, 1, 0xff00 | low[6] & 0xff, low[7]])
}

impl Oracle {
    pub(super) fn expect(&self, frame: &Frame<'_>, ip: &Result<Ip<'_>, Option<IpAddr>>) -> Expected {
        let Setup { egress, .. } = &self.pool.setup;
        if egress.is_empty() || !frame.is_grouped() && frame.to != self.own() {
            return Expected::Pass;
        }
        match ip {
            _ if frame.is_arp() => self.expect_arp(frame),
            _ if !frame.is_ip() => Expected::Pass,
            Ok(ip) => self.expect_ip(frame, ip),
            Err(Some(address)) if self.is_vip(*address) && !frame.is_grouped() => Expected::Drop,
            Err(_) => Expected::Pass,
        }
    }

    fn expect_arp(&self, frame: &Frame<'_>) -> Expected {
        let Ok(arp) = ArpPacketSlice::from_slice(frame.content) else { return Expected::Pass };
        let kind = (arp.hw_addr_type().0, arp.proto_addr_type().0, arp.hw_addr_size(), arp.proto_addr_size());
        if kind != (1, 0x0800, 6, 4) {
            return Expected::Pass;
        }
        let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(IpAddr::from).expect("four octets");
        let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
        if arp.operation().0 != 1 || !self.holds_vip(target) || sender == target {
            return Expected::Pass;
        }
        let named: [u8; 6] = arp.sender_hw_addr().try_into().expect("six octets");
        let single = is_plain(sender) || sender.is_unspecified();
        if !single || !self.is_known(frame) || !is_station(named) || named == self.own() {
            return Expected::Pass;
        }
        if self.is_vip(sender) { Expected::Open } else { Expected::Sent("answered_arp") }
    }

    /// Whether one other station sent a frame, so that it may be answered.
    pub(super) fn is_known(&self, frame: &Frame<'_>) -> bool {
        is_station(frame.from) && frame.from != self.own()
    }

    fn expect_ip(&self, frame: &Frame<'_>, ip: &Ip<'_>) -> Expected {
        let asked = solicitation(ip);
        if frame.is_grouped() || ip.destination.is_multicast() {
            return match asked {
                Some(asked) if asked.valid && self.holds_vip(asked.target) => {
                    let usual = frame.is_grouped() && ip.destination == group_of(asked.target);
                    self.expect_advertisement(frame, ip, &asked, usual)
                }
                _ => Expected::Pass,
            };
        }
        let Some((held, flags)) = self.vip_flags(ip.destination) else { return Expected::Pass };
        if !ip.sums || ip.extra > READABLE {
            return Expected::Open;
        }
        if ip.part == Part::Fragment || ip.extensions > EXTENSIONS {
            return Expected::Drop;
        }
        match ip.protocol {
            TCP | UDP => self.expect_flow(frame, ip, flags),
            ICMP if ip.source.is_ipv4() => self.expect_icmp(frame, ip, held, 8, sums(ip.payload)),
            ICMPV6 if ip.source.is_ipv6() => match asked {
                Some(asked) if asked.valid && self.holds_vip(asked.target) => {
                    self.expect_advertisement(frame, ip, &asked, asked.target == ip.destination)
                }
                Some(_) => Expected::Unanswered,
                None => self.expect_icmp(frame, ip, held, 128, ip.sums_icmp6()),
            },
            _ if flags & VipRow::PASS_UNKNOWN_PORT != 0 => Expected::Unanswered,
            _ => Expected::Drop,
        }
    }

    /// `usual`: whether it is addressed as solicitations are.
    fn expect_advertisement(
        &self,
        frame: &Frame<'_>,
        ip: &Ip<'_>,
        asked: &Solicitation,
        usual: bool,
    ) -> Expected {
        let single = ip.source.is_unspecified() || is_plain(ip.source);
        if !single || !self.is_known(frame) || !asked.short {
            return Expected::Pass;
        }
        if usual && !self.is_vip(ip.source) { Expected::Sent("answered_nd") } else { Expected::Open }
    }

    /// `request` is the type of an echo request.
    fn expect_icmp(&self, frame: &Frame<'_>, ip: &Ip<'_>, held: bool, request: u8, sums: bool) -> Expected {
        if ip.payload.len() < 8 {
            return Expected::Drop;
        }
        if ip.payload[0] != request {
            // Advertisements pass, and so may what is too short for a solicitation; all others are dropped.
            let neighbours = ip.protocol == ICMPV6 && matches!(ip.payload[0], 135 | 136);
            return if neighbours { Expected::Unanswered } else { Expected::Drop };
        }
        if ip.payload[1] != 0 || !sums {
            return Expected::Open;
        }
        if !held {
            return Expected::Pass;
        }
        if !is_plain(ip.source) || !self.is_known(frame) {
            return Expected::Drop;
        }
        let plain = !self.is_vip(ip.source) && ip.ttl > 0 && ip.extensions == 0 && ip.part == Part::Whole;
        if plain { Expected::Sent("answered_echo") } else { Expected::Open }
    }

    fn expect_flow(&self, frame: &Frame<'_>, ip: &Ip<'_>, vip_flags: u32) -> Expected {
        let (Some(key), Some((_, _, flags))) = (key_of(ip), ip.ports()) else { return Expected::Drop };
        let Some(service) = self.pool.service(&key) else {
            let passes = vip_flags & VipRow::PASS_UNKNOWN_PORT != 0;
            return if passes { Expected::Pass } else { Expected::Drop };
        };
        if frame.from == self.own() || ip.ttl <= 1 {
            return Expected::Drop;
        }
        let ways = self.pool.ways(service, &key, flags);
        if ways.dropped {
            return Expected::Drop;
        }
        if !ways.sent {
            return Expected::Open;
        }
        let overhead = ways.allowed.iter().filter_map(|slot| self.overhead(*slot)).max().unwrap_or(0);
        let mut by = ways
            .allowed
            .iter()
            .filter_map(|slot| self.pool.backend(*slot))
            .map(|backend| self.pool.setup.elsewhere(backend).or(self.pool.setup.egress.first()));
        let Some(Some(row)) = by.next() else { return Expected::Open };
        if by.any(|other| other != Some(row)) {
            return Expected::Open;
        }
        let elsewhere = row.ifindex != INGRESS;
        if ip.packet.len() + overhead <= row.mtu as usize {
            return Expected::Sent(if elsewhere { "redirected" } else { "forwarded" });
        }
        match overhead {
            0 if !elsewhere => Expected::Open,
            // Its sender can't be asked for less, or not be told.
            _ if ip.source.is_ipv6() && ip.packet.len() <= 1_280 => Expected::Drop,
            _ if !is_plain(ip.source) || !self.is_known(frame) => Expected::Drop,
            _ if ip.packet.len() >= SMALL => Expected::Sent("answered_too_big"),
            _ => Expected::Open,
        }
    }

    /// Octets that are put in front of a packet to a slot.
    pub(super) fn overhead(&self, slot: u16) -> Option<usize> {
        let backend = self.pool.backend(slot)?;
        Some(match backend.spec.source {
            _ if backend.spec.l2 => 0,
            IpAddr::V4(_) => 20,
            IpAddr::V6(_) => 40,
        })
    }
}

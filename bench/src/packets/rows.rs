//! The rows of the packet bench: what each sends, what it must meet, and the value to reach.

use fairlead_tests::packets::Client;
use fairlead_tests::packets::client::{ACK, SYN};
use fairlead_tests::report::Reach;
use lb_common::reason::Verdict;

use super::balancer::{NO_VIP, UNTRACKED_PORT, VIP4, VIP6};
use super::harness::Stream;

/// Which balancer a row runs on, so that what one row stores is not in another's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Up to 64k flows.
    Few,
    /// The flow table half full: the load that alarms, twice what it is sized for.
    Full,
    /// Flows come and are forgotten after each round.
    Fresh,
    /// The same, and each flow's addresses are kept as well.
    FreshWithTuples,
}

/// What a row's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ACK of TCP connections that are known.
    Established,
    /// SYN of TCP connections that were never seen.
    New,
    /// UDP flows that are known.
    Udp,
    /// ACK of an IPv6 TCP connection that is known.
    Established6,
    /// TCP of a service whose flows are not remembered.
    Untracked,
    /// TCP to an address that is no VIP.
    NotVip,
    /// To another station's MAC.
    OtherMac,
}

impl Kind {
    /// The counter that rises with each packet.
    pub(super) const fn outcome(self) -> &'static str {
        match self {
            Self::NotVip => Verdict::PassNotVip.name(),
            Self::OtherMac => Verdict::PassOtherMac.name(),
            _ => Verdict::Forward.name(),
        }
    }

    /// Whether the kernel gets the packets as they are.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::NotVip | Self::OtherMac)
    }
}

/// A row.
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// What it sends.
    pub(super) kind: Kind,
    /// How many flows.
    pub(super) flows: u64,
    /// Where it runs.
    pub(super) place: Place,
    /// The value to reach, as a multiple of the null program that grows.
    pub(super) reach: Option<Reach>,
}

const fn row(name: &'static str, kind: Kind, flows: u64, place: Place, reach: f64) -> Row {
    Row { name, kind, flows, place, reach: Some(Reach::AtMost(reach)) }
}

/// Flows that never come again within a run: source ports and 256 source addresses.
const NEVER_AGAIN: u64 = 1 << 24;

/// A row that explains others, with no value to reach.
const fn beside(name: &'static str, kind: Kind, flows: u64, place: Place) -> Row {
    Row { name, kind, flows, place, reach: None }
}

/// All rows, in the order in which they are reported.
pub(super) const ROWS: [Row; 12] = [
    row("tcp_established_1", Kind::Established, 1, Place::Few, 2.2),
    row("tcp_established_1k", Kind::Established, 1 << 10, Place::Few, 2.5),
    row("tcp_established_64k", Kind::Established, 1 << 16, Place::Few, 6.0),
    row("tcp_established_1m", Kind::Established, 1 << 20, Place::Full, 8.0),
    row("tcp_new", Kind::New, NEVER_AGAIN, Place::Fresh, 8.6),
    row("udp_1", Kind::Udp, 1, Place::Few, 2.4),
    row("udp_64k", Kind::Udp, 1 << 16, Place::Few, 6.5),
    row("ipv6_tcp_1", Kind::Established6, 1, Place::Few, 3.0),
    row("not_vip", Kind::NotVip, 1, Place::Few, 1.5),
    beside("tcp_new_with_tuples", Kind::New, NEVER_AGAIN, Place::FreshWithTuples),
    beside("tcp_untracked_1", Kind::Untracked, 1, Place::Few),
    beside("other_mac", Kind::OtherMac, 1, Place::Few),
];

impl Row {
    /// What is measured.
    pub(super) fn stream(&self) -> Stream {
        self.stream_of(match self.kind {
            Kind::New => SYN,
            _ => ACK,
        })
    }

    /// What makes the flows known: each of these is sent once for each flow.
    pub(super) fn before(&self) -> Vec<Stream> {
        match self.kind {
            Kind::Established | Kind::Established6 => vec![self.stream_of(SYN), self.stream_of(ACK)],
            Kind::Udp => vec![self.stream_of(0), self.stream_of(0)],
            Kind::New | Kind::Untracked | Kind::NotVip | Kind::OtherMac => Vec::new(),
        }
    }

    fn stream_of(&self, flags: u8) -> Stream {
        // The fourth octet goes down as flows go up, the port goes up from nought.
        let client = match self.kind {
            Kind::Established6 => Client::new("2001:db8:1::7", VIP6),
            Kind::NotVip => Client::new("198.18.0.255", NO_VIP),
            _ => Client::new("198.0.0.255", VIP4),
        };
        let client = match self.kind {
            Kind::OtherMac => client.with(|packet| packet.mac = [2, 0, 0, 0, 0, 0x99]),
            Kind::Untracked => client.with(|packet| packet.to_port = UNTRACKED_PORT),
            _ => client,
        };
        let client = client.port(if self.flows == 1 { 40_000 } else { 0 });
        // 64 bytes with the link header; an IPv6 packet with a TCP header is longer than that by itself.
        let client = match self.kind {
            Kind::Udp => client.udp(0).sized(50),
            Kind::Established6 => client.tcp(flags, 0),
            _ => client.tcp(flags, 0).sized(50),
        };
        Stream { frame: client.frame(), flows: self.flows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_short_as_they_can_be() {
        for row in &ROWS {
            let length = row.stream().frame.len();
            assert_eq!(length, if row.kind == Kind::Established6 { 74 } else { 64 }, "{}", row.name);
        }
    }

    #[test]
    fn flows_are_a_power_of_two_and_their_ports_and_addresses_have_room() {
        for row in &ROWS {
            assert!(row.flows.is_power_of_two(), "{}", row.name);
            let frame = row.stream().frame;
            if row.flows > 1 {
                assert_eq!((&frame[34..36], frame[27], frame[29]), (&[0, 0][..], 0, 255), "{}", row.name);
            }
        }
    }
}

//! The rows of the packet bench: what each sends, what it must meet, and the value to reach.

use fairlead_tests::packets::Client;
use fairlead_tests::packets::client::{ACK, SYN};
use fairlead_tests::report::Reach;

use super::balancer::{NO_VIP, VIP4, VIP6};
use super::harness::Stream;

/// Which balancer a row runs on, so that what one row stores is not in another's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Up to 64k flows.
    Few,
    /// The flow table at its design load of a half.
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
    /// TCP to an address that is no VIP.
    NotVip,
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

/// All rows, in the order in which they are reported.
pub(super) const ROWS: [Row; 10] = [
    row("tcp_established_1", Kind::Established, 1, Place::Few, 2.2),
    row("tcp_established_1k", Kind::Established, 1 << 10, Place::Few, 2.5),
    row("tcp_established_64k", Kind::Established, 1 << 16, Place::Few, 6.0),
    row("tcp_established_1m", Kind::Established, 1 << 20, Place::Full, 8.0),
    row("tcp_new", Kind::New, NEVER_AGAIN, Place::Fresh, 8.6),
    row("udp_1", Kind::Udp, 1, Place::Few, 2.4),
    row("udp_64k", Kind::Udp, 1 << 16, Place::Few, 6.5),
    row("ipv6_tcp_1", Kind::Established6, 1, Place::Few, 3.0),
    row("not_vip", Kind::NotVip, 1, Place::Few, 1.5),
    Row {
        name: "tcp_new_with_tuples",
        kind: Kind::New,
        flows: NEVER_AGAIN,
        place: Place::FreshWithTuples,
        reach: None,
    },
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
            Kind::New | Kind::NotVip => Vec::new(),
        }
    }

    fn stream_of(&self, flags: u8) -> Stream {
        // The fourth octet goes down as flows go up, the port goes up from nought.
        let client = match self.kind {
            Kind::Established6 => Client::new("2001:db8:1::7", VIP6),
            Kind::NotVip => Client::new("198.18.0.255", NO_VIP),
            _ => Client::new("198.0.0.255", VIP4),
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

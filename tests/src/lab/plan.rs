//! The addresses of the lab: a segment, 10.20.0.0/16 and fd20::/64, a row for each role; and, where there is a second
//! segment, the same in 10.21.0.0/16 and fd21::/64.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Prefix length of the segment, IPv4.
pub const PREFIX4: u8 = 16;
/// Prefix length of the segment, IPv6.
pub const PREFIX6: u8 = 64;
/// Most addresses in one row: the last byte of the IPv4 address, without 0 and 255.
pub const MAX_IN_ROW: u8 = 254;

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The balancers' own addresses.
    Balancer,
    /// The client's source addresses.
    Client,
    /// The backends' own addresses.
    Backend,
    /// Addresses of backends that serve nothing, for services with many of them.
    Farm,
    /// Who takes no part: the two that tell whether the machine itself stood still, and stations that only ask.
    Control,
    /// The VIPs, in the segment: on-link for the client unless it has a route.
    Vip,
}

impl Row {
    fn number(self) -> u8 {
        match self {
            Self::Balancer => 0,
            Self::Client => 1,
            Self::Backend => 2,
            Self::Farm => 3,
            Self::Control => 8,
            Self::Vip => 9,
        }
    }

    /// The IPv4 address of this row's member `index`, which counts from 0 and stays under [`MAX_IN_ROW`].
    #[must_use]
    pub fn v4(self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 20, self.number(), index + 1)
    }

    /// The IPv6 address of this row's member `index`.
    #[must_use]
    pub fn v6(self, index: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0x20 + u16::from(self.number()), u16::from(index) + 1)
    }
}

/// The address in the second segment of who has this one in the first.
#[must_use]
pub fn second4(first: Ipv4Addr) -> Ipv4Addr {
    let [a, _, row, index] = first.octets();
    Ipv4Addr::new(a, 21, row, index)
}

/// The same for IPv6.
#[must_use]
pub fn second6(first: Ipv6Addr) -> Ipv6Addr {
    let [_, rest @ ..] = first.segments();
    let [b, c, d, e, f, g, h] = rest;
    Ipv6Addr::new(0xfd21, b, c, d, e, f, g, h)
}

/// The VIPs of both families, `count` of each.
pub fn vips(count: u8) -> impl Iterator<Item = (Ipv4Addr, Ipv6Addr)> {
    (0..count).map(|index| (Row::Vip.v4(index), Row::Vip.v6(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_do_not_overlap_in_either_family() {
        let rows = [Row::Balancer, Row::Client, Row::Backend, Row::Farm, Row::Control, Row::Vip];
        let mut v4 = std::collections::BTreeSet::new();
        let mut v6 = std::collections::BTreeSet::new();
        for row in rows {
            for index in 0..MAX_IN_ROW {
                assert!(v4.insert(row.v4(index)), "{row:?} {index}: {} is taken", row.v4(index));
                assert!(v6.insert(row.v6(index)), "{row:?} {index}: {} is taken", row.v6(index));
            }
        }
    }
}

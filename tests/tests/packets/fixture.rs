//! The balancer that most cases meet.

use std::net::IpAddr;

use fairlead_tests::packets::client::ip;
use fairlead_tests::packets::setup::{LEASE_FAR, LEASE_HELD, LEASE_OVER, ORDINARY, SEED};
use fairlead_tests::packets::wire::{TCP, UDP};
use fairlead_tests::packets::{Client, Setup};
use lb_common::backend::{BackendWord, SlotState};
use lb_common::hash::{FlowHash, HashKey, flow_hash};
use lb_common::packet::Tuple;
use lb_common::service::{ServiceWord, VipRow};

/// MTU of the interface.
pub(crate) const MTU: u32 = 1_500;

/// VIP with `ipip` services: TCP 80 (slot 1), UDP 53 (slot 2, untracked as 54), TCP 81 to 86 out of order.
pub(crate) const VIP4: &str = "192.0.2.10";
/// VIP with `ipip` services: TCP 80 (slot 3), UDP 53 (slot 4).
pub(crate) const VIP6: &str = "2001:db8::10";
/// VIP with an `l2` service: TCP 80 (slot 5).
pub(crate) const L2_VIP4: &str = "192.0.2.20";
/// VIP with an `l2` service: TCP 80 (slot 6).
pub(crate) const L2_VIP6: &str = "2001:db8::20";
/// VIP whose unknown ports pass.
pub(crate) const PASSING_VIP: &str = "192.0.2.30";
/// VIPs that another node answers for.
pub(crate) const LEFT_VIPS: [&str; 2] = ["192.0.2.40", "2001:db8::40"];
/// VIP with a lease that has long to go.
pub(crate) const LEASED_VIP: &str = "192.0.2.41";
/// No VIP.
pub(crate) const OTHER: [&str; 2] = ["192.0.2.99", "2001:db8::99"];

/// Client of an IPv4 VIP.
pub(crate) const CLIENT4: &str = "198.51.100.7";
/// Client of an IPv6 VIP.
pub(crate) const CLIENT6: &str = "2001:db8:c::7";

/// TCP ports of [`VIP4`] at which something is wrong.
pub(crate) mod port {
    pub(crate) const WITHOUT_TABLE: u16 = 81;
    pub(crate) const UNPUBLISHED: u16 = 82;
    pub(crate) const NO_NEIGHBOUR: u16 = 83;
    pub(crate) const NO_EGRESS: u16 = 84;
    pub(crate) const EMPTY_TABLE: u16 = 85;
    pub(crate) const FOREIGN_SLOT: u16 = 86;
}

/// The balancer.
pub(crate) fn ordinary() -> Setup {
    let (vip4, vip6) = (ip(VIP4), ip(VIP6));
    let (from4, from6) = (Some(ip("10.0.0.254")), Some(ip("fd00::ffff")));
    let backend = |last: u16| ip(&format!("10.0.0.{last}"));
    let backend6 = |last: u16| ip(&format!("fd00::{last:x}"));
    let no_table = ORDINARY & !ServiceWord::SERVE;
    let mut setup = Setup::new(MTU)
        .service(vip4, 80, TCP, ORDINARY, &[1])
        .backend(1, backend(1), from4)
        .service(vip4, 53, UDP, ORDINARY, &[2])
        .backend(2, backend(2), from4)
        .service(vip6, 80, TCP, ORDINARY, &[3])
        .backend(3, backend6(3), from6)
        .service(vip6, 53, UDP, ORDINARY, &[4])
        .backend(4, backend6(4), from6)
        .service(ip(L2_VIP4), 80, TCP, ORDINARY, &[5])
        .backend(5, backend(5), None)
        .service(ip(L2_VIP6), 80, TCP, ORDINARY, &[6])
        .backend(6, backend6(6), None)
        .service(vip4, port::WITHOUT_TABLE, TCP, no_table, &[7])
        .backend(7, backend(7), from4)
        .service(vip4, port::UNPUBLISHED, TCP, 0, &[8])
        .backend(8, backend(8), from4)
        .service(vip4, port::NO_NEIGHBOUR, TCP, ORDINARY, &[9])
        .backend(9, backend(9), from4)
        .service(vip4, port::NO_EGRESS, TCP, ORDINARY, &[10])
        .backend(10, backend(10), from4)
        .service(vip4, port::EMPTY_TABLE, TCP, ORDINARY, &[0])
        .service(vip4, port::FOREIGN_SLOT, TCP, ORDINARY, &[1])
        .service(vip4, 54, UDP, ORDINARY & !ServiceWord::TRACK, &[11])
        .backend(11, backend(11), from4)
        .vip(ip(PASSING_VIP), LEASE_HELD, VipRow::PASS_UNKNOWN_PORT)
        .vip(ip(LEASED_VIP), LEASE_FAR, 0);
    for vip in LEFT_VIPS {
        setup = setup.vip(ip(vip), LEASE_OVER, 0);
    }
    for backend in &mut setup.backends {
        match backend.slot {
            9 => backend.word = BackendWord::new([0; 6], 1, SlotState::Serving),
            10 => backend.word = BackendWord::new(backend.word.mac(), 2, SlotState::Serving),
            _ => {}
        }
    }
    setup
}

/// A client's SYN to port 80 of a VIP.
pub(crate) fn to(vip: &str) -> Client {
    Client::new(if vip.contains(':') { CLIENT6 } else { CLIENT4 }, vip)
}

/// The same to another port.
pub(crate) fn to_port(vip: &str, port: u16) -> Client {
    to(vip).with(|packet| packet.to_port = port)
}

/// A datagram to port 53 of a VIP.
pub(crate) fn dns(vip: &str) -> Client {
    to_port(vip, 53).udp(40)
}

/// The hash of a packet's flow.
pub(crate) fn hash(client: &Client) -> FlowHash {
    let protocol = if client.upper == fairlead_tests::packets::client::Upper::Udp { UDP } else { TCP };
    let tuple = tuple(client, protocol);
    flow_hash(&HashKey::from_seed(SEED), &tuple)
}

/// A packet's 5-tuple.
pub(crate) fn tuple(client: &Client, protocol: u8) -> Tuple {
    match (client.from, client.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Tuple::v4(from.octets(), to.octets(), client.port, client.to_port, protocol)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Tuple::v6(from.octets(), to.octets(), client.port, client.to_port, protocol)
        }
        _ => panic!("{} and {} are not of one family", client.from, client.to),
    }
}

/// The frame that must come out for a client's packet that goes to `slot`.
pub(crate) fn forwarded(setup: &Setup, client: &Client, slot: u16) -> Vec<u8> {
    let label = (hash(client).0 & 0xf_ffff) as u32;
    client.forwarded(&setup.route(slot, label))
}

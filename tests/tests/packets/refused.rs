//! Packets to a VIP that no service takes, and packets to no VIP.

use fairlead_tests::packets::client::Upper;
use fairlead_tests::packets::icmp;
use fairlead_tests::packets::wire::{ICMP, ICMPV6};

use crate::both::{Case, check, dropped, passed, sent};
use crate::fixture::{
    L2_VIP4, LEFT_VIPS, MTU, OTHER, PASSING_VIP, VIP4, VIP6, dns, forwarded, ordinary, to, to_port,
};

#[test]
fn a_packet_to_no_vip_is_the_kernels() {
    let mut cases = Vec::new();
    for address in OTHER {
        cases.push(passed(format!("TCP to {address}"), to(address).frame(), "passed_not_vip"));
        cases.push(passed(format!("UDP to {address}"), dns(address).frame(), "passed_not_vip"));
        cases.push(passed("TTL 1", to(address).with(|packet| packet.ttl = 1).frame(), "passed_not_vip"));
        let big = to(address).sized(3_000).frame();
        cases.push(passed(format!("big to {address}"), big, "passed_not_vip"));
        let raw = to(address).with(|packet| packet.upper = Upper::Raw(132)).frame();
        cases.push(passed(format!("SCTP to {address}"), raw, "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn malformed_packets_to_no_vip_are_the_kernels_too() {
    let mut short = to(OTHER[0]).frame();
    short[16..18].copy_from_slice(&[0, 19]);
    let mut offset = to(OTHER[0]).frame();
    offset[14 + 32] = 0x10;
    let cases = vec![
        passed("total length below the header", short, "passed_not_vip"),
        passed("TCP data offset 1", offset, "passed_not_vip"),
    ];
    check(&ordinary(), cases);
}

#[test]
fn an_unknown_port_of_a_vip_is_dropped() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6, L2_VIP4] {
        for port in [0, 22, 79, 443, 65_535] {
            cases.push(dropped(format!("TCP {port} of {vip}"), to_port(vip, port).frame(), "unknown_port"));
            let datagram = to_port(vip, port).udp(9).frame();
            cases.push(dropped(format!("UDP {port} of {vip}"), datagram, "unknown_port"));
        }
        cases.push(dropped(format!("UDP at the port of TCP, {vip}"), to(vip).udp(9).frame(), "unknown_port"));
        cases.push(dropped(
            format!("TCP at the port of UDP, {vip}"),
            to_port(vip, 53).frame(),
            "unknown_port",
        ));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_vip_that_is_set_so_passes_what_it_does_not_know() {
    let mut cases = vec![
        passed("TCP", to(PASSING_VIP).frame(), "passed_unknown_port"),
        passed("UDP", dns(PASSING_VIP).frame(), "passed_unknown_port"),
        passed("TTL 1", to(PASSING_VIP).with(|packet| packet.ttl = 1).frame(), "passed_unknown_port"),
    ];
    for protocol in [2, 47, 50, 132] {
        let packet = to(PASSING_VIP).with(|packet| packet.upper = Upper::Raw(protocol));
        cases.push(passed(format!("protocol {protocol}"), packet.frame(), "passed_unknown_port"));
    }
    let fragment = to(PASSING_VIP).with(|packet| packet.fragment = 0x2000);
    cases.push(dropped("a fragment has no port", fragment.frame(), "fragment"));
    let mut cut = to(PASSING_VIP).frame();
    cut.truncate(40);
    cases.push(dropped("cut short", cut, "malformed"));
    check(&ordinary(), cases);
}

#[test]
fn other_protocols_to_a_vip_are_dropped() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6] {
        for protocol in [2, 4, 41, 47, 50, 89, 132, 255] {
            let packet = to(vip).with(|packet| {
                packet.upper = Upper::Raw(protocol);
                packet.data = vec![0; 24];
            });
            cases.push(dropped(format!("{protocol} to {vip}"), packet.frame(), "unknown_protocol"));
        }
    }
    let crossed = [(VIP4, ICMPV6), (VIP6, ICMP)];
    for (vip, protocol) in crossed {
        let packet = to(vip).with(|packet| {
            packet.upper = Upper::Raw(protocol);
            packet.data = vec![128, 0, 0, 0, 0, 0, 0, 0];
        });
        cases.push(dropped(format!("ICMP of the other family to {vip}"), packet.frame(), "unknown_protocol"));
    }
    check(&ordinary(), cases);
}

fn message(vip: &str, kind: u8, code: u8) -> Vec<u8> {
    let packet = to(vip);
    let data = [0x45; 28];
    let message = if vip.contains(':') {
        icmp::v6(packet.from, packet.to, kind, code, [0, 0, 5, 0], &data)
    } else {
        icmp::v4(kind, code, [0, 0, 5, 0], &data)
    };
    packet
        .with(|packet| {
            packet.upper = Upper::Raw(if vip.contains(':') { ICMPV6 } else { ICMP });
            packet.data = message;
        })
        .frame()
}

#[test]
fn every_icmp_type_to_a_vip_has_its_outcome() {
    let mut cases: Vec<Case> = Vec::new();
    for kind in (0..=255u8).filter(|kind| *kind != 8) {
        let outcome = if matches!(kind, 3 | 4 | 5 | 11 | 12) { "icmp_error" } else { "icmp_other" };
        cases.push(dropped(format!("ICMP type {kind}"), message(VIP4, kind, 1), outcome));
        cases.push(passed(
            format!("ICMP type {kind} elsewhere"),
            message(OTHER[0], kind, 1),
            "passed_not_vip",
        ));
    }
    for kind in (0..=255u8).filter(|kind| !matches!(kind, 128 | 135 | 136)) {
        let outcome = if kind < 128 { "icmp_error" } else { "icmp_other" };
        cases.push(dropped(format!("ICMPv6 type {kind}"), message(VIP6, kind, 0), outcome));
        cases.push(passed(
            format!("ICMPv6 type {kind} elsewhere"),
            message(OTHER[1], kind, 0),
            "passed_not_vip",
        ));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_vip_whose_lease_is_over_still_drops_what_it_does_not_know() {
    let cases = LEFT_VIPS.map(|vip| dropped(vip, to(vip).frame(), "unknown_port"));
    check(&ordinary(), cases.into());
}

#[test]
fn a_service_is_steered_whatever_the_lease_of_its_vip_says() {
    let mut setup = ordinary();
    for (_, row) in &mut setup.vips {
        row.lease = 1;
    }
    let (small, big) = (to(VIP4), to(VIP4).sized(MTU as usize));
    let answer = big.answered(&icmp::too_big(big.from, big.to, &big.packet(), 128, 1_480));
    let cases = vec![
        sent("a packet", small.frame(), "forwarded", forwarded(&setup, &small, 1)),
        sent("too big a packet", big.frame(), "answered_too_big", answer),
    ];
    check(&setup, cases);
}

//! The backend's side: outer headers come off what balancers send, and off nothing else.

use std::net::IpAddr;

use fairlead_tests::packets::client::{ACK, ip};
use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::wire::{IPV4, IPV6, Ip4, OWN, ROUTER, Tag, ethernet, ipv4, ipv6};
use fairlead_tests::packets::{Client, DecapSetup, HostDecap};
use lb_common::decap::DecapOutcome::{self, Decapsulated, ForeignSource, ForeignVip, Malformed, NotTunnel};

use crate::fixture::{OTHER, VIP4, VIP6, dns, to};
use crate::kernel::KernelDecap;

const BALANCER4: &str = "10.1.2.3";
const BALANCER6: &str = "fd00:1::3";
const STRANGER4: &str = "10.2.2.3";
const STRANGER6: &str = "fd00:2::3";
const BACKEND4: &str = "10.0.0.1";
const BACKEND6: &str = "fd00::1";

fn setup() -> DecapSetup {
    DecapSetup { from: vec![(ip("10.1.0.0"), 16), (ip("fd00:1::"), 32)], vips: vec![ip(VIP4), ip(VIP6)] }
}

struct Case {
    name: String,
    frame: Vec<u8>,
    outcome: DecapOutcome,
    after: Vec<u8>,
}

fn check(setup: &DecapSetup, cases: Vec<Case>) {
    let mut kernel = KernelDecap::new(setup);
    for Case { name, frame, outcome, after } in cases {
        let (seen, mut out) = kernel.run(&frame);
        let (in_memory, mut out_of_memory) = HostDecap::run(setup, &frame);
        if matches!(outcome, ForeignVip | Malformed) {
            // Nobody sees what is left of a dropped frame.
            (out, out_of_memory) = (after.clone(), after.clone());
        }
        assert_eq!((seen, hex(&out)), (outcome, hex(&after)), "{name} in the kernel: {}", hex(&frame));
        assert_eq!(
            (in_memory, hex(&out_of_memory)),
            (outcome, hex(&after)),
            "{name} in memory: {}",
            hex(&frame)
        );
    }
}

fn same(name: impl Into<String>, frame: Vec<u8>, outcome: DecapOutcome) -> Case {
    Case { name: name.into(), after: frame.clone(), frame, outcome }
}

/// The packet in an outer header of the source's family.
fn wrapped(source: &str, packet: &Client) -> Vec<u8> {
    let inner = packet.packet();
    let protocol = if packet.from.is_ipv4() { 4 } else { 41 };
    let source = ip(source);
    let (kind, outer) = if source.is_ipv4() {
        (IPV4, ipv4(&outer4(source, protocol, 0x4000, &[]), &inner))
    } else {
        (IPV6, ipv6(source, ip(BACKEND6), 64, protocol, 0x12345, &inner))
    };
    ethernet(OWN, ROUTER, &packet.tags, kind, &[outer, packet.padding.clone()].concat())
}

fn outer4(source: IpAddr, protocol: u8, fragment: u16, options: &[u8]) -> Ip4<'_> {
    Ip4 { source, destination: ip(BACKEND4), ttl: 64, protocol, identification: 0, fragment, options }
}

fn unwrapped(name: impl Into<String>, source: &str, packet: &Client) -> Case {
    Case { name: name.into(), frame: wrapped(source, packet), outcome: Decapsulated, after: packet.frame() }
}

#[test]
fn what_a_balancer_sends_for_a_vip_loses_its_outer_header() {
    let mut cases = Vec::new();
    let tags = [vec![], vec![Tag::Customer(5)], vec![Tag::Service(6), Tag::Customer(0xf007)]];
    for source in [BALANCER4, BALANCER6] {
        for packet in [to(VIP4).tcp(ACK, 99), to(VIP6).tcp(ACK, 99), dns(VIP4), dns(VIP6)] {
            for tags in &tags {
                let packet = packet.with(|packet| packet.tags = tags.clone());
                cases.push(unwrapped(format!("{} by {source} with {tags:?}", packet.to), source, &packet));
            }
            cases.push(unwrapped("padded", source, &packet.with(|packet| packet.padding = vec![3; 11])));
        }
        let options = to(VIP4).with(|packet| packet.options = vec![1; 12]);
        cases.push(unwrapped("inner options", source, &options));
        cases.push(unwrapped("an inner fragment", source, &to(VIP4).with(|packet| packet.fragment = 0x2000)));
    }
    check(&setup(), cases);
}

#[test]
fn a_frame_of_several_buffers_is_unwrapped_whole() {
    let cases = [VIP4, VIP6].map(|vip| unwrapped(vip, BALANCER4, &to(vip).sized(8_000)));
    check(&setup(), cases.into());
}

#[test]
fn a_tunnel_from_a_stranger_is_left_to_the_kernel() {
    let cases =
        [(STRANGER4, VIP4), (STRANGER4, VIP6), (STRANGER6, VIP4), (STRANGER6, VIP6), (STRANGER4, OTHER[0])];
    let cases = cases.map(|(source, vip)| same(source, wrapped(source, &to(vip)), ForeignSource));
    check(&setup(), cases.into());
}

#[test]
fn a_balancer_is_trusted_by_its_whole_prefix_and_not_by_one_bit_less() {
    let narrow = DecapSetup { from: vec![(ip("10.1.2.3"), 32), (ip("fd00:1::3"), 128)], ..setup() };
    let cases = vec![
        unwrapped("the address", BALANCER4, &to(VIP4)),
        unwrapped("the IPv6 address", BALANCER6, &to(VIP6)),
        same("its neighbour", wrapped("10.1.2.2", &to(VIP4)), ForeignSource),
        same("its IPv6 neighbour", wrapped("fd00:1::2", &to(VIP6)), ForeignSource),
    ];
    check(&narrow, cases);
    let edges = vec![
        unwrapped("the first of the prefix", "10.1.0.0", &to(VIP4)),
        unwrapped("the last of the prefix", "10.1.255.255", &to(VIP4)),
        same("before the prefix", wrapped("10.0.255.255", &to(VIP4)), ForeignSource),
        same("behind the prefix", wrapped("10.2.0.0", &to(VIP4)), ForeignSource),
    ];
    check(&setup(), edges);
    let everything = DecapSetup { from: vec![(ip("0.0.0.0"), 0)], ..setup() };
    let cases = vec![
        unwrapped("anyone", "203.0.113.9", &to(VIP4)),
        same("IPv6", wrapped(BALANCER6, &to(VIP4)), ForeignSource),
    ];
    check(&everything, cases);
}

#[test]
fn an_inner_packet_for_no_vip_is_dropped() {
    let mut cases = Vec::new();
    for source in [BALANCER4, BALANCER6] {
        for address in OTHER {
            cases.push(same(format!("{address} by {source}"), wrapped(source, &to(address)), ForeignVip));
        }
        // The inner version contradicts the outer protocol.
        let mut frame = wrapped(source, &to(VIP4));
        let inner = if source == BALANCER4 { 34 } else { 54 };
        frame[inner] = 0x65;
        cases.push(same(format!("a false version by {source}"), frame, ForeignVip));
    }
    check(&setup(), cases);
}

#[test]
fn what_is_no_tunnel_is_left_to_the_kernel() {
    let inner = to(VIP4).packet();
    let outer = |protocol, fragment, options: &'static [u8]| {
        ethernet(OWN, ROUTER, &[], IPV4, &ipv4(&outer4(ip(BALANCER4), protocol, fragment, options), &inner))
    };
    let mut cases = vec![
        same("TCP", to(VIP4).frame(), NotTunnel),
        same("IPv6 UDP", dns(VIP6).frame(), NotTunnel),
        same("GRE", outer(47, 0, &[]), NotTunnel),
        same("outer options", outer(4, 0x4000, &[1; 4]), NotTunnel),
        same("first outer fragment", outer(4, 0x2000, &[]), NotTunnel),
        same("last outer fragment", outer(4, 0x0001, &[]), NotTunnel),
        same("ARP", ethernet(OWN, ROUTER, &[], 0x0806, &[0; 28]), NotTunnel),
    ];
    let three = vec![Tag::Customer(1), Tag::Customer(2), Tag::Customer(3)];
    cases.push(same(
        "three tags",
        wrapped(BALANCER4, &to(VIP4).with(|packet| packet.tags = three)),
        NotTunnel,
    ));
    check(&setup(), cases);
}

#[test]
fn a_tunnel_cut_short_is_dropped_from_its_inner_header_on() {
    let mut cases = Vec::new();
    for (source, outer) in [(BALANCER4, 20), (BALANCER6, 40)] {
        for (vip, inner) in [(VIP4, 20), (VIP6, 40)] {
            let frame = wrapped(source, &to(vip));
            for length in 14..14 + outer + inner {
                let outcome = if length < 14 + outer { NotTunnel } else { Malformed };
                cases.push(same(
                    format!("{vip} by {source} cut to {length}"),
                    frame[..length].to_vec(),
                    outcome,
                ));
            }
        }
    }
    check(&setup(), cases);
}

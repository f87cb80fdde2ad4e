//! What does not fit the egress MTU once encapsulated.

use fairlead_tests::packets::client::{ACK, pattern};
use fairlead_tests::packets::extension::Extension::HopByHop;
use fairlead_tests::packets::wire::Tag;
use fairlead_tests::packets::{Client, icmp};

use crate::both::{Case, check, dropped, sent};
use crate::fixture::{L2_VIP4, L2_VIP6, VIP4, VIP6, forwarded, ordinary, to, to_port};
use crate::neighbours::NOBODY;

/// Octets of the packet that are quoted.
const QUOTED: usize = 128;

fn told(name: &str, packet: &Client, fits: u16) -> Case {
    let answer = icmp::too_big(packet.from, packet.to, &packet.packet(), QUOTED, fits);
    sent(name, packet.frame(), "answered_too_big", packet.answered(&answer))
}

#[test]
fn the_largest_packet_that_fits_goes_and_one_octet_more_is_answered() {
    for mtu in [576, 1_280, 1_320, 1_500, 9_000] {
        let mut setup = ordinary();
        setup.egress[0].mtu = mtu;
        let mut cases = Vec::new();
        // Of IPv6 senders not less than 1,280 can be asked, which `cross.rs` is about.
        let possible = |vip: &str| vip == VIP4 || mtu >= 1_320;
        for (vip, slot, overhead) in [(VIP4, 1, 20), (VIP6, 3, 40)].into_iter().filter(|way| possible(way.0))
        {
            let fits = mtu as u16 - overhead;
            let most = to(vip).tcp(ACK, 0).sized(usize::from(fits));
            let expected = forwarded(&setup, &most, slot);
            cases.push(sent(format!("{fits} to {vip}"), most.frame(), "forwarded", expected));
            for more in [1, 2, 3, 20, 40] {
                let packet = to(vip).tcp(ACK, 0).sized(usize::from(fits + more));
                cases.push(told(&format!("{fits} and {more} to {vip}"), &packet, fits));
            }
        }
        check(&setup, cases);
    }
}

#[test]
fn padding_makes_no_packet_too_big() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot, fits) in [(VIP4, 1, 1_480), (VIP6, 3, 1_460)] {
        let packet = to(vip).sized(fits).with(|packet| packet.padding = vec![0; 40]);
        let expected = forwarded(&setup, &packet, slot);
        cases.push(sent(vip, packet.frame(), "forwarded", expected));
    }
    check(&setup, cases);
}

#[test]
fn the_answer_keeps_the_vlan_tags() {
    let stacks = [vec![Tag::Customer(0x6123)], vec![Tag::Service(0x0fff), Tag::Customer(0x1001)]];
    let mut cases = Vec::new();
    for tags in stacks {
        for (vip, fits) in [(VIP4, 1_480), (VIP6, 1_460)] {
            let packet = to(vip).sized(1_500).with(|packet| packet.tags = tags.clone());
            cases.push(told(&format!("{tags:?} to {vip}"), &packet, fits));
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn the_answer_quotes_options_and_extension_headers_too() {
    let options = to(VIP4).with(|packet| packet.options = vec![1; 40]).sized(1_500);
    let extended = to(VIP6).with(|packet| packet.extensions = vec![HopByHop(2)]).sized(1_500);
    let datagram = to_port(VIP4, 53).udp(0).sized(1_500);
    let fragmentable = to(VIP4).sized(1_500).with(|packet| packet.fragment = 0);
    let forbidden = to(VIP4).sized(1_500).with(|packet| packet.fragment = 0x4000);
    let cases = vec![
        told("IPv4 options", &options, 1_480),
        told("an extension header", &extended, 1_460),
        told("UDP", &datagram, 1_480),
        told("without DF", &fragmentable, 1_480),
        told("with DF", &forbidden, 1_480),
    ];
    check(&ordinary(), cases);
}

#[test]
fn the_checksum_holds_whatever_is_quoted() {
    let mut cases = Vec::new();
    for (vip, fits) in [(VIP4, 1_480), (VIP6, 1_460)] {
        for (name, data) in
            [("zeroes", vec![0; 1_460]), ("ones", vec![0xff; 1_460]), ("a pattern", pattern(1_460))]
        {
            for port in [0, 1, 40_000, 65_535] {
                let packet = to(vip).tcp(ACK, 0).port(port).with(|packet| packet.data = data.clone());
                cases.push(told(&format!("{name} from {port} to {vip}"), &packet, fits));
            }
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn a_frame_of_several_buffers_is_answered() {
    let mut setup = ordinary();
    setup.egress[0].mtu = 5_000;
    let mut cases = Vec::new();
    for (vip, fits) in [(VIP4, 4_980), (VIP6, 4_960)] {
        for bytes in [4_981, 6_000, 9_000] {
            cases.push(told(&format!("{bytes} to {vip}"), &to(vip).sized(bytes), fits));
        }
    }
    check(&setup, cases);
}

#[test]
fn l2_adds_nothing_and_so_answers_nothing() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot) in [(L2_VIP4, 5), (L2_VIP6, 6)] {
        let packet = to(vip).sized(1_500);
        let expected = forwarded(&setup, &packet, slot);
        cases.push(sent(vip, packet.frame(), "forwarded", expected));
    }
    check(&setup, cases);
}

#[test]
fn a_packet_shorter_than_the_quote_is_dropped() {
    let mut setup = ordinary();
    setup.egress[0].mtu = 100;
    let mut cases = Vec::new();
    for bytes in [81, 127] {
        cases.push(dropped(format!("{bytes}"), to(VIP4).sized(bytes).frame(), "too_big"));
    }
    cases.push(told("128", &to(VIP4).sized(128), 80));
    check(&setup, cases);
}

#[test]
fn a_last_hop_is_told_nothing() {
    let frame = to(VIP4).sized(1_500).with(|packet| packet.ttl = 1).frame();
    check(&ordinary(), vec![dropped("TTL 1", frame, "ttl_expired")]);
}

#[test]
fn a_source_that_is_no_single_station_is_told_nothing() {
    let mut cases = Vec::new();
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
    ] {
        let vip = if source.contains(':') { VIP6 } else { VIP4 };
        cases.push(dropped(source, Client::new(source, vip).sized(1_500).frame(), "too_big"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_mac_that_is_no_single_station_is_told_nothing() {
    let mut cases = Vec::new();
    for (name, mac) in NOBODY {
        let outcome = if name == "ourselves" { "own_source" } else { "too_big" };
        for vip in [VIP4, VIP6] {
            let frame = to(vip).sized(1_500).with(|packet| packet.source_mac = mac).frame();
            cases.push(dropped(format!("from {name} to {vip}"), frame, outcome));
        }
    }
    check(&ordinary(), cases);
}

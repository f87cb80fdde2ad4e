//! Packets of one family in outer headers of the other, and all four combinations side by side.

use std::net::IpAddr;

use fairlead_tests::packets::client::{ACK, ip};
use fairlead_tests::packets::extension::Extension::HopByHop;
use fairlead_tests::packets::setup::ORDINARY;
use fairlead_tests::packets::wire::{TCP, Tag, UDP};
use fairlead_tests::packets::{Client, DecapSetup, HostDecap, Setup, icmp};
use lb_common::decap::DecapOutcome;

use crate::both::{Both, Case, check, dropped, sent};
use crate::fixture::{MTU, VIP4, VIP6, forwarded, to};
use crate::kernel::KernelDecap;

const FROM4: &str = "10.0.0.254";
const FROM6: &str = "fd00::ffff";

/// VIP, backend, and the bytes of the outer header; slots are counted from 1.
const COMBINATIONS: [(&str, &str, u16); 4] =
    [(VIP4, "10.0.0.1", 20), (VIP4, "fd00::2", 40), (VIP6, "10.0.0.3", 20), (VIP6, "fd00::4", 40)];

/// One service for each combination, at port 80 and the slot's number.
fn setup() -> Setup {
    let mut setup = Setup::new(MTU);
    for (slot, (vip, backend, _)) in (1..).zip(COMBINATIONS) {
        let from = Some(ip(if backend.contains(':') { FROM6 } else { FROM4 }));
        setup = setup
            .service(ip(vip), 80 + slot, TCP, ORDINARY, &[slot])
            .backend(slot, ip(backend), from)
            .service(ip(vip), 80 + slot, UDP, ORDINARY, &[slot + 10])
            .backend(slot + 10, ip(backend), from);
    }
    setup
}

fn combinations() -> impl Iterator<Item = (u16, Client, u16)> {
    (1..)
        .zip(COMBINATIONS)
        .map(|(slot, (vip, _, overhead))| (slot, to(vip).with(|packet| packet.to_port = 80 + slot), overhead))
}

fn told(packet: &Client, fits: u16) -> Case {
    let answer = icmp::too_big(packet.from, packet.to, &packet.packet(), 128, fits);
    sent(format!("{fits} to {}", packet.to), packet.frame(), "answered_too_big", packet.answered(&answer))
}

#[test]
fn each_family_is_carried_in_each_with_tags_options_and_padding() {
    let setup = setup();
    let mut cases = Vec::new();
    let tags = [vec![], vec![Tag::Customer(0x6123)], vec![Tag::Service(0x0fff), Tag::Customer(0x1001)]];
    for (slot, client, _) in combinations() {
        let mut shapes = vec![client.clone(), client.tcp(ACK, 0), client.tcp(ACK, 999)];
        shapes.extend(tags.iter().map(|tags| client.with(|packet| packet.tags = tags.clone())));
        shapes.push(client.with(|packet| packet.padding = vec![3; 11]));
        if client.to.is_ipv4() {
            shapes.push(client.with(|packet| packet.options = vec![1; 40]));
        } else {
            shapes.push(client.with(|packet| packet.extensions = vec![HopByHop(2)]));
        }
        for packet in shapes {
            cases.push(sent(
                format!("{packet:?} to slot {slot}"),
                packet.frame(),
                "forwarded",
                forwarded(&setup, &packet, slot),
            ));
        }
        let datagram = client.udp(77);
        let expected = forwarded(&setup, &datagram, slot + 10);
        cases.push(sent(format!("UDP to slot {slot}"), datagram.frame(), "forwarded", expected));
    }
    check(&setup, cases);
}

#[test]
fn an_outer_header_names_the_family_inside_and_its_own_to_the_link() {
    let mut both = Both::new(&setup());
    for ((slot, client, overhead), inner) in combinations().zip([4, 4, 41, 41]) {
        let out = both.run(&client.frame()).frame;
        assert_eq!(out.len(), client.frame().len() + usize::from(overhead), "slot {slot}");
        if overhead == 20 {
            let header = etherparse::Ipv4Header::from_slice(&out[14..]).expect("an IPv4 header").0;
            assert_eq!((&out[12..14], header.protocol.0), (&[8, 0][..], inner), "slot {slot}");
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), 20 + client.packet().len());
        } else {
            let header = etherparse::Ipv6Header::from_slice(&out[14..]).expect("an IPv6 header").0;
            assert_eq!((&out[12..14], header.next_header.0), (&[0x86, 0xdd][..], inner), "slot {slot}");
            assert_eq!(usize::from(header.payload_length), client.packet().len());
        }
    }
}

#[test]
fn the_size_that_fits_is_told_in_the_family_of_the_sender() {
    let setup = setup();
    let mut cases = Vec::new();
    for (slot, client, overhead) in combinations() {
        let fits = MTU as u16 - overhead;
        let most = client.tcp(ACK, 0).sized(fits.into());
        cases.push(sent(format!("{fits}"), most.frame(), "forwarded", forwarded(&setup, &most, slot)));
        for more in [1, 40] {
            cases.push(told(&client.tcp(ACK, 0).sized(usize::from(fits + more)), fits));
        }
    }
    check(&setup, cases);
}

#[test]
fn no_ipv6_sender_is_asked_for_less_than_1280_bytes() {
    for mtu in [1_280, 1_281, 1_300, 1_319, 1_320, 1_321] {
        let mut setup = setup();
        setup.egress[0].mtu = mtu;
        let mut cases = Vec::new();
        for (slot, client, overhead) in combinations().filter(|(_, client, _)| client.to.is_ipv6()) {
            let fits = mtu as u16 - overhead;
            for bytes in [fits, fits + 1, 1_280, 1_281, 1_500] {
                let packet = client.tcp(ACK, 0).sized(bytes.into());
                let name = format!("{bytes} at {mtu} to slot {slot}");
                cases.push(if bytes <= fits {
                    sent(name, packet.frame(), "forwarded", forwarded(&setup, &packet, slot))
                } else if bytes <= 1_280 {
                    dropped(name, packet.frame(), "too_big")
                } else {
                    told(&packet, fits.max(1_280))
                });
            }
        }
        check(&setup, cases);
    }
}

#[test]
fn what_the_balancer_sends_is_what_the_decapsulator_takes() {
    let mut both = Both::new(&setup());
    let vips: Vec<IpAddr> = vec![ip(VIP4), ip(VIP6)];
    let trust = DecapSetup { from: vec![(ip(FROM4), 32), (ip(FROM6), 128)], vips };
    let mut kernel = KernelDecap::new(&trust);
    for (slot, client, _) in combinations() {
        let out = both.run(&client.frame()).frame;
        let mut expected = client.with(|packet| packet.ttl -= 1).frame();
        expected[..12].copy_from_slice(&out[..12]);
        for (outcome, inner) in [kernel.run(&out), HostDecap::run(&trust, &out)] {
            assert_eq!((outcome, inner), (DecapOutcome::Decapsulated, expected.clone()), "slot {slot}");
        }
    }
}

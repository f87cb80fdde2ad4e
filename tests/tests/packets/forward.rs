//! What goes out to backends, to the byte.

use std::collections::BTreeMap;

use fairlead_tests::packets::client::{ACK, FIN, PUSH};
use fairlead_tests::packets::setup::{ORDINARY, next_hop};
use fairlead_tests::packets::wire::{OWN, TCP};
use fairlead_tests::packets::{Probe, Setup};
use lb_common::reason::Action;

use crate::both::{Both, check, dropped, sent};
use crate::fixture::{L2_VIP4, L2_VIP6, MTU, VIP4, VIP6, dns, forwarded, hash, ordinary, port, to, to_port};

const SLOTS: [(&str, u16); 4] = [(VIP4, 1), (VIP6, 3), (L2_VIP4, 5), (L2_VIP6, 6)];

#[test]
fn a_packet_gets_its_outer_header_and_macs() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot) in SLOTS {
        for data in [0, 1, 2, 535, 1_000] {
            let packet = to(vip).tcp(PUSH | ACK, data);
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{data} octets to {vip}"), packet.frame(), "forwarded", expected));
        }
    }
    for (vip, slot) in [(VIP4, 2), (VIP6, 4)] {
        let expected = forwarded(&setup, &dns(vip), slot);
        cases.push(sent(format!("UDP to {vip}"), dns(vip).frame(), "forwarded", expected));
    }
    check(&setup, cases);
}

#[test]
fn an_outer_ipv4_header_is_what_rfc_2003_says() {
    let mut both = Both::new(&ordinary());
    let packet = to(VIP4).tcp(ACK, 100);
    let out = both.run(&packet.frame()).frame;
    let header = etherparse::Ipv4Header::from_slice(&out[14..]).expect("an IPv4 header").0;
    assert_eq!(header.total_len, 20 + 140);
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert!(header.dont_fragment && !header.more_fragments);
    assert_eq!((header.protocol.0, header.time_to_live, header.ihl()), (4, 64, 5));
    assert_eq!((header.source, header.destination), ([10, 0, 0, 254], [10, 0, 0, 1]));
    assert_eq!((&out[..6], &out[6..12], &out[12..14]), (&next_hop(1)[..], &OWN[..], &[8, 0][..]));
}

#[test]
fn an_outer_ipv6_header_is_what_rfc_2473_says() {
    let mut both = Both::new(&ordinary());
    let packet = to(VIP6).tcp(ACK, 100);
    let out = both.run(&packet.frame()).frame;
    let header = etherparse::Ipv6Header::from_slice(&out[14..]).expect("an IPv6 header").0;
    assert_eq!(header.payload_length, 40 + 120);
    assert_eq!((header.next_header.0, header.hop_limit, header.traffic_class), (41, 64, 0));
    assert_eq!(u64::from(header.flow_label.value()), hash(&packet).0 & 0xf_ffff);
    assert_eq!(header.source_addr().to_string(), "fd00::ffff");
    assert_eq!(header.destination_addr().to_string(), "fd00::3");
    assert_eq!((&out[..6], &out[6..12], &out[12..14]), (&next_hop(3)[..], &OWN[..], &[0x86, 0xdd][..]));
}

#[test]
fn every_ttl_but_the_last_two_is_decremented_with_a_right_checksum() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot) in SLOTS {
        for ttl in 0..=255 {
            let packet = to(vip).with(|packet| packet.ttl = ttl);
            let name = format!("TTL {ttl} to {vip}");
            cases.push(if ttl <= 1 {
                dropped(name, packet.frame(), "ttl_expired")
            } else {
                sent(name, packet.frame(), "forwarded", forwarded(&setup, &packet, slot))
            });
        }
    }
    check(&setup, cases);
}

#[test]
fn the_incremental_checksum_holds_for_every_value_it_can_start_from() {
    let setup = ordinary();
    let mut both = Both::new(&setup);
    for low in 0..=u16::MAX {
        // The identification runs through all values, so the checksum does.
        let mut frame = to(L2_VIP4).frame();
        frame[18..20].copy_from_slice(&low.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let check = fairlead_tests::packets::wire::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&check);
        let out = if low % 64 == 0 { both.run(&frame).frame } else { both.host.run(&frame).frame };
        let header = etherparse::Ipv4Header::from_slice(&out[14..]).expect("an IPv4 header").0;
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "identification {low:04x}");
    }
}

#[test]
fn the_outer_checksum_holds_where_its_sum_carries_twice() {
    // Words of the outer header in memory order, with 0 for the last of the backend's address, which the wanted sum gives.
    let packet = to(VIP4);
    let total = (packet.packet().len() as u16 + 20).to_be();
    let pairs = [[0x45, 0], [0x40, 0], [64, 4], [10, 0], [0, 254], [10, 0]];
    let sum: u32 = pairs.into_iter().map(u16::from_ne_bytes).chain([total]).map(u32::from).sum();
    for wanted in [0x1_fffe, 0x1_ffff, 0x2_0000, 0x2_0001] {
        let Ok(last) = u16::try_from(wanted - sum) else { panic!("{sum:x} is too far from {wanted:x}") };
        let [third, fourth] = last.to_ne_bytes();
        let backend = std::net::IpAddr::from([10, 0, third, fourth]);
        let source = Some(std::net::IpAddr::from([10, 0, 0, 254]));
        let setup = Setup::new(MTU).service(packet.to, 80, TCP, ORDINARY, &[1]).backend(1, backend, source);
        let expected = forwarded(&setup, &packet, 1);
        check(&setup, vec![sent(format!("{wanted:x}"), packet.frame(), "forwarded", expected)]);
    }
}

#[test]
fn ipv4_options_stay_in_the_inner_header() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot) in [(VIP4, 1), (L2_VIP4, 5)] {
        for options in [1, 4, 8, 39, 40] {
            let packet = to(vip).tcp(ACK, 64).with(|packet| packet.options = vec![1; options]);
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{options} octets to {vip}"), packet.frame(), "forwarded", expected));
        }
    }
    check(&setup, cases);
}

#[test]
fn what_cannot_be_sent_is_dropped_with_its_reason() {
    let cases = [
        (port::WITHOUT_TABLE, "no_backend"),
        (port::UNPUBLISHED, "unknown_port"),
        (port::NO_NEIGHBOUR, "no_neighbour"),
        (port::NO_EGRESS, "no_egress"),
        (port::EMPTY_TABLE, "no_backend"),
        (port::FOREIGN_SLOT, "internal"),
    ];
    let cases = cases.map(|(port, reason)| dropped(reason, to_port(VIP4, port).frame(), reason));
    check(&ordinary(), cases.into());
}

#[test]
fn a_frame_without_headroom_is_dropped_by_encapsulation_and_not_by_l2() {
    let mut both = Both::new(&ordinary());
    for (vip, needs) in [(VIP4, 20), (VIP6, 40), (L2_VIP4, 0), (L2_VIP6, 0)] {
        for headroom in [0, 19, 20, 39, 40] {
            both.host.headroom.set(Some(headroom));
            let seen = both.host.run(&to(vip).frame());
            let expected = if headroom < needs { "no_headroom" } else { "forwarded" };
            assert_eq!(seen.outcomes, [expected], "{vip} with {headroom}");
        }
    }
}

#[test]
fn a_frame_of_several_buffers_is_forwarded_whole() {
    let mut setup = ordinary();
    setup.egress[0].mtu = 9_000;
    let mut cases = Vec::new();
    for (vip, slot) in SLOTS {
        for bytes in [3_505, 3_506, 3_507, 4_096, 8_000] {
            let packet = to(vip).sized(bytes);
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{bytes} octets to {vip}"), packet.frame(), "forwarded", expected));
        }
    }
    check(&setup, cases);
}

#[test]
fn the_table_place_is_the_fingerprint_times_the_size_of_the_table() {
    let mut table = vec![1u16; 4_093];
    let vip = VIP4.parse().expect("an address");
    let backend = |last: u8| std::net::IpAddr::from([10, 0, 0, last]);
    let client = to(VIP4);
    let place = (u64::from(hash(&client).fingerprint()) * 4_093) >> 32;
    table[place as usize] = 2;
    let setup = Setup::new(MTU)
        .service(vip, 80, TCP, ORDINARY, &table)
        .backend(1, backend(1), Some(backend(254)))
        .backend(2, backend(2), Some(backend(254)));
    check(&setup, vec![sent("the one place", client.frame(), "forwarded", forwarded(&setup, &client, 2))]);
}

#[test]
fn slots_count_packets_bytes_and_new_flows() {
    let mut both = Both::new(&ordinary());
    for (packet, slot, bytes, new) in [
        (to(VIP4), 1, 40, 1),
        (to(VIP4).tcp(ACK, 10), 1, 50, 0),
        (to(VIP6).with(|packet| packet.padding = vec![0; 9]), 3, 60, 1),
        (to(VIP6).tcp(ACK, 5), 3, 65, 0),
        // A SYN that comes again is no other flow; one after the close is.
        (to(VIP4), 1, 40, 0),
        (to(VIP4).tcp(FIN | ACK, 0), 1, 40, 0),
        (to(VIP4), 1, 40, 1),
        (to(VIP4), 1, 40, 0),
        (to(VIP4).tcp(ACK, 10), 1, 50, 0),
        (to(L2_VIP4), 5, 40, 1),
        (dns(VIP4), 2, 68, 1),
        (dns(VIP4), 2, 68, 0),
        // Not remembered, so that none is known to be the first.
        (to_port(VIP4, 54).udp(1), 11, 29, 0),
        (to_port(VIP4, 54).udp(1), 11, 29, 0),
    ] {
        let seen = both.run(&packet.frame());
        assert_eq!(seen.slots, BTreeMap::from([(slot, [1, bytes, new])]), "{packet:?}");
    }
    let dropped = both.run(&to_port(VIP4, port::NO_NEIGHBOUR).frame());
    assert_eq!((dropped.action, dropped.slots.len()), (Action::Drop, 0));
}

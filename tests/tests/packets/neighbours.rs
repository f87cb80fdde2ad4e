//! ARP and neighbour discovery for VIPs.

use std::net::IpAddr;

use fairlead_tests::packets::client::{Upper, ip};
use fairlead_tests::packets::icmp;
use fairlead_tests::packets::neighbour::{
    ALL_NODES, Arp, REPLY, REQUEST, Solicitation, advertisement, group_of,
};
use fairlead_tests::packets::wire::{ALL, ARP, ICMPV6, IPV6, Mac, OWN, ROUTER, Tag, ethernet, ipv6};

use crate::both::{Case, check, dropped, passed, sent};
use crate::fixture::{CLIENT4, CLIENT6, LEASED_VIP, LEFT_VIPS, OTHER, VIP4, VIP6, ordinary, to};

fn asking(sender: &str, target: &str) -> Arp {
    Arp { operation: REQUEST, sender: (ROUTER, ip(sender)), target: ([0; 6], ip(target)) }
}

fn told(request: &Arp) -> Arp {
    Arp { operation: REPLY, sender: (OWN, request.target.1), target: request.sender }
}

fn answered(name: &str, request: &Arp, to: Mac, tags: &[Tag], padding: usize) -> Case {
    let padding = vec![0; padding];
    let frame = [request.frame(to, tags), padding.clone()].concat();
    let reply = [told(request).frame(ROUTER, tags), padding].concat();
    sent(name, frame, "answered_arp", reply)
}

#[test]
fn an_arp_request_for_a_vip_is_answered_with_our_mac() {
    let request = asking(CLIENT4, VIP4);
    let both_tags = [Tag::Service(9), Tag::Customer(0xe00a)];
    let cases = vec![
        answered("broadcast", &request, ALL, &[], 0),
        answered("to our MAC", &request, OWN, &[], 0),
        answered("padded to 60 octets", &request, ALL, &[], 18),
        answered("with a tag", &request, ALL, &[Tag::Customer(7)], 14),
        answered("with two tags", &request, OWN, &both_tags, 0),
        answered("under a lease", &asking(CLIENT4, LEASED_VIP), ALL, &[], 0),
        answered("a probe", &asking("0.0.0.0", VIP4), ALL, &[], 0),
        answered("target MAC set", &Arp { target: (ALL, ip(VIP4)), ..request }, ALL, &[], 0),
    ];
    check(&ordinary(), cases);
}

#[test]
fn the_answer_goes_to_the_station_that_sent_the_frame_about_the_sender_it_names() {
    let proxy = [0x02, 0x77, 0, 0, 0, 1];
    let request = asking(CLIENT4, VIP4);
    let frame = ethernet(ALL, proxy, &[], ARP, &request.packet());
    let reply = ethernet(proxy, OWN, &[], ARP, &told(&request).packet());
    check(&ordinary(), vec![sent("by proxy", frame, "answered_arp", reply)]);
}

#[test]
fn arp_for_other_addresses_is_the_kernels() {
    let other = asking(CLIENT4, OTHER[0]);
    let from_vip = asking(VIP4, OTHER[0]);
    let cases = vec![
        passed("request", other.frame(ALL, &[]), "passed_not_vip"),
        passed("request from a VIP", from_vip.frame(ALL, &[]), "passed_not_vip"),
        passed("reply", told(&other).frame(OWN, &[]), "passed_not_vip"),
        passed("gratuitous", asking(OTHER[0], OTHER[0]).frame(ALL, &[]), "passed_not_vip"),
    ];
    check(&ordinary(), cases);
}

#[test]
fn announcements_of_a_vip_pass_so_that_user_space_hears_rivals() {
    let reply = Arp { operation: REPLY, sender: (ROUTER, ip(VIP4)), target: (OWN, ip(CLIENT4)) };
    let gratuitous = Arp { target: (ALL, ip(VIP4)), ..reply };
    let cases = vec![
        passed("gratuitous request", asking(VIP4, VIP4).frame(ALL, &[]), "passed_announcement"),
        passed("gratuitous reply", gratuitous.frame(ALL, &[]), "passed_announcement"),
        passed("reply to us", reply.frame(OWN, &[]), "passed_announcement"),
        passed("tagged reply", reply.frame(OWN, &[Tag::Customer(3)]), "passed_announcement"),
        passed("without a lease", asking(LEFT_VIPS[0], LEFT_VIPS[0]).frame(ALL, &[]), "passed_announcement"),
    ];
    check(&ordinary(), cases);
}

#[test]
fn arp_that_is_not_for_ethernet_and_ipv4_is_the_kernels() {
    let request = asking(CLIENT4, VIP4).packet();
    let mut cases = Vec::new();
    for at in 0..8 {
        let mut packet = request.clone();
        packet[at] ^= 0x20;
        cases.push(passed(format!("octet {at}"), ethernet(ALL, ROUTER, &[], ARP, &packet), "passed_not_vip"));
    }
    for length in 0..28 {
        let frame = ethernet(ALL, ROUTER, &[], ARP, &request[..length]);
        cases.push(passed(format!("cut to {length}"), frame, "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

/// MACs that no frame comes from, or that nobody else has.
pub(crate) const NOBODY: [(&str, Mac); 5] = [
    ("nobody", [0; 6]),
    ("all", ALL),
    ("an IPv6 group", ALL_NODES.1),
    ("an IPv4 group", [1, 0, 0x5e, 0, 0, 1]),
    ("ourselves", OWN),
];

#[test]
fn arp_from_nobody_that_can_be_answered_is_the_kernels() {
    let request = asking(CLIENT4, VIP4);
    let mut cases = Vec::new();
    for (name, mac) in NOBODY {
        let told = Arp { sender: (mac, request.sender.1), ..request };
        for to in [ALL, OWN] {
            let frame = ethernet(to, mac, &[], ARP, &request.packet());
            cases.push(passed(format!("frame from {name}"), frame, "passed_not_vip"));
            let frame = ethernet(to, ROUTER, &[], ARP, &told.packet());
            cases.push(passed(format!("request of {name}"), frame, "passed_not_vip"));
        }
    }
    for sender in ["127.0.0.1", "0.1.2.3", "224.0.0.1", "255.255.255.255"] {
        cases.push(passed(sender, asking(sender, VIP4).frame(ALL, &[]), "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn arp_to_another_station_passes_untouched() {
    let other = [0x02, 0, 0, 0, 0, 0x55];
    check(&ordinary(), vec![passed("flooded", asking(CLIENT4, VIP4).frame(other, &[]), "passed_other_mac")]);
}

#[test]
fn a_vip_that_another_node_answers_for_is_left_to_it() {
    let solicitation = Solicitation::new(ip(CLIENT6), ip(LEFT_VIPS[1]));
    let cases = vec![
        passed("ARP", asking(CLIENT4, LEFT_VIPS[0]).frame(ALL, &[]), "passed_no_lease"),
        passed("solicitation", solicitation.frame(), "passed_no_lease"),
    ];
    check(&ordinary(), cases);
}

const OVERRIDE: u8 = 0x20;
const SOLICITED: u8 = 0x40;

fn advertised(name: &str, asked: &Solicitation) -> Case {
    let packet = advertisement(asked.target, OWN, asked.source, OVERRIDE | SOLICITED);
    let frame = ethernet(ROUTER, OWN, &asked.tags, IPV6, &packet);
    sent(name, asked.frame(), "answered_nd", frame)
}

fn asked() -> Solicitation {
    Solicitation::new(ip(CLIENT6), ip(VIP6))
}

#[test]
fn a_solicitation_for_a_vip_is_answered_with_our_mac() {
    let unicast = Solicitation { destination: ip(VIP6), mac: OWN, ..asked() };
    let tags = vec![Tag::Service(1), Tag::Customer(2)];
    let cases = vec![
        advertised("to the group", &asked()),
        advertised("unicast", &unicast),
        advertised("unicast without option", &Solicitation { options: vec![], ..unicast.clone() }),
        advertised("without option", &Solicitation { options: vec![], ..asked() }),
        advertised(
            "with a nonce",
            &Solicitation { options: [&[1, 1], &ROUTER[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat(), ..asked() },
        ),
        advertised("tagged", &Solicitation { tags: tags[1..].to_vec(), ..asked() }),
        advertised("with two tags", &Solicitation { tags, ..asked() }),
        advertised(
            "to all nodes",
            &Solicitation { destination: ip(ALL_NODES.0), mac: ALL_NODES.1, ..asked() },
        ),
    ];
    check(&ordinary(), cases);
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let (all_nodes, mac) = (ip(ALL_NODES.0), ALL_NODES.1);
    let mut cases = Vec::new();
    for tags in [vec![], vec![Tag::Customer(4)]] {
        let asked = Solicitation { source: ip("::"), options: vec![], tags: tags.clone(), ..asked() };
        let packet = advertisement(ip(VIP6), OWN, all_nodes, OVERRIDE);
        let frame = ethernet(mac, OWN, &tags, IPV6, &packet);
        cases.push(sent(format!("{tags:?}"), asked.frame(), "answered_nd", frame));
    }
    check(&ordinary(), cases);
}

#[test]
fn an_invalid_solicitation_is_the_kernels() {
    let mut cases = Vec::new();
    for hop_limit in [0, 1, 64, 254] {
        let frame = Solicitation { hop_limit, ..asked() }.frame();
        cases.push(passed(format!("hop limit {hop_limit}"), frame, "passed_not_vip"));
        let unicast = Solicitation { hop_limit, destination: ip(VIP6), mac: OWN, ..asked() }.frame();
        cases.push(passed(format!("unicast, hop limit {hop_limit}"), unicast, "passed_not_vip"));
    }
    cases.push(passed("a code", Solicitation { code: 1, ..asked() }.frame(), "passed_not_vip"));
    for kept in 0..24 {
        let data = [&[0x20, 1][..], &[0; 30]].concat();
        let message = icmp::v6(ip(CLIENT6), group_of(ip(VIP6)).0, 135, 0, [0; 4], &data[..16]);
        let packet = ipv6(ip(CLIENT6), group_of(ip(VIP6)).0, 255, ICMPV6, 0, &message[..kept]);
        let frame = ethernet(group_of(ip(VIP6)).1, ROUTER, &[], IPV6, &packet);
        cases.push(passed(format!("cut to {kept}"), frame, "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

/// Solicitations to the group and to the VIP itself.
fn both_ways(asked: &Solicitation) -> [Solicitation; 2] {
    [asked.clone(), Solicitation { destination: ip(VIP6), mac: OWN, ..asked.clone() }]
}

fn passes(cases: &mut Vec<Case>, name: impl std::fmt::Display, asked: &Solicitation) {
    cases.push(passed(format!("{name}, to {}", asked.destination), asked.frame(), "passed_not_vip"));
}

#[test]
fn a_solicitation_with_any_bit_of_its_checksum_flipped_is_the_kernels() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut cases = Vec::new();
    for options in [vec![], asked().options, [&asked().options[..], &nonce].concat()] {
        for way in both_ways(&Solicitation { options, ..asked() }) {
            for flipped in (0..16).map(|bit| 1 << bit).chain([u16::MAX]) {
                let flipped = Solicitation { flipped, ..way.clone() };
                passes(
                    &mut cases,
                    format!("{} octets, {:04x}", way.options.len(), flipped.flipped),
                    &flipped,
                );
            }
            cases.push(advertised("right", &way));
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn a_solicitation_with_any_bit_of_its_content_flipped_is_the_kernels() {
    let frame = asked().frame();
    let mut cases = Vec::new();
    // From the payload's length on: nothing vouches for the MAC addresses, traffic class and flow label before it.
    for (at, bit) in (14 + 4..frame.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut wrong = frame.clone();
        wrong[at] ^= 1 << bit;
        cases.push(passed(format!("bit {bit} of octet {at}"), wrong, "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_solicitation_with_impossible_options_is_the_kernels() {
    let address = [1, 1, 2, 3, 4, 5, 6, 7];
    let mut cases = Vec::new();
    for (name, options) in [
        ("length zero", vec![1, 0, 2, 3, 4, 5, 6, 7]),
        ("beyond the end", vec![1, 2, 2, 3, 4, 5, 6, 7]),
        ("far beyond the end", vec![14, 255, 2, 3, 4, 5, 6, 7]),
        ("second of length zero", [address, [14, 0, 2, 3, 4, 5, 6, 7]].concat()),
        ("second beyond the end", [address, [14, 2, 2, 3, 4, 5, 6, 7]].concat()),
        ("half an option", vec![1, 1, 2, 3]),
        ("an option and a half", [&address[..], &[14, 1, 0, 0]].concat()),
        ("an octet", vec![1]),
    ] {
        for way in both_ways(&Solicitation { options, ..asked() }) {
            passes(&mut cases, name, &way);
        }
    }
    let long = Solicitation { options: [[14, 2, 1, 2, 3, 4, 5, 6], address].concat(), ..asked() };
    cases.extend(both_ways(&long).map(|way| advertised("one of two units", &way)));
    check(&ordinary(), cases);
}

#[test]
fn a_solicitation_with_more_options_than_are_looked_at_is_the_kernels() {
    let mut cases = Vec::new();
    for units in [3, 4, 17, 100] {
        for way in both_ways(&Solicitation { options: [14, 1, 1, 2, 3, 4, 5, 6].repeat(units), ..asked() }) {
            passes(&mut cases, format!("{units} units"), &way);
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn a_solicitation_from_nobody_that_can_be_answered_is_the_kernels() {
    let mut cases = Vec::new();
    for way in both_ways(&asked()) {
        for (name, source_mac) in NOBODY {
            passes(&mut cases, name, &Solicitation { source_mac, ..way.clone() });
        }
        for source in ["ff02::1", "ff0e::7", "::1"] {
            passes(&mut cases, source, &Solicitation { source: ip(source), ..way.clone() });
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn duplicate_address_detection_elsewhere_or_with_a_mac_is_the_kernels() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let detects = Solicitation { source: ip("::"), options: vec![], ..asked() };
    let mut cases = Vec::new();
    for (destination, mac) in
        [(ip(VIP6), OWN), (ip(VIP6), ALL_NODES.1), (ip(ALL_NODES.0), ALL_NODES.1), group_of(ip(LEFT_VIPS[1]))]
    {
        passes(&mut cases, "elsewhere", &Solicitation { destination, mac, ..detects.clone() });
    }
    let address = asked().options;
    for options in [address.clone(), [&nonce[..], &address].concat(), [&address[..], &nonce].concat()] {
        passes(&mut cases, "with a MAC", &Solicitation { options, ..detects.clone() });
    }
    let with_nonce = Solicitation { options: nonce.to_vec(), ..detects };
    let packet = advertisement(ip(VIP6), OWN, ip(ALL_NODES.0), OVERRIDE);
    let frame = ethernet(ALL_NODES.1, OWN, &[], IPV6, &packet);
    cases.push(sent("with a nonce (RFC 7527)", with_nonce.frame(), "answered_nd", frame));
    check(&ordinary(), cases);
}

#[test]
fn a_group_is_never_answered_for() {
    let mut setup = ordinary();
    // Maps that no configuration makes.
    setup = setup.vip(ip("ff02::1:ff00:10"), fairlead_tests::packets::setup::LEASE_HELD, 0);
    let asked = Solicitation { target: ip("ff02::1:ff00:10"), ..asked() };
    check(&setup, vec![passed("a group", asked.frame(), "passed_not_vip")]);
}

#[test]
fn a_solicitation_for_another_address_is_the_kernels() {
    let other = Solicitation::new(ip(CLIENT6), ip(OTHER[1]));
    let through_vip = Solicitation { destination: ip(VIP6), mac: OWN, ..other.clone() };
    let cases = vec![
        passed("to the group", other.frame(), "passed_not_vip"),
        passed("addressed to a VIP", through_vip.frame(), "passed_not_vip"),
        passed(
            "target is a group",
            Solicitation { target: ip(ALL_NODES.0), ..asked() }.frame(),
            "passed_not_vip",
        ),
    ];
    check(&ordinary(), cases);
}

#[test]
fn advertisements_are_the_kernels() {
    let unsolicited = advertisement(ip(VIP6), ROUTER, ip(ALL_NODES.0), OVERRIDE);
    let data = [vec![0; 4], fairlead_tests::packets::wire::octets(ip(VIP6))].concat();
    let to_vip = to(VIP6).with(|packet| {
        packet.upper = Upper::Raw(ICMPV6);
        packet.ttl = 255;
        packet.data = icmp::v6(packet.from, packet.to, 136, 0, [0x60, 0, 0, 0], &data);
    });
    let cases = vec![
        passed("to all nodes", ethernet(ALL_NODES.1, ROUTER, &[], IPV6, &unsolicited), "passed_not_vip"),
        passed("to a VIP", to_vip.frame(), "passed_announcement"),
    ];
    check(&ordinary(), cases);
}

#[test]
fn other_groups_icmp_is_the_kernels_and_a_vips_is_not() {
    let (group, mac): (IpAddr, Mac) = group_of(ip(VIP6));
    let echo = icmp::v6(ip(CLIENT6), group, 128, 0, [0; 4], &[1; 8]);
    let frame = ethernet(mac, ROUTER, &[], IPV6, &ipv6(ip(CLIENT6), group, 64, ICMPV6, 0, &echo));
    let solicitation = to(VIP6).with(|packet| {
        packet.upper = Upper::Raw(ICMPV6);
        packet.data = icmp::v6(packet.from, packet.to, 133, 0, [0; 4], &[]);
    });
    let cases = vec![
        passed("echo to the group", frame, "passed_not_vip"),
        dropped("router solicitation to a VIP", solicitation.frame(), "icmp_other"),
    ];
    check(&ordinary(), cases);
}

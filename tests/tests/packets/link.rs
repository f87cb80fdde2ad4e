//! Whom a frame is for: MAC addresses, interfaces, VLAN tags, what is no IP.

use fairlead_tests::packets::setup::INGRESS;
use fairlead_tests::packets::wire::{ALL, OWN, ROUTER, Tag, ethernet};
use lb_common::limits::MAX_EGRESS;

use crate::both::{Case, check, dropped, passed, sent};
use crate::fixture::{L2_VIP4, L2_VIP6, OTHER, VIP4, VIP6, dns, forwarded, ordinary, to};

/// The MAC group of all IPv4 systems.
const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 1];

#[test]
fn a_frame_for_another_station_passes_untouched() {
    let other = [0x02, 0x0b, 0xa1, 0x00, 0x00, 0x02];
    let cases = [VIP4, VIP6, L2_VIP4, L2_VIP6, OTHER[0]].map(|vip| {
        passed(format!("to {vip}"), to(vip).with(|packet| packet.mac = other).frame(), "passed_other_mac")
    });
    check(&ordinary(), cases.into());
}

#[test]
fn every_octet_of_the_mac_counts() {
    let cases = (0..6).map(|at| {
        let mut mac = OWN;
        mac[at] ^= 0x04;
        passed(format!("octet {at}"), to(VIP4).with(|packet| packet.mac = mac).frame(), "passed_other_mac")
    });
    check(&ordinary(), cases.collect());
}

#[test]
fn frames_to_groups_and_to_all_are_the_kernels_also_for_vips() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6, L2_VIP4, L2_VIP6] {
        for mac in [ALL, GROUP] {
            let frame = to(vip).with(|packet| packet.mac = mac).frame();
            cases.push(passed(format!("{vip} by {mac:02x?}"), frame, "passed_not_vip"));
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn an_interface_without_a_row_passes_everything() {
    let mut none = ordinary();
    none.egress.clear();
    check(&none, vec![passed("no row", to(VIP4).frame(), "passed_unknown_interface")]);
    let mut alias = ordinary();
    alias.egress[0].ifindex = INGRESS + MAX_EGRESS;
    check(&alias, vec![passed("row of another", to(VIP4).frame(), "passed_unknown_interface")]);
}

#[test]
fn vlan_tags_are_looked_through_and_kept() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (name, tags) in tag_stacks() {
        for (packet, slot) in
            [(to(VIP4), 1), (dns(VIP4), 2), (to(VIP6), 3), (dns(VIP6), 4), (to(L2_VIP4), 5), (to(L2_VIP6), 6)]
        {
            let packet = packet.with(|packet| packet.tags = tags.clone());
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{name} to slot {slot}"), packet.frame(), "forwarded", expected));
        }
    }
    check(&setup, cases);
}

fn tag_stacks() -> [(&'static str, Vec<Tag>); 5] {
    [
        ("untagged", vec![]),
        ("802.1Q", vec![Tag::Customer(0x2064)]),
        ("802.1ad", vec![Tag::Service(0xffff)]),
        ("802.1ad and 802.1Q", vec![Tag::Service(0x0123), Tag::Customer(0xe456)]),
        ("two of 802.1Q", vec![Tag::Customer(1), Tag::Customer(2)]),
    ]
}

#[test]
fn a_third_tag_is_the_kernels() {
    let tags = vec![Tag::Service(1), Tag::Customer(2), Tag::Customer(3)];
    let frame = to(VIP4).with(|packet| packet.tags = tags).frame();
    check(&ordinary(), vec![passed("three tags", frame, "passed_not_ip")]);
}

#[test]
fn what_is_neither_arp_nor_ip_is_the_kernels() {
    let mut cases: Vec<Case> = [0x88cc, 0x0600, 0x05dc, 0x0026, 0x8847, 0x8035]
        .map(|kind| {
            passed(format!("{kind:04x}"), ethernet(OWN, ROUTER, &[], kind, &[0x45; 60]), "passed_not_ip")
        })
        .into();
    for (name, kind, first) in
        [("6 as IPv4", 0x0800, 0x65), ("4 as IPv6", 0x86dd, 0x45), ("0 as IPv4", 0x0800, 0x05)]
    {
        let mut packet = if kind == 0x0800 { to(VIP4).packet() } else { to(VIP6).packet() };
        packet[0] = first;
        cases.push(passed(name, ethernet(OWN, ROUTER, &[], kind, &packet), "passed_not_ip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_frame_cut_before_its_addresses_is_the_kernels() {
    let mut cases = Vec::new();
    for (vip, tags) in [(VIP4, 0), (VIP4, 1), (VIP4, 2), (VIP6, 0), (VIP6, 1), (VIP6, 2)] {
        let frame = to(vip).with(|packet| packet.tags = vec![Tag::Customer(7); tags]).frame();
        let header = if vip == VIP4 { 20 } else { 40 };
        let whole = 14 + 4 * tags + header;
        for length in 14..whole {
            let name = format!("{vip} with {tags} tags cut to {length}");
            cases.push(passed(name, frame[..length].to_vec(), "passed_not_ip"));
        }
        let name = format!("{vip} with {tags} tags cut to its IP header");
        cases.push(dropped(name, frame[..whole].to_vec(), "malformed"));
    }
    check(&ordinary(), cases);
}

#[test]
fn padding_behind_the_packet_is_kept_and_counts_nowhere() {
    let setup = ordinary();
    let mut cases = Vec::new();
    for (vip, slot) in [(VIP4, 1), (VIP6, 3), (L2_VIP4, 5), (L2_VIP6, 6)] {
        for padding in [1, 6, 18, 46] {
            let packet = to(vip).with(|packet| packet.padding = vec![0xee; padding]);
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{padding} octets to {vip}"), packet.frame(), "forwarded", expected));
        }
    }
    check(&setup, cases);
}

#[test]
fn a_frame_from_our_own_mac_is_never_forwarded() {
    let cases = [VIP4, VIP6, L2_VIP4, L2_VIP6].map(|vip| {
        let frame = to(vip).with(|packet| packet.source_mac = OWN).frame();
        dropped(format!("to {vip}"), frame, "own_source")
    });
    check(&ordinary(), cases.into());
}

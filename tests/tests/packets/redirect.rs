//! Backends behind another interface than frames come in by.

use fairlead_tests::packets::Setup;
use fairlead_tests::packets::client::{ACK, PUSH};
use fairlead_tests::packets::icmp;
use fairlead_tests::packets::setup::{ELSEWHERE, next_hop};
use fairlead_tests::packets::wire::{self, Tag};
use lb_common::limits::MAX_EGRESS;
use lb_common::reason::Action;

use crate::both::{Both, check, dropped, redirected, sent};
use crate::fixture::{L2_VIP4, L2_VIP6, VIP4, VIP6, dns, forwarded, ordinary, port, to, to_port};

/// MTU of the other interface: smaller than that of the first.
const NARROW: u32 = 1_400;

/// All services of one packet each with their slots: `ipip` and `l2`, both families, TCP and UDP.
fn packets() -> [(fairlead_tests::packets::Client, u16); 6] {
    [(to(VIP4), 1), (dns(VIP4), 2), (to(VIP6), 3), (dns(VIP6), 4), (to(L2_VIP4), 5), (to(L2_VIP6), 6)]
}

/// The ordinary balancer, with slots 1 to 6 behind the other interface.
fn elsewhere(mtu: u32) -> Setup {
    (1..=6).fold(ordinary().with_elsewhere(mtu), |setup, slot| setup.by(slot, ELSEWHERE))
}

#[test]
fn a_packet_leaves_by_the_backends_interface_with_that_interfaces_mac() {
    let setup = elsewhere(NARROW);
    let mut cases = Vec::new();
    for (packet, slot) in packets() {
        let expected = forwarded(&setup, &packet, slot);
        assert_eq!((&expected[..6], &expected[6..12]), (&next_hop(slot)[..], &wire::ELSEWHERE[..]));
        cases.push(redirected(format!("to slot {slot}"), packet.frame(), expected));
    }
    let long = to(VIP4).tcp(PUSH | ACK, 1_000);
    cases.push(redirected("with data", long.frame(), forwarded(&setup, &long, 1)));
    check(&setup, cases);
}

#[test]
fn vlan_tags_stay_behind() {
    let setup = elsewhere(NARROW);
    let stacks = [
        vec![Tag::Customer(0x2064)],
        vec![Tag::Service(0x0123), Tag::Customer(0xe456)],
        vec![Tag::Customer(1), Tag::Customer(2)],
    ];
    let mut cases = Vec::new();
    for tags in stacks {
        for (packet, slot) in packets() {
            let packet = packet.with(|packet| packet.tags = tags.clone());
            let expected = forwarded(&setup, &packet, slot);
            cases.push(redirected(format!("{tags:?} to slot {slot}"), packet.frame(), expected));
        }
    }
    check(&setup, cases);
}

#[test]
fn backends_on_both_sides_share_a_service() {
    let mut setup = ordinary().with_elsewhere(NARROW);
    // Slot 12 beside slot 1, by turns in the table.
    let word = setup.backends[0].word;
    let mut other = setup.backends[0];
    (other.slot, other.word) = (12, word);
    setup.backends.push(other);
    setup = setup.by(12, ELSEWHERE);
    setup.services[0].table = vec![1, 12];
    let mut both = Both::new(&setup);
    let mut ways = [0; 2];
    for client in 40_000..40_064 {
        let seen = both.run(&to(VIP4).port(client).frame());
        match seen.action {
            Action::Transmit => ways[0] += 1,
            Action::Redirect => ways[1] += 1,
            other => panic!("{other:?} of {seen:?}"),
        }
    }
    assert!(ways.iter().all(|count| *count > 8), "{ways:?}");
}

#[test]
fn what_is_too_big_for_the_other_interface_is_answered_by_the_first() {
    for (mtu, tags) in [(NARROW, vec![]), (NARROW, vec![Tag::Customer(7)]), (1_600, vec![])] {
        let setup = elsewhere(mtu);
        let mut cases = Vec::new();
        for (vip, slot, overhead) in [(VIP4, 1, 20), (VIP6, 3, 40), (L2_VIP4, 5, 0), (L2_VIP6, 6, 0)] {
            let fits = mtu as u16 - overhead;
            let packet = |bytes| to(vip).tcp(ACK, 0).sized(bytes).with(|packet| packet.tags = tags.clone());
            let most = packet(usize::from(fits));
            cases.push(redirected(format!("{fits} to {vip}"), most.frame(), forwarded(&setup, &most, slot)));
            let more = packet(usize::from(fits) + 1);
            let answer = icmp::too_big(more.from, more.to, &more.packet(), 128, fits);
            let expected = more.answered(&answer);
            cases.push(sent(format!("{fits} and one to {vip}"), more.frame(), "answered_too_big", expected));
        }
        check(&setup, cases);
    }
}

#[test]
fn an_interface_that_is_unknown_or_gone_drops_what_would_leave_by_it() {
    let known = elsewhere(NARROW);
    let mut gone = known.clone();
    gone.gone.push(ELSEWHERE);
    let mut unknown = known.clone();
    unknown.egress.truncate(1);
    for (name, setup) in [("gone", gone), ("unknown", unknown)] {
        let cases = packets()
            .map(|(packet, slot)| dropped(format!("{name}, to slot {slot}"), packet.frame(), "no_egress"));
        check(&setup, cases.into());
        let mut both = Both::new(&setup);
        let seen = both.run(&to(VIP4).frame());
        assert!(seen.slots.is_empty(), "{name}: counted for the backend: {seen:?}");
    }
    let beyond = ordinary().by(1, MAX_EGRESS - 1);
    check(&beyond, vec![dropped("the last row", to(VIP4).frame(), "no_egress")]);
}

#[test]
fn reasons_to_drop_come_before_the_way_out() {
    let setup = elsewhere(NARROW);
    let last_hop = to(VIP4).with(|packet| packet.ttl = 1);
    let looped = to(VIP4).with(|packet| packet.source_mac = wire::OWN);
    let cases = vec![
        dropped("TTL 1", last_hop.frame(), "ttl_expired"),
        dropped("own source", looped.frame(), "own_source"),
        dropped("no neighbour", to_port(VIP4, port::NO_NEIGHBOUR).frame(), "no_neighbour"),
    ];
    check(&setup, cases);
}

#[test]
fn a_redirected_frame_of_several_buffers_goes_whole() {
    let mut setup = elsewhere(9_000);
    setup.egress[0].mtu = 9_000;
    let mut cases = Vec::new();
    for (vip, slot) in [(VIP4, 1), (VIP6, 3), (L2_VIP4, 5)] {
        for tags in [vec![], vec![Tag::Customer(3)]] {
            let packet = to(vip).sized(8_000).with(|packet| packet.tags = tags.clone());
            cases.push(redirected(
                format!("{tags:?} to {vip}"),
                packet.frame(),
                forwarded(&setup, &packet, slot),
            ));
        }
    }
    check(&setup, cases);
}

//! The oracle's own test: it says nothing against what is right, and something against everything that was made wrong.

use fairlead_tests::oracle::{Done, Oracle};
use fairlead_tests::packets::client::{ACK, SYN, Upper, ip};
use fairlead_tests::packets::neighbour::{Arp, REQUEST, Solicitation};
use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::wire::{ALL, ICMP, ICMPV6, IPV6, OWN, ROUTER, Tag};
use fairlead_tests::packets::{Client, HostWorld, Probe, Setup, icmp};
use lb_common::reason::Action;

use crate::fixture::{
    CLIENT4, CLIENT6, L2_VIP4, L2_VIP6, OTHER, VIP4, VIP6, dns, forwarded, ordinary, to, to_port,
};

/// A frame, what became of it, and by which counter.
struct Good {
    name: &'static str,
    came: Vec<u8>,
    action: Action,
    outcome: &'static str,
    went: Vec<u8>,
}

impl Good {
    fn done<'f>(&'f self, frame: &'f [u8]) -> Done<'f> {
        Done { action: self.action, outcome: self.outcome, frame, lost: 0 }
    }
}

fn ping(vip: &str) -> Client {
    to(vip).with(|packet| {
        let v4 = packet.from.is_ipv4();
        packet.upper = Upper::Raw(if v4 { ICMP } else { ICMPV6 });
        packet.data = match v4 {
            true => icmp::v4(8, 0, [1, 2, 3, 4], &[5; 9]),
            false => icmp::v6(packet.from, packet.to, 128, 0, [1, 2, 3, 4], &[5; 9]),
        };
    })
}

fn asking(target: &str) -> Vec<u8> {
    let (sender, target) = ((ROUTER, ip(CLIENT4)), ([0; 6], ip(target)));
    Arp { operation: REQUEST, sender, target }.frame(ALL, &[Tag::Customer(7)])
}

/// One of each kind, as plain memory deals with it.
fn good() -> Vec<Good> {
    let tagged = |vip: &str| to(vip).with(|packet| packet.tags = vec![Tag::Service(3), Tag::Customer(4)]);
    let padded = to(VIP4).with(|packet| packet.padding = vec![1; 6]);
    let duplicate =
        Solicitation { source: ip("::"), options: vec![], ..Solicitation::new(ip("::"), ip(VIP6)) };
    let frames = [
        ("4 in 4", to(VIP4).frame()),
        ("4 in 4, tagged", tagged(VIP4).frame()),
        ("4 in 4, padded", padded.frame()),
        ("4 in 4, UDP", dns(VIP4).frame()),
        ("6 in 6", to(VIP6).frame()),
        ("6 in 6, tagged", tagged(VIP6).frame()),
        ("l2 of IPv4", to(L2_VIP4).tcp(ACK, 30).frame()),
        ("l2 of IPv6", tagged(L2_VIP6).frame()),
        ("echo", ping(VIP4).frame()),
        ("echo of IPv6", ping(VIP6).frame()),
        ("ARP", asking(VIP4)),
        ("solicitation", Solicitation::new(ip(CLIENT6), ip(VIP6)).frame()),
        ("duplicate address detection", duplicate.frame()),
        ("too big", to(VIP4).sized(1_481).frame()),
        ("too big of IPv6", to(VIP6).sized(1_461).frame()),
        ("no VIP", to(OTHER[0]).frame()),
        ("another station", to(VIP4).with(|packet| packet.mac = [2; 6]).frame()),
        ("unknown port", to_port(VIP4, 9).frame()),
    ];
    let mut world = HostWorld::new(&ordinary());
    let judged = frames.into_iter().map(|(name, came)| {
        let seen = world.run(&came);
        Good { name, came, action: seen.action, outcome: seen.outcomes[0], went: seen.frame }
    });
    judged.collect()
}

fn judge(good: &Good, done: Done<'_>) -> Result<(), String> {
    Oracle::new(&ordinary()).judge(&good.came, done)
}

#[test]
fn what_is_right_is_let_alone() {
    for good in good() {
        assert_eq!(judge(&good, good.done(&good.went)), Ok(()), "{}", good.name);
    }
}

/// Bits of an outermost IPv6 header that nothing is said about: traffic class, flow label, hop limit.
fn is_free(frame: &[u8], at: usize, bit: u8) -> bool {
    let tag = |at: usize| matches!(frame[at..at + 2], [0x81, 0] | [0x88, 0xa8]);
    let network = (0..2).fold(14, |at, _| if tag(at - 2) { at + 4 } else { at });
    let v6 = frame[network - 2..network] == IPV6.to_be_bytes();
    match at.checked_sub(network) {
        Some(0) => v6 && bit < 4,
        Some(1..=3) => v6,
        // Zero and one are noticed, anything more is a hop limit.
        Some(7) => v6 && frame[at] ^ 1 << bit > 1,
        _ => false,
    }
}

#[test]
fn every_single_bit_that_was_changed_is_noticed() {
    let mut flipped = 0;
    for good in good().iter().filter(|good| good.action != Action::Drop) {
        // An advertisement's hop limit is fixed, and so is all that l2 forwards.
        let free = |at: usize, bit: u8| match good.name {
            "l2 of IPv6" => false,
            "solicitation" | "duplicate address detection" if at > 20 => false,
            _ => good.action == Action::Transmit && is_free(&good.went, at, bit),
        };
        for (at, bit) in (0..good.went.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut wrong = good.went.clone();
            wrong[at] ^= 1 << bit;
            if free(at, bit) {
                continue;
            }
            let judged = judge(good, good.done(&wrong));
            assert!(judged.is_err(), "{} with bit {bit} of octet {at} of {} flipped", good.name, hex(&wrong));
            flipped += 1;
        }
    }
    assert!(flipped > 10_000, "only {flipped} bits");
}

#[test]
fn what_is_cut_or_longer_is_noticed() {
    for good in good().iter().filter(|good| good.action != Action::Drop) {
        for length in 0..good.went.len() {
            assert!(judge(good, good.done(&good.went[..length])).is_err(), "{} cut to {length}", good.name);
        }
        let longer = [&good.went[..], &[0]].concat();
        assert!(judge(good, good.done(&longer)).is_err(), "{} and an octet", good.name);
    }
}

#[test]
fn another_fate_is_noticed() {
    let all = good();
    for good in &all {
        for action in [Action::Pass, Action::Drop, Action::Transmit].iter().filter(|it| **it != good.action) {
            let outcome = if *action == Action::Transmit { "forwarded" } else { "malformed" };
            let done = Done { action: *action, outcome, frame: &good.came, lost: 0 };
            assert!(judge(good, done).is_err(), "{} and {action:?}", good.name);
        }
        for other in
            all.iter().filter(|other| other.outcome != good.outcome && good.action == Action::Transmit)
        {
            let done = Done { action: good.action, outcome: other.outcome, frame: &good.went, lost: 0 };
            assert!(judge(good, done).is_err(), "{} counted as {}", good.name, other.outcome);
        }
        for other in all.iter().filter(|other| other.action == Action::Transmit && other.came != good.came) {
            let judged = judge(good, other.done(&other.went));
            assert!(judged.is_err(), "{} became what {} becomes", good.name, other.name);
        }
    }
}

/// A frame that is wrong as a whole although each part of it fits the others.
#[test]
fn wrong_decisions_are_noticed() {
    let setup = ordinary();
    let judge = |came: &Client, outcome: &str, went: &[u8]| {
        let done = Done { action: Action::Transmit, outcome, frame: went, lost: 0 };
        Oracle::new(&ordinary()).judge(&came.frame(), done).is_err()
    };
    let client = to(VIP4);
    assert!(judge(&client, "forwarded", &forwarded(&setup, &client, 2)), "to another service's backend");
    let twice = forwarded(&setup, &client.with(|packet| packet.ttl -= 1), 1);
    assert!(judge(&client, "forwarded", &twice), "two hops at once");
    let tagged = forwarded(&setup, &client.with(|packet| packet.tags = vec![Tag::Customer(1)]), 1);
    assert!(judge(&client, "forwarded", &tagged), "a tag appeared");
    let last = client.with(|packet| packet.ttl = 1);
    assert!(judge(&last, "forwarded", &forwarded(&setup, &last, 1)), "the last hop");
    let large = client.sized(1_481);
    assert!(judge(&large, "forwarded", &forwarded(&setup, &large, 1)), "larger than the MTU");
    let quote = |fits| icmp::too_big(large.from, large.to, &large.packet(), 128, fits);
    assert!(!judge(&large, "answered_too_big", &large.answered(&quote(1_480))), "the size that fits");
    assert!(judge(&large, "answered_too_big", &large.answered(&quote(1_500))), "a size that does not fit");
    assert!(judge(&client, "answered_too_big", &client.answered(&quote(1_480))), "about another packet");
    let foreign = to(OTHER[0]);
    assert!(judge(&foreign, "forwarded", &forwarded(&setup, &foreign, 1)), "for no VIP");
    let elsewhere = client.with(|packet| packet.mac = [2; 6]);
    assert!(judge(&elsewhere, "forwarded", &forwarded(&setup, &elsewhere, 1)), "for another station");
    let own = client.with(|packet| packet.source_mac = OWN);
    assert!(judge(&own, "forwarded", &forwarded(&setup, &own, 1)), "in a circle");
}

#[test]
fn a_flow_that_moves_is_noticed() {
    let mut setup: Setup = ordinary();
    setup.services[0].table = vec![1, 12];
    let spec = lb_common::backend::RowSpec { address: ip("10.0.0.12"), ..setup.backends[0].spec };
    let word = fairlead_tests::packets::setup::word(12, lb_common::backend::SlotState::Serving);
    setup.backends.push(fairlead_tests::packets::setup::Backend { slot: 12, spec, word });
    let mut world = HostWorld::new(&setup);
    let other = |slot: u16| if slot == 1 { 12 } else { 1 };
    for port in 0..64 {
        let client = to(VIP4).port(port).tcp(SYN, 0);
        let slot = world.run(&client.frame()).slots.into_keys().next().expect("it was forwarded") as u16;
        let mut oracle = Oracle::new(&setup);
        let mut judge = |slot, lost| {
            let frame = forwarded(&setup, &client, slot);
            oracle.judge(
                &client.frame(),
                Done { action: Action::Transmit, outcome: "forwarded", frame: &frame, lost },
            )
        };
        assert!(judge(other(slot), 0).is_err(), "not what the table says: port {port}");
        assert_eq!(judge(slot, 0), Ok(()), "port {port}");
        assert!(judge(other(slot), 0).is_err(), "moved: port {port}");
        // The table is switched: who was here stays, new ones go there.
        let mut table = setup.services[0].clone();
        table.table = vec![other(slot)];
        let change = fairlead_tests::packets::balancer::Change::Table(0, table.word, table.table);
        oracle.changed(&change);
        let mut judge = |client: &Client, slot| {
            let frame = forwarded(&setup, client, slot);
            oracle.judge(
                &client.frame(),
                Done { action: Action::Transmit, outcome: "forwarded", frame: &frame, lost: 0 },
            )
        };
        assert!(judge(&client, other(slot)).is_err(), "lost by a switch: port {port}");
        assert_eq!(judge(&client, slot), Ok(()), "kept over a switch: port {port}");
        let newcomer = client.port(port + 1_000);
        assert!(judge(&newcomer, slot).is_err(), "a newcomer at the old backend: port {port}");
        assert_eq!(judge(&newcomer, other(slot)), Ok(()), "a newcomer: port {port}");
    }
}

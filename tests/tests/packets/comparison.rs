//! Random frames through both worlds, with changes of backends and tables in between.

use std::collections::BTreeMap;

use fairlead_tests::packets::client::{ACK, FIN, PUSH, RST, SYN, Upper, ip, pattern};
use fairlead_tests::packets::extension::Extension;
use fairlead_tests::packets::neighbour::{Arp, Solicitation};
use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::setup::word;
use fairlead_tests::packets::wire::{
    ALL, ICMP, ICMPV6, IPV4, IPV6, Ip4, OWN, ROUTER, Tag, ethernet, ipv4, ipv6,
};
use fairlead_tests::packets::{Client, DecapSetup, HostDecap, Probe, Random, icmp};
use lb_common::backend::SlotState;
use lb_common::decap::DecapOutcome;

use crate::both::Both;
use crate::fixture::{
    CLIENT4, CLIENT6, L2_VIP4, L2_VIP6, LEFT_VIPS, OTHER, PASSING_VIP, VIP4, VIP6, ordinary, to_port,
};
use crate::kernel::KernelDecap;

/// Frames of one comparison.
const FRAMES: u32 = 30_000;
/// Tunnels of a whole run, and of a quick one.
const TUNNELS: [u32; 2] = [1_000_000, 10_000];

/// A frame as it might come in, half of them damaged.
pub(crate) fn any_frame(random: &mut Random) -> Vec<u8> {
    let mut frame = match random.below(12) {
        0 => arp(random),
        1 => solicitation(random),
        2 => control(random).frame(),
        _ => ordinary_packet(random).frame(),
    };
    if random.one_in(2) {
        damage(random, &mut frame);
    }
    frame
}

fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        // Headers are where it matters.
        let end = if random.one_in(4) { frame.len() } else { frame.len().min(80) };
        let at = random.below(end as u64) as usize;
        frame[at] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => frame[at] ^ (1 << random.below(8)),
            _ => random.next() as u8,
        };
    }
    if random.one_in(4) {
        let whole = frame.len() as u64;
        frame.truncate((14 + random.below(whole - 13)) as usize);
    }
}

fn tags(random: &mut Random) -> Vec<Tag> {
    let count = if random.one_in(3) { random.pick(&[1, 1, 2, 2, 2, 3]) } else { 0 };
    (0..count)
        .map(|_| {
            let control = random.next() as u16;
            if random.one_in(2) { Tag::Customer(control) } else { Tag::Service(control) }
        })
        .collect()
}

fn base(random: &mut Random) -> Client {
    let rare = [PASSING_VIP, LEFT_VIPS[0], LEFT_VIPS[1], OTHER[0], OTHER[1]];
    let usual = [VIP4, VIP6, VIP4, VIP6, L2_VIP4, L2_VIP6];
    let vip = if random.one_in(6) { random.pick(&rare) } else { random.pick(&usual) };
    let port = if random.one_in(4) {
        random.pick(&[9, 54, 81, 82, 83, 84, 85, 86])
    } else {
        random.pick(&[80, 80, 53])
    };
    let mut packet = to_port(vip, port).port(1_024 + random.below(64) as u16);
    packet.ttl = if random.one_in(16) { random.pick(&[0, 1]) } else { random.pick(&[2, 64, 255]) };
    packet.tags = tags(random);
    packet.mac = if random.one_in(24) { random.pick(&[ALL, [2, 0, 0, 0, 0, 7]]) } else { OWN };
    packet.source_mac = if random.one_in(24) { OWN } else { ROUTER };
    if random.one_in(4) {
        packet.padding = vec![0x77; random.below(20) as usize];
    }
    packet
}

fn ordinary_packet(random: &mut Random) -> Client {
    let mut packet = base(random);
    let flags = random.pick(&[SYN, SYN, ACK, ACK, ACK, PUSH | ACK, FIN | ACK, RST, SYN | ACK, 0, SYN | FIN]);
    packet.upper = match random.below(10) {
        0..=8 if packet.to_port == 53 || packet.to_port == 54 => Upper::Udp,
        0..=8 => Upper::Tcp(flags),
        _ => Upper::Raw(random.next() as u8),
    };
    let data = match random.below(10) {
        0..=4 => 0,
        5..=7 => random.below(200),
        8 => 1_380 + random.below(140),
        _ => random.below(6_000),
    };
    packet.data = pattern(data as usize);
    if random.one_in(6) {
        packet.options = vec![1; random.below(41) as usize];
    }
    if random.one_in(8) {
        let any = random.next() as u16;
        packet.fragment = random.pick(&[0x4000, 0x2000, 0x0001, 0x8000, any]);
    }
    if random.one_in(4) {
        packet.extensions = (0..random.below(6)).map(|_| extension(random)).collect();
    }
    packet
}

fn extension(random: &mut Random) -> Extension {
    let units = random.pick(&[0, 0, 1, 2, 8]);
    match random.below(5) {
        0 => Extension::HopByHop(units),
        1 => Extension::Routing(units),
        2 => Extension::Destination(units),
        3 => Extension::Authentication(units),
        _ => Extension::Fragment(random.pick(&[0, 6, 1, 8, 0xfff8])),
    }
}

fn control(random: &mut Random) -> Client {
    let mut packet = base(random);
    let data = pattern(random.below(100) as usize);
    let code = random.pick(&[0, 0, 0, 1]);
    if packet.from.is_ipv4() {
        packet.upper = Upper::Raw(ICMP);
        packet.data = icmp::v4(random.pick(&[8, 8, 0, 3, 11, 13]), code, [0, 1, 2, 3], &data);
    } else {
        packet.upper = Upper::Raw(ICMPV6);
        let kind = random.pick(&[128, 128, 129, 1, 2, 133, 135, 136]);
        packet.data = icmp::v6(packet.from, packet.to, kind, code, [0, 1, 2, 3], &data);
    }
    packet
}

fn arp(random: &mut Random) -> Vec<u8> {
    let addresses = [VIP4, VIP4, CLIENT4, OTHER[0], LEFT_VIPS[0], "0.0.0.0"];
    let arp = Arp {
        operation: random.pick(&[1, 1, 1, 2, 3]),
        sender: (ROUTER, ip(random.pick(&addresses))),
        target: ([0; 6], ip(random.pick(&addresses))),
    };
    let tags = tags(random);
    [arp.frame(random.pick(&[ALL, OWN]), &tags), vec![0; random.below(20) as usize]].concat()
}

fn solicitation(random: &mut Random) -> Vec<u8> {
    let target = ip(random.pick(&[VIP6, VIP6, LEFT_VIPS[1], OTHER[1]]));
    let mut asked = Solicitation::new(ip(random.pick(&[CLIENT6, CLIENT6, "::"])), target);
    if random.one_in(3) {
        (asked.destination, asked.mac) = (target, OWN);
    }
    asked.hop_limit = random.pick(&[255, 255, 255, 64]);
    asked.options.truncate(random.pick(&[0, 8, 8]));
    asked.tags = tags(random);
    asked.frame()
}

/// The decapsulator that [`tunnelled`] frames meet.
pub(crate) fn decap_setup() -> DecapSetup {
    DecapSetup { from: vec![(ip("10.0.0.0"), 24), (ip("fd00::"), 64)], vips: vec![ip(VIP4), ip(VIP6)] }
}

/// A frame as a balancer or a stranger might send it to a backend, half of them damaged.
pub(crate) fn tunnelled(random: &mut Random) -> Vec<u8> {
    let mut inner = ordinary_packet(random);
    inner.to =
        ip(random.pick(if inner.from.is_ipv4() { &[VIP4, VIP4, OTHER[0]] } else { &[VIP6, VIP6, OTHER[1]] }));
    let packet = inner.packet();
    let protocol = if inner.from.is_ipv4() { 4 } else { 41 };
    let mut frame = if random.one_in(2) {
        let source = ip(random.pick(&["10.0.0.254", "10.0.0.254", "10.0.1.1"]));
        let fragment = random.pick(&[0x4000, 0x4000, 0, 0x2000]);
        let outer = Ip4 {
            source,
            destination: ip("10.0.0.1"),
            ttl: 64,
            protocol,
            identification: 0,
            fragment,
            options: &[],
        };
        ethernet(OWN, ROUTER, &inner.tags, IPV4, &ipv4(&outer, &packet))
    } else {
        let source = ip(random.pick(&["fd00::ffff", "fd00::ffff", "fd01::1"]));
        ethernet(OWN, ROUTER, &inner.tags, IPV6, &ipv6(source, ip("fd00::1"), 64, protocol, 5, &packet))
    };
    if random.one_in(2) {
        damage(random, &mut frame);
    }
    frame
}

#[test]
fn kernel_and_memory_agree_on_random_traffic() {
    let mut random = Random::seeded("kernel_and_memory_agree_on_random_traffic");
    let mut setup = ordinary();
    setup.buckets = 8;
    let mut both = Both::new(&setup);
    let mut seen = BTreeMap::<&str, u32>::new();
    for count in 0..FRAMES {
        if random.one_in(100) {
            let slot = random.pick(&[1, 2, 3, 4, 5, 6]);
            let state = random.pick(&[SlotState::Serving, SlotState::Draining, SlotState::Dead]);
            both.put_backend(slot, word(slot, state).0);
        }
        let outcome = both.run(&any_frame(&mut random));
        assert_eq!(outcome.outcomes.len(), 1);
        for name in outcome.outcomes.into_iter().chain(outcome.events) {
            *seen.entry(name).or_default() += 1;
        }
        if count % 500 == 0 {
            both.flows();
        }
    }
    both.flows();
    println!("{seen:?}");
    // A generator that no longer reaches these compares nothing.
    let few = |name: &str| seen.get(name).copied().unwrap_or(0) < 20;
    let wanted = [
        "forwarded",
        "answered_arp",
        "answered_nd",
        "answered_echo",
        "answered_too_big",
        "fragment",
        "flow_evicted",
        "flow_repicked",
    ];
    let missed: Vec<_> = wanted.into_iter().filter(|name| few(name)).collect();
    assert!(missed.is_empty(), "hardly reached: {missed:?} of {seen:?}");
    assert!(seen["forwarded"] > FRAMES / 8, "hardly anything is forwarded: {seen:?}");
}

#[test]
fn kernel_and_memory_agree_on_random_tunnels() {
    let mut random = Random::seeded("kernel_and_memory_agree_on_random_tunnels");
    let setup = decap_setup();
    let mut kernel = KernelDecap::new(&setup);
    let mut unwrapped = 0;
    let tunnels = TUNNELS[usize::from(std::env::var_os("FAIRLEAD_QUICK").is_some())];
    for _ in 0..tunnels {
        let frame = tunnelled(&mut random);
        let (kernel, memory) = (kernel.run(&frame), HostDecap::run(&setup, &frame));
        assert_eq!(kernel.0, memory.0, "{}", hex(&frame));
        if !matches!(kernel.0, DecapOutcome::ForeignVip | DecapOutcome::Malformed) {
            let same = kernel.1 == memory.1;
            assert!(same, "{}: {} and {}", hex(&frame), hex(&kernel.1), hex(&memory.1));
        }
        unwrapped += u32::from(kernel.0 == DecapOutcome::Decapsulated);
    }
    assert!(unwrapped > 1_000, "only {unwrapped} tunnels were unwrapped");
}

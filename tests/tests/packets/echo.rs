//! Ping to a VIP.

use fairlead_tests::packets::client::{Upper, pattern};
use fairlead_tests::packets::wire::{ICMP, ICMPV6, Tag};
use fairlead_tests::packets::{Client, icmp};

use crate::both::{Both, Case, check, dropped, passed, sent};
use crate::fixture::{LEASED_VIP, LEFT_VIPS, OTHER, VIP4, VIP6, ordinary, to};
use crate::neighbours::NOBODY;

/// An echo message from `packet.from` to `packet.to`.
fn echo(packet: &Client, kinds: [u8; 2], word: [u8; 4], data: &[u8]) -> Client {
    packet.with(|packet| {
        let v4 = packet.from.is_ipv4();
        packet.upper = Upper::Raw(if v4 { ICMP } else { ICMPV6 });
        packet.data = if v4 {
            icmp::v4(kinds[0], 0, word, data)
        } else {
            icmp::v6(packet.from, packet.to, kinds[1], 0, word, data)
        };
    })
}

fn request(packet: &Client, word: [u8; 4], data: &[u8]) -> Client {
    echo(packet, [8, 128], word, data)
}

/// The reply to a request: addresses swapped, TTL 64, everything else as it was.
fn reply(packet: &Client, word: [u8; 4], data: &[u8]) -> Vec<u8> {
    let back = packet.with(|packet| {
        (packet.from, packet.to) = (packet.to, packet.from);
        packet.ttl = 64;
    });
    let mut back = echo(&back, [0, 129], word, data);
    if packet.from.is_ipv4() && back.data[2..4] == [0, 0] {
        // The other zero of one's complement: valid for any message, and the only valid one for all zeroes.
        back.data[2..4].copy_from_slice(&[0xff, 0xff]);
    }
    packet.answered(&[back.packet(), packet.padding.clone()].concat())
}

fn case(name: &str, packet: &Client, word: [u8; 4], data: &[u8]) -> Case {
    let frame = request(packet, word, data).frame();
    sent(name, frame, "answered_echo", reply(packet, word, data))
}

const WORD: [u8; 4] = [0x12, 0x34, 0, 1];

#[test]
fn a_request_to_a_vip_is_answered() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6] {
        for data in [0, 1, 7, 56, 1_000, 1_452] {
            cases.push(case(&format!("{data} octets to {vip}"), &to(vip), WORD, &pattern(data)));
        }
        for ttl in [1, 64, 255] {
            let packet = to(vip).with(|packet| packet.ttl = ttl);
            cases.push(case(&format!("TTL {ttl} to {vip}"), &packet, WORD, &pattern(56)));
        }
        let tags = vec![Tag::Service(5), Tag::Customer(6)];
        cases.push(case("tagged", &to(vip).with(|packet| packet.tags = tags.clone()), WORD, &[7; 9]));
        cases.push(case("padded", &to(vip).with(|packet| packet.padding = vec![1; 17]), WORD, &[7; 1]));
    }
    cases.push(case("with options", &to(VIP4).with(|packet| packet.options = vec![1; 8]), WORD, &[7; 9]));
    cases.push(case("under a lease", &to(LEASED_VIP), WORD, &[7; 9]));
    check(&ordinary(), cases);
}

#[test]
fn a_jumbo_request_is_answered_whole() {
    let cases = [VIP4, VIP6].map(|vip| case(vip, &to(vip), WORD, &pattern(8_000)));
    check(&ordinary(), cases.into());
}

#[test]
fn the_reply_checksum_holds_whatever_the_request_says() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6] {
        // The checksum of all zeroes is all ones, which an incremental update does not find.
        for word in [[0; 4], [0, 0, 0, 1], [0xff; 4], [0xf7, 0xff, 0, 0], [0xf8, 0, 0, 0], [0xff, 0xff, 0, 0]]
        {
            for data in [&[][..], &[0; 56], &[0xff; 56], &[0xff, 0xff]] {
                cases.push(case(&format!("{word:?} {} octets to {vip}", data.len()), &to(vip), word, data));
            }
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn the_reply_checksum_holds_for_every_sequence_number() {
    let mut both = Both::new(&ordinary());
    for vip in [VIP4, VIP6] {
        for sequence in (0..=u16::MAX).step_by(3) {
            let [high, low] = sequence.to_be_bytes();
            let frame = request(&to(vip), [0, 0, high, low], &[]).frame();
            let seen = if sequence % 64 == 0 { both.run(&frame) } else { run_in_memory(&mut both, &frame) };
            assert_eq!(seen.frame, reply(&to(vip), [0, 0, high, low], &[]), "{vip} sequence {sequence}");
        }
    }
}

fn run_in_memory(both: &mut Both, frame: &[u8]) -> fairlead_tests::packets::Seen {
    use fairlead_tests::packets::Probe;
    both.host.run(frame)
}

#[test]
fn requests_to_other_addresses_are_the_kernels() {
    let cases =
        OTHER.map(|address| passed(address, request(&to(address), WORD, &[1; 8]).frame(), "passed_not_vip"));
    check(&ordinary(), cases.into());
}

#[test]
fn a_vip_that_another_node_answers_for_is_left_to_it() {
    let cases = LEFT_VIPS.map(|vip| passed(vip, request(&to(vip), WORD, &[1; 8]).frame(), "passed_no_lease"));
    check(&ordinary(), cases.into());
}

#[test]
fn replies_are_never_answered() {
    let cases = [VIP4, VIP6].map(|vip| {
        let frame = echo(&to(vip), [0, 129], WORD, &[1; 8]).frame();
        dropped(vip, frame, "icmp_other")
    });
    check(&ordinary(), cases.into());
}

#[test]
fn a_source_that_cannot_be_answered_is_dropped() {
    let mut cases = Vec::new();
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
    ] {
        let vip = if source.contains(':') { VIP6 } else { VIP4 };
        let packet = Client::new(source, vip);
        cases.push(dropped(source, request(&packet, WORD, &[1; 8]).frame(), "malformed"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_request_from_a_mac_that_cannot_be_answered_is_dropped() {
    let mut cases = Vec::new();
    for (name, mac) in NOBODY {
        for vip in [VIP4, VIP6] {
            let packet = to(vip).with(|packet| packet.source_mac = mac);
            let frame = request(&packet, WORD, &[1; 8]).frame();
            cases.push(dropped(format!("from {name} to {vip}"), frame, "malformed"));
        }
        let elsewhere = to(OTHER[0]).with(|packet| packet.source_mac = mac);
        cases.push(passed(name, request(&elsewhere, WORD, &[1; 8]).frame(), "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_request_with_a_code_is_dropped() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6] {
        let mut packet = request(&to(vip), WORD, &[1; 8]);
        packet.data[1] = 1;
        cases.push(dropped(vip, packet.frame(), "malformed"));
    }
    check(&ordinary(), cases);
}

#[test]
fn a_request_cut_short_is_dropped_even_if_padding_looks_like_its_rest() {
    let mut cases = Vec::new();
    for vip in [VIP4, VIP6] {
        let whole = request(&to(vip), WORD, &[]);
        for kept in 0..8 {
            let cut = whole.with(|packet| {
                packet.padding = packet.data.split_off(kept);
                packet.padding.extend([0; 20]);
            });
            cases.push(dropped(format!("{kept} octets to {vip}, padded"), cut.frame(), "malformed"));
            let bare = cut.with(|packet| packet.padding.clear());
            cases.push(dropped(format!("{kept} octets to {vip}"), bare.frame(), "malformed"));
        }
    }
    check(&ordinary(), cases);
}

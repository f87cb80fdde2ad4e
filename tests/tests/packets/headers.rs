//! IPv6 extension headers, fragments, lengths that contradict each other.

use fairlead_tests::packets::Client;
use fairlead_tests::packets::client::{ACK, Upper};
use fairlead_tests::packets::extension::Extension::{
    self, Authentication, Destination, Fragment, HopByHop, Routing,
};

use crate::both::{Case, check, dropped, passed, sent};
use crate::fixture::{L2_VIP6, OTHER, VIP4, VIP6, dns, forwarded, ordinary, to};

fn with(vip: &str, extensions: &[Extension]) -> Client {
    to(vip).tcp(ACK, 30).with(|packet| packet.extensions = extensions.to_vec())
}

#[test]
fn up_to_four_extension_headers_are_looked_through() {
    let setup = ordinary();
    let chains: &[&[Extension]] = &[
        &[HopByHop(0)],
        &[Routing(0)],
        &[Destination(0)],
        &[Authentication(4)],
        &[Fragment(0)],
        &[Fragment(0x0006)],
        &[HopByHop(3), Destination(1)],
        &[HopByHop(255)],
        &[Authentication(255)],
        &[Authentication(1), Authentication(2)],
        &[HopByHop(0), Routing(2), Fragment(0), Destination(1)],
        &[HopByHop(0), Routing(2), Authentication(3), Destination(0)],
        &[Destination(0), Destination(0), Destination(0), Destination(0)],
    ];
    let mut cases = Vec::new();
    for chain in chains {
        for (vip, slot) in [(VIP6, 3), (L2_VIP6, 6)] {
            let packet = with(vip, chain);
            if packet.packet().len() > 1_460 {
                continue;
            }
            let expected = forwarded(&setup, &packet, slot);
            cases.push(sent(format!("{chain:?} to {vip}"), packet.frame(), "forwarded", expected));
        }
        let datagram = dns(VIP6).with(|packet| packet.extensions = chain.to_vec());
        if datagram.packet().len() <= 1_460 {
            let expected = forwarded(&setup, &datagram, 4);
            cases.push(sent(format!("{chain:?} to UDP"), datagram.frame(), "forwarded", expected));
        }
    }
    check(&setup, cases);
}

#[test]
fn long_extension_headers_are_looked_through_in_big_frames() {
    let mut setup = ordinary();
    setup.egress[0].mtu = 9_000;
    let chain = [HopByHop(90), Destination(90), Destination(90), Authentication(180)];
    let packet = with(VIP6, &chain);
    let expected = forwarded(&setup, &packet, 3);
    check(&setup, vec![sent("four of 728 octets", packet.frame(), "forwarded", expected)]);
    // The fourth header is behind what a program can read.
    let deep = with(VIP6, &[HopByHop(255), Destination(255), Destination(0)]);
    check(&setup, vec![dropped("4,096 octets deep", deep.frame(), "malformed")]);
}

#[test]
fn five_extension_headers_are_too_many() {
    let mut cases = Vec::new();
    for last in [HopByHop(0), Routing(0), Destination(0), Authentication(1), Fragment(0), Fragment(0x0100)] {
        let chain = [HopByHop(0), Destination(0), Routing(0), Destination(0), last];
        cases.push(dropped(format!("{last:?}"), with(VIP6, &chain).frame(), "extension_headers"));
        cases.push(passed(format!("{last:?} elsewhere"), with(OTHER[1], &chain).frame(), "passed_not_vip"));
    }
    check(&ordinary(), cases);
}

#[test]
fn fragments_to_a_vip_are_dropped_and_others_are_the_kernels() {
    let mut cases = Vec::new();
    for (name, word) in [("first", 0x2000), ("middle", 0x2010), ("last", 0x0010), ("last of DF", 0x4010)] {
        let fragment = |vip: &str| to(vip).with(|packet| packet.fragment = word).frame();
        cases.push(dropped(format!("{name} of IPv4"), fragment(VIP4), "fragment"));
        cases.push(passed(format!("{name} of IPv4 elsewhere"), fragment(OTHER[0]), "passed_not_vip"));
    }
    for (name, word) in [("first", 0x0001), ("middle", 0x0009), ("last", 0x0008), ("far", 0xfff8)] {
        for chain in [vec![Fragment(word)], vec![HopByHop(0), Fragment(word)]] {
            cases.push(dropped(format!("{name} of IPv6, {chain:?}"), with(VIP6, &chain).frame(), "fragment"));
            let frame = with(OTHER[1], &chain).frame();
            cases.push(passed(format!("{name} of IPv6 elsewhere, {chain:?}"), frame, "passed_not_vip"));
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn df_and_the_reserved_bit_make_no_fragment() {
    let setup = ordinary();
    let cases = [0x4000, 0x8000, 0xc000].map(|word| {
        let packet = to(VIP4).with(|packet| packet.fragment = word);
        sent(format!("{word:04x}"), packet.frame(), "forwarded", forwarded(&setup, &packet, 1))
    });
    check(&setup, cases.into());
}

/// The frame with octets at an offset from the IP header replaced.
fn changed(packet: &Client, at: usize, octets: &[u8]) -> Vec<u8> {
    let mut frame = packet.frame();
    frame[14 + at..14 + at + octets.len()].copy_from_slice(octets);
    frame
}

#[test]
fn lengths_that_contradict_each_other_are_malformed() {
    let (v4, v6, tcp4) = (dns(VIP4), dns(VIP6), to(VIP4).tcp(ACK, 8));
    let udp_v4_bytes = v4.packet().len() as u16;
    let mut cases: Vec<Case> = vec![
        dropped("IHL below 5", changed(&v4, 0, &[0x44]), "malformed"),
        dropped("IHL 0", changed(&v4, 0, &[0x40]), "malformed"),
        dropped("IHL beyond the total length", changed(&to(VIP4), 0, &[0x4f]), "malformed"),
        dropped("total length below the header", changed(&v4, 2, &[0, 19]), "malformed"),
        dropped("total length 0", changed(&v4, 2, &[0, 0]), "malformed"),
        dropped(
            "total length beyond the frame",
            changed(&v4, 2, &(udp_v4_bytes + 1).to_be_bytes()),
            "malformed",
        ),
        dropped("total length 65,535", changed(&v4, 2, &[0xff, 0xff]), "malformed"),
        dropped("total length cuts the UDP header", changed(&v4, 2, &[0, 27]), "malformed"),
        dropped("total length cuts the TCP header", changed(&tcp4, 2, &[0, 39]), "malformed"),
        dropped("TCP data offset below 5", changed(&tcp4, 32, &[0x40]), "malformed"),
        dropped("TCP data offset 0", changed(&tcp4, 32, &[0x00]), "malformed"),
        dropped("TCP data offset beyond the packet", changed(&tcp4, 32, &[0x80]), "malformed"),
        dropped("payload length beyond the frame", changed(&v6, 4, &[0, 49]), "malformed"),
        dropped("payload length 0", changed(&v6, 4, &[0, 0]), "malformed"),
        dropped("payload length cuts the UDP header", changed(&v6, 4, &[0, 7]), "malformed"),
    ];
    for vip in [VIP4, VIP6] {
        let header = if vip == VIP4 { 20 } else { 40 };
        let whole = to(vip).frame();
        for length in 14 + header..whole.len() {
            cases.push(dropped(format!("{vip} cut to {length}"), whole[..length].to_vec(), "malformed"));
        }
    }
    check(&ordinary(), cases);
}

#[test]
fn a_tcp_data_offset_at_the_very_end_of_the_packet_is_whole() {
    let setup = ordinary();
    let packet = to(VIP4).tcp(ACK, 8);
    // Eight octets of data become options; neither world looks at the TCP checksum.
    let frame = changed(&packet, 32, &[0x70]);
    let mut expected = forwarded(&setup, &packet, 1);
    expected[14 + 20 + 32] = 0x70;
    let mut both = crate::both::Both::new(&setup);
    let seen = both.run(&frame);
    assert_eq!((&seen.outcomes[..], seen.frame), (&["forwarded"][..], expected));
}

#[test]
fn an_extension_header_beyond_the_frame_is_malformed() {
    let mut cases = Vec::new();
    for extension in [HopByHop(0), Routing(0), Destination(0), Fragment(0), Authentication(0)] {
        let mut packet = with(VIP6, &[extension]);
        packet.upper = Upper::Raw(17);
        packet.data = Vec::new();
        let whole = packet.frame();
        // The packet ends inside the extension header, by its own length too.
        for kept in 0..4 {
            let mut frame = whole[..54 + kept].to_vec();
            frame[18..20].copy_from_slice(&(kept as u16).to_be_bytes());
            cases.push(dropped(format!("{extension:?} cut to {kept}"), frame, "malformed"));
        }
        cases.push(dropped(format!("{extension:?} and nothing behind"), whole, "malformed"));
    }
    check(&ordinary(), cases);
}

#[test]
fn an_extension_header_behind_the_packet_is_malformed_although_the_frame_has_it() {
    let mut cases = Vec::new();
    for extension in [HopByHop(0), Routing(0), Destination(0), Fragment(0), Authentication(0)] {
        let mut packet = with(VIP6, &[extension]);
        (packet.upper, packet.data) = (Upper::Raw(99), vec![0; 20]);
        let mut frame = packet.frame();
        cases.push(dropped(format!("{extension:?}"), frame.clone(), "unknown_protocol"));
        for bytes in [0, 7] {
            frame[18..20].copy_from_slice(&u16::to_be_bytes(bytes));
            cases.push(dropped(format!("{extension:?} in {bytes} octets"), frame.clone(), "malformed"));
        }
    }
    check(&ordinary(), cases);
}

use proptest::prelude::*;

use super::*;

const V4: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)));
const V6: (IpAddr, IpAddr) = (
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
);

/// VRID 51, priority 100, 1 s, 192.0.2.10. The sum was worked out by hand: 3133 + 6401 + 0064 + c000 + 020a = 157a2,
/// 57a3 with its carry, of which this is the complement.
const PLAIN: [u8; 12] = [0x31, 51, 100, 1, 0x00, 0x64, 0xa8, 0x5c, 192, 0, 2, 10];

fn advert(addresses: &[&str]) -> Advert {
    Advert {
        vrid: 51,
        priority: 100,
        interval: AdvertInterval::DEFAULT,
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    }
}

fn received(ends: (IpAddr, IpAddr), payload: &[u8]) -> Received<'_> {
    Received { source: ends.0, destination: ends.1, hop_limit: 255, payload }
}

/// What becomes of the packet when bytes are written over it and its sum is made right again.
fn check_changed(changes: &[(usize, u8)], expected: Result<(), AdvertError>) {
    let mut packet = PLAIN;
    for (place, byte) in changes {
        packet[*place] = *byte;
    }
    (packet[6], packet[7]) = (0, 0);
    [packet[6], packet[7]] = (!fold(add(0, &packet))).to_be_bytes();
    assert_eq!(Advert::decode(&received(V4, &packet), 51).map(|_| ()), expected, "{changes:?}");
}

#[test]
fn an_ipv4_advert_has_the_bytes_of_the_rfc() {
    assert_eq!(advert(&["192.0.2.10"]).encode(V4.0, V4.1, ChecksumForm::Message), Ok(PLAIN.to_vec()));
    // 192.0.2.1, 224.0.0.18, protocol 112, 12 bytes: c000 + 0201 + e000 + 0012 + 0070 + 000c = 1a28f.
    let pseudo = advert(&["192.0.2.10"]).encode(V4.0, V4.1, ChecksumForm::PseudoHeader);
    assert_eq!(pseudo.map(|packet| [packet[6], packet[7]]), Ok((!0xfa33_u16).to_be_bytes()));
}

#[test]
fn an_ipv6_advert_has_the_bytes_of_the_rfc() {
    let packet = advert(&["fe80::a", "2001:db8::a"]).encode(V6.0, V6.1, ChecksumForm::Message);
    let packet = packet.expect("an advert");
    assert_eq!(packet[..6], [0x31, 51, 100, 2, 0x00, 0x64]);
    assert_eq!((packet.len(), packet[8], packet[23], packet[24], packet[39]), (40, 0xfe, 0x0a, 0x20, 0x0a));
    let pseudo = [
        &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12],
        &[0, 0, 0, 40, 0, 0, 0, 112],
    ];
    assert_eq!(fold(add(add(0, &pseudo.concat()), &packet)), 0xffff);
}

#[test]
fn both_readings_of_the_ipv4_sum_are_accepted_and_told_apart() {
    for form in [ChecksumForm::Message, ChecksumForm::PseudoHeader] {
        let packet = advert(&["192.0.2.10"]).encode(V4.0, V4.1, form).expect("an advert");
        let expected = Decoded { advert: advert(&["192.0.2.10"]), checksum: form };
        assert_eq!(Advert::decode(&received(V4, &packet), 51), Ok(expected));
    }
}

#[test]
fn an_ipv6_sum_without_pseudo_header_is_wrong() {
    let mut packet = advert(&["2001:db8::a"]).encode(V6.0, V6.1, ChecksumForm::Message).expect("an advert");
    (packet[6], packet[7]) = (0, 0);
    let sum = !fold(add(0, &packet));
    [packet[6], packet[7]] = sum.to_be_bytes();
    assert_eq!(Advert::decode(&received(V6, &packet), 51), Err(AdvertError::Checksum));
}

#[test]
fn each_check_of_the_rfc_says_which_it_was() {
    check_changed(&[], Ok(()));
    check_changed(&[(0, 0x21)], Err(AdvertError::Version(2)));
    check_changed(&[(0, 0x41)], Err(AdvertError::Version(4)));
    check_changed(&[(0, 0x32)], Err(AdvertError::Type(2)));
    check_changed(&[(0, 0x30)], Err(AdvertError::Type(0)));
    check_changed(&[(1, 52)], Err(AdvertError::Vrid(52)));
    check_changed(&[(3, 2)], Err(AdvertError::Length { len: 12, needed: 16 }));
    check_changed(&[(4, 0), (5, 0)], Err(AdvertError::Interval));
    // Reserved bits are ignored, and are no part of the interval.
    check_changed(&[(4, 0xf0)], Ok(()));
    check_changed(&[(4, 0xf0), (5, 0)], Err(AdvertError::Interval));
    check_changed(&[(2, 0)], Ok(()));
    check_changed(&[(2, 255)], Ok(()));
}

#[test]
fn a_hop_limit_other_than_255_is_refused_first() {
    for hop_limit in [0, 1, 64, 254] {
        let packet = Received { hop_limit, ..received(V4, &[]) };
        assert_eq!(Advert::decode(&packet, 51), Err(AdvertError::HopLimit(hop_limit)));
    }
}

#[test]
fn an_advert_without_addresses_is_refused() {
    let mut packet = PLAIN[..8].to_vec();
    packet[3] = 0;
    (packet[6], packet[7]) = (0, 0);
    let sum = !fold(add(0, &packet));
    [packet[6], packet[7]] = sum.to_be_bytes();
    assert_eq!(Advert::decode(&received(V4, &packet), 51), Err(AdvertError::NoAddress));
}

#[test]
fn packets_that_end_early_are_too_short_and_what_follows_the_addresses_is_ignored() {
    for len in 0..PLAIN.len() {
        let needed = if len < 8 { 8 } else { 12 };
        let expected = Err(AdvertError::Length { len, needed });
        assert_eq!(Advert::decode(&received(V4, &PLAIN[..len]), 51), expected);
    }
    let longer = [&PLAIN[..], &[1, 2, 3]].concat();
    assert!(Advert::decode(&received(V4, &longer), 51).is_ok());
}

#[test]
fn a_header_of_two_families_is_refused() {
    assert_eq!(Advert::decode(&received((V4.0, V6.1), &PLAIN), 51), Err(AdvertError::Family));
    assert_eq!(Advert::decode(&received((V6.0, V4.1), &PLAIN), 51), Err(AdvertError::Family));
}

#[test]
fn adverts_that_cannot_be_one_packet_are_not_encoded() {
    let encode = |addresses: Vec<IpAddr>| {
        Advert { addresses, ..advert(&[]) }.encode(V4.0, V4.1, ChecksumForm::Message)
    };
    assert_eq!(encode(Vec::new()), Err(EncodeError::Addresses(0)));
    assert_eq!(encode(vec![V4.0; MAX_ADDRESSES + 1]), Err(EncodeError::Addresses(256)));
    assert!(encode(vec![V4.0; MAX_ADDRESSES]).is_ok());
    assert_eq!(encode(vec![V4.0, V6.0]), Err(EncodeError::Family(V6.0)));
    let across = advert(&["192.0.2.10"]).encode(V4.0, V6.1, ChecksumForm::Message);
    assert_eq!(across, Err(EncodeError::Family(V6.1)));
}

#[test]
fn the_vrid_is_found_before_the_packet_is_decoded() {
    assert_eq!(vrid_of(&PLAIN), Some(51));
    assert_eq!(vrid_of(&[0x31]), None);
}

fn any_advert() -> impl Strategy<Value = (Advert, bool)> {
    (any::<u8>(), any::<u8>(), 1..=4_095_u16, any::<bool>(), prop::collection::vec(any::<u128>(), 1..=255))
        .prop_map(|(vrid, priority, centis, v6, numbers)| {
            let address = |number: u128| match v6 {
                true => IpAddr::from(number.to_be_bytes()),
                false => IpAddr::from(u32::try_from(number >> 96).expect("32 bits").to_be_bytes()),
            };
            let interval = AdvertInterval::from_centis(centis).expect("within its bounds");
            (Advert { vrid, priority, interval, addresses: numbers.into_iter().map(address).collect() }, v6)
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((advert, v6) in any_advert(), message in any::<bool>()) {
        let ends = if v6 { V6 } else { V4 };
        let form = if message && !v6 { ChecksumForm::Message } else { ChecksumForm::PseudoHeader };
        let packet = advert.encode(ends.0, ends.1, form).expect("an advert");
        let decoded = Advert::decode(&received(ends, &packet), advert.vrid).expect("the same advert");
        prop_assert_eq!(decoded.advert, advert);
    }

    #[test]
    fn one_wrong_bit_is_never_taken_for_an_advert((advert, v6) in any_advert(), bit in any::<prop::sample::Index>()) {
        let ends = if v6 { V6 } else { V4 };
        let mut packet = advert.encode(ends.0, ends.1, ChecksumForm::PseudoHeader).expect("an advert");
        let bit = bit.index(packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Advert::decode(&received(ends, &packet), advert.vrid).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64), v6 in any::<bool>(), hop_limit in 254..=255_u8,
    ) {
        let ends = if v6 { V6 } else { V4 };
        let packet = Received { hop_limit, ..received(ends, &bytes) };
        let _ = Advert::decode(&packet, 51);
    }

    #[test]
    fn what_passes_for_an_advert_says_the_same_when_encoded_again(
        mut bytes in prop::collection::vec(any::<u8>(), 12..64),
    ) {
        bytes[0] = 0x31;
        bytes[3] = 1;
        (bytes[6], bytes[7]) = (0, 0);
        let sum = !fold(add(0, &bytes[..12]));
        [bytes[6], bytes[7]] = sum.to_be_bytes();
        if let Ok(Decoded { advert, .. }) = Advert::decode(&received(V4, &bytes), bytes[1]) {
            let again = advert.encode(V4.0, V4.1, ChecksumForm::Message).expect("an advert");
            prop_assert_eq!(Advert::decode(&received(V4, &again), advert.vrid).map(|decoded| decoded.advert), Ok(advert));
        }
    }
}

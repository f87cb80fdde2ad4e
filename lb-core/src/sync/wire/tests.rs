//! Every message there and back, and what is not one.

use std::time::Duration;

use lb_common::hash::SplitMix64;
use proptest::prelude::*;

use super::*;
use crate::config::{AdminState, Protocol};
use crate::health::Verdict;
use crate::plan::ServiceKey;

fn key() -> ClusterKey {
    ClusterKey::from_file(b"the key of a cluster of tests").unwrap()
}

const HEAD: Header = Header { node: 1, session: 2, receiver: 3, counter: 4 };

fn samples() -> Vec<Message> {
    let v4 = ServiceKey { vip: [192, 0, 2, 1].into(), port: 80, protocol: Protocol::Tcp };
    let v6 = ServiceKey { vip: [0x2001; 8].into(), port: 53, protocol: Protocol::Udp };
    let changes = vec![
        FlowChange { hash_low: 7, fingerprint: 0, state: 3 },
        FlowChange { hash_low: u32::MAX, fingerprint: 9, state: DELETE },
    ];
    let batch = vec![
        BatchGroup { service: v4, backend: [10, 0, 0, 1].into(), changes },
        BatchGroup { service: v6, backend: [0xfd00; 8].into(), changes: Vec::new() },
    ];
    let said = |verdict| BackendSaid {
        backend: [10, 0, 0, 1].into(),
        state: AdminState::Drain,
        weight: 1_000,
        verdict,
    };
    let verdicts = [Verdict::Unchecked, Verdict::Unknown, Verdict::Up, Verdict::Down].map(said).to_vec();
    let group = "öffentlich".to_owned();
    vec![
        Message::Hello(Hello {
            cluster: "c".into(),
            node: "n".into(),
            bucket_bits: 17,
            hash_complete: true,
            groups: vec![GroupSaid { name: "a".into(), priority: 254, active: true }],
            next_expected: 77,
            bulk_complete: true,
        }),
        Message::Sequenced(u64::MAX, Sequenced::Batch(batch.clone())),
        Message::Sequenced(4, Sequenced::Legacy(batch)),
        Message::Nack { from: 3, to: 9 },
        Message::Sequenced(1, Sequenced::BulkBegin { first: true, services: vec![v4, v6] }),
        Message::Sequenced(2, Sequenced::BulkEnd),
        Message::Sequenced(
            3,
            Sequenced::Verdicts(VerdictsSaid {
                service: v6,
                first: true,
                last: false,
                backends: verdicts,
                digest: 99,
            }),
        ),
        Message::HandOver { group: group.clone() },
        Message::HandOverReply { group: group.clone(), accepted: true },
        Message::Hold { group, time: Duration::from_millis(61_001) },
    ]
}

#[test]
fn each_message_arrives_as_it_was_sent() {
    for message in samples() {
        let datagram = seal(&key(), &HEAD, &message.encode()).unwrap();
        assert_eq!(open(&key(), &datagram), Ok((HEAD, message)));
    }
}

#[test]
fn no_bit_of_a_datagram_can_be_changed_and_no_byte_cut_off_or_added() {
    for message in samples() {
        let datagram = seal(&key(), &HEAD, &message.encode()).unwrap();
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(), &changed).is_err(), "bit {bit} of {message:?}");
        }
        for length in 0..datagram.len() {
            assert!(open(&key(), &datagram[..length]).is_err(), "{length} bytes of {message:?}");
        }
        assert_eq!(open(&key(), &[datagram, vec![0]].concat()), Err(WireError::Tag));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let message = Message::Nack { from: 1, to: 1 }.encode();
    let datagram = seal(&key(), &HEAD, &message).unwrap();
    let other = ClusterKey::from_file(b"the key of another cluster").unwrap();
    assert_eq!(open(&other, &datagram), Err(WireError::Key));
    let sealed = |message: &[u8]| open(&key(), &seal(&key(), &HEAD, message).unwrap());
    assert_eq!(sealed(&[]), Err(WireError::Truncated));
    assert_eq!(sealed(&[200]), Err(WireError::Kind));
    assert_eq!(sealed(&[message.as_slice(), &[1]].concat()), Err(WireError::Trailing));
    assert_eq!(sealed(&message[..9]), Err(WireError::Truncated));
    assert_eq!(open(&key(), &[0; 100]), Err(WireError::Magic));
    assert_eq!(open(&key(), &[0; MAX_DATAGRAM + 1]), Err(WireError::TooLong));
    let mut old = datagram.clone();
    old[4] = 9;
    assert_eq!(open(&key(), &old), Err(WireError::Version));
    let nobody = seal(&key(), &Header { session: 0, ..HEAD }, &message).unwrap();
    assert_eq!(open(&key(), &nobody), Err(WireError::Value));
    let state = FlowChange { hash_low: 0, fingerprint: 0, state: 0x40 };
    let service = ServiceKey { vip: [1; 4].into(), port: 1, protocol: Protocol::Tcp };
    let group = BatchGroup { service, backend: [2; 4].into(), changes: vec![state] };
    assert_eq!(sealed(&Message::Sequenced(1, Sequenced::Batch(vec![group])).encode()), Err(WireError::Value));
}

#[test]
fn what_does_not_fit_is_not_sent() {
    assert_eq!(seal(&key(), &HEAD, &[0; MAX_MESSAGE]).map(|datagram| datagram.len()), Ok(MAX_DATAGRAM));
    assert_eq!(seal(&key(), &HEAD, &[0; MAX_MESSAGE + 1]), Err(WireError::TooLong));
}

#[test]
fn a_long_name_is_cut_off_at_a_character() {
    let group = "ä".repeat(200);
    let sent = Message::HandOver { group: group.clone() };
    let Ok(Message::HandOver { group: got }) = Message::decode(&sent.encode()) else { panic!("no handover") };
    assert!(got.len() == 254 && group.starts_with(&got));
}

#[test]
fn nodes_have_ids_of_their_own() {
    let ids = [node_id("a", "bc"), node_id("ab", "c"), node_id("a", "bd")];
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
}

#[test]
fn reasons_are_counted_by_kind() {
    let mut rejected = Rejected::default();
    for (times, reason) in WireError::ALL.into_iter().enumerate() {
        (0..times).for_each(|_| rejected.count(reason));
        assert_eq!(rejected.of(reason), times as u64);
    }
    assert_eq!(rejected.total(), 13 * 14 / 2);
}

#[test]
fn messages_with_any_bytes_changed_never_panic() {
    let mut random = SplitMix64(7);
    for round in 0..40_000 {
        let mut message = samples()[round % samples().len()].encode();
        for _ in 0..=random.draw() % 4 {
            let at = usize::try_from(random.draw()).unwrap() % message.len();
            message[at] = random.draw().to_le_bytes()[0];
        }
        if let Ok(read) = Message::decode(&message) {
            assert_eq!(Message::decode(&read.encode()), Ok(read));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let _ = Message::decode(&bytes);
        let _ = open(&key(), &bytes);
    }
}

//! What holds for any frame at all, in plain memory.

use std::cell::RefCell;

use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::setup::ELSEWHERE;
use fairlead_tests::packets::wire::{self, OWN};
use fairlead_tests::packets::{HostDecap, HostWorld, Probe, Random, Seen};
use lb_common::decap::DecapOutcome;
use lb_common::reason::Action;
use proptest::prelude::*;

use crate::comparison::{any_frame, decap_setup, tunnelled};
use crate::fixture::ordinary;

thread_local! {
    /// UDP over IPv6 and the `l2` service over IPv4 leave by another interface.
    static WORLD: RefCell<HostWorld> =
        RefCell::new(HostWorld::new(&ordinary().with_elsewhere(1_400).by(4, ELSEWHERE).by(5, ELSEWHERE)));
}

fn run(frame: &[u8]) -> Seen {
    WORLD.with_borrow_mut(|world| world.run(frame))
}

/// Offset of the network header behind up to two tags.
fn network(frame: &[u8]) -> usize {
    let tagged = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    match (tagged(12), tagged(16)) {
        (true, true) => 22,
        (true, false) => 18,
        _ => 14,
    }
}

fn holds(frame: &[u8]) -> Result<(), TestCaseError> {
    let seen = run(frame);
    prop_assert_eq!(seen.outcomes.len(), 1, "{:?} for {}", &seen.outcomes, hex(frame));
    match seen.action {
        Action::Pass => prop_assert_eq!(&seen.frame[..], frame, "passed, but changed"),
        Action::Drop => prop_assert!(seen.slots.is_empty()),
        Action::Transmit => {
            prop_assert_eq!(&seen.frame[6..12], &OWN, "sent from another MAC");
            prop_assert_eq!(seen.outcomes[0] == "forwarded", seen.slots.len() == 1);
            if seen.outcomes[0] == "forwarded" {
                let at = network(frame);
                prop_assert_eq!(&seen.frame[12..at - 2], &frame[12..at - 2], "tags of {}", hex(frame));
                forwards_what_came(frame, &seen.frame, at)?;
            }
        }
        Action::Redirect => {
            prop_assert_eq!(&seen.frame[6..12], &wire::ELSEWHERE, "redirected from another MAC");
            prop_assert_eq!((seen.outcomes[0], seen.slots.len()), ("redirected", 1));
            forwards_what_came(frame, &seen.frame, 14)?;
        }
    }
    Ok(())
}

/// Behind the link header of `link` octets and whatever was put in front, only TTL and header checksum differ.
fn forwards_what_came(frame: &[u8], out: &[u8], link: usize) -> Result<(), TestCaseError> {
    let came = &frame[network(frame)..];
    let outer = out.len() - link - came.len();
    prop_assert!([0, 20, 40].contains(&outer), "{} octets were added to {}", outer, hex(frame));
    let mut inner = out[link + outer..].to_vec();
    if came[0] >> 4 == 4 {
        prop_assert_eq!(inner[8], came[8] - 1);
        inner[8] = came[8];
        inner[10..12].copy_from_slice(&came[10..12]);
    } else {
        prop_assert_eq!(inner[7], came[7] - 1);
        inner[7] = came[7];
    }
    prop_assert_eq!(&inner[..], came, "{}", hex(frame));
    Ok(())
}

fn decapsulates(frame: &[u8]) -> Result<(), TestCaseError> {
    let (outcome, out) = HostDecap::run(&decap_setup(), frame);
    match outcome {
        DecapOutcome::NotTunnel | DecapOutcome::ForeignSource => prop_assert_eq!(&out[..], frame),
        DecapOutcome::Decapsulated => {
            let at = network(frame);
            let outer = frame.len() - out.len();
            prop_assert!(outer == 20 || outer == 40);
            prop_assert_eq!(&out[at..], &frame[at + outer..], "the inner packet of {}", hex(frame));
            prop_assert_eq!(&out[..at - 2], &frame[..at - 2], "MACs and tags of {}", hex(frame));
        }
        DecapOutcome::ForeignVip | DecapOutcome::Malformed => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_have_one_outcome(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        holds(&frame)?;
        decapsulates(&frame)?;
    }

    #[test]
    fn any_octets_for_our_mac_have_one_outcome(
        kind in proptest::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88a8]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = [&OWN[..], &[2, 0, 0, 0, 0, 9], &kind.to_be_bytes(), &rest].concat();
        holds(&frame)?;
        decapsulates(&frame)?;
    }

    #[test]
    fn what_almost_is_a_packet_has_one_outcome(seed: u64) {
        holds(&any_frame(&mut Random::new(seed)))?;
    }

    #[test]
    fn what_almost_is_a_tunnel_is_unwrapped_whole_or_not_at_all(seed: u64) {
        let frame = tunnelled(&mut Random::new(seed));
        decapsulates(&frame)?;
        holds(&frame)?;
    }
}

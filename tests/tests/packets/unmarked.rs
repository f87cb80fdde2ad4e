//! A full bucket between a table switch and its marking: who is known to an entry alone stays, marked or not.

use fairlead_tests::packets::client::ip;
use fairlead_tests::packets::setup::{ORDINARY, word};
use fairlead_tests::packets::wire::TCP;
use fairlead_tests::packets::{Probe, Setup};
use lb_common::backend::SlotState;
use lb_common::flow::FlowEntry;
use lb_common::service::{ServiceWord, TableClass};

use crate::both::Both;
use crate::fixture::{L2_VIP4, MTU, VIP4, forwarded, hash, to};

const LIVE: u8 = FlowEntry::CONFIRMED;
const EVICTED: &[&str] = &["flow_stored", "flow_evicted"];
const KEPT: &[&str] = &["flow_unstored", "flow_exception_kept"];

/// The table of the first service has been switched from slot 1 to slot 2; slot 3 is another service's.
fn setup() -> Setup {
    let from = Some(ip("10.0.0.254"));
    let mut setup = Setup::new(MTU)
        .service(ip(VIP4), 80, TCP, ORDINARY, &[2])
        .backend(1, ip("10.0.0.1"), from)
        .backend(2, ip("10.0.0.2"), from)
        .service(ip(L2_VIP4), 80, TCP, ORDINARY, &[3])
        .backend(3, ip("10.0.0.3"), None);
    setup.buckets = 1;
    setup
}

/// Fills the bucket with marked exceptions but for one entry, sends a newcomer of the first service, and says what became
/// of that entry.
fn newcomer(both: &mut Both, slot: u16, state: u8) -> (FlowEntry, Vec<&'static str>) {
    let client = to(VIP4);
    let tick = both.tick();
    for way in 0..8 {
        let state = if way == 5 { state } else { LIVE | FlowEntry::EXCEPTION };
        both.put_entry(0, way, FlowEntry::new(way as u32 + 1, slot, tick.wrapping_sub(3), state).0);
    }
    let seen = both.run(&client.frame());
    assert_eq!(seen.frame, forwarded(&setup(), &client, 2), "forwarded whether stored or not");
    let entry = both.entries(0)[5];
    if seen.events == EVICTED {
        assert_eq!((entry.fingerprint(), entry.slot()), (hash(&client).fingerprint(), 2));
    } else {
        assert_eq!(entry, FlowEntry::new(6, slot, tick.wrapping_sub(3), state | FlowEntry::EXCEPTION));
    }
    (entry, seen.events)
}

#[test]
fn a_live_flow_that_the_table_would_send_elsewhere_is_marked_and_the_newcomer_goes_unstored() {
    let mut both = Both::new(&setup());
    for state in [LIVE, 0, LIVE | FlowEntry::UDP, LIVE | FlowEntry::REMOTE] {
        for backend in [SlotState::Serving, SlotState::Draining] {
            both.put_backend(1, word(1, backend).0);
            let (entry, events) = newcomer(&mut both, 1, state);
            assert_eq!(events, KEPT, "state {state} {backend:?}");
            assert!(entry.is(FlowEntry::EXCEPTION));
            let again = both.run(&to(VIP4).port(7).frame());
            assert_eq!(again.events, ["flow_unstored"], "the next one finds it marked");
        }
    }
}

#[test]
fn a_flow_that_needs_its_entry_no_more_makes_room() {
    let mut both = Both::new(&setup());
    assert_eq!(newcomer(&mut both, 2, LIVE).1, EVICTED, "the table's choice");
    assert_eq!(newcomer(&mut both, 1, LIVE | FlowEntry::CLOSING).1, EVICTED, "closing");
    for backend in [SlotState::Dead, SlotState::Free] {
        both.put_backend(1, word(1, backend).0);
        assert_eq!(newcomer(&mut both, 1, LIVE).1, EVICTED, "{backend:?}");
    }
    assert_eq!(newcomer(&mut both, 9, LIVE).1, EVICTED, "a slot without a row");
}

#[test]
fn the_service_of_the_entry_is_asked_and_not_the_newcomers() {
    let mut both = Both::new(&setup());
    assert_eq!(newcomer(&mut both, 3, LIVE).1, EVICTED, "its own table names it");
    let unit = 1;
    let published = |flags| ServiceWord::new(unit, TableClass::Small, flags, 0).0;
    both.put_service(1, published(ORDINARY & !ServiceWord::SERVE));
    assert_eq!(newcomer(&mut both, 3, LIVE).1, KEPT, "no table would bring it back");
    both.put_service(1, published(ORDINARY & !ServiceWord::TRACK));
    assert_eq!(newcomer(&mut both, 3, LIVE).1, EVICTED, "its service looks at no entry");
    both.put_service(1, 0);
    assert_eq!(newcomer(&mut both, 3, LIVE).1, EVICTED, "its service is gone");
    both.put_service(1, published(ORDINARY));
    both.put_table(TableClass::Small.stride(), &[1; TableClass::Small.entries() as usize]);
    assert_eq!(newcomer(&mut both, 3, LIVE).1, KEPT, "its table was switched");
}

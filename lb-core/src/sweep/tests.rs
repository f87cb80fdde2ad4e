//! Passes over a few entries, with and without packets that come in between.

use std::cell::Cell;

use std::net::IpAddr;

use lb_common::BackendWord;
use lb_common::backend::RowSpec;
use lb_common::packet::Family;

use super::*;
use crate::config::{Limits, Metrics, Protocol};
use crate::plan::Snapshot;

const CLASS: TableClass = TableClass::Small;
const LIVE: u8 = FlowEntry::CONFIRMED;

fn facts(table: Option<&[u16]>, dead: bool) -> SlotFacts<'_> {
    SlotFacts {
        idle: idle_ticks(&Timeouts::default()),
        table: table.map(|table| (CLASS, table)),
        dead,
        owned_elsewhere: false,
    }
}

/// A word that a packet rewrites between the look at it and the change.
struct Raced {
    word: Cell<u64>,
    packet: u64,
}

impl FlowWord for Raced {
    fn load(&self) -> u64 {
        self.word.replace(self.packet)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        let same = self.word.get() == old;
        if same {
            self.word.set(new);
        }
        same
    }
}

#[test]
fn a_flow_that_the_table_sends_elsewhere_is_an_exception_and_no_longer_when_it_does_not() {
    let table = vec![7; CLASS.entries() as usize];
    let entry = FlowEntry::new(99, 3, 1, LIVE);
    let marked = mark(entry, &facts(Some(&table), false));
    assert!(marked.is(FlowEntry::EXCEPTION | LIVE));
    let table = vec![3; CLASS.entries() as usize];
    assert_eq!(mark(marked, &facts(Some(&table), false)), entry);
    assert_eq!(mark(marked, &facts(None, false)), marked);
}

#[test]
fn a_service_without_table_has_only_exceptions() {
    let entry = FlowEntry::new(99, 3, 1, 0);
    assert!(mark(entry, &facts(Some(&[]), false)).is(FlowEntry::EXCEPTION));
}

#[test]
fn a_flow_of_a_dead_backend_is_no_exception_and_may_be_evicted() {
    let table = vec![7; CLASS.entries() as usize];
    let entry = FlowEntry::new(99, 3, 1, LIVE | FlowEntry::EXCEPTION);
    for table in [Some(&table[..]), None] {
        assert!(!mark(entry, &facts(table, true)).is(FlowEntry::EXCEPTION), "marks for {}", table.is_some());
    }
}

/// Maps with one service on slot 1.
fn one_service(flags: u8, state: SlotState) -> Actual {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let key = ServiceKey { vip: address("192.0.2.1"), port: 80, protocol: Protocol::Tcp };
    let row = RowSpec {
        service: 0,
        l2: false,
        inner: Family::V4,
        address: address("10.0.0.1"),
        source: address("10.0.0.254"),
    };
    let table = vec![1; CLASS.entries() as usize];
    let snapshot = Snapshot {
        slots: vec![(1, row, BackendWord::new([2; 6], 1, state))],
        services: vec![(key, 0, ServiceWord::new(0, CLASS, flags, 1), table)],
        ..Snapshot::default()
    };
    Actual::from_snapshot(snapshot)
}

fn no_config() -> Config {
    Config {
        interfaces: Vec::new(),
        cluster: None,
        sync: None,
        ha: Default::default(),
        limits: Limits::default(),
        metrics: Metrics::default(),
        services: Vec::new(),
    }
}

const TRACKED: u8 = ServiceWord::PUBLISHED | ServiceWord::SERVE | ServiceWord::TRACK;

#[test]
fn entries_of_a_service_that_keeps_no_flows_are_cleared() {
    let entry = FlowEntry::new(9, 1, 500, LIVE | FlowEntry::EXCEPTION);
    for (flags, left) in [(TRACKED, entry), (TRACKED & !ServiceWord::TRACK, FlowEntry::EMPTY)] {
        let actual = one_service(flags, SlotState::Serving);
        let word = AtomicU64::new(entry.0);
        pass([&word], 500, &slot_facts(&actual, &no_config(), 2, false));
        assert_eq!(FlowEntry(word.into_inner()), left, "flags {flags:#b}");
    }
}

#[test]
fn flows_of_a_service_that_only_the_maps_know_have_the_default_times() {
    let actual = one_service(TRACKED, SlotState::Serving);
    let facts = slot_facts(&actual, &no_config(), 2, true);
    assert_eq!(facts[1].map(|facts| facts.idle), Some(idle_ticks(&Timeouts::default())));
}

#[test]
fn no_service_has_longer_times_than_packets_are_told() {
    let text = |timeouts: &str| {
        format!(
            "[[interface]]\nname = \"lo\"\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 80\n\
             protocol = \"tcp\"\nmode = \"ipip\"\n{timeouts}\n\
             [[service.backend]]\naddress = \"10.0.0.1\"\n"
        )
    };
    let usual = idle_ticks(&Timeouts::default());
    for (timeouts, expected) in [
        ("", usual),
        ("timeouts = { established = \"1m\", closing = \"1s\", udp = \"1s\" }", usual),
        (
            "timeouts = { established = \"2h\" }",
            idle_ticks(&Timeouts {
                established: std::time::Duration::from_secs(7_200),
                ..Timeouts::default()
            }),
        ),
    ] {
        let config = crate::config::parse(&text(timeouts)).expect("a configuration").config;
        assert_eq!(longest_idle(&config), expected, "{timeouts}");
    }
}

#[test]
fn a_switch_of_the_table_and_a_change_of_state_call_for_marks_and_a_new_next_hop_does_not() {
    let word = |state, last| MapOp::SetWord { slot: 1, mac: [2, 2, 2, 2, 2, last], egress: 1, state };
    let states = [SlotState::Serving, SlotState::Draining, SlotState::Dead];
    for now in states {
        let actual = one_service(TRACKED, now);
        for next in states {
            let ops = [MapOp::Grace, word(next, 3)];
            assert_eq!(calls_for_marks(&actual, &ops), now != next, "{now:?} to {next:?}");
        }
        let switch = MapOp::StoreService { index: 0, word: ServiceWord::default() };
        assert!(calls_for_marks(&actual, &[switch]));
        let fresh = MapOp::SetWord { slot: 2, mac: [2; 6], egress: 1, state: SlotState::Serving };
        assert!(!calls_for_marks(&actual, &[fresh]), "a slot without a row had no flows");
    }
}

#[test]
fn a_pass_clears_what_is_idle_or_nobodys_and_counts_the_rest() {
    let table = vec![2; CLASS.entries() as usize];
    let all = [None, Some(facts(Some(&table), false)), Some(facts(Some(&table), false))];
    let entries = [
        FlowEntry::EMPTY,
        FlowEntry::new(1, 1, 500, LIVE),
        FlowEntry::new(2, 2, 500, 0),
        FlowEntry::new(3, 2, 300, LIVE),
        FlowEntry::new(4, 9, 500, LIVE),
        FlowEntry::new(5, 0, 500, LIVE),
    ];
    let words = entries.map(|entry| AtomicU64::new(entry.0));
    let census = pass(&words, 500, &all);
    assert_eq!(census, Census { used: 2, exceptions: 1, unconfirmed: 1, by_slot: vec![0, 1, 1] });
    let after = words.map(|word| FlowEntry(word.into_inner()));
    let marked = FlowEntry::new(1, 1, 500, LIVE | FlowEntry::EXCEPTION);
    let empty = FlowEntry::EMPTY;
    assert_eq!(after, [empty, marked, entries[2], empty, empty, empty]);
}

#[test]
fn only_entries_of_the_named_slots_are_cleared() {
    let entries =
        [0u64, FlowEntry::new(1, 1, 0, 0).0, FlowEntry::new(2, 2, 0, 0).0, FlowEntry::new(3, 3, 0, 0).0];
    let words = entries.map(AtomicU64::new);
    clear_slots(&words, &SlotSet::from_iter([1, 3]));
    assert_eq!(words.map(AtomicU64::into_inner), [0, 0, entries[2], 0]);
}

#[test]
fn an_entry_that_a_packet_has_just_written_is_left_to_it() {
    let packet = FlowEntry::new(8, 2, 500, LIVE).0;
    let table = vec![2; CLASS.entries() as usize];
    let all = [None, Some(facts(Some(&table), false)), Some(facts(Some(&table), false))];
    for seen in [FlowEntry::new(7, 1, 300, LIVE), FlowEntry::new(7, 1, 500, LIVE)] {
        let word = Raced { word: Cell::new(seen.0), packet };
        pass([&word], 500, &all);
        assert_eq!(word.word.get(), packet);
    }
    let word = Raced { word: Cell::new(FlowEntry::new(7, 1, 500, LIVE).0), packet };
    clear_slots([&word], &SlotSet::from_iter([1]));
    assert_eq!(word.word.get(), packet);
}

#[test]
fn flows_of_a_peer_do_not_age_while_it_owns_them() {
    let idle = IdleTicks::new(5, 5, 5, 5);
    let word = |tick, state| AtomicU64::new(FlowEntry::new(9, 1, tick, LIVE | state).0);
    let words = [word(10, FlowEntry::REMOTE), word(98, FlowEntry::REMOTE), word(10, 0)];
    let theirs = SlotFacts { idle, owned_elsewhere: true, ..facts(None, false) };
    let after = |facts| {
        let census = pass(&words, 100, &[None, Some(facts)]);
        (census.used, [0, 1, 2].map(|at| FlowEntry(words[at].load(Ordering::Relaxed))))
    };
    let remote = |tick| FlowEntry::new(9, 1, tick, LIVE | FlowEntry::REMOTE);
    assert_eq!(after(theirs), (2, [remote(100), remote(98), FlowEntry::EMPTY]));
    words[0].store(remote(10).0, Ordering::Relaxed);
    let ours = SlotFacts { owned_elsewhere: false, ..theirs };
    assert_eq!(after(ours), (1, [FlowEntry::EMPTY, remote(98), FlowEntry::EMPTY]));
}

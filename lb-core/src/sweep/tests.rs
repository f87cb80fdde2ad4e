//! Passes over a few entries, with and without packets that come in between.

use std::cell::Cell;

use super::*;
use crate::config::Timeouts;

const CLASS: TableClass = TableClass::Small;
const LIVE: u8 = FlowEntry::CONFIRMED;

fn facts(table: Option<&[u16]>, dead: bool) -> SlotFacts<'_> {
    SlotFacts { idle: Idle::from(&Timeouts::default()), table: table.map(|table| (CLASS, table)), dead }
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
    assert!(!mark(entry, &facts(Some(&table), true)).is(FlowEntry::EXCEPTION));
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

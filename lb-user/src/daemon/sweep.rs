//! The pass over the flow table: gives up idle flows, counts the others, marks exceptions.

use std::sync::atomic::Ordering;

use lb_common::flow::{FlowEntry, tick_of};
use lb_common::service::TableClass;
use lb_common::world::table_index;
use lb_core::aging::Idle;
use nix::time::{ClockId, clock_gettime};

use crate::bpf::Tables;

/// What the last pass found.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    pub(super) used: u64,
    pub(super) exceptions: u64,
    pub(super) unconfirmed: u64,
    /// Flows by slot.
    pub(super) by_slot: Vec<u32>,
}

/// What a pass must know of a slot in use.
#[derive(Clone, Copy)]
pub(super) struct SlotFacts<'t> {
    pub(super) idle: Idle,
    /// The table of its service, if exceptions are to be marked.
    pub(super) table: Option<(TableClass, &'t [u16])>,
    /// Its flows are picked anew on their next packet: nothing about them is worth keeping.
    pub(super) dead: bool,
}

/// The present tick of the flow table.
pub(super) fn now() -> u16 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let nanoseconds = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0);
        tick_of(nanoseconds)
    })
}

/// One pass. `facts` is indexed by slot; entries of slots that are in no use are cleared.
pub(super) fn pass(tables: &Tables, facts: &[Option<SlotFacts<'_>>]) -> Census {
    let now = now();
    let flows = tables.flows();
    let mut census = Census { by_slot: vec![0; facts.len()], ..Census::default() };
    for index in 0..flows.words() {
        let word = flows.word(index);
        let entry = FlowEntry(word.load(Ordering::Relaxed));
        if entry.is_empty() {
            continue;
        }
        let slot = usize::from(entry.slot());
        let kept = facts.get(slot).copied().flatten().filter(|facts| !facts.idle.is_over(entry, now));
        let Some(facts) = kept else {
            // A lost race: a packet came just now, and the flow lives on.
            let _ = word.compare_exchange(entry.0, 0, Ordering::Relaxed, Ordering::Relaxed);
            continue;
        };
        let marked = mark(entry, &facts);
        if marked != entry {
            let _ = word.compare_exchange(entry.0, marked.0, Ordering::Relaxed, Ordering::Relaxed);
        }
        census.used += 1;
        census.exceptions += u64::from(marked.is(FlowEntry::EXCEPTION));
        census.unconfirmed += u64::from(!marked.is(FlowEntry::CONFIRMED));
        census.by_slot[slot] += 1;
    }
    census
}

/// Whether the present table would send the flow elsewhere.
fn mark(entry: FlowEntry, facts: &SlotFacts<'_>) -> FlowEntry {
    let Some((class, table)) = facts.table else { return entry };
    let choice = table.get(table_index(class, entry.fingerprint()) as usize);
    if facts.dead || choice == Some(&entry.slot()) {
        entry.with_state(entry.state() & !FlowEntry::EXCEPTION)
    } else {
        entry.with_state(entry.state() | FlowEntry::EXCEPTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: TableClass = TableClass::Small;

    fn facts(table: Option<&[u16]>, dead: bool) -> SlotFacts<'_> {
        let timeouts = lb_core::config::Timeouts::default();
        SlotFacts { idle: Idle::from(&timeouts), table: table.map(|table| (CLASS, table)), dead }
    }

    #[test]
    fn a_flow_that_the_table_sends_elsewhere_is_an_exception_and_no_longer_when_it_does_not() {
        let table = vec![7; CLASS.entries() as usize];
        let entry = FlowEntry::new(99, 3, 1, FlowEntry::CONFIRMED);
        let marked = mark(entry, &facts(Some(&table), false));
        assert!(marked.is(FlowEntry::EXCEPTION | FlowEntry::CONFIRMED));
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
        let entry = FlowEntry::new(99, 3, 1, FlowEntry::CONFIRMED | FlowEntry::EXCEPTION);
        assert!(!mark(entry, &facts(Some(&table), true)).is(FlowEntry::EXCEPTION));
    }
}

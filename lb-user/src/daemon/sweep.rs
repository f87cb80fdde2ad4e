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
        let marked = mark(entry, facts.table);
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
fn mark(entry: FlowEntry, table: Option<(TableClass, &[u16])>) -> FlowEntry {
    let Some((class, table)) = table else { return entry };
    let choice = table.get(table_index(class, entry.fingerprint()) as usize);
    if choice == Some(&entry.slot()) {
        entry.with_state(entry.state() & !FlowEntry::EXCEPTION)
    } else {
        entry.with_state(entry.state() | FlowEntry::EXCEPTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_the_table_sends_elsewhere_is_an_exception_and_no_longer_when_it_does_not() {
        let class = TableClass::Small;
        let table = vec![7; class.entries() as usize];
        let entry = FlowEntry::new(99, 3, 1, FlowEntry::CONFIRMED);
        let marked = mark(entry, Some((class, &table)));
        assert!(marked.is(FlowEntry::EXCEPTION | FlowEntry::CONFIRMED));
        let table = vec![3; class.entries() as usize];
        assert_eq!(mark(marked, Some((class, &table))), entry);
        assert_eq!(mark(marked, None), marked);
    }

    #[test]
    fn a_service_without_table_has_only_exceptions() {
        let entry = FlowEntry::new(99, 3, 1, 0);
        assert!(mark(entry, Some((TableClass::Small, &[]))).is(FlowEntry::EXCEPTION));
    }
}

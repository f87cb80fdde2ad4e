//! The pass over the flow table: gives up idle flows, counts the others, marks exceptions; and the pass that clears the
//! entries of slots that are about to be free.
//!
//! Packets write the same entries meanwhile. Every change here is a compare-exchange; a lost race means that the entry
//! has just been written by a packet, and is left for the next pass.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::flow::{FlowEntry, age};
use lb_common::idle::IdleTicks;
use lb_common::service::TableClass;
use lb_common::world::table_index;
use lb_common::{ServiceWord, SlotState};

use crate::aging::idle_ticks;
use crate::config::{Config, Timeouts};
use crate::plan::{Actual, MapOp, ServiceKey};

/// Passes over the flow table that mark exceptions after a change that asks for them ([`calls_for_marks`]): a packet
/// that read the old table may store its flow behind the first pass.
pub const MARKING_PASSES: u8 = 2;

/// Whether these operations on `actual` change which flows are exceptions: a table is switched, or a slot that may have
/// flows changes its state.
#[must_use]
pub fn calls_for_marks(actual: &Actual, ops: &[MapOp]) -> bool {
    ops.iter().any(|op| match op {
        MapOp::StoreService { .. } => true,
        MapOp::SetWord { slot, state, .. } => {
            actual.slot(*slot).is_some_and(|(_, word)| word.state() != *state)
        }
        _ => false,
    })
}

/// An entry where packets find it.
pub trait FlowWord {
    /// The entry at this moment.
    fn load(&self) -> u64;
    /// Replaces the entry if it still is `old`.
    fn replace(&self, old: u64, new: u64) -> bool;
}

impl FlowWord for AtomicU64 {
    fn load(&self) -> u64 {
        Self::load(self, Ordering::Relaxed)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl<T: FlowWord> FlowWord for &T {
    fn load(&self) -> u64 {
        T::load(self)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        T::replace(self, old, new)
    }
}

/// What a pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Entries in use.
    pub used: u64,
    /// Entries of flows that the present tables would send elsewhere.
    pub exceptions: u64,
    /// Entries of flows of which only the first packet was seen.
    pub unconfirmed: u64,
    /// Flows by slot.
    pub by_slot: Vec<u32>,
}

/// What a pass must know of a slot in use.
#[derive(Clone, Copy, Debug)]
pub struct SlotFacts<'t> {
    /// When its flows are given up.
    pub idle: IdleTicks,
    /// The table of its service, if exceptions are to be marked.
    pub table: Option<(TableClass, &'t [u16])>,
    /// Its flows are picked anew on their next packet: nothing about them is worth keeping, with or without a table.
    pub dead: bool,
    /// A peer is active for its service: the flows received from it do not age here, since their packets go there. The
    /// peer says when they are gone.
    pub owned_elsewhere: bool,
}

/// Ticks that a flow owned elsewhere may be old before it is stamped anew: often enough to be far from over when this
/// node becomes active, seldom enough to write little.
const MAX_REMOTE_AGE: u16 = 2;

/// The longest idle times of all services, for packets: none of a flow that no pass would clear is over by them.
/// Services that only the maps know count, too.
#[must_use]
pub fn longest_idle(config: &Config) -> IdleTicks {
    let all = config.services.iter().map(|service| idle_ticks(&service.timeouts));
    all.fold(idle_ticks(&Timeouts::default()), IdleTicks::longest)
}

/// What a pass must know, by slot below `slots`. Exceptions are marked only if `marking`. No slot is
/// [`SlotFacts::owned_elsewhere`]: whoever has peers says so.
///
/// A slot of a service that keeps no flows has none: no packet asks for its entries, and they are cleared. A service
/// that the configuration does not name any more, and that is still in the maps, has the timeouts of one that says
/// nothing.
#[must_use]
pub fn slot_facts<'a>(
    actual: &'a Actual,
    config: &Config,
    slots: usize,
    marking: bool,
) -> Vec<Option<SlotFacts<'a>>> {
    let services: BTreeMap<u32, (ServiceKey, ServiceWord)> =
        actual.services().map(|(key, index, word)| (index, (*key, word))).collect();
    let idle: BTreeMap<ServiceKey, IdleTicks> =
        config.services.iter().map(|one| (ServiceKey::from(one), idle_ticks(&one.timeouts))).collect();
    let mut facts = vec![None; slots];
    for (slot, row, word) in actual.slots().filter(|(_, _, word)| word.state() != SlotState::Free) {
        let Some((key, service)) = services.get(&u32::from(row.service)) else { continue };
        if !service.has(ServiceWord::TRACK) {
            continue;
        }
        let idle = idle.get(key).copied().unwrap_or_else(|| idle_ticks(&Timeouts::default()));
        let table = marking.then(|| (service.class(), actual.table(key).unwrap_or_default()));
        if let Some(place) = facts.get_mut(usize::from(slot)) {
            *place = Some(SlotFacts {
                idle,
                table,
                dead: word.state() == SlotState::Dead,
                owned_elsewhere: false,
            });
        }
    }
    facts
}

/// One pass at tick `now`. `facts` is indexed by slot; entries of slots that are in no use are cleared.
pub fn pass<W: FlowWord>(
    words: impl IntoIterator<Item = W>,
    now: u16,
    facts: &[Option<SlotFacts<'_>>],
) -> Census {
    let mut census = Census { by_slot: vec![0; facts.len()], ..Census::default() };
    for word in words {
        visit(&word, now, facts, &mut census);
    }
    census
}

fn visit(word: &impl FlowWord, now: u16, facts: &[Option<SlotFacts<'_>>], census: &mut Census) {
    let entry = FlowEntry(word.load());
    if entry.is_empty() {
        return;
    }
    let slot = usize::from(entry.slot());
    let is_held = |facts: &SlotFacts<'_>| facts.owned_elsewhere && entry.is(FlowEntry::REMOTE);
    let facts = facts.get(slot).copied().flatten();
    let kept = facts.filter(|facts| is_held(facts) || !facts.idle.is_over(entry, now));
    let Some(facts) = kept else {
        // A lost race: a packet came just now, and the flow lives on.
        let _ = word.replace(entry.0, FlowEntry::EMPTY.0);
        return;
    };
    let is_old = is_held(&facts) && age(now, entry.tick()) > MAX_REMOTE_AGE;
    let stamped = if is_old { entry.with_tick(now) } else { entry };
    let marked = mark(stamped, &facts);
    if marked != entry {
        let _ = word.replace(entry.0, marked.0);
    }
    census.used += 1;
    census.exceptions += u64::from(marked.is(FlowEntry::EXCEPTION));
    census.unconfirmed += u64::from(!marked.is(FlowEntry::CONFIRMED));
    if let Some(flows) = census.by_slot.get_mut(slot) {
        *flows += 1;
    }
}

/// The entry, marked if the present table would send its flow elsewhere. A dead backend's flows are no exceptions,
/// which takes no table to know: its death need not be followed by a switch.
fn mark(entry: FlowEntry, facts: &SlotFacts<'_>) -> FlowEntry {
    let plain = entry.with_state(entry.state() & !FlowEntry::EXCEPTION);
    if facts.dead {
        return plain;
    }
    let Some((class, table)) = facts.table else { return entry };
    let choice = table.get(table_index(class, entry.fingerprint()) as usize);
    if choice == Some(&entry.slot()) { plain } else { entry.with_state(entry.state() | FlowEntry::EXCEPTION) }
}

/// Slots by number.
#[derive(Clone, Debug)]
pub struct SlotSet(Vec<bool>);

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = vec![false; usize::from(u16::MAX) + 1];
        slots.into_iter().for_each(|slot| set[usize::from(slot)] = true);
        Self(set)
    }
}

/// Clears the entries of slots that take no flows any more and that no packet on its way can store a flow for.
pub fn clear_slots<W: FlowWord>(words: impl IntoIterator<Item = W>, slots: &SlotSet) {
    for word in words {
        let entry = FlowEntry(word.load());
        if !entry.is_empty() && slots.0[usize::from(entry.slot())] {
            // A lost race means that a packet has just given the flow another slot.
            let _ = word.replace(entry.0, FlowEntry::EMPTY.0);
        }
    }
}

#[cfg(test)]
mod tests;

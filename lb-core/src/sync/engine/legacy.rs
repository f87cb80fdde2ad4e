//! What a node that has just ceased to be active leaves to whoever is active now: flows that came up here lately. After a
//! split the other one may know nothing of them, and it takes those that it lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_common::flow::{FlowEntry, age};
use lb_common::limits::WAYS;

use super::context::Context;
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;
use crate::sync::scan::Change;

/// How long they are offered: a peer that comes back meanwhile gets them from the beginning.
const OFFERED_FOR: Duration = Duration::from_secs(5);
/// Ticks (of 8 s) that the last packet of a flow may be old. A node that was stopped for longer knows nothing that is worth
/// telling: its flows are the other's by now, or over.
const MAX_AGE: u16 = 8;

/// A pass over the table.
#[derive(Debug)]
pub(super) struct Legacy {
    services: BTreeSet<ServiceKey>,
    /// Bucket to look at next.
    next: usize,
    /// Sequence after the last part, once there was one.
    end: Option<u64>,
    until: Duration,
}

/// Whether an entry is one that is offered: this node's own, confirmed, and in use lately.
pub(super) fn is_offered(entry: FlowEntry, tick: u16) -> bool {
    entry.is(FlowEntry::CONFIRMED) && !entry.is(FlowEntry::REMOTE) && age(tick, entry.tick()) <= MAX_AGE
}

impl Legacy {
    /// Of these services, from now on.
    pub(super) const fn new(services: BTreeSet<ServiceKey>, now: Duration) -> Self {
        Self { services, next: 0, end: None, until: now.saturating_add(OFFERED_FOR) }
    }

    /// From the beginning.
    pub(super) const fn restart(&mut self) {
        (self.next, self.end) = (0, None);
    }

    /// All was offered with the messages before this sequence.
    pub(super) fn told_until(&mut self, next: u64) {
        self.end.get_or_insert(next);
    }

    /// Not of services that this node is active for again. `false`: nothing is left of it, it is over, or the peer has it all.
    pub(super) fn is_due(&mut self, now: Duration, active: &BTreeSet<ServiceKey>, expected: u64) -> bool {
        self.services.retain(|service| !active.contains(service));
        now < self.until && !self.services.is_empty() && self.end.is_none_or(|end| expected < end)
    }

    /// Whether the whole table was looked at.
    pub(super) const fn is_whole(&self, entries: usize) -> bool {
        self.next >= entries / WAYS
    }

    /// About `most` flows.
    pub(super) fn part<W: FlowWord>(&mut self, most: usize, context: &Context<'_, W>) -> Vec<Change> {
        let wanted = context.directory.slots_of(&self.services);
        let tick = context.table.tick;
        let is_told = |entry: &FlowEntry| {
            is_offered(*entry, tick) && wanted.get(usize::from(entry.slot())) == Some(&true)
        };
        let told = FlowEntry::UDP | FlowEntry::CONFIRMED | FlowEntry::CLOSING;
        let mut changes = Vec::new();
        for (bucket, words) in context.table.words.chunks_exact(WAYS).enumerate().skip(self.next) {
            if changes.len() >= most {
                break;
            }
            self.next = bucket + 1;
            let entries = words.iter().map(|word| FlowEntry(word.load())).filter(is_told);
            changes.extend(entries.map(|entry| Change {
                bucket: u32::try_from(bucket).unwrap_or(u32::MAX),
                fingerprint: entry.fingerprint(),
                slot: entry.slot(),
                state: entry.state() & told,
            }));
        }
        changes
    }
}

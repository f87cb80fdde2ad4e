//! The receiver's side: what a peer says of its flows, put into this node's table while packets write it, too.
//!
//! Every change is a compare-exchange. A flow is stored like packets store one (equal fingerprint, empty, what is worth
//! least), with the present tick, as the sender says nothing of when its last packet came. Whether a received flow is an
//! exception is this node's own to say: whoever becomes active marks them.

use lb_common::flow::{FlowEntry, evictability};
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;
use thiserror::Error;

use super::wire::{DELETE, FlowChange};
use crate::sweep::FlowWord;

/// How often a change is tried against packets that write the same entry: a second race in a row is rare, and what is
/// lost is told again by the next bulk.
const MAX_TRIES: usize = 4;

/// Why a peer's flows cannot be found in this node's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the peer's flow table has 2^{theirs} buckets, this node's has 2^{ours}: give both the same `limits.flows`, or this \
     node less"
)]
pub struct Incompatible {
    /// Bits that the peer's hashes have.
    pub theirs: u8,
    /// Bits that this node's table needs.
    pub ours: u8,
}

/// Whether a peer says enough of its flows for a table with so many entries.
///
/// # Errors
/// If its table has fewer buckets, and it sends no more of the hash than that takes.
pub fn check_buckets(bits: u8, hash_complete: bool, entries: usize) -> Result<(), Incompatible> {
    let ours = bucket_bits(entries);
    if hash_complete || bits >= ours { Ok(()) } else { Err(Incompatible { theirs: bits, ours }) }
}

/// Buckets of a table with so many entries, as a power of two.
#[must_use]
pub fn bucket_bits(entries: usize) -> u8 {
    u8::try_from((entries / WAYS).max(1).ilog2()).unwrap_or(32)
}

/// What becomes of a flow that both nodes know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// The peer is right: this node is standby for the service.
    Follow,
    /// This node is right: it is active itself, and takes only what it does not know. So a split ends.
    Import,
}

/// What became of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Flows stored or changed.
    pub stored: u64,
    /// Flows cleared.
    pub cleared: u64,
    /// Flows without a place: a bucket full of exceptions, or packets that were always faster.
    pub unplaced: u64,
    /// Flows of a backend that this node does not have.
    pub unknown: u64,
}

/// The entries that a bulk spoke of.
#[derive(Clone, Debug)]
pub struct Seen(Vec<u64>);

impl Seen {
    /// None, of a table of so many.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self(vec![0; entries.div_ceil(64)])
    }

    fn mark(&mut self, index: usize) {
        if let Some(bits) = self.0.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
        }
    }

    fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }
}

/// A table to put flows into.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a, W> {
    /// All entries; the number of buckets is a power of two.
    pub words: &'a [W],
    /// The present tick.
    pub tick: u16,
    /// When flows are over.
    pub idle: IdleTicks,
}

impl<W: FlowWord> Table<'_, W> {
    /// Puts changes of one backend's flows into the table. `slot`: that of the backend; `None`: there is no such one
    /// here, and what was known of its flows is wrong now.
    pub fn apply(
        &self,
        changes: &[FlowChange],
        slot: Option<u16>,
        stance: Stance,
        mut seen: Option<&mut Seen>,
    ) -> Applied {
        let mut applied = Applied::default();
        for change in changes {
            let place = match (slot, stance) {
                _ if change.state & DELETE != 0 && stance == Stance::Import => continue,
                (Some(slot), _) if change.state & DELETE == 0 => self.store(change, slot, stance),
                (_, Stance::Follow) => {
                    applied.unknown += u64::from(change.state & DELETE == 0);
                    applied.cleared += self.clear(change);
                    continue;
                }
                _ => {
                    applied.unknown += 1;
                    continue;
                }
            };
            match place {
                Some(index) => {
                    applied.stored += 1;
                    if let Some(seen) = seen.as_deref_mut() {
                        seen.mark(index);
                    }
                }
                None => applied.unplaced += 1,
            }
        }
        applied
    }

    /// Clears the entries of the slots of `is_swept` that a whole bulk did not speak of, but for those that are `spared`;
    /// returns how many.
    pub fn sweep(
        &self,
        seen: &Seen,
        is_swept: impl Fn(u16) -> bool,
        is_spared: impl Fn(FlowEntry) -> bool,
    ) -> u64 {
        let mut cleared = 0;
        for (index, word) in self.words.iter().enumerate() {
            let entry = FlowEntry(word.load());
            if !entry.is_empty() && is_swept(entry.slot()) && !seen.has(index) && !is_spared(entry) {
                // A lost race: a packet came here just now, and the flow is this node's.
                cleared += u64::from(word.replace(entry.0, 0));
            }
        }
        cleared
    }

    fn bucket(&self, hash_low: u32) -> usize {
        let mask = (self.words.len() / WAYS).max(1) - 1;
        (hash_low as usize & mask) * WAYS
    }

    /// Indexes of a bucket in the order in which packets look.
    fn ways(&self, change: &FlowChange) -> impl Iterator<Item = (usize, &W)> + use<'_, W> {
        let (bucket, fingerprint) = (self.bucket(change.hash_low), change.fingerprint as usize);
        let indexes = (0..WAYS).map(move |step| bucket + fingerprint.wrapping_add(step) % WAYS);
        indexes.filter_map(|index| self.words.get(index).map(|word| (index, word)))
    }

    /// Where the flow is now.
    fn store(&self, change: &FlowChange, slot: u16, stance: Stance) -> Option<usize> {
        let remote = if stance == Stance::Follow { FlowEntry::REMOTE } else { 0 };
        let told = FlowEntry::UDP | FlowEntry::CONFIRMED | FlowEntry::CLOSING;
        let new = FlowEntry::new(change.fingerprint, slot, self.tick, (change.state & told) | remote);
        for _ in 0..MAX_TRIES {
            let (index, word, old) = self.place(change)?;
            let is_known = !old.is_empty() && old.fingerprint() == change.fingerprint;
            if is_known && stance == Stance::Import {
                return Some(index);
            }
            let exception =
                if is_known && old.slot() == slot { old.state() & FlowEntry::EXCEPTION } else { 0 };
            if word.replace(old.0, new.with_state(new.state() | exception).0) {
                return Some(index);
            }
        }
        None
    }

    /// The flow's own entry, else an empty one, else what is worth least.
    fn place(&self, change: &FlowChange) -> Option<(usize, &W, FlowEntry)> {
        let all = self.ways(change).map(|(index, word)| (index, word, FlowEntry(word.load())));
        let mut best = None;
        let mut most = 0;
        for (index, word, entry) in all {
            let score = if entry.is_empty() {
                u16::MAX
            } else if entry.fingerprint() == change.fingerprint {
                return Some((index, word, entry));
            } else {
                evictability(entry, self.tick, self.idle)
            };
            if score > most {
                (best, most) = (Some((index, word, entry)), score);
            }
        }
        best
    }

    /// Clears a flow that came from a peer, and no other: of what this node stored it knows better.
    fn clear(&self, change: &FlowChange) -> u64 {
        let mut cleared = 0;
        for (_, word) in self.ways(change) {
            let entry = FlowEntry(word.load());
            if entry.is(FlowEntry::REMOTE) && entry.fingerprint() == change.fingerprint {
                cleared += u64::from(word.replace(entry.0, 0));
            }
        }
        cleared
    }
}

/// Makes the flows received for these slots this node's own, which becomes active for them: they age from now on. Returns
/// how many. To be done before anything is sent of them, and again after the last datagram of the former active.
pub fn adopt<W: FlowWord>(words: &[W], is_adopted: impl Fn(u16) -> bool, tick: u16) -> u64 {
    let mut adopted = 0;
    for word in words {
        for _ in 0..MAX_TRIES {
            let entry = FlowEntry(word.load());
            if !entry.is(FlowEntry::REMOTE) || !is_adopted(entry.slot()) {
                break;
            }
            let own = entry.with_state(entry.state() & !FlowEntry::REMOTE).with_tick(tick);
            if word.replace(entry.0, own.0) {
                adopted += 1;
                break;
            }
        }
    }
    adopted
}

#[cfg(test)]
mod tests;
